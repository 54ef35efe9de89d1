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


@pytest.mark.parametrize('block_size', [1, 3, 7, 100])
@pytest.mark.parametrize('k', [1, 4, 11])
def test_equal_scores_are_ordered_by_column(k, block_size):
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(0, 4, (50, 11), generator=generator).float()
    seen = torch.rand(50, 11, generator=generator) < 0.3
    row, col = seen.nonzero().t()
    exclude = SparseRows.from_coo(row, col, num_rows=50, num_cols=11)
    value, index = masked_topk(scores, k, exclude, block_size)
    excluded = [set(x.nonzero().view(-1).tolist()) for x in seen]
    assert index.tolist() == naive_topk(scores, k, excluded)
    expected = scores.masked_fill(seen, float('-inf')).gather(1, index)
    assert torch.equal(value, expected)


def test_scores_are_left_as_they_are():
    scores = torch.tensor([[1.0, 2.0]])
    exclude = SparseRows(torch.tensor([0, 1]), torch.tensor([1]), num_cols=2)
    assert masked_topk(scores, 1, exclude)[1].item() == 0
    assert scores.tolist() == [[1, 2]]


def test_bad_lists_are_refused():
    scores = torch.tensor([[0.0, 1.0], [0.0, float('nan')]])
    with pytest.raises(ValueError, match='not a number .first in row 1'):
        masked_topk(scores, 1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=rf'in \[1, 2\] \(got {k}\)'):
            masked_topk(scores, k)
