r"""Top-K lists that come out the same on every run."""

from numbers import Integral
from typing import Any, Optional

import torch
from torch import Tensor

from pyg_diffrec.utils.checks import check_whole
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
            scores are overwritten while this runs, and then put back. A score of
            :math:`-\infty` leaves a column out, too.
        k (int): The length of a list.
        exclude (SparseRows, optional): Columns to leave out :math:`(B, I)`.
            (default: :obj:`None`)
        block_size (int, optional): The number of columns looked at at once: the
            peak memory is :math:`B \cdot \mathrm{block\_size}` numbers.
            (default: :obj:`16384`)

    Shapes:
        - **output:** scores and columns :math:`(B, k)`, best first. Where a row has
          fewer than :obj:`k` columns left, scores of :math:`-\infty` and columns
          :obj:`-1` fill it.

    Raises:
        ValueError: If :obj:`k` lies outside :math:`[1, I]`, :obj:`exclude` is of
            another shape, or a score is not a number.
        TypeError: If the scores are not floating point, or an argument is of another
            type.
    """
    num_rows, num_cols = _shape(scores)
    check_length(k, num_cols)
    check_whole('masked_topk', block_size=block_size)
    excluded = None if exclude is None else _entries(exclude, num_rows, num_cols)
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
    if len(parts) > 1:  # Equal scores still stand in the order of their columns.
        value, place = _topk(value, k)
        col = col.gather(1, place)
    return value, col.masked_fill(value == float('-inf'), -1)


def check_length(k: int, num_cols: int) -> None:
    r"""Raises an error unless lists of :obj:`k` out of :obj:`num_cols` columns
    exist."""
    if isinstance(k, bool) or not isinstance(k, Integral):
        raise TypeError(f"'k' needs to be a whole number (got {k!r})")
    if not 1 <= k <= num_cols:
        raise ValueError(f"'k' needs to lie in [1, {num_cols}] (got {k})")


def _shape(scores: Any) -> tuple[int, int]:
    if isinstance(scores, Tensor):
        if not scores.is_floating_point():
            raise TypeError(
                f"'scores' need to be floating point in 'masked_topk' (got "
                f"'{scores.dtype}'): convert them with '.float()'"
            )
    elif not hasattr(scores, 'shape') or not hasattr(scores, 'blocks'):
        raise TypeError(
            f"'scores' need to be a tensor, or a value with 'shape' and "
            f"'blocks(size)', in 'masked_topk' (got '{type(scores)}')"
        )
    if len(scores.shape) != 2:
        raise ValueError(
            f"'scores' need shape [num_rows, num_cols] in 'masked_topk' "
            f'(got {list(scores.shape)})'
        )
    return scores.shape[0], scores.shape[1]


def _entries(
    exclude: SparseRows, num_rows: int, num_cols: int
) -> tuple[Tensor, Tensor]:
    if not isinstance(exclude, SparseRows):
        raise TypeError(
            f"'exclude' needs to be 'SparseRows' in 'masked_topk' "
            f"(got '{type(exclude)}')"
        )
    if exclude.shape != (num_rows, num_cols):
        raise ValueError(
            f"'exclude' needs shape [{num_rows}, {num_cols}], that of the scores, in "
            f"'masked_topk' (got {list(exclude.shape)})"
        )
    return exclude.row, exclude.col


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
    row, col = index
    entry = (row * scores.size(1)).add_(col).to(scores.device)
    # Autograd watches these, or entries may share memory.
    watched = scores.requires_grad or scores.is_inference()
    if watched or not scores.is_contiguous():
        scores = scores.clone(memory_format=torch.contiguous_format)
        scores.view(-1).index_fill_(0, entry, float('-inf'))
        return _topk(scores, k)
    # In place, since a copy costs as much as the search.
    flat = scores.view(-1)
    kept = flat.index_select(0, entry)
    flat.index_fill_(0, entry, float('-inf'))
    try:
        return _topk(scores, k)
    finally:
        flat.index_copy_(0, entry, kept)


def _topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The :obj:`k` best, best first, of equal ones the first."""
    value, col = _any_topk(scores, min(k + 1, scores.size(1)))
    if bool(value[:, 0].isnan().any()):  # A row that holds NaN ranks it first.
        raise ValueError(
            f"'scores' holds a score that is not a number (first in row "
            f'{int(value[:, 0].isnan().nonzero()[0])} of the batch): the weights of '
            f'the model have diverged'
        )
    # `torch.topk` picks any of several equal scores, in any order. One look at
    # neighbours, with the runner-up among them, tells which rows are concerned.
    equal = value[:, 1:] == value[:, :-1]
    concerned = equal.any(1).nonzero().view(-1)
    value, col = value[:, :k].clone(), col[:, :k].clone()
    if concerned.numel() == 0:
        return value, col
    if scores.size(1) > k:  # At the threshold the lowest columns are taken.
        tied = concerned[equal[concerned, k - 1]]
        rows, threshold = scores[tied], value[tied, -1:]
        above, best = rows > threshold, rows == threshold
        room = k - above.sum(1, keepdim=True)
        chosen = above | (best & (best.cumsum(1) <= room))
        col[tied] = chosen.nonzero()[:, 1].view(-1, k)
        value[tied] = rows.gather(1, col[tied])
    place, perm = col[concerned].sort(dim=1)
    ordered = value[concerned].gather(1, perm)
    value[concerned], perm = ordered.sort(dim=1, descending=True, stable=True)
    col[concerned] = place.gather(1, perm)
    return value, col


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
