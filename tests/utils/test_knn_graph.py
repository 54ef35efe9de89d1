from fractions import Fraction

import pytest
import torch

from pyg_diffrec.utils import knn_graph as module
from pyg_diffrec.utils.knn_graph import knn_graph


def plain_graph(x, k):
    """Neighbours by exact comparison of squared cosines, of whole numbers."""
    size, out = len(x), torch.zeros(len(x), len(x), dtype=torch.double)
    norm = [sum(a * a for a in row) for row in x]
    for i in range(size):
        found = []
        for j in range(size):
            dot = sum(a * b for a, b in zip(x[i], x[j]))
            if norm[i] * norm[j] > 0:
                square = Fraction(dot * abs(dot), norm[i] * norm[j])
                found.append((i != j, -square, j))
        for _, square, j in sorted(found)[:k]:
            out[i, j] = max(-float(square), 0.0) ** 0.5
    degree = out.sum(1)
    scale = torch.where(degree > 0, degree, 1.0).rsqrt()
    return scale.view(-1, 1) * out * scale


def whole_numbers(size):
    """Few different rows, so that most cosines occur many times; some are zeros."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-1, 3, (size, 3), generator=generator)
    x[::9] = 0
    return x


@pytest.mark.parametrize('k', [1, 4, 7, 100])
def test_equals_brute_force_with_equal_cosines_by_number(k, assert_exact):
    x = whole_numbers(50)
    graph = knn_graph(x, k)
    assert graph.shape == (50, 50)
    assert int(graph.rowptr.diff().max()) <= k
    assert bool((graph.value > 0).all())
    assert_exact(graph.to_dense(), plain_graph(x.tolist(), k))


def test_equals_the_dense_formula(assert_exact):
    x = torch.randn(40, 6, dtype=torch.double, generator=torch.manual_seed(1))
    cosine = (x @ x.t()) / (x.norm(dim=1).view(-1, 1) * x.norm(dim=1))
    least = cosine.topk(5).values[:, -1:]
    weight = torch.where(cosine >= least, cosine, 0.0)
    scale = weight.sum(1).rsqrt().diag()
    assert_exact(knn_graph(x, 5).to_dense(), scale @ weight @ scale)
    assert_exact(knn_graph(x.float() * 1e-3, 5).to_dense().bool(), weight != 0)


def test_blocks_change_nothing_and_bound_what_exists_at_once(monkeypatch):
    x = whole_numbers(50).float() / 3
    whole = knn_graph(x, 6)
    topk, sizes = module.masked_topk, []

    def counted(scores, k):
        sizes.append(tuple(scores.shape))
        return topk(scores, k)

    monkeypatch.setattr(module, 'masked_topk', counted)
    monkeypatch.setattr(module, '_BLOCK', 7 * 50)
    blocks = knn_graph(x, 6)
    assert sizes == [(7, 50)] * 7 + [(1, 50)]
    assert torch.equal(blocks.rowptr, whole.rowptr)
    assert torch.equal(blocks.col, whole.col)
    assert torch.equal(blocks.value, whole.value)


def test_rows_of_zeros_stand_alone():
    x = torch.zeros(4, 2)
    assert knn_graph(x, 3).nnz == 0
    x[2] = 1.0
    graph = knn_graph(x, 3)
    assert graph.row.tolist() == graph.col.tolist() == [2]
    assert graph.value.tolist() == [1.0]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"'k' needs to be positive .*\(got 0\)"):
        knn_graph(torch.rand(3, 2), 0)
    with pytest.raises(TypeError, match="'k' needs to be a whole number"):
        knn_graph(torch.rand(3, 2), 1.5)
    for x in (torch.rand(3), torch.full((3, 2), float('nan'))):
        with pytest.raises(ValueError, match=r"'x' needs shape \[N, F\] and finite"):
            knn_graph(x, 2)
