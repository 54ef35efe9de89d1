from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from toy import given_data, toy_data

from pyg_diffrec import models
from pyg_diffrec.data import USER_ITEM
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models import MostPopular, Planted
from pyg_diffrec.models.baselines import lattice
from pyg_diffrec.models.baselines.bm3 import BM3
from pyg_diffrec.models.baselines.lattice import LATTICE
from pyg_diffrec.models.baselines.vbpr import VBPR
from pyg_diffrec.products import keep_products
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.knn_graph import knn_graph
from pyg_diffrec.utils.toml import read_toml

SMALL = {'embedding_dim': 8, 'batch_size': 64}
ALL = pytest.mark.parametrize('cls', [VBPR, LATTICE, BM3])


def mm_data(*args, **kwargs):
    return toy_data(*args, modalities={'image': (3, 2), 'text': (2, 2)}, **kwargs)


def holed_data():
    """Items 3, 5 and 6 lack a modality, by a mask or zeros; the last two lack both."""
    data = mm_data()
    data['item'].has_image = torch.ones(40, dtype=torch.bool)
    data['item'].has_image[[3, 5]] = False
    data['item'].x_image[6] = 0.0
    data['item'].x_text[5:7] = 0.0
    return data


def small_model(cls, data=None, **kwargs):
    torch.manual_seed(0)
    data = mm_data() if data is None else data
    return cls.from_data(data, **{**SMALL, **kwargs}).double()


def score(model):
    users = torch.arange(model.num_users)
    with torch.no_grad():
        return model.eval().score(users, model.history)


def a_batch(weighted=False, size=150):
    """Pairs of few users and items, so that these occur several times."""
    generator = torch.Generator().manual_seed(3)
    index = torch.randint(30, (3, size), generator=generator)
    weight = torch.rand(size, dtype=torch.double, generator=generator)
    return EdgeBatch(*index, weight if weighted else None)


def units(model):
    """The features of unit length, of each modality."""
    return [x.double() for x in model.item_features()[0]]


def dense_light_gcn(model):
    user, item = model.learned_tables()
    r = model.history.to_dense().double()
    scale = [r.sum(1).clamp(min=1).rsqrt(), r.sum(0).clamp(min=1).rsqrt()]
    r = scale[0].view(-1, 1) * r * scale[1]
    adj = torch.cat([torch.cat([torch.zeros(60, 60), r], 1), F.pad(r.t(), (0, 40))])
    layers = [torch.cat([user, item])]
    for _ in range(model.encoder.num_layers):
        layers.append(adj @ layers[-1])
    return torch.stack(layers).mean(0).split([60, 40])


def check_gradients(model, actual, expected, assert_exact):
    assert_exact(actual, expected)
    parameters = list(model.parameters())
    grads = [
        torch.autograd.grad(loss, parameters, allow_unused=True)
        for loss in (actual, expected)
    ]
    for ours, plain in zip(*grads):
        assert ours is not None
        assert_exact(ours, plain)


def pair_loss(user, item, batch):
    """By the definition, one pair after the other."""
    out = 0.0
    for b, (u, i, j) in enumerate(torch.stack(batch[:3]).t().tolist()):
        weight = 1.0 if batch.weight is None else batch.weight[b]
        out = out - weight * F.logsigmoid(user[u] @ item[i] - user[u] @ item[j])
    return out / len(batch.user)


VARIANTS = {
    VBPR: [{'feature_dim': 3, 'feature_l2': 0.0}],
    LATTICE: [{'num_layers': 0, 'num_item_layers': 2, 'k': 100}, {'edge_dropout': 0.2}],
    BM3: [{'num_layers': 0, 'dropout': 0.0}, {'modality_weight': 0.0}],
}


@ALL
def test_contract(cls):
    check_model(cls, mm_data(), **SMALL)
    check_model(cls, holed_data(), modalities=['text'], temporal='linear', **SMALL)
    for options in VARIANTS[cls]:
        check_model(cls, mm_data(), **SMALL, **options)


