r"""What several parts share. Its files load on first use: those for graphs need PyG,
others PyTorch alone."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_diffrec.utils.counter_noise import counter_normal
    from pyg_diffrec.utils.propagation import BipartiteAdj
    from pyg_diffrec.utils.scatter import segment_sum
    from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj
    from pyg_diffrec.utils.sparse import SparseRows
    from pyg_diffrec.utils.topk import masked_topk

_FILES = {
    'BipartiteAdj': 'propagation',
    'SelfLoopAdj': 'self_loop_adj',
    'SparseRows': 'sparse',
    'counter_normal': 'counter_noise',
    'masked_topk': 'topk',
    'segment_sum': 'scatter',
}

__all__ = [
    'BipartiteAdj',
    'SelfLoopAdj',
    'SparseRows',
    'counter_normal',
    'masked_topk',
    'segment_sum',
]


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(importlib.import_module(f'{__name__}.{_FILES[name]}'), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
