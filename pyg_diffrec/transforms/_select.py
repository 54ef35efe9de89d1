r"""Which attributes have one entry per node or edge, and how entries are selected."""

from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import BaseStorage
from torch_geometric.typing import TensorFrame


def entry_dims(data: HeteroData, store: BaseStorage, count: int) -> dict[str, int]:
    r"""The attributes of a store with one entry per each of its :obj:`count` nodes or
    edges, and along which dimension. These are what PyG calls node and edge
    attributes (:obj:`is_node_attr`, :obj:`is_edge_attr`): tensors and arrays along
    their :obj:`__cat_dim__`, lists, tuples and tensor frames. The :obj:`edge_index` is
    none of them."""
    out = {}
    for key, value in store.items():
        dim: Any = 0
        if isinstance(value, (Tensor, np.ndarray)):
            if value.ndim == 0:
                continue
            dim = data.__cat_dim__(key, value, store)
            size = value.shape[dim] if isinstance(dim, int) else None
        elif isinstance(value, (list, tuple, TensorFrame)):
            size = len(value)
        else:
            continue
        if size == count and key != 'edge_index':
            out[key] = dim
    return out


def take(value: Any, index: Tensor, dim: int) -> Any:
    r"""The entries :obj:`index` of an attribute, in that order; repeats are
    allowed."""
    if isinstance(value, Tensor):
        return value.index_select(dim, index.to(value.device))
    if isinstance(value, np.ndarray):
        return value.take(index.cpu().numpy(), axis=dim)
    if isinstance(value, TensorFrame):
        return value[index.to(value.device)]
    entries = [value[i] for i in index.tolist()]
    return tuple(entries) if isinstance(value, tuple) else entries
