r"""Top-K lists that come out the same on every run."""

from typing import Any, Optional

import torch
from torch import Tensor

from pyg_diffrec.utils.sparse import SparseRows


def masked_topk(
    scores: Any,
    k: int,
    exclude: Optional[SparseRows] = None,
    block_size: int = 16384,
) -> tuple[Tensor, Tensor]:
    r"""The :obj:`k` highest-scoring columns of every row.

    Equal scores are ordered by ascending column, so that the result depends neither
    on the device nor on how rows and columns are cut into blocks.

    Args:
        scores (torch.Tensor or AffineRows): The scores :math:`(B, I)`, or a value
            that yields them in blocks of columns.
        k (int): The length of a list.
        exclude (SparseRows, optional): Columns to leave out :math:`(B, I)`.
            (default: :obj:`None`)
        block_size (int, optional): The number of columns looked at at once: the
            peak memory is :math:`B \cdot \mathrm{block\_size}` numbers.
            (default: :obj:`16384`)

    Shapes:
        - **output:** scores and columns :math:`(B, k)`, best first. Where a row has
          fewer than :obj:`k` columns left, excluded ones with a score of
          :math:`-\infty` fill it.

    Raises:
        ValueError: If :obj:`k` lies outside :math:`[1, I]`, or a score is not a
            number.
    """
    num_cols = scores.shape[1]
    if not 1 <= k <= num_cols:
        raise ValueError(f"'k' needs to lie in [1, {num_cols}] (got {k})")
    row = None if exclude is None else exclude.row
    value: Optional[Tensor] = None
    for first, block in _blocks(scores, block_size):
        if exclude is not None and row is not None:
            last = first + block.size(1)
            inside = (exclude.col >= first) & (exclude.col < last)
            index = (row[inside], exclude.col[inside] - first)
            block = block.index_put(index, block.new_tensor(float('-inf')))
        new_value, new_col = _stable_topk(block, min(k, block.size(1)))
        new_col = new_col + first
        if value is None:
            value, col = new_value, new_col
            continue
        # Equal scores of an earlier block have lower columns, and stay first.
        value = torch.cat([value, new_value], dim=1)
        value, position = _stable_topk(value, min(k, value.size(1)))
        col = torch.cat([col, new_col], dim=1).gather(1, position)
    assert value is not None
    return value, col


def _blocks(scores: Any, block_size: int) -> Any:
    if not isinstance(scores, Tensor):
        return scores.blocks(block_size)
    return (
        (first, scores[:, first : first + block_size])
        for first in range(0, scores.size(1), block_size)
    )


def _stable_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # `torch.topk` picks any of several equal scores. One look at the runner-up tells
    # which rows are concerned; these take the lowest columns at the threshold.
    value, col = scores.topk(min(k + 1, scores.size(1)), dim=1)
    if bool(value[:, 0].isnan().any()):  # A row that holds NaN ranks it first.
        raise ValueError(
            f"'scores' holds a score that is not a number (first in row "
            f'{int(value[:, 0].isnan().nonzero()[0])} of the batch): the weights of '
            f'the model have diverged'
        )
    if scores.size(1) > k:
        tied = (value[:, k - 1] == value[:, k]).nonzero().view(-1)
        value, col = value[:, :k].contiguous(), col[:, :k].contiguous()
        if tied.numel() > 0:
            rows, threshold = scores[tied], value[tied, -1:]
            above, equal = rows > threshold, rows == threshold
            room = k - above.sum(1, keepdim=True)
            chosen = above | (equal & (equal.cumsum(1) <= room))
            col[tied] = chosen.nonzero()[:, 1].view(-1, k)
            value[tied] = rows.gather(1, col[tied])
    col, perm = col.sort(dim=1)
    value, perm = value.gather(1, perm).sort(dim=1, descending=True, stable=True)
    return value, col.gather(1, perm)
