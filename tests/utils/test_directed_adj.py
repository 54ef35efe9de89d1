import torch

from pyg_diffrec.utils import BipartiteAdj, SparseRows
from pyg_diffrec.utils.directed_adj import DirectedAdj


def build():
    """Row 2 and column 4 have no entries."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(6, 9, generator=generator, dtype=torch.double)
    dense = dense.masked_fill(dense < 0.5, 0.0)
    dense[2], dense[:, 4] = 0.0, 0.0
    row, col = dense.nonzero().t()
    rows = SparseRows.from_coo(row, col, dense[row, col], num_rows=6, num_cols=9)
    adj = DirectedAdj.of(BipartiteAdj(rows))
    scale = [dense.sum(1, keepdim=True), dense.sum(0, keepdim=True)]
    return adj, dense / (scale[0] * scale[1]).sqrt().clamp(min=1e-9)


def test_equals_the_dense_product_in_both_directions():
    adj, dense = build()
    x = torch.randn(9, 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    for one, matrix, source in ((adj, dense, x), (adj.t(), dense.t(), y)):
        torch.testing.assert_close(one.propagate(source), matrix @ source)
        assert torch.autograd.gradcheck(one.propagate, source)
        assert torch.autograd.gradgradcheck(one.propagate, source)


def test_weights_by_destination_and_their_cast():
    dense = build()[1]
    row, col = dense.nonzero().t()
    rows = SparseRows.from_coo(row, col, dense[row, col], num_rows=6, num_cols=9)
    adj = DirectedAdj.from_rows(rows)
    x, y = torch.randn(9, 2, dtype=torch.double), torch.randn(6, 2, dtype=torch.double)
    torch.testing.assert_close(adj.propagate(x), dense @ x)
    torch.testing.assert_close(adj.t().propagate(y), dense.t() @ y)
    small = adj.to(dtype=torch.float)
    torch.testing.assert_close(small.propagate(x.float()), (dense @ x).float())
    assert (small.rows.dtype, small.rows_t.dtype) == (torch.float, torch.float)


def test_chosen_destinations():
    adj, dense = build()
    index = torch.tensor([5, 2, 0])
    chosen = adj.index_select(index)
    x = torch.randn(9, 3, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(chosen.propagate(x), dense[index] @ x)
    assert torch.autograd.gradcheck(chosen.propagate, x)
    y = torch.randn(3, 2, dtype=torch.double)
    torch.testing.assert_close(chosen.t().propagate(y), dense[index].t() @ y)
    none = adj.index_select(torch.empty(0).long())
    assert none.propagate(x).shape == (0, 3)
