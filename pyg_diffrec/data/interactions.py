r"""From the :obj:`('user', 'interacts', 'item')` relation to interaction rows."""

from typing import get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.typing import History, Split
from pyg_diffrec.utils.sparse import SparseRows

USER_ITEM = ('user', 'interacts', 'item')


def split_mask(data: HeteroData, split: str) -> Tensor:
    r"""The mask of one split over the interactions :math:`(E)`.

    Raises:
        ValueError: If the graph has no such split.
    """
    store = data[USER_ITEM]
    name = f'{split}_mask'
    if name not in store:
        raise ValueError(
            f"The interactions have no '{name}': apply a split first, e.g. "
            f"'pyg_diffrec.transforms.TemporalSplit()(data)'"
        )
    return store[name]


def history_mask(data: HeteroData, history: History = 'train') -> Tensor:
    r"""The mask of the interactions that belong to a history :math:`(E)`.

    Raises:
        ValueError: If :obj:`history` is neither :obj:`'train'` nor
            :obj:`'train+val'`.
    """
    if history not in get_args(History):
        raise ValueError(
            f"'history' needs to be one of {list(get_args(History))} (got '{history}')"
        )
    masks = [split_mask(data, split) for split in history.split('+')]
    return torch.stack(masks).any(0)


def interaction_rows(data: HeteroData, history: History = 'train') -> SparseRows:
    r"""The interaction rows of all users, the view from which every model starts.

    Args:
        data (HeteroData): A graph with a split, see :meth:`validate`.
        history (str, optional): Which interactions the rows hold:
            :obj:`'train'` or :obj:`'train+val'`. (default: :obj:`'train'`)

    Shapes:
        - **output:** rows :math:`(U, I)` whose values are the interactions'
          :obj:`edge_weight`, or ones; within a row in time order where time is
          known

    Raises:
        ValueError: If the graph has no split or :obj:`history` is unknown.
    """
    return _rows(data, history_mask(data, history))


def target_rows(data: HeteroData, split: Split) -> SparseRows:
    r"""The held-out interactions of all users as rows :math:`(U, I)`.

    Raises:
        ValueError: If the graph has no such split.
    """
    return _rows(data, split_mask(data, split))


def _rows(data: HeteroData, mask: Tensor) -> SparseRows:
    store = data[USER_ITEM]
    row, col = store.edge_index[:, mask]
    weight = store.edge_weight[mask] if 'edge_weight' in store else None
    return SparseRows.from_coo(
        row,
        col,
        weight,
        num_rows=data['user'].num_nodes,
        num_cols=data['item'].num_nodes,
    )
