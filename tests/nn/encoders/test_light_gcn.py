import pytest
import torch
from torch_geometric.nn.models import LightGCN

from pyg_diffrec.nn.encoders.light_gcn import LightGCNEncoder
from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.propagation import BipartiteAdj

USERS, ITEMS = 9, 7


def build():
    """User 4 and item 2 have no interactions."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(USERS, ITEMS, generator=generator) < 0.4
    dense[4], dense[:, 2] = False, False
    row, col = dense.nonzero().t()
    return SparseRows.from_coo(row, col, num_rows=USERS, num_cols=ITEMS)


def pair(num_layers, alpha):
    """Our encoder and PyG's, with the same weights."""
    torch.manual_seed(0)
    ours = LightGCNEncoder(USERS, ITEMS, 5, num_layers, alpha=alpha).double()
    weights = alpha or [1 / (num_layers + 1)] * (num_layers + 1)
    theirs = LightGCN(
        USERS + ITEMS, 5, num_layers, torch.tensor(weights, dtype=torch.double)
    ).double()
    table = [ours.user_embedding.weight, ours.item_embedding.weight]
    theirs.embedding.weight.data = torch.cat(table).detach().clone()
    return ours, theirs


@pytest.mark.parametrize(
    ('num_layers', 'alpha'),
    [(0, None), (1, None), (2, None), (3, None), (2, [0.5, 0.0, 2.0])],
)
def test_equals_pyg_with_its_gradient(num_layers, alpha):
    rows = build()
    ours, theirs = pair(num_layers, alpha)
    edge = torch.stack([rows.row, rows.col + USERS])
    edge = torch.cat([edge, edge.flip(0)], dim=1)
    out, expected = torch.cat(ours(rows)), theirs.get_embedding(edge)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    out.pow(3).sum().backward()
    expected.pow(3).sum().backward()
    grad = torch.cat([ours.user_embedding.weight.grad, ours.item_embedding.weight.grad])
    torch.testing.assert_close(grad, theirs.embedding.weight.grad, rtol=0, atol=1e-12)


def test_rows_and_graph_give_the_same():
    rows, encoder = build(), LightGCNEncoder(USERS, ITEMS, 4, 2)
    for one, other in zip(encoder(rows), encoder(BipartiteAdj(rows))):
        assert torch.equal(one, other)


def test_isolated_nodes_keep_their_own_embedding():
    encoder = LightGCNEncoder(USERS, ITEMS, 4, 3)
    user, item = encoder(build())
    assert bool(user.isfinite().all())
    assert bool(item.isfinite().all())
    torch.testing.assert_close(user[4], encoder.user_embedding.weight[4] / 4)
    torch.testing.assert_close(item[2], encoder.item_embedding.weight[2] / 4)
    (user.sum() + item.sum()).backward()
    assert bool(encoder.item_embedding.weight.grad.isfinite().all())


def test_edge_dropout_acts_in_training_alone_and_on_all_layers_alike():
    adj = BipartiteAdj(build())
    encoder = LightGCNEncoder(USERS, ITEMS, 4, 2, edge_dropout=0.3)
    plain = LightGCNEncoder(USERS, ITEMS, 4, 2)
    plain.load_state_dict(encoder.state_dict())
    for one, other in zip(encoder.eval()(adj), plain(adj)):
        assert torch.equal(one, other)
    found = encoder.train()(adj, torch.Generator().manual_seed(3))
    dropped = adj.dropout(0.3, torch.Generator().manual_seed(3))
    for one, other in zip(found, plain(dropped)):
        assert torch.equal(one, other)
    assert not torch.equal(torch.cat(encoder(adj)), torch.cat(encoder(adj)))


def test_repr_and_reset():
    encoder = LightGCNEncoder(500, 300, 64, num_layers=2)
    assert repr(encoder) == 'LightGCNEncoder(500, 300, 64, num_layers=2)'
    before = encoder.user_embedding.weight.clone()
    encoder.reset_parameters()
    assert not torch.equal(before, encoder.user_embedding.weight)
    assert encoder.user_embedding.weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert encoder.item_embedding.weight.std().item() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        ({'num_users': -1}, "'num_users' must not be negative"),
        ({'num_items': 0}, "'num_items' needs to be positive"),
        ({'embedding_dim': 0}, "'embedding_dim' needs to be positive"),
        ({'num_layers': -1}, "'num_layers' must not be negative"),
        ({'alpha': [1.0, 1.0]}, r"'alpha' needs 3 weights .*\(got 2\)"),
        ({'edge_dropout': 1.0}, r"'edge_dropout' needs to lie in \[0, 1\)"),
        ({'edge_dropout': -0.1}, r"'edge_dropout' needs to lie in \[0, 1\)"),
    ],
)
def test_refuses_what_is_out_of_range(change, match):
    kwargs = {'num_users': 3, 'num_items': 2, 'embedding_dim': 4, 'num_layers': 2}
    with pytest.raises(ValueError, match=match):
        LightGCNEncoder(**{**kwargs, **change})


def test_refuses_interactions_of_another_size():
    with pytest.raises(ValueError, match=r"'rows_or_adj' needs shape \[9, 8\]"):
        LightGCNEncoder(USERS, ITEMS + 1, 4, 2)(build())
