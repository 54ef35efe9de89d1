from pyg_diffrec.utils.counter_noise import counter_normal
from pyg_diffrec.utils.propagation import BipartiteAdj
from pyg_diffrec.utils.scatter import segment_sum
from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.topk import masked_topk

__all__ = [
    'BipartiteAdj',
    'SelfLoopAdj',
    'SparseRows',
    'counter_normal',
    'masked_topk',
    'segment_sum',
]
