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
            that yields them in blocks of columns. Where that saves a copy, excluded
            scores are overwritten while this runs, and then put back.
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
    excluded = None if exclude is None else (exclude.row, exclude.col)
    parts = []
    for first, block in _blocks(scores, block_size):
        size, index = block.size(1), excluded
        if index is not None and size < num_cols:
            row, col = index
            inside = (col >= first) & (col < first + size)
            index = row[inside], col[inside] - first
        value, col = _topk_without(block, index, min(k, size))
        parts.append((value, col + first))
    value, col = (torch.cat(part, dim=1) for part in zip(*parts))
    if len(parts) > 1:  # Columns still ascend.
        value, place = _topk(value, k)
        col = col.gather(1, place)
    value, perm = value.sort(dim=1, descending=True, stable=True)
    return value, col.gather(1, perm)


def _blocks(scores: Any, block_size: int) -> Any:
    if not isinstance(scores, Tensor):
        return scores.blocks(block_size)
    return (
        (first, scores[:, first : first + block_size])
        for first in range(0, scores.size(1), block_size)
    )


def _topk_without(
    scores: Tensor, index: Optional[tuple[Tensor, Tensor]], k: int
) -> tuple[Tensor, Tensor]:
    if index is None:
        return _topk(scores, k)
    low = scores.new_tensor(float('-inf'))
    # Autograd watches these, or entries may share memory.
    watched = scores.requires_grad or scores.is_inference()
    if watched or not scores.is_contiguous():
        return _topk(scores.index_put(index, low), k)
    # In place, since a copy costs as much as the search.
    kept = scores[index]
    scores[index] = low
    try:
        return _topk(scores, k)
    finally:
        scores[index] = kept


def _topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The :obj:`k` best in the order of their columns, of equal ones the first."""
    # `torch.topk` picks any of several equal scores. One look at the runner-up tells
    # which rows are concerned; these take the lowest columns at the threshold.
    value, col = _any_topk(scores, min(k + 1, scores.size(1)))
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
    return value.gather(1, perm), col


def _any_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""`torch.topk`, of those scores alone that may be among the best."""
    num_cols, depth = scores.size(1), 8
    if num_cols < 256 * k:
        return scores.topk(k, dim=1)
    # Laid out as a grid of 8 rows, the k best lie in the k columns with the highest
    # maxima, or are left over. Maxima cost little more than to read the scores once,
    # `torch.topk` several times that.
    width = num_cols // depth
    end = depth * width
    grid = scores[:, :end].unflatten(1, (depth, width))
    col = grid.amax(1).topk(k, dim=1).indices  # [B, I] -> [B, k]
    step = torch.arange(0, end, width, device=col.device)
    left = torch.arange(end, num_cols, device=col.device).expand(len(col), -1)
    col = torch.cat([(col.unsqueeze(2) + step).flatten(1), left], dim=1)
    value, place = scores.gather(1, col).topk(k, dim=1)
    return value, col.gather(1, place)
