import pytest
import torch
from torch_geometric.nn.models import LightGCN as PyGLightGCN
from toy import given_data, toy_data

from pyg_diffrec.data import USER_ITEM, HyperbolicTemporalWeight
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models import MostPopular
from pyg_diffrec.models.baselines.light_gcn import LightGCN
from pyg_diffrec.models.baselines.mf_bpr import MFBPR
from pyg_diffrec.models.baselines.sim_gcl import SimGCL
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.propagation import BipartiteAdj


@pytest.fixture(autouse=True)
def _one_thread():
    """Products this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


BOTH = pytest.mark.parametrize('cls', [MFBPR, LightGCN])


@BOTH
@pytest.mark.parametrize('negatives', ['uniform', 'popularity'])
def test_contract(cls, negatives):
    options = {'embedding_dim': 8, 'batch_size': 64, 'negatives': negatives}
    check_model(cls, toy_data(), **options)


def test_contract_with_dropped_edges():
    check_model(LightGCN, toy_data(), embedding_dim=8, num_layers=2, edge_dropout=0.2)


# Few pairs, and more than there are users and items.
@pytest.mark.parametrize('num_pairs', [3, 50])
@pytest.mark.parametrize('weighted', [False, True])
@BOTH
def test_loss_by_hand(cls, weighted, num_pairs):
    torch.manual_seed(0)
    model = cls.from_data(toy_data(), embedding_dim=4, l2=0.3).double()
    index = torch.randint(40, (3, num_pairs))
    weight = torch.rand(num_pairs).double() if weighted else None
    user, item = model.tables()
    own_user, own_item = model.learned_tables()
    bpr = l2 = 0.0
    for b, (u, i, j) in enumerate(index.t().tolist()):
        difference = (user[u] @ item[i] - user[u] @ item[j]).item()
        w = weight[b].item() if weighted else 1.0
        bpr -= w * torch.tensor(difference).double().sigmoid().log().item() / num_pairs
        for row in (own_user[u], own_item[i], own_item[j]):
            l2 += 0.3 * 0.5 * row.square().sum().item() / num_pairs
    losses = model.loss(EdgeBatch(*index, weight))
    losses = {key: value.item() for key, value in losses.items()}
    assert losses == pytest.approx({'total': bpr + l2, 'bpr': bpr, 'l2': l2}, rel=1e-6)


@pytest.mark.parametrize('num_pairs', [3, 50])
def test_the_penalty_has_the_same_gradient_however_it_is_summed(num_pairs):
    torch.manual_seed(0)
    model = MFBPR.from_data(toy_data(), embedding_dim=4, l2=0.3).double()
    batch = EdgeBatch(*torch.randint(40, (3, num_pairs)))
    grads = torch.autograd.grad(model.loss(batch)['l2'], model.learned_tables())
    for grad, table, index in zip(
        grads, model.learned_tables(), (batch.user, torch.cat(batch[1:3]))
    ):
        count = torch.bincount(index, minlength=len(table))
        expected = 0.3 / num_pairs * count.unsqueeze(1) * table
        torch.testing.assert_close(grad, expected)


@BOTH
def test_scores_are_inner_products_of_the_tables(cls):
    model = cls.from_data(toy_data(), embedding_dim=4).eval()
    user, item = model.tables()
    scores = model.score(torch.tensor([5, 2]), model.history)
    assert scores.shape == (2, 40)
    torch.testing.assert_close(scores[1, 7], user[2] @ item[7])


@BOTH
def test_phases_take_over_the_hyper_parameters(cls):
    options = {'lr': 0.3, 'batch_size': 17, 'negatives': 'popularity'}
    (phase,) = cls.from_data(toy_data(), embedding_dim=4, **options).phases()
    assert phase.optimizer.param_groups[0]['lr'] == 0.3
    first, again = next(iter(phase.loader)), next(iter(phase.loader))
    assert len(first.user) == 17
    assert not torch.equal(first.user, again.user)
    assert phase.loader.sampler_of_negatives.method == 'popularity'


def test_light_gcn_without_layers_is_matrix_factorisation():
    torch.manual_seed(0)
    factors = MFBPR.from_data(toy_data(), embedding_dim=4)
    graph = LightGCN.from_data(toy_data(), embedding_dim=4, num_layers=0)
    state = {f'encoder.{key}': value for key, value in factors.state_dict().items()}
    graph.load_state_dict(state)
    batch = next(iter(factors.phases()[0].loader))
    losses = [model.loss(batch) for model in (factors, graph)]
    torch.testing.assert_close(losses[0], losses[1])


def test_light_gcn_propagates_along_training_interactions_alone():
    data = given_data([[0], [1]], [[1], [2]], [[2], [0]], 4)
    model = LightGCN.from_data(data, embedding_dim=3, num_layers=1).double()
    user, item = model.tables()
    own_user, own_item = model.learned_tables()
    torch.testing.assert_close(user, (own_user + own_item[:2]) / 2)
    torch.testing.assert_close(item[:2], (own_item[:2] + own_user) / 2)
    torch.testing.assert_close(item[2:], own_item[2:] / 2)


@pytest.mark.parametrize(
    ('cls', 'l2', 'least'), [(MFBPR, 0.1, 0.08), (LightGCN, 1e-4, 0.11)]
)
def test_learns_what_popularity_cannot(cls, l2, least):
    data = toy_data(300, 150, num_groups=6, interactions_per_user=20)
    torch.manual_seed(0)
    model = cls.from_data(data, embedding_dim=16, lr=0.02, l2=l2, batch_size=512)
    fit(model, epochs=20, progress=False)
    floor = evaluate(MostPopular.from_data(data), data, 'test')['Recall@20']
    found = evaluate(model, data, 'test')['Recall@20']
    # MostPopular finds 0.346, the planted optimum 0.577, chance 0.133.
    assert found > floor + least


TEMPORAL = {'form': 'hyperbolic', 'h': 2.0}
ALL = pytest.mark.parametrize('cls', [MFBPR, LightGCN, SimGCL])


@ALL
def test_contract_with_temporal_weights(cls):
    check_model(cls, toy_data(), temporal=TEMPORAL, embedding_dim=8, batch_size=64)


@ALL
@pytest.mark.parametrize('rescale', [False, True])
def test_pairs_count_by_their_time_and_by_one_on_average(cls, rescale):
    lists = [[0, 1, 2], [3], [4, 0]]
    data = given_data(lists, [[3], [1], [1]], [[4], [2], [2]], 6)
    data.time_ordered = True
    temporal = {**TEMPORAL, 'rescale': rescale}
    model = cls.from_data(data, embedding_dim=4, batch_size=6, temporal=temporal)
    batch = next(iter(model.phases()[0].loader))
    rows = [[1 / 2, 2 / 3, 1.0], [1.0], [2 / 3, 1.0]]
    if rescale:
        rows = [[w * len(row) / sum(row) for w in row] for row in rows]
    mean = sum(map(sum, rows)) / 6
    for u, i, weight in zip(*(batch[k].tolist() for k in (0, 1, 3))):
        assert weight == pytest.approx(rows[u][lists[u].index(i)] / mean, rel=1e-6)
    assert batch.weight.mean().item() == pytest.approx(1.0)
    assert torch.equal(batch.weight, torch.ones(6)) is False
    plain = cls.from_data(data, embedding_dim=4, batch_size=6)
    assert next(iter(plain.phases()[0].loader)).weight is None


def test_weights_of_the_data_enter_the_graph_but_not_the_pairs():
    data = given_data([[0, 1], [1]], [[2], [2]], [[3], [3]], 4)
    data.time_ordered = True
    store = data[USER_ITEM]
    store.edge_weight = torch.rand(store.num_edges) + 0.5
    model = LightGCN.from_data(data, embedding_dim=3, temporal=TEMPORAL)
    batch = next(iter(model.phases()[0].loader))
    assert sorted(batch.weight.tolist()) == pytest.approx([0.75, 1.125, 1.125])
    value = HyperbolicTemporalWeight(2.0)(model.history).value
    assert not torch.equal(value, model.history.value)
    expected = BipartiteAdj(model.history.with_value(value)).rows.value
    torch.testing.assert_close(model._graph().rows.value, expected)


@pytest.mark.parametrize('form', ['linear', 'exponential', 'hyperbolic'])
def test_the_graph_is_that_of_pyg_with_the_weights_on_its_edges(form):
    torch.manual_seed(0)
    data = toy_data()
    ours = LightGCN.from_data(data, embedding_dim=4, num_layers=2, temporal=form)
    ours = ours.double()
    theirs = PyGLightGCN(100, 4, num_layers=2, alpha=1 / 3).double()
    theirs.embedding.weight.data = torch.cat(ours.learned_tables()).detach()
    rows = ours.temporal(ours.history.to(dtype=torch.double))
    assert rows.value.unique().numel() > 2
    edge = torch.stack([rows.row, rows.col + 60])
    edge, weight = torch.cat([edge, edge.flip(0)], dim=1), rows.value.repeat(2)
    expected = theirs.get_embedding(edge, weight)
    torch.testing.assert_close(torch.cat(ours.tables()), expected)


@ALL
def test_temporal_weights_need_time_order_and_a_known_form(cls):
    data = given_data([[0, 1]], [[2]], [[3]], 5)
    with pytest.raises(ValueError, match=f"of '{cls.__name__}' need interactions in"):
        cls.from_data(data, temporal='linear')
    cls.from_data(data)
    with pytest.raises(ValueError, match='temporal form'):
        cls(5, 3, temporal='quadratic')
    with pytest.raises(TypeError, match="'temporal' needs to be a string or"):
        cls(5, 3, temporal=2.0)


@BOTH
def test_recent_taste_wins_with_temporal_weights(cls):
    # Two groups of items; every user moves from one to the other.
    torch.manual_seed(0)
    old, new = (torch.stack([torch.randperm(20) for _ in range(100)]) for _ in range(2))
    shift = (torch.arange(100) % 2).mul(20).unsqueeze(1)
    old, new = old + shift, new + 20 - shift
    train = torch.cat([old[:, :8], new[:, :6]], dim=1).tolist()
    data = given_data(train, new[:, 6:8].tolist(), new[:, 8:].tolist(), 40)
    data.time_ordered = True
    found = []
    for temporal in (None, {'form': 'exponential', 'half_life': 2.0}):
        torch.manual_seed(0)
        options = {'embedding_dim': 8, 'lr': 0.02, 'l2': 0.1, 'batch_size': 256}
        model = cls.from_data(data, temporal=temporal, **options)
        fit(model, epochs=40, progress=False)
        metrics = evaluate(model, data, 'test', ['Recall@10'])
        found.append(metrics['Recall@10'])
    # With and without: 0.58 and 0.44 for MFBPR, 0.83 (all) and 0.42 for LightGCN.
    assert found[1] > found[0] + 0.08


def counted(model, monkeypatch):
    calls = []
    forward = model.encoder.forward
    monkeypatch.setattr(
        model.encoder, 'forward', lambda adj: calls.append(1) or forward(adj)
    )
    return calls


def test_an_evaluation_propagates_once(monkeypatch):
    data = toy_data()
    model = LightGCN.from_data(data, embedding_dim=4)
    calls = counted(model, monkeypatch)
    evaluate(model, data, 'val', batch_size=7)
    assert len(calls) == 1
    evaluate(model, data, 'val', batch_size=7)
    assert len(calls) == 2


@pytest.mark.parametrize(
    'change', ['load', 'loss', 'score', 'write', 'history', 'dtype']
)
def test_kept_tables_never_outlive_a_change(change):
    model = LightGCN.from_data(toy_data(), embedding_dim=4).eval()
    other = LightGCN.from_data(toy_data(), embedding_dim=4).eval()
    users = torch.arange(60)
    with torch.no_grad():
        before = model.score(users, model.history)
    if change == 'load':
        model.load_state_dict(other.state_dict())
    elif change in ('loss', 'score'):
        # A fused optimizer does not count as a write.
        (phase,) = model.phases()
        if change == 'loss':
            model.loss(next(iter(phase.loader)))['total'].backward()
        else:
            model.score(users, model.history).square().sum().backward()
        phase.optimizer.step()
    elif change == 'write':
        with torch.no_grad():
            model.encoder.item_embedding.weight.mul_(2.0)
    elif change == 'history':
        model.fit_history(model.history.index_select(users.flip(0)))
    else:
        model.double()
    with torch.no_grad():
        after = model.score(users, model.history)
    user, item = model.encoder(model.history)
    assert after.dtype == user.dtype
    tolerance = 1e-14 if change == 'dtype' else 1e-6
    torch.testing.assert_close(after, user @ item.t(), rtol=0, atol=tolerance)
    if change != 'dtype':
        assert not torch.equal(before, after)


def test_nothing_is_kept_while_training_or_with_gradients():
    model = LightGCN.from_data(toy_data(), embedding_dim=4, edge_dropout=0.5)
    users = torch.arange(60)
    with torch.no_grad():
        first, second = (model.score(users, model.history) for _ in range(2))
    assert not torch.equal(first, second)
    scores = model.eval().score(users, model.history)
    scores.sum().backward()
    assert model.encoder.item_embedding.weight.grad is not None
    model.score(users, model.history).sum().backward()


def test_reprs():
    assert repr(MFBPR(7)) == 'MFBPR(7, num_users=0, embedding_dim=64)'
    expected = 'LightGCN(7, num_users=5, embedding_dim=8, num_layers=2)'
    assert repr(LightGCN(7, 5, embedding_dim=8, num_layers=2)) == expected


@BOTH
def test_errors(cls):
    for name in ('embedding_dim', 'lr', 'batch_size'):
        with pytest.raises(ValueError, match=f"'{name}' needs to be positive"):
            cls(5, 3, **{name: 0})
    with pytest.raises(ValueError, match="'num_items' needs to be positive"):
        cls(0)
    with pytest.raises(ValueError, match=r"'num_users' must not be negative.*\(got -1"):
        cls(5, -1)
    with pytest.raises(ValueError, match=r"'l2' must not be negative.*\(got -0.1"):
        cls(5, 3, l2=-0.1)
    with pytest.raises(ValueError, match='has no interactions yet'):
        cls(5, 3).phases()
    rows = SparseRows.from_coo(
        torch.tensor([0]), torch.tensor([1]), num_rows=2, num_cols=5
    )
    with pytest.raises(ValueError, match=r"needs 3 rows .* 'from_data'"):
        cls(5, 3).fit_history(rows)
    everything = given_data([[0, 1], [0]], [[2], [1]], [[3], [2]], 4)
    model = cls.from_data(everything, negatives='uniform')
    model.fit_history(
        SparseRows(torch.tensor([0, 4, 5]), torch.tensor([0, 1, 2, 3, 0]), num_cols=4)
    )
    with pytest.warns(UserWarning, match='4 interactions of 1 users, the first is 0'):
        loader = model.phases()[0].loader
    assert [batch.user.tolist() for batch in loader] == [[1]]
