r"""What the splits share: places within a user's interactions, and masks."""

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data.schema import USER_ITEM, check_edges, num_nodes


def position_in_row(row: Tensor, count: Tensor, order: Tensor) -> Tensor:
    r"""The place of each entry among the entries of its row :math:`(E)`, counted
    from zero along :obj:`order`, a permutation of all entries."""
    perm = order[row[order].argsort(stable=True)]
    start = count.cumsum(0) - count
    position = torch.empty_like(row)
    position[perm] = torch.arange(row.numel(), device=row.device) - start[row[perm]]
    return position


def num_interactions(data: HeteroData) -> Tensor:
    r"""The number of interactions of each user :math:`(U)`."""
    user = check_edges(data, USER_ITEM, check_range=False)[0]
    return torch.bincount(user, minlength=num_nodes(data, 'user'))


def rounded_share(count: Tensor, ratio: float) -> Tensor:
    r"""The share of each count as the nearest whole number, halves up."""
    # A product such as 0.29 * 50 = 14.499999999999998 is meant to be a half.
    return (count.double() * ratio + 0.5 + 1e-9).floor().long()


def check_ratios(val_ratio: float, test_ratio: float, name: str) -> None:
    if not (val_ratio >= 0 and test_ratio >= 0 and val_ratio + test_ratio < 1):
        raise ValueError(
            f"'val_ratio' and 'test_ratio' need to be non-negative with a sum below "
            f"one in '{name}' (got {val_ratio} and {test_ratio})"
        )


def split_by_ratio(
    count: Tensor, val_ratio: float, test_ratio: float
) -> tuple[Tensor, Tensor]:
    r"""How many of each user's interactions go to validation and test, so that
    one is left for training."""
    spare = (count - 1).clamp(min=0)
    num_test = torch.minimum(rounded_share(count, test_ratio), spare)
    num_val = torch.minimum(rounded_share(count, val_ratio), spare - num_test)
    return num_val, num_test


def set_masks(
    data: HeteroData,
    position: Tensor,
    count: Tensor,
    num_val: Tensor,
    num_test: Tensor,
) -> None:
    r"""Cuts each user's interactions, in the order of their positions, into
    training, validation and test."""
    store = data[USER_ITEM]
    user = check_edges(data, USER_ITEM, check_range=False)[0]
    end_of_val = (count - num_test)[user]
    end_of_train = (count - num_test - num_val)[user]
    store.train_mask = position < end_of_train
    store.val_mask = (position >= end_of_train) & (position < end_of_val)
    store.test_mask = position >= end_of_val
