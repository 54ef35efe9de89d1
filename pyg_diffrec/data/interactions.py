r"""From the :obj:`('user', 'interacts', 'item')` relation to interaction rows."""

from typing import get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data.schema import (
    SPLITS,
    USER_ITEM,
    check_edges,
    check_interactions,
    check_unique,
    has_repeats,
    num_nodes,
)
from pyg_diffrec.typing import History, Split
from pyg_diffrec.utils.sparse import SparseRows


def split_mask(data: HeteroData, split: str) -> Tensor:
    r"""The mask of one split over the interactions :math:`(E)`.

    Raises:
        ValueError: If the graph has no such split, or its interactions break the
            schema.
    """
    mask = _named_mask(data, split)
    check_interactions(data, unique=False)
    return mask


def _named_mask(data: HeteroData, split: str) -> Tensor:
    if split not in SPLITS:
        raise ValueError(f"'split' needs to be one of {list(SPLITS)} (got {split!r})")
    check_edges(data, USER_ITEM, check_range=False)
    store, name = data[USER_ITEM], f'{split}_mask'
    if name not in store:
        raise ValueError(
            f"The interactions have no '{name}': apply a split first, e.g. "
            f"'pyg_diffrec.transforms.TemporalSplit()(data)' if their time is known"
        )
    return store[name]


def history_mask(data: HeteroData, history: History = 'train') -> Tensor:
    r"""The mask of the interactions that belong to a history :math:`(E)`.

    Raises:
        ValueError: If :obj:`history` is neither :obj:`'train'` nor
            :obj:`'train+val'`, the graph has no split, or its interactions break the
            schema.
    """
    if history not in get_args(History):
        raise ValueError(
            f"'history' needs to be one of {list(get_args(History))} (got '{history}')"
        )
    masks = [_named_mask(data, split) for split in history.split('+')]
    check_interactions(data, unique=False)
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
        ValueError: If the graph has no split, its interactions break the schema, or
            :obj:`history` is unknown.
    """
    return _unique_rows(data, history_mask(data, history))


def target_rows(data: HeteroData, split: Split) -> SparseRows:
    r"""The held-out interactions of all users as rows :math:`(U, I)`.

    Raises:
        ValueError: If the graph has no such split, or its interactions break the
            schema.
    """
    return _unique_rows(data, split_mask(data, split))


def rows_of_valid(data: HeteroData, splits: str) -> SparseRows:
    r"""The interactions of splits, joined by :obj:`'+'`, as rows :math:`(U, I)`, of a
    graph that :meth:`validate` has passed: nothing is checked again.

    Raises:
        ValueError: If the graph has no such split.
    """
    masks = [_named_mask(data, split) for split in splits.split('+')]
    return _rows(data, torch.stack(masks).any(0))


def _unique_rows(data: HeteroData, mask: Tensor) -> SparseRows:
    rows = _rows(data, mask)
    if has_repeats(rows.row * rows.num_cols + rows.col):
        check_unique(data)
    return rows


def _rows(data: HeteroData, mask: Tensor) -> SparseRows:
    store = data[USER_ITEM]
    row, col = check_edges(data, USER_ITEM, check_range=False)[:, mask]
    weight = store.edge_weight[mask] if 'edge_weight' in store else None
    return SparseRows.from_coo(
        row,
        col,
        weight,
        num_rows=num_nodes(data, 'user'),
        num_cols=num_nodes(data, 'item'),
    )