@pytest.mark.parametrize('weighted', [False, True])
def test_vbpr_by_hand(weighted, assert_exact):
    options = {'feature_dim': 3, 'l2': 0.3, 'feature_l2': 0.7}
    model = small_model(VBPR, **options)
    with torch.no_grad():  # These start at zero.
        model.item_embedding.weight[:, -1].normal_()
        model.lin.weight[-1].normal_()
    batch = a_batch(weighted)
    user, item = model.user_embedding.weight, model.item_embedding.weight
    feature = torch.cat(units(model), dim=1)
    torch.testing.assert_close(
        feature[:, :5].norm(dim=1), torch.ones(40, dtype=torch.double)
    )

    def plain(u, i):
        f = feature[i]
        shown = sum(user[u, 8 + d] * (model.lin.weight[d] @ f) for d in range(3))
        bias = item[i, 8] + model.lin.weight[3] @ f
        return user[u, :8] @ item[i, :8] + shown + bias

    assert_exact(score(model)[7, 9], plain(7, 9))
    expected, square = 0.0, 0.0
    for b, (u, i, j) in enumerate(torch.stack(batch[:3]).t().tolist()):
        weight = batch.weight[b] if weighted else 1.0
        expected = expected - weight * F.logsigmoid(plain(u, i) - plain(u, j))
        square = square + sum(x.square().sum() for x in (user[u], item[i], item[j]))
    expected = (expected + 0.15 * square) / len(batch.user)
    expected = expected + 0.35 * model.lin.weight.square().sum()
    losses = model.loss(batch)
    assert list(losses) == ['total', 'bpr', 'l2', 'feature_l2']
    check_gradients(model, losses['total'], expected, assert_exact)


def test_vbpr_projects_the_items_of_a_batch_alone(monkeypatch):
    model = small_model(VBPR)
    sizes, forward = [], model.lin.forward
    monkeypatch.setattr(
        model.lin, 'forward', lambda x: sizes.append(len(x)) or forward(x)
    )
    model.loss(EdgeBatch(*torch.tensor([[0, 1, 2], [7, 7, 8], [9, 8, 9]])))
    assert sizes == [3]


def plain_item_graph(model, x):
    return knn_graph(x, model.k).to_dense()  # Against brute force in its own test.


@pytest.mark.parametrize('num_item_layers', [1, 2])
def test_lattice_equals_dense_products(num_item_layers, assert_exact):
    options = {'num_layers': 2, 'num_item_layers': num_item_layers, 'k': 4, 'l2': 0.3}
    model = small_model(LATTICE, holed_data(), **options)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.4, -0.3]))
    weight = model.logits.exp() / model.logits.exp().sum()
    graphs = [plain_item_graph(model, x) for x in units(model)]
    graph = weight[0] * graphs[0] + weight[1] * graphs[1]
    user, item = dense_light_gcn(model)
    own_user, own_item = model.learned_tables()
    h = torch.linalg.matrix_power(graph, num_item_layers) @ own_item
    length = h.norm(dim=1, keepdim=True)
    # An item with no features at all is scored as LightGCN does.
    assert (length == 0).view(-1).nonzero().view(-1).tolist() == [5, 6]
    item = item + torch.where(length > 0, h, 0) / torch.where(length > 0, length, 1)
    assert_exact(score(model), user @ item.t())
    batch = a_batch(weighted=True)
    expected = pair_loss(user, item, batch)
    for table, index in zip((own_user, own_item, own_item), batch[:3]):
        expected = expected + 0.15 * table[index].square().sum() / len(index)
    check_gradients(model, model.loss(batch)['total'], expected, assert_exact)


