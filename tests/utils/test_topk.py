import pytest
import torch

from pyg_diffrec.utils import SparseRows, masked_topk


def naive_topk(scores, k, excluded):
    """Sorts by descending score, then ascending column."""
    out = []
    for row, seen in zip(scores.tolist(), excluded):
        order = sorted(
            range(len(row)),
            key=lambda i: (i in seen, 0 if i in seen else -row[i], i),
        )
        out.append(order[:k])
    return out


class Blocks:
    """Scores that exist in blocks of columns only."""

    def __init__(self, scores):
        self.scores, self.shape = scores, scores.shape

    def blocks(self, size):
        for first in range(0, self.shape[1], size):
            yield first, self.scores[:, first : first + size].clone()


def check(scores, k, share, *args):
    """Compares with the naive lists, a share of the columns left out."""
    generator = torch.Generator().manual_seed(1)
    seen = torch.rand(scores.shape, generator=generator) < share
    row, col = seen.nonzero().t()
    num_rows, num_cols = scores.shape
    exclude = SparseRows.from_coo(row, col, num_rows=num_rows, num_cols=num_cols)
    excluded = [set(x.nonzero().view(-1).tolist()) for x in seen]
    items = naive_topk(scores, k, excluded)
    for given in (scores, Blocks(scores)):
        value, index = masked_topk(given, k, exclude, *args)
        assert index.tolist() == items
        expected = scores.masked_fill(seen, float('-inf')).gather(1, index)
        assert torch.equal(value, expected)


@pytest.mark.parametrize('block_size', [1, 3, 7, 100])
@pytest.mark.parametrize('k', [1, 4, 11])
def test_equal_scores_are_ordered_by_column(k, block_size):
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(0, 4, (50, 11), generator=generator).float()
    check(scores, k, 0.3, block_size)


@pytest.mark.parametrize('num_values', [3, 40, 10**6])
@pytest.mark.parametrize('num_cols', [1024, 1031])
def test_lists_of_wide_rows(num_cols, num_values):
    generator = torch.Generator().manual_seed(num_values)
    scores = torch.randint(0, num_values, (30, num_cols), generator=generator).float()
    for share in (0.1, 0.999):
        check(scores, 3, share)
    check(scores, 1, 0.1, 600)


@pytest.mark.parametrize('place', [0, 777, 1030])
def test_no_score_of_a_wide_row_is_overlooked(place):
    scores = torch.zeros(2, 1031)
    scores[1, place] = 1.0
    assert masked_topk(scores, 2)[1].tolist() == [[0, 1], [place, int(place == 0)]]
    scores[1, place] = float('nan')
    with pytest.raises(ValueError, match='first in row 1'):
        masked_topk(scores, 2)


def test_scores_are_left_as_they_are():
    exclude = SparseRows(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), num_cols=2)
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for given in (scores, torch.tensor([[2.0, 1.0]]).expand(2, 2), scores.t()):
        before = given.clone()
        assert masked_topk(given, 1, exclude)[1].tolist() == [[0], [1]]
        assert torch.equal(given, before)
    scores[0, 0] = float('nan')
    with pytest.raises(ValueError, match='not a number'):
        masked_topk(scores, 1, exclude)
    assert scores[:, 1].tolist() == [2.0, 4.0]
    assert scores[1, 0] == 3.0


def test_scores_that_autograd_watches():
    exclude = SparseRows(torch.tensor([0, 1]), torch.tensor([2]), num_cols=3)
    logits = torch.zeros(1, 3, requires_grad=True)
    scores = logits.sigmoid()  # Saves its output for the backward pass.
    value, col = masked_topk(scores, 2, exclude)
    assert col.tolist() == [[0, 1]]
    (value.sum() + scores.sum()).backward()
    assert logits.grad.tolist() == [[0.5, 0.5, 0.25]]
    with torch.inference_mode():
        scores = torch.tensor([[1.0, 2.0, 3.0]])
    assert masked_topk(scores, 1, exclude)[1].item() == 1


def test_bad_lists_are_refused():
    scores = torch.tensor([[0.0, 1.0], [0.0, float('nan')]])
    with pytest.raises(ValueError, match='not a number .first in row 1'):
        masked_topk(scores, 1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=rf'in \[1, 2\] \(got {k}\)'):
            masked_topk(scores, k)
