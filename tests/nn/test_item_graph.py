import pytest
import torch
from toy import toy_data

from pyg_diffrec.data import interaction_rows
from pyg_diffrec.nn import item_graph
from pyg_diffrec.nn.item_graph import ItemGraph
from pyg_diffrec.utils import SparseRows


def sample_rows(weighted=False):
    """Interactions with a user and an item that have none."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(30, 12, generator=generator) < 0.3
    mask[4] = mask[:, 7] = False
    row, col = mask.nonzero().t()
    value = torch.rand(len(row), generator=generator) + 0.1 if weighted else None
    return SparseRows.from_coo(row, col, value, num_rows=30, num_cols=12)


def dense_operator(rows):
    r = rows.to_dense().double()
    user, item = r.sum(1), r.sum(0)
    out = torch.zeros(r.size(1), r.size(1), dtype=torch.double)
    for i in range(r.size(1)):
        for j in range(r.size(1)):
            for u in range(r.size(0)):
                if r[u, i] > 0 and r[u, j] > 0:
                    scale = (item[i] * user[u] * item[j]).sqrt()
                    out[i, j] += r[u, i] * r[u, j] / scale
    return out, torch.linalg.eigvalsh(out).max()


@pytest.mark.parametrize('weighted', [False, True])
def test_equals_the_dense_operator(weighted):
    rows = sample_rows(weighted)
    graph, (dense, largest) = ItemGraph(rows), dense_operator(rows)
    assert graph.max_eigenvalue == pytest.approx(float(largest), rel=1e-12)
    x = torch.randn(5, 12, dtype=torch.double)
    torch.testing.assert_close(graph(x), x @ dense / largest, rtol=1e-12, atol=1e-12)


def test_eigenvalue_of_user_degrees_to_the_first_power_would_be_one():
    # With one interaction per user the two powers are the same.
    col = torch.tensor([0, 0, 1, 2, 2, 2])
    rows = SparseRows.from_coo(torch.arange(6), col, num_rows=6, num_cols=3)
    graph = ItemGraph(rows)
    assert graph.max_eigenvalue == pytest.approx(1.0, rel=1e-12)
    x = torch.rand(2, 3, dtype=torch.double)
    torch.testing.assert_close(graph(x), x)


@pytest.mark.parametrize('num_items', [1, 2, 3])
def test_few_items(num_items):
    row, col = torch.ones(4, num_items).nonzero().t()
    rows = SparseRows.from_coo(row, col, num_rows=4, num_cols=num_items)
    # All users have seen all items: rows become their mean, times its eigenvalue 1.
    x = torch.rand(2, num_items, dtype=torch.double)
    mean = x.mean(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(ItemGraph(rows)(x), mean)


def test_eigenvalue_of_parts_that_do_not_touch():
    # The iteration has to find the larger of two separate groups.
    row = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 3, 3])
    col = torch.tensor([0, 1, 0, 1, 2, 3, 4, 2, 3, 4])
    rows = SparseRows.from_coo(row, col, num_rows=4, num_cols=5)
    _, largest = dense_operator(rows)
    graph = ItemGraph(rows)
    assert graph.max_eigenvalue == pytest.approx(float(largest), rel=1e-12)


def test_items_without_users_smooth_to_zero_and_nothing_grows():
    graph = ItemGraph(sample_rows())
    out = graph(torch.eye(12, dtype=torch.double))
    assert out[7].abs().max() == out[:, 7].abs().max() == 0
    torch.testing.assert_close(out, out.t())
    eigenvalues = torch.linalg.eigvalsh(out)
    assert eigenvalues.min() > -1e-12
    torch.testing.assert_close(float(eigenvalues.max()), 1.0, rtol=1e-12, atol=0)


def test_blocks_of_rows_change_nothing(monkeypatch):
    graph, x = ItemGraph(sample_rows()), torch.rand(9, 12, dtype=torch.double)
    whole = graph(x)
    monkeypatch.setattr(item_graph, '_BLOCK', 4)
    torch.testing.assert_close(graph(x), whole, rtol=1e-14, atol=0)
    assert graph(x[:0]).shape == (0, 12)


def test_gradient_is_the_smoothed_gradient():
    graph = ItemGraph(sample_rows())
    x = torch.rand(3, 12, dtype=torch.double, requires_grad=True)
    weight = torch.rand(3, 12, dtype=torch.double)
    (graph(x) * weight).sum().backward()
    torch.testing.assert_close(x.grad, graph(weight))


def test_follows_the_type_of_the_rows_and_has_a_state():
    graph = ItemGraph(interaction_rows(toy_data()))
    x = torch.rand(4, 40)
    assert graph(x).dtype == torch.float
    torch.testing.assert_close(graph(x), graph(x.double()).float())
    torch.testing.assert_close(graph.float()(x.double()).float(), graph(x))
    assert not list(graph.parameters())
    twin = ItemGraph(interaction_rows(toy_data(9, 40)))
    twin.double().load_state_dict(graph.state_dict())
    assert torch.equal(twin(x), graph(x))
    assert twin.max_eigenvalue == graph.max_eigenvalue
    assert twin.num_users == 60


def test_nothing_is_as_large_as_items_by_items():
    # Items by items would hold 4e10 numbers.
    user = torch.arange(1000).repeat_interleave(4)
    item = torch.arange(4000) * 104729 % 200_000
    rows = SparseRows.from_coo(user, item, num_rows=1000, num_cols=200_000)
    out = ItemGraph(rows)(torch.rand(2, 200_000))
    assert out.shape == (2, 200_000)


def test_bad_rows_are_refused():
    rows = sample_rows()
    with pytest.raises(ValueError, match=r"'x' needs shape \[\*, 12\].*\[3, 11\]"):
        ItemGraph(rows)(torch.rand(3, 11))
    with pytest.raises(ValueError, match="'rows' needs interactions, none of them"):
        ItemGraph(rows.with_value(-rows.value))
    none = SparseRows.from_coo(*torch.empty(2, 0).long(), num_rows=3, num_cols=4)
    with pytest.raises(ValueError, match=r"in 'ItemGraph' \(got 0 interactions\)"):
        ItemGraph(none)
    assert str(ItemGraph(rows)) == f'ItemGraph(12, num_interactions={rows.nnz})'


def test_a_damaged_state_is_refused():
    rows = SparseRows(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_cols=2)
    graph = ItemGraph(rows)
    state = {name: value.clone() for name, value in graph.state_dict().items()}
    state['col'][0] = 7
    with pytest.raises(RuntimeError, match=r"'col' needs to lie in \[0, 2\).*got 7"):
        ItemGraph(rows).load_state_dict(state)
