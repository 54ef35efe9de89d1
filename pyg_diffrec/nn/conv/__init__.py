from pyg_diffrec.nn.conv.bipartite_lg_conv import BipartiteLGConv
from pyg_diffrec.nn.conv.rec_diff_conv import RecDiffConv

__all__ = [
    'BipartiteLGConv',
    'RecDiffConv',
]