def test_lattice_builds_its_graphs_once_and_multiplies_sparse(monkeypatch):
    built, build = [], lattice.knn_graph
    monkeypatch.setattr(
        lattice, 'knn_graph', lambda x, k: built.append(x.shape) or build(x, k)
    )
    data = mm_data()
    model = LATTICE.from_data(data, num_layers=2, num_item_layers=3, **SMALL)
    assert built == [(40, 5), (40, 4)]
    fit(model, epochs=2, progress=False)
    evaluate(model, data, 'val')
    twin = small_model(LATTICE, data, num_layers=2, num_item_layers=3)
    twin.load_state_dict(model.state_dict())
    assert len(built) == 4
    # What was cast to single precision comes back without a trace.
    for actual, expected in zip(model.double().tables(), twin.tables()):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    assert len(built) == 4
    shapes, matmul = [], SparseRows.matmul

    def counted(self, other):
        shapes.append(self.shape)
        return matmul(self, other)

    monkeypatch.setattr(SparseRows, 'matmul', counted)
    model.tables()
    assert sorted(shapes) == [(40, 60)] * 2 + [(60, 40)] * 2 + [(80, 40)] * 3


def test_lattice_reports_modality_weights():
    model = small_model(LATTICE)
    assert model.modality_weights == {'image': 0.5, 'text': 0.5}
    fit(model, epochs=1, progress=False)
    weights = model.modality_weights
    assert weights['image'] != 0.5
    assert sum(weights.values()) == pytest.approx(1.0)
    model.reset_parameters()
    assert model.modality_weights == {'image': 0.5, 'text': 0.5}


def plain_bm3(model, batch, masks):
    """All nodes at once; a target is multiplied by its mask."""
    user, item = dense_light_gcn(model)
    item = item + model.learned_tables()[1]
    weight = 1.0 if batch.weight is None else batch.weight
    p, total = model.predictor, 0.0

    def distance(x, y, x_index, y_index):
        x, y = p(x)[x_index], y.detach()[y_index]
        cosine = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
        return 1 - cosine

    pairs = distance(user, item * masks[1], batch.user, batch.positive)
    pairs = pairs + distance(item, user * masks[0], batch.positive, batch.user)
    for x, lin, mask in zip(units(model), model.projections, masks[2:]):
        f, i = lin(x), batch.positive
        terms = distance(f, item * masks[1], i, i) + distance(f, f * mask, i, i)
        known = x.abs().sum(1) > 0
        pairs = pairs + model.modality_weight * terms * known[i]
    total = (weight * pairs).mean()
    for table, index in ((user, batch.user), (item, batch.positive)):
        total = total + model.l2 / 2 * table[index].square().sum(1).mean()
    return total, p(user) @ p(item).t()


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('dropout', [0.0, 0.5])
def test_bm3_equals_dense_products(weighted, dropout, assert_exact):
    options = {'num_layers': 2, 'l2': 0.3, 'modality_weight': 0.7}
    model = small_model(BM3, holed_data(), dropout=dropout, **options)
    batch = a_batch(weighted)
    torch.manual_seed(1)
    losses = model.loss(batch)
    assert list(losses) == ['total', 'interaction', 'l2', 'alignment', 'masking']
    # A node has one mask, however often it occurs in the batch.
    masks = [torch.zeros(size, 8, dtype=torch.double) for size in (60, 40, 40, 40)]
    torch.manual_seed(1)
    for mask, index in zip(masks, [batch.user] + 3 * [batch.positive]):
        index = torch.tensor(sorted(set(index.tolist())))
        mask[index] = F.dropout(torch.ones(len(index), 8).double(), dropout)
    expected, scores = plain_bm3(model, batch, masks)
    check_gradients(model, losses['total'], expected, assert_exact)
    assert_exact(score(model), scores)


def test_bm3_takes_neither_negatives_nor_dropout_outside_of_training():
    model, batch = small_model(BM3), a_batch()
    other = batch._replace(negative=batch.negative.flip(0))
    losses = []
    for pairs in (batch, other):
        torch.manual_seed(1)
        losses.append(model.loss(pairs)['total'])
    assert torch.equal(*losses)
    model.eval()
    assert torch.equal(model.loss(batch)['total'], model.loss(batch)['total'])
    assert not torch.equal(model.loss(batch)['total'], losses[0])


