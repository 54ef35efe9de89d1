import pytest
import torch

from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.propagation import BipartiteAdj


def build(num_users=7, num_items=5, weighted=True, dtype=torch.double):
    """Weighted rows with an isolated user and an isolated item."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(num_users, num_items, generator=generator, dtype=dtype)
    dense = torch.where(dense < 0.5, dense, 0.0)
    dense[2], dense[:, 3] = 0.0, 0.0
    row, col = dense.nonzero().t()
    value = dense[row, col] if weighted else torch.ones(len(row), dtype=dtype)
    perm = torch.randperm(len(row), generator=generator)
    return SparseRows.from_coo(
        row[perm], col[perm], value[perm], num_rows=num_users, num_cols=num_items
    )


def normalised(rows):
    dense = rows.to_dense()
    out = torch.zeros_like(dense)
    for u, i in dense.nonzero().tolist():
        out[u, i] = dense[u, i] / (dense[u].sum() * dense[:, i].sum()).sqrt()
    return out


@pytest.mark.parametrize('weighted', [False, True])
def test_equals_the_dense_matrix_and_its_transpose(weighted):
    rows = build(weighted=weighted)
    adj, dense = BipartiteAdj(rows), normalised(rows)
    torch.testing.assert_close(adj.rows.to_dense(), dense)
    torch.testing.assert_close(adj.rows_t.to_dense(), dense.t())
    x_user, x_item = torch.rand(7, 3).double(), torch.rand(5, 3).double()
    out_user, out_item = adj.propagate(x_user, x_item)
    torch.testing.assert_close(out_user, dense @ x_item)
    torch.testing.assert_close(out_item, dense.t() @ x_user)
    assert bool((out_user[2] == 0).all())
    assert bool((out_item[3] == 0).all())


def test_entries_of_weight_zero_are_no_interactions():
    rows = SparseRows.from_coo(
        torch.tensor([0, 1, 1]),
        torch.tensor([0, 0, 1]),
        torch.tensor([4.0, 0.0, 0.0]),
        num_rows=2,
        num_cols=2,
    )
    assert BipartiteAdj(rows).rows.to_dense().tolist() == [[1, 0], [0, 0]]


def test_gradients_are_right_and_have_gradients():
    adj = BipartiteAdj(build())
    x_user = torch.rand(7, 2, dtype=torch.double, requires_grad=True)
    x_item = torch.rand(5, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(adj.propagate, (x_user, x_item))
    assert torch.autograd.gradgradcheck(adj.propagate, (x_user, x_item))


def test_backward_propagates_the_gradients_themselves():
    adj = BipartiteAdj(build())
    x_user = torch.rand(7, 2, dtype=torch.double, requires_grad=True)
    x_item = torch.rand(5, 2, dtype=torch.double, requires_grad=True)
    grads = torch.rand(7, 2).double(), torch.rand(5, 2).double()
    torch.autograd.backward(adj.propagate(x_user, x_item), grads)
    expected = adj.propagate(*grads)
    assert torch.equal(x_user.grad, expected[0])
    assert torch.equal(x_item.grad, expected[1])


def test_one_product_per_direction_and_pass(monkeypatch):
    calls = []
    matmul = SparseRows.matmul

    def counted(self, other):
        calls.append(self.shape)
        return matmul(self, other)

    monkeypatch.setattr(SparseRows, 'matmul', counted)
    adj = BipartiteAdj(build())
    x_user = torch.rand(7, 2, dtype=torch.double, requires_grad=True)
    x_item = torch.rand(5, 2, dtype=torch.double, requires_grad=True)
    out_user, out_item = adj.propagate(x_user, x_item)
    assert sorted(calls) == [(5, 7), (7, 5)]
    (out_user.sum() + out_item.sum()).backward()
    assert sorted(calls) == [(5, 7)] * 2 + [(7, 5)] * 2


def test_dropout_drops_both_directions_and_rescales():
    rows = build(60, 50)
    adj = BipartiteAdj(rows)
    dropped = adj.dropout(0.25, torch.Generator().manual_seed(0))
    dense, before = dropped.rows.to_dense(), adj.rows.to_dense()
    assert torch.equal(dropped.rows_t.to_dense(), dense.t())
    kept = dense != 0
    torch.testing.assert_close(dense[kept], before[kept] / 0.75)
    share = kept.sum() / rows.nnz
    assert abs(float(share) - 0.75) < 5 * (0.25 * 0.75 / rows.nnz) ** 0.5
    again = adj.dropout(0.25, torch.Generator().manual_seed(0))
    assert torch.equal(again.rows.value, dropped.rows.value)
    assert torch.equal(adj.dropout(0.0).rows.value, adj.rows.value)


def test_weights_are_normalised_before_they_are_rounded():
    rows = build(dtype=torch.float)
    exact = BipartiteAdj(rows.to(dtype=torch.double))
    single = BipartiteAdj(rows)
    assert single.dtype == torch.float
    assert torch.equal(single.rows.value, exact.rows.value.float())
    assert torch.equal(exact.to(dtype=torch.float).rows_t.value, single.rows_t.value)
    assert BipartiteAdj(rows, torch.double).dtype == torch.double
    moved = single.to('meta')
    assert {moved.device.type, moved.rows_t.device.type, moved.perm.device.type} == {
        'meta'
    }


@pytest.mark.parametrize('value', [-1.0, float('nan'), float('inf')])
def test_refuses_weights_without_a_root(value):
    rows = build()
    rows.value[3] = value
    with pytest.raises(ValueError, match="'rows' need finite, non-negative values"):
        BipartiteAdj(rows)


def test_refuses_bad_shares_and_sizes():
    adj = BipartiteAdj(build())
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"'p' needs to lie in \[0, 1\)"):
            adj.dropout(p)
    with pytest.raises(ValueError, match=r"'other' needs shape \[5, \*\]"):
        adj.propagate(torch.rand(7, 2), torch.rand(7, 2))
    assert repr(adj) == f'BipartiteAdj([7, 5], nnz={adj.nnz})'
