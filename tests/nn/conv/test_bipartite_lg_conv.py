import pytest
import torch
from torch_geometric.nn import HeteroConv, LGConv

from pyg_diffrec.nn.conv import BipartiteLGConv
from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.propagation import BipartiteAdj

USERS, ITEMS = 6, 4


def build(weighted):
    """User 5 and item 3 have no edges."""
    edge_index = torch.tensor([[0, 0, 1, 2, 3, 4, 4], [0, 2, 0, 1, 1, 2, 1]])
    generator = torch.Generator().manual_seed(0)
    x = [
        torch.rand(size, 3, generator=generator, dtype=torch.double)
        for size in (USERS, ITEMS)
    ]
    weight = torch.rand(7, generator=generator, dtype=torch.double)
    return tuple(x), edge_index, weight if weighted else None


def both_ways(conv, x, edge_index, weight=None):
    back = conv(x[::-1], edge_index.flip(0), weight)
    return back, conv(x, edge_index, weight)


@pytest.mark.parametrize('weighted', [False, True])
def test_equals_lg_conv_on_the_graph_of_all_nodes(weighted):
    x, edge_index, weight = build(weighted)
    user, item = both_ways(BipartiteLGConv(), x, edge_index, weight)
    both = edge_index + torch.tensor([[0], [USERS]])
    both = torch.cat([both, both.flip(0)], dim=1)
    twice = None if weight is None else weight.repeat(2)
    expected = LGConv()(torch.cat(x), both, twice)
    torch.testing.assert_close(torch.cat([user, item]), expected, rtol=0, atol=1e-12)
    assert bool((user[5] == 0).all())
    assert bool((item[3] == 0).all())


@pytest.mark.parametrize('weighted', [False, True])
def test_equals_the_fast_path_with_its_gradient(weighted):
    x, edge_index, weight = build(weighted)
    value = torch.ones(7, dtype=torch.double) if weight is None else weight
    rows = SparseRows.from_coo(*edge_index, value, num_rows=USERS, num_cols=ITEMS)
    grads = []
    for propagate in (
        BipartiteAdj(rows).propagate,
        lambda *x: both_ways(BipartiteLGConv(), x, edge_index, weight),
    ):
        leaves = [part.clone().requires_grad_() for part in x]
        out = propagate(*leaves)
        (out[0].square().sum() + out[1].pow(3).sum()).backward()
        grads.append([*out, *(leaf.grad for leaf in leaves)])
    for fast, slow in zip(*grads):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings('ignore:Sparse')
@pytest.mark.parametrize('weighted', [False, True])
def test_takes_a_transposed_sparse_matrix(weighted):
    x, edge_index, weight = build(weighted)
    value = torch.ones(7, dtype=torch.double) if weight is None else weight
    adj_t = torch.sparse_coo_tensor(edge_index.flip(0), value, (ITEMS, USERS))
    expected = BipartiteLGConv()(x, edge_index, weight)
    for adj in (adj_t.coalesce(), adj_t.coalesce().to_sparse_csr()):
        torch.testing.assert_close(BipartiteLGConv()(x, adj), expected)


@pytest.mark.parametrize('weighted', [False, True])
def test_hetero_conv_composes_both_directions(weighted):
    (user, item), edge_index, weight = build(weighted)
    there, back = ('user', 'interacts', 'item'), ('item', 'rev_interacts', 'user')
    conv = HeteroConv({there: BipartiteLGConv(), back: BipartiteLGConv()})
    edges = {there: edge_index, back: edge_index.flip(0)}
    options = {'edge_weight_dict': {there: weight, back: weight}} if weighted else {}
    out = conv({'user': user, 'item': item}, edges, **options)
    expected = both_ways(BipartiteLGConv(), (user, item), edge_index, weight)
    assert torch.equal(out['user'], expected[0])
    assert torch.equal(out['item'], expected[1])


def test_one_kind_of_nodes_is_both_sides():
    x = torch.rand(4, 2, dtype=torch.double)
    edge_index = torch.tensor([[0, 1, 2], [1, 0, 3]])
    conv = BipartiteLGConv()
    assert torch.equal(conv(x, edge_index), conv((x, x), edge_index))
    ties = HeteroConv({('user', 'trusts', 'user'): conv})
    out = ties({'user': x}, {('user', 'trusts', 'user'): edge_index})
    assert torch.equal(out['user'], conv(x, edge_index))


def test_without_normalisation_sums_the_neighbours():
    x, edge_index, weight = build(True)
    user, item = both_ways(BipartiteLGConv(normalize=False), x, edge_index)
    torch.testing.assert_close(user[4], x[1][2] + x[1][1])
    torch.testing.assert_close(item[0], x[0][0] + x[0][1])
    user, _ = both_ways(BipartiteLGConv(normalize=False), x, edge_index, weight)
    torch.testing.assert_close(user[4], weight[5] * x[1][2] + weight[6] * x[1][1])
    assert repr(BipartiteLGConv()) == 'BipartiteLGConv()'
