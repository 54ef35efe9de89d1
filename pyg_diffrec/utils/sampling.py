r"""Draws from many large distributions at once, and distinct draws, in memory
proportional to what is drawn."""

from typing import Callable

import torch
from torch import Tensor

# Dense rows are built for at most this many entries at a time.
CHUNK = 1 << 22


class RowSampler:
    r"""Draws columns from the rows of a matrix of probabilities.

    The cumulative sums of all rows lie one after the other on one line, row
    :math:`r` on :math:`(r, r + 1]`, so that one binary search serves any mixture of
    rows.

    Args:
        prob (torch.Tensor): One distribution per row :math:`(R, C)`, float64.
    """

    def __init__(self, prob: Tensor) -> None:
        self.num_cols = prob.size(1)
        cum = prob.cumsum(1)
        cum = cum / cum[:, -1:]  # The last is exactly one.
        self.line = (cum + torch.arange(len(prob)).view(-1, 1)).view(-1)

    def __call__(self, row: Tensor, generator: torch.Generator) -> Tensor:
        point = torch.rand(row.numel(), generator=generator, dtype=torch.double)
        col = torch.searchsorted(self.line, point.add_(row)) - row * self.num_cols
        # A point that rounds to the very start of a row belongs to that row.
        return col.clamp_(0, self.num_cols - 1)


def first_occurrences(key: Tensor) -> Tensor:
    r"""Whether an entry is the first of its value :math:`(N)`."""
    key, perm = key.sort(stable=True)
    mask = torch.ones_like(key, dtype=torch.bool)
    mask[1:] = key[1:] != key[:-1]
    return torch.empty_like(mask).scatter_(0, perm, mask)


def _grouped_position(row: Tensor, num_rows: int) -> Tensor:
    # The place within its row of each entry, for ascending rows.
    count = torch.bincount(row, minlength=num_rows)
    return torch.arange(row.numel()) - (count.cumsum(0) - count)[row]


def sample_distinct(
    draw: Callable[[Tensor], Tensor],
    prob: Callable[[Tensor], Tensor],
    count: Tensor,
    known: Tensor,
    num_cols: int,
    generator: torch.Generator,
    num_rounds: int = 4,
) -> tuple[Tensor, Tensor]:
    r"""Draws :obj:`count[r]` different columns for each row :math:`r`, one after
    the other, each with its probability among the columns still left.

    Draws more than needed and keeps the first occurrences, which has exactly this
    distribution. Rows that are still short after some rounds, because little
    probability is left outside of what they hold, are completed by the Gumbel
    top-k trick on their dense rows, a chunk at a time: the same distribution.

    Args:
        draw (callable): Maps rows :math:`(N)` to one drawn column each.
        prob (callable): Maps rows :math:`(B)` to their distributions
            :math:`(B, C)`.
        count (torch.Tensor): How many columns each row gets :math:`(R)`.
        known (torch.Tensor): Pairs :obj:`row * num_cols + col` that are not to be
            drawn, unique :math:`(K)`.
        num_cols (int): The number of columns.
        generator (torch.Generator): The source of randomness.
        num_rounds (int, optional): The number of rounds before dense rows.
            (default: :obj:`4`)

    Shapes:
        - **output:** rows, ascending, and columns in the order of their draw,
          both :math:`(\sum_r \mathrm{count}_r)`
    """
    num_rows = count.numel()
    taken, parts = known, [known[:0]]
    lack = count.clone()
    for i in range(num_rounds):
        if not bool(lack.any()):
            break
        # Rows that lack something after a round draw ever more in the next.
        num_draws = ((lack * 1.25).long() + 4) * 2**i * (lack > 0)
        row = torch.arange(num_rows).repeat_interleave(num_draws)
        key = row * num_cols + draw(row)
        taken = taken[lack[taken // num_cols] > 0]
        new = first_occurrences(torch.cat([taken, key]))[taken.numel() :]
        row, key = row[new], key[new]
        key = key[_grouped_position(row, num_rows) < lack[row]]
        lack = lack - torch.bincount(key // num_cols, minlength=num_rows)
        taken = torch.cat([taken, key])
        parts.append(key)

    if bool(lack.any()):
        taken = taken[lack[taken // num_cols] > 0]
        step = max(1, CHUNK // num_cols)
        for rows in lack.nonzero().view(-1).split(step):
            inside = (taken // num_cols >= rows[0]) & (taken // num_cols <= rows[-1])
            held = taken[inside]
            # What has no probability comes last, behind the least double (-745),
            # but before what a row already holds.
            score = prob(rows).double().log().clamp_(min=-1e3)
            uniform = torch.rand(score.shape, generator=generator, dtype=torch.double)
            score -= uniform.clamp_(min=1e-300).log_().neg_().log_()
            place = torch.searchsorted(rows, held // num_cols)
            score[place, held % num_cols] = -torch.inf
            col = score.topk(int(lack[rows].max()), dim=1).indices
            wanted = torch.arange(col.size(1)) < lack[rows].view(-1, 1)
            parts.append((rows.view(-1, 1) * num_cols + col)[wanted])

    key = torch.cat(parts)
    # The parts are in the order of their draw, and so is each row after this.
    key = key[(key // num_cols).argsort(stable=True)]
    return key // num_cols, key % num_cols