def test_bm3_without_modality_terms():
    losses = small_model(BM3, modality_weight=0.0).loss(a_batch())
    assert list(losses) == ['total', 'interaction', 'l2']


@ALL
def test_missing_features_count_as_zeros(cls):
    model = small_model(cls, holed_data())
    fit(model, epochs=2, progress=False)
    assert bool(score(model).isfinite().all())
    assert bool((score(model) != 0).all())
    # What stands in place of missing features does not matter.
    data = holed_data()
    data['item'].x_image[[3, 5]] = 100.0
    other = small_model(cls, data)
    for ours, theirs in zip(units(model), units(other)):
        assert torch.equal(ours, theirs)
        assert bool((ours[5] == 0).all())


@ALL
def test_features_of_any_scale_and_type_are_the_same(cls):
    data = mm_data()
    store = data['item']
    store.x_image, store.x_text = store.x_image.half(), store.x_text.half()
    first = score(small_model(cls, data))
    store.x_image, store.x_text = 512 * store.x_image, store.x_text.double()
    torch.testing.assert_close(score(small_model(cls, data)), first)
    assert first.dtype == torch.double


@ALL
def test_users_and_items_without_interactions_are_scored(cls):
    data = given_data([[0, 1], [], [2, 3]], [[2], [1], [0]], [[3], [2], [1]], 6)
    data['item'].x_text = torch.randn(6, 3)
    model = small_model(cls, data, batch_size=3)
    fit(model, epochs=2, progress=False)
    assert bool(score(model).isfinite().all())
    assert len(model.recommend([1], 6, exclude='train').item.unique()) == 6


@pytest.mark.parametrize(
    ('cls', 'name'),
    [(VBPR, 'lin.weight'), (LATTICE, 'logits'), (BM3, 'predictor.bias')],
)
def test_kept_scores_follow_every_weight_and_new_features(cls, name):
    model = small_model(cls)
    if cls is LATTICE:  # Which blends graphs that are not the same.
        assert not torch.equal(*(plain_item_graph(model, x) for x in units(model)))
    model.eval()
    users = torch.arange(60)
    with torch.no_grad():
        with keep_products():
            first = model.score(users, model.history)
            assert model._scored_tables() is model._scored_tables()
        model.get_parameter(name)[0] += 1.0
        second = model.score(users, model.history)
        assert not torch.equal(second, first)
        image, text = units(model)
        model.fit_features({'image': image.flip(0), 'text': text})
        third = model.score(users, model.history)
    # A score of BM3 reads no features.
    assert torch.equal(third, second) == (cls is BM3)


