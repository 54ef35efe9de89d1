import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data.schema import USER_USER
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines import MostPopular, Planted
from pyg_diffrec.models.baselines.diff_net import DiffNet
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows

SMALL = {'embedding_dim': 8, 'batch_size': 64}
FORMS = [{'layer_weight': False}, {'layer_weight': True}]


def random_graph(seed):
    """Weighted interactions and directed ties as matrices: user 0 has no interactions,
    user 1 no ties, user 2 neither, and nobody the last item."""
    generator = torch.Generator().manual_seed(seed)
    rated = torch.rand(9, 7, generator=generator, dtype=torch.double)
    rated = rated.masked_fill(rated < 0.6, 0.0)
    rated[[0, 2]], rated[:, -1] = 0.0, 0.0
    tied = torch.rand(9, 9, generator=generator) < 0.3
    tied[[1, 2]], tied[:, [1, 2]] = False, False
    return rated, tied.fill_diagonal_(False)


def build(rated, tied, **kwargs):
    torch.manual_seed(0)
    num_users, num_items = rated.shape
    model = DiffNet(num_items, num_users, embedding_dim=4, **kwargs)
    row, col = rated.nonzero().t()
    model.fit_history(
        SparseRows.from_coo(
            row, col, rated[row, col], num_rows=num_users, num_cols=num_items
        )
    )
    model.fit_ties(tied.nonzero().t())
    model.tables()  # A cast has to build the graphs again.
    return model.double()


def mean_of(weight):
    """The rows of a matrix divided by their sums, zero where that is zero."""
    weight = weight.double()
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-9)


@pytest.mark.parametrize('form', FORMS)
def test_contract(form):
    check_model(DiffNet, toy_data(num_social=4), **SMALL, **form)


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('num_layers', [1, 3])
def test_means_equal_the_dense_formula(seed, num_layers, assert_exact):
    rated, tied = random_graph(seed)
    model = build(rated, tied, num_layers=num_layers)
    user, item = model.learned_tables()
    expected = mean_of(rated) @ item
    for depth in range(1, num_layers + 1):
        expected = expected + torch.matrix_power(mean_of(tied), depth) @ user
    actual = model.tables()
    assert_exact(actual[0], expected)
    assert actual[1] is item
    assert (actual[0][2] == 0).all()


@pytest.mark.parametrize(('act', 'function'), [('tanh', torch.tanh), ('relu', None)])
def test_matrices_equal_the_dense_formula(act, function, assert_exact):
    rated, tied = random_graph(2)
    model = build(rated, tied, layer_weight=True, act=act)
    user, item = model.learned_tables()
    hidden = user
    for lin in model.lins:
        both = torch.cat([mean_of(tied) @ hidden, hidden], dim=1)
        hidden = (function or torch.relu)(both @ lin.weight.t())
    assert_exact(model.tables()[0], hidden + mean_of(rated) @ item)


def test_ties_point_to_those_who_influence(assert_exact):
    rated, _ = random_graph(0)
    tied = torch.zeros(9, 9, dtype=torch.bool)
    tied[3, 5] = True
    model = build(rated, tied, num_layers=1)
    user, item = model.learned_tables()
    difference = model.tables()[0] - mean_of(rated) @ item
    assert_exact(difference[3], user[5])
    assert (difference[5] == 0).all()


def test_recent_interactions_weigh_more_in_the_mean(assert_exact):
    rated, tied = random_graph(0)
    model = build(rated, tied, num_layers=1, temporal='linear')
    weighted = model.temporal(model.history.to(dtype=torch.double)).to_dense()
    assert not torch.allclose(mean_of(weighted), mean_of(rated))
    user, item = model.learned_tables()
    expected = mean_of(tied) @ user + mean_of(weighted) @ item
    assert_exact(model.tables()[0], expected)


@pytest.mark.parametrize('form', FORMS)
def test_gradients_are_finite_and_reach_everything(form):
    rated, tied = random_graph(0)
    model = build(rated, tied, **form).float()
    index = torch.tensor([0, 1, 2, 5])
    model.loss(EdgeBatch(index, index, index + 1))['total'].backward()
    for param in model.parameters():
        assert param.grad.isfinite().all()
        assert (param.grad != 0).any()


@pytest.mark.parametrize('form', FORMS)
def test_learns_the_planted_groups(form):
    data = toy_data(300, 60, interactions_per_user=15, num_social=6)
    torch.manual_seed(0)
    model = DiffNet.from_data(
        data, embedding_dim=16, batch_size=512, lr=1e-2, l2=1e-2, **form
    )
    fit(model, epochs=10, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    assert 0.5 < (recall(model) - popular) / (best - popular) < 1


def test_new_ties_and_interactions_are_noticed():
    rated, tied = random_graph(0)
    model = build(rated, tied).eval()
    users = torch.arange(9)
    with torch.no_grad():
        before = model.score(users, model.history)
        model.fit_ties(tied.t().nonzero().t())
        after = model.score(users, model.history)
        assert not torch.equal(before, after)
        model.fit_history(model.history.index_select(users.flip(0)))
        assert not torch.equal(after, model.score(users, model.history))


def test_graphs_without_ties_are_refused():
    data = given_data([[0, 1], [1]], [[], [0]], [[2], []], 3)
    with pytest.raises(ValueError, match="'DiffNet' needs ties between users"):
        DiffNet.from_data(data)
    data[USER_USER].edge_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="'DiffNet' needs ties between users"):
        DiffNet.from_data(data)
    model = DiffNet(3, num_users=2)
    model.fit_history(
        SparseRows(torch.tensor([0, 1, 1]), torch.tensor([2]), num_cols=3)
    )
    with pytest.raises(ValueError, match="'DiffNet' has no ties yet"):
        model.tables()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'num_layers' needs to be positive"):
        DiffNet(3, num_users=2, num_layers=0)
    model = DiffNet(3, num_users=2)
    for edge in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match=r"need to lie in \[0, 2\) in 'DiffNet"):
            model.fit_ties(torch.tensor(edge).view(2, 1))
    with pytest.raises(ValueError, match='from user 1 to user 0 more than once'):
        model.fit_ties(torch.tensor([[1, 0, 1], [0, 1, 0]]))
    with pytest.raises(TypeError, match="'edge_index' needs whole numbers"):
        model.fit_ties(torch.tensor([[0.6], [1.0]]))
    with pytest.raises(ValueError, match=r"'edge_index' needs shape \[2, num_ties\]"):
        model.fit_ties(torch.tensor([[0, 1, 1]]))
    assert repr(DiffNet(3)).startswith('DiffNet(3, ')
