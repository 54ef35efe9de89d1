import pytest
import torch

from pyg_diffrec.utils import SparseRows, masked_topk


def naive_topk(scores, k, excluded):
    """Sorts by descending score, then ascending column; -1 fills short rows."""
    out = []
    for row, seen in zip(scores.tolist(), excluded):
        left = [i for i in range(len(row)) if i not in seen]
        order = sorted(left, key=lambda i: (-row[i], i))
        out.append((order + [-1] * k)[:k])
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
        expected = scores.gather(1, index.clamp(min=0))
        assert torch.equal(value, expected.masked_fill(index < 0, float('-inf')))


@pytest.mark.parametrize('block_size', [1, 3, 7, 100])
@pytest.mark.parametrize('k', [1, 4, 11])
def test_equal_scores_are_ordered_by_column(k, block_size):
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(0, 4, (50, 11), generator=generator).float()
    check(scores, k, 0.3, block_size)


@pytest.mark.parametrize('block_size', [2, 100])
def test_what_fills_a_row_is_marked(block_size):
    inf = float('inf')
    scores = torch.tensor([[4.0, 3, 2, 1], [1.0, -inf, 2, inf], [-inf] * 4])
    exclude = SparseRows(
        torch.tensor([0, 3, 4, 4]), torch.tensor([0, 3, 1, 0]), num_cols=4
    )
    value, col = masked_topk(scores, 3, exclude, block_size)
    assert col.tolist() == [[2, -1, -1], [3, 2, -1], [-1, -1, -1]]
    assert value.tolist() == [[2, -inf, -inf], [inf, 2, -inf], [-inf] * 3]
    # A score of -inf offers nothing either, whoever gave it.
    assert masked_topk(scores, 4, None, block_size)[1].tolist()[1:] == [
        [3, 2, 0, -1],
        [-1, -1, -1, -1],
    ]


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


def test_gradient_of_a_single_row_with_equal_scores():
    logits = torch.zeros(1, 4, requires_grad=True)
    masked_topk(logits.sigmoid(), 2)[0].sum().backward()
    assert logits.grad.tolist() == [[0.25, 0.25, 0, 0]]


def test_no_rows_give_no_lists():
    exclude = SparseRows(torch.tensor([0]), torch.tensor([]).long(), num_cols=3)
    value, col = masked_topk(torch.empty(0, 3), 2, exclude)
    assert value.shape == col.shape == (0, 2)


def test_columns_of_another_matrix_are_refused():
    scores = torch.arange(6.0).view(2, 3)
    for rowptr, num_cols in (([0, 1], 3), ([0, 1, 1, 1], 3), ([0, 1, 1], 4)):
        exclude = SparseRows(torch.tensor(rowptr), torch.tensor([0]), num_cols=num_cols)
        for given in (scores, Blocks(scores)):
            with pytest.raises(ValueError, match=r"'exclude' needs shape \[2, 3\]"):
                masked_topk(given, 1, exclude)
    with pytest.raises(TypeError, match="'exclude' needs to be 'SparseRows'"):
        masked_topk(scores, 1, torch.zeros(2, 3).bool())
    assert scores.view(-1).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ('scores', 'error', 'match'),
    [
        (torch.rand(3), ValueError, r'shape \[num_rows, num_cols\].*got \[3\]'),
        (torch.rand(1, 2, 3), ValueError, r'shape \[num_rows, num_cols\]'),
        (torch.ones(2, 3).long(), TypeError, "floating point .*got 'torch.int64'"),
        (torch.ones(2, 3).bool(), TypeError, "floating point .*got 'torch.bool'"),
        (torch.rand(2, 3).numpy(), TypeError, "tensor.*'blocks.*got '.*ndarray"),
        ([[1.0, 2.0]], TypeError, "tensor.*'blocks.*got '.*list"),
    ],
)
def test_bad_scores_are_refused(scores, error, match):
    with pytest.raises(error, match=match):
        masked_topk(scores, 1)


def test_bad_lists_are_refused():
    for k in (True, 1.0, '1', None):
        with pytest.raises(TypeError, match="'k' needs to be a whole number"):
            masked_topk(torch.zeros(1, 2), k)
    with pytest.raises(ValueError, match="'block_size' needs to be positive"):
        masked_topk(torch.zeros(1, 2), 1, None, 0)
    scores = torch.tensor([[0.0, 1.0], [0.0, float('nan')]])
    with pytest.raises(ValueError, match='not a number .first in row 1'):
        masked_topk(scores, 1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=rf'in \[1, 2\] \(got {k}\)'):
            masked_topk(scores, k)
