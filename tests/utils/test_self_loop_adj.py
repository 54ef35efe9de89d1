import pytest
import torch

from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj


def sparse(matrix):
    row, col = matrix.nonzero().t()
    size = dict(zip(('num_rows', 'num_cols'), matrix.shape))
    return SparseRows.from_coo(row, col, matrix[row, col], **size)


def top(index, num_items):
    """The graph of the items `index` [U, k] of each user."""
    row = torch.arange(len(index)).repeat_interleave(index.size(1))
    value = torch.ones(row.numel(), dtype=torch.double)
    size = {'num_rows': len(index), 'num_cols': num_items}
    return SparseRows.from_coo(row, index.view(-1), value, **size)


def dense(adj):
    assert torch.equal(adj.rows_t.to_dense(), adj.rows.to_dense().t())
    return adj.rows.to_dense()


def test_normalised_graph_equals_reference_values(golden, assert_exact):
    values = golden('diffmm_graph')
    adj = SelfLoopAdj(sparse(values['in_R']))
    assert_exact(dense(adj), values['out_adj'])
    assert torch.equal(
        torch.stack([adj.rows.row, adj.rows.col]).sort().values,
        values['out_adj_coo_idx'].sort().values,
    )


@pytest.mark.parametrize('k', [1, 3])
@pytest.mark.parametrize('keep', ['0.5', '1.0'])
def test_rebuilt_and_dropped_graph_equals_reference_values(
    golden, k, keep, assert_exact
):
    values = golden('diffmm_graph')
    num_items = values['in_R'].size(1)
    adj = SelfLoopAdj(top(values[f'k{k}_out_topk_idx_by_user'], num_items))
    assert_exact(dense(adj), values[f'k{k}_out_adj'])

    place = torch.zeros(adj.num_nodes, adj.num_nodes, dtype=torch.long)
    row, col = values[f'k{k}_out_coo_idx']
    place[row, col] = torch.arange(row.numel())
    uniform = values[f'k{k}_keep{keep}_in_rand_per_edge']
    uniform = uniform[place[adj.rows.row, adj.rows.col]]
    dropped = adj.dropout(1 - float(keep), uniform=uniform)
    assert_exact(dense(dropped), values[f'k{k}_keep{keep}_out_adj'])


def test_propagation_has_the_gradients_of_the_dense_product():
    torch.manual_seed(0)
    adj = SelfLoopAdj(sparse(torch.rand(4, 6, dtype=torch.double).round()))
    x = torch.randn(10, 3, dtype=torch.double, requires_grad=True)
    for graph in (adj, adj.dropout(0.5), adj.dropout(0.3).mix(adj, 0.6)):
        matrix = dense(graph)
        torch.testing.assert_close(graph.propagate(x), matrix @ x)
        assert torch.autograd.gradcheck(graph.propagate, x)
    assert not torch.equal(adj.dropout(0.5).rows.value, adj.rows.value)


def test_mixture_of_graphs():
    torch.manual_seed(0)
    first, second = (
        SelfLoopAdj(sparse(torch.rand(3, 4, dtype=torch.double).round()))
        for _ in range(2)
    )
    mixed = first.mix(second, 0.3)
    expected = 0.3 * dense(first) + 0.7 * dense(second)
    torch.testing.assert_close(dense(mixed), expected)
    assert (mixed.num_users, mixed.num_nodes) == (3, 7)


def test_dropout_keeps_the_mean_and_follows_the_generator():
    adj = SelfLoopAdj(
        SparseRows.from_coo(
            torch.arange(500), torch.arange(500) % 7, num_rows=500, num_cols=7
        )
    )
    generator = torch.Generator().manual_seed(3)
    value = adj.dropout(0.25, generator).rows.value
    kept = value > 0
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.05)
    torch.testing.assert_close(value[kept], adj.rows.value[kept] / 0.75)
    again = adj.dropout(0.25, generator.manual_seed(3)).rows.value
    assert torch.equal(value, again)


def test_isolated_nodes_keep_themselves():
    adj = SelfLoopAdj(sparse(torch.tensor([[1.0, 0.0], [0.0, 0.0]])))
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    out = adj.propagate(x)
    torch.testing.assert_close(out, torch.tensor([[2.0], [2.0], [2.0], [4.0]]))
    assert str(adj) == 'SelfLoopAdj(2, 2, nnz=6)'


def test_bad_arguments_are_refused():
    adj = SelfLoopAdj(sparse(torch.eye(2)))
    with pytest.raises(ValueError, match=r"'p' needs to lie in \[0, 1\).*got 1.0"):
        adj.dropout(1.0)
    with pytest.raises(ValueError, match=r"'uniform' needs shape \[8\].*got \[3\]"):
        adj.dropout(0.5, uniform=torch.rand(3))
    other = SelfLoopAdj(sparse(torch.ones(1, 3)))
    with pytest.raises(ValueError, match=r"'other' needs 2 users and 4 nodes .*got 1"):
        adj.mix(other, 0.5)
    with pytest.raises(ValueError, match="'rows' need finite, non-negative values"):
        SelfLoopAdj(sparse(-torch.eye(2)))
