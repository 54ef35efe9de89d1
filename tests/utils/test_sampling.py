import pytest
import torch

from pyg_diffrec.utils.sampling import (
    RowSampler,
    first_occurrences,
    sample_distinct,
)


def chi_square(observed, expected):
    """In standard deviations from its mean, about normal for many cells."""
    cells = observed.numel() - 1
    value = ((observed - expected) ** 2 / expected).sum()
    return float((value - cells) / (2 * cells) ** 0.5)


def test_first_occurrences_by_hand():
    key = torch.tensor([5, 3, 5, 5, 3, 7])
    assert first_occurrences(key).tolist() == [True, True, False, False, False, True]


def test_row_sampler_follows_its_rows():
    generator = torch.Generator().manual_seed(0)
    prob = torch.rand(3, 20, generator=generator, dtype=torch.double) + 0.01
    prob = prob / prob.sum(1, keepdim=True)
    row = torch.arange(3).repeat(20_000)
    col = RowSampler(prob)(row, generator)
    for i in range(3):
        observed = torch.bincount(col[row == i], minlength=20)
        assert abs(chi_square(observed, 20_000 * prob[i])) < 4


def test_row_sampler_never_draws_what_has_no_probability():
    generator = torch.Generator().manual_seed(0)
    prob = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]], dtype=torch.double)
    row = torch.arange(2).repeat(1000)
    col = RowSampler(prob)(row, generator)
    assert bool((prob[row, col] > 0).all())


@pytest.mark.parametrize('num_rounds', [0, 1, 10])
def test_sample_distinct_follows_successive_draws(num_rounds):
    # Rounds alone (10), dense rows alone (0) and both (1) have one distribution.
    generator = torch.Generator().manual_seed(0)
    num_rows, num_cols = 30_000, 6
    weight = torch.tensor([8.0, 5.0, 3.0, 2.0, 1.0, 1.0], dtype=torch.double)
    prob = (weight / weight.sum()).view(1, -1)
    sampler = RowSampler(prob)
    row, col = sample_distinct(
        lambda row: sampler(torch.zeros_like(row), generator),
        lambda rows: prob.expand(rows.numel(), -1),
        torch.full((num_rows,), 3),
        known=torch.arange(num_rows) * num_cols + 1,  # Nobody may draw column 1.
        num_cols=num_cols,
        generator=generator,
        num_rounds=num_rounds,
    )
    assert torch.equal(row, torch.arange(num_rows).repeat_interleave(3))
    draw = col.view(-1, 3)
    observed = torch.bincount((draw * torch.tensor([36, 6, 1])).sum(1), minlength=216)
    expected = torch.zeros(6, 6, 6, dtype=torch.double)
    left = [0, 2, 3, 4, 5]
    for a in left:
        for b in set(left) - {a}:
            for c in set(left) - {a, b}:
                total = weight.sum() - weight[1]
                p = weight[a] / total
                p = p * weight[b] / (total - weight[a])
                p = p * weight[c] / (total - weight[a] - weight[b])
                expected[a, b, c] = num_rows * p
    possible = expected.view(-1) > 0
    assert not observed[~possible].any()
    assert abs(chi_square(observed[possible], expected.view(-1)[possible])) < 4


def test_sample_distinct_can_draw_everything():
    generator = torch.Generator().manual_seed(0)
    prob = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    row, col = sample_distinct(
        lambda row: torch.zeros_like(row),
        lambda rows: prob.expand(rows.numel(), -1),
        torch.tensor([4, 0, 3]),
        known=torch.tensor([2 * 4 + 2]),
        num_cols=4,
        generator=generator,
    )
    assert row.tolist() == [0, 0, 0, 0, 2, 2, 2]
    assert sorted(col[:4].tolist()) == [0, 1, 2, 3]
    assert sorted(col[4:].tolist()) == [0, 1, 3]
    assert int(col[0]) == int(col[4]) == 0