@pytest.mark.parametrize(
    ('cls', 'options', 'least'),
    [
        (VBPR, {'l2': 0.03}, 0.6),
        (LATTICE, {}, 0.6),
        (BM3, {'lr': 0.03, 'modality_weight': 0.3, 'num_layers': 1}, 0.4),
    ],
)
def test_learns_the_planted_groups(cls, options, least):
    data = toy_data(
        300, 60, interactions_per_user=15, modalities={'image': (8, 4), 'text': (8, 8)}
    )
    torch.manual_seed(0)
    options = {'embedding_dim': 16, 'batch_size': 256, 'lr': 1e-2, **options}
    model = cls.from_data(data, **options)
    fit(model, epochs=12, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    share = (recall(model) - popular) / (best - popular)
    assert least < share < 1


@pytest.mark.parametrize(('cls', 'l2'), [(VBPR, 0.03), (LATTICE, 1e-4)])
def test_features_tell_what_new_items_are_like(cls, l2):
    cold, found = torch.arange(12) * 5, []
    for shuffled in (False, True):
        data = toy_data(
            300, 60, interactions_per_user=15, modalities={'text': (8, 0)}, seed=1
        )
        store = data[USER_ITEM]
        held = torch.isin(store.edge_index[1], cold)
        store.train_mask, store.val_mask = ~held, torch.zeros_like(held)
        store.test_mask = held
        if shuffled:
            order = torch.randperm(60, generator=torch.manual_seed(0))
            data['item'].x_text = data['item'].x_text[order]
        torch.manual_seed(0)
        options = {'embedding_dim': 16, 'batch_size': 512, 'lr': 2e-2}
        model = cls.from_data(data, l2=l2, **options)
        fit(model, epochs=6, progress=False)
        # Within the new items alone.
        hits = score(model)[:, cold].argsort(1, descending=True)[:, :3]
        truth = torch.zeros(300, 60)
        truth[tuple(store.edge_index[:, held])] = 1.0
        found.append(truth[:, cold].gather(1, hits).mean().item())
    assert found[0] > 1.3 * found[1]


@ALL
def test_search_spaces_name_arguments(cls):
    folder = Path(models.__file__).parent / 'spaces'
    space = read_toml(folder / f'{cls.__name__}.toml')
    for key in ('low', 'high'):
        options = {
            name: entry[key] if key in entry else entry['choices'][0]
            for name, entry in space.items()
        }
        assert cls.from_data(mm_data(), **options).lr == options['lr']


@ALL
def test_missing_or_wrong_features_are_refused(cls):
    data = mm_data()
    name = cls.__name__
    with pytest.raises(
        ValueError, match=rf"'{name}' finds no .* 'audio' \(.*'text'\].*x_audio'"
    ):
        cls.from_data(data, modalities=['text', 'audio'])
    with pytest.raises(ValueError, match=r"'image' need shape \[40, 6\].*\[40, 5\]"):
        cls.from_data(data, modalities={'image': 6})
    with pytest.raises(ValueError, match=f"'{name}' needs at least one modality"):
        cls.from_data(toy_data())
    data['item'].x_text[7, 1] = float('nan')
    with pytest.raises(ValueError, match="modality 'text' hold NaN .*first is item 7"):
        cls.from_data(data)
    model = cls(40, 60, {'image': 2})
    model.fit_history(small_model(cls).history)
    with pytest.raises(ValueError, match=r"\['image'\] are not known yet"):
        model.loss(a_batch())


def test_bad_arguments_are_refused():
    for cls, options, message in (
        (VBPR, {'feature_dim': 0}, "'feature_dim' needs to be positive in 'VBPR'"),
        (VBPR, {'feature_l2': -1.0}, "'feature_l2' must not be negative.*-1.0"),
        (LATTICE, {'k': 0}, "'k' needs to be positive in 'LATTICE'"),
        (LATTICE, {'num_item_layers': 0}, "'num_item_layers' needs to be positive"),
        (BM3, {'dropout': 1.0}, r"'dropout' needs to lie in \[0, 1\).*\(got 1.0"),
        (BM3, {'modality_weight': -1.0}, "'modality_weight' must not be negative"),
        (BM3, {'num_layers': -1}, "'num_layers' must not be negative"),
        (VBPR, {'lr': 0}, "'lr' needs to be positive in 'VBPR'"),
    ):
        with pytest.raises(ValueError, match=message):
            cls(5, 3, {'image': 2}, **options)


@ALL
def test_repr_and_bad_sizes(cls):
    with pytest.raises(ValueError, match="'num_items' needs to be positive"):
        cls(0)
    with pytest.raises(ValueError, match='at least one feature each'):
        cls(5, 3, {'image': 0})
    text = str(cls(7, 5, {'image': 2, 'text': 3}, embedding_dim=8))
    assert text.startswith(f'{cls.__name__}(7, num_users=5, embedding_dim=8')
    assert text.endswith(", modalities=['image', 'text'])")
