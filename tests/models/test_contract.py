import inspect
import io

import pytest
import torch
from torch_geometric.data import HeteroData
from toy import SMALL, full_data, toy_data

from pyg_diffrec import models
from pyg_diffrec.data import interaction_rows
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import MODELS
from pyg_diffrec.models.baselines import bm3
from pyg_diffrec.models.baselines.pairwise import PairwiseRecommender
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows

PAIRWISE = [x for x in MODELS if issubclass(getattr(models, x), PairwiseRecommender)]
ALL = pytest.mark.parametrize('name', MODELS)


def build(name, data=None, **kwargs):
    torch.manual_seed(0)
    data = full_data() if data is None else data
    return getattr(models, name).from_data(data, **SMALL.get(name, {}), **kwargs)


@torch.no_grad()
def scores(model, num_users=60):
    out = model.score(torch.arange(num_users), model.history)
    return out.clone() if isinstance(out, torch.Tensor) else out.to_dense()


@ALL
def test_contract(name):
    check_model(getattr(models, name), full_data(), **SMALL.get(name, {}))


@ALL
def test_scores_follow_weights_that_pytorch_does_not_see_change(name):
    model, twin = build(name).eval(), build(name).eval()
    before = [scores(model) for _ in range(2)][1]  # The first may draw graphs.
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.data.mul_(1.5)  # How averages of weights are swapped in.
    twin.load_state_dict(model.state_dict())
    after = scores(model)
    assert torch.equal(after, scores(twin))
    assert not torch.equal(before, after) or not model.state_dict()


@pytest.mark.parametrize('name', PAIRWISE)
def test_graphs_follow_what_they_are_made_of(name):
    model, twin = build(name).eval(), build(name).eval()
    before = scores(model)
    history = model.history.index_select(torch.arange(59, -1, -1))
    model.history = history  # Without a word to the model.
    if getattr(model, 'ties', None) is not None:
        model.ties = model.ties.t()
        twin.ties = model.ties
    twin.fit_history(history)
    twin.load_state_dict(model.state_dict())
    after = scores(model)
    assert torch.equal(after, scores(twin))
    assert (name in ('MFBPR', 'VBPR')) == torch.equal(before, after)


@ALL
def test_no_model_changes_the_interactions_it_is_given(name):
    data = full_data()
    store = data['user', 'interacts', 'item']
    store.edge_weight = torch.rand(store.edge_index.size(1), dtype=torch.double) + 0.5
    before = store.edge_index.clone(), store.edge_weight.clone()
    rows = interaction_rows(data)
    model = build(name, data)
    for phase in model.phases():
        getattr(model, phase.method)(next(iter(phase.loader)))
    scores(model.eval())
    model.load_state_dict(build(name, data).state_dict())
    assert torch.equal(store.edge_index, before[0])
    assert torch.equal(store.edge_weight, before[1])
    for key in ('rowptr', 'col', 'value'):
        assert torch.equal(getattr(model.history, key), getattr(rows, key))


@ALL
def test_nothing_known_of_a_user_is_recommended(name):
    data = full_data()
    known = torch.zeros(60, 40, dtype=torch.bool)
    known[tuple(data['user', 'interacts', 'item'].edge_index)] = True
    model = build(name, data)
    item = model.recommend(range(60), k=40).item
    assert not bool((known.gather(1, item.clamp(min=0)) & (item >= 0)).any())
    assert torch.equal((item >= 0).sum(1), (~known).sum(1))
    train = model.history.to_dense().bool()
    item = model.recommend(range(60), k=40, exclude='train').item
    assert torch.equal((item >= 0).sum(1), (~train).sum(1))


@pytest.mark.parametrize('name', [*PAIRWISE, 'Planted'])
def test_scores_refuse_what_names_no_user(name):
    model = build(name).eval()
    for users, error in (
        (torch.ones(60) > 0, TypeError),
        (torch.tensor([0.5]), TypeError),
        (torch.tensor([-1]), ValueError),
        (torch.tensor([60]), ValueError),
    ):
        with pytest.raises(error, match=f"'users' .* in '{name}.score'"):
            model.score(users, model.history)


@ALL
def test_a_model_is_known_to_be_of_its_class(name):
    annotation = inspect.signature(getattr(models, name).from_data).return_annotation
    assert annotation == 'Self'


def sparse_data(num_users, num_items, train, val=()):
    """A graph of few (user, item) pairs, with all that any model asks for."""
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = num_users, num_items
    store = data['user', 'interacts', 'item']
    store.edge_index = (
        torch.tensor([*train, *val], dtype=torch.long).view(-1, 2).t().contiguous()
    )
    store.train_mask = torch.arange(len(train) + len(val)) < len(train)
    store.val_mask = ~store.train_mask
    store.test_mask = torch.zeros_like(store.val_mask)
    ties = torch.combinations(torch.arange(num_users)).t()
    data['user', 'trusts', 'user'].edge_index = torch.cat([ties, ties.flip(0)], 1)
    data['item'].embedding = data['item'].x_planted = torch.eye(num_items, 3) + 0.1
    data['user'].planted = torch.rand(num_users, 3)
    data['item'].planted = torch.rand(num_items, 3)
    return data


CLOSED = ['EASE', 'GFCF', 'ItemKNN', 'MostPopular', 'Planted']


@pytest.mark.parametrize('val', [[], [(0, 0), (1, 1)]])
@ALL
def test_nothing_to_train_on_is_refused_or_has_the_right_answer(name, val):
    data = sparse_data(2, 4, [], val)
    if name == 'GiffCF':
        with pytest.raises(ValueError, match=r'needs interactions.*\(got 0 '):
            build(name, data)
        return
    model = build(name, data)
    if name not in CLOSED:
        with pytest.raises(ValueError, match=f"'{name}' has no interactions to train"):
            fit(model, epochs=1, progress=False)
    elif name != 'Planted':  # Nothing is known, so that items come as they are.
        assert model.recommend([0], 2, exclude=[[0]]).item.tolist() == [[1, 2]]


# One user, one item, one interaction, and none of one user.
@pytest.mark.parametrize(
    ('num_users', 'num_items', 'train'),
    [
        (1, 4, [(0, 0), (0, 1)]),
        (2, 1, [(0, 0)]),
        (1, 1, [(0, 0)]),
        (3, 4, [(0, 2)]),
    ],
)
@ALL
def test_graphs_of_one_give_numbers_or_say_what_is_missing(
    name, num_users, num_items, train
):
    data = sparse_data(num_users, num_items, train)
    kwargs = {'num_clusters': 1} if name == 'LDiffRec' else {}
    if num_users == 1 and hasattr(getattr(models, name), 'fit_ties'):
        with pytest.raises(ValueError, match='needs ties between users'):
            build(name, data)
        return
    model = build(name, data, **kwargs)
    if num_items == 1 and name in PAIRWISE:
        with pytest.raises(
            ValueError, match='All users have interacted with every item'
        ):
            fit(model, epochs=1, progress=False)
        return
    fit(model, epochs=1, progress=False)
    out = scores(model.eval(), num_users)
    assert out.shape == (num_users, num_items)
    assert bool(out.isfinite().all())


def test_one_user_has_the_linear_filter_of_gfcf_alone():
    data = sparse_data(1, 4, [(0, 0), (0, 1)])
    model = build('GFCF', data)
    assert model.low_in.shape == (4, 0)
    expected = torch.tensor([[1.0, 1.0, 0.0, 0.0]])  # Of two equal entries, the mean.
    torch.testing.assert_close(scores(model, 1), expected)
    assert model.recommend([0], 2).item.tolist() == [[2, 3]]


HALF = pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])


@HALF
@ALL
def test_half_precision_scores_as_float32_does(name, dtype):
    model = build(name).eval()
    for param in model.parameters():  # Nodes, or rows of weights, of nothing but zeros.
        param.data[:1] = 0
    expected = scores(model)
    rows = [[], [3, 7]]
    out = scores(model.to(dtype))
    assert out.dtype == dtype
    assert bool(out.isfinite().all())
    error = (out.float() - expected).abs().max() / expected.abs().max()
    assert float(error) < 16 * torch.finfo(dtype).eps
    if hasattr(model, 'recommend_rows'):
        assert bool(model.recommend_rows(rows, k=3).score.isfinite().all())


@ALL
def test_models_train_in_bfloat16(name):
    model = build(name)
    fit(model, epochs=1, precision='bf16-true', progress=False)
    assert bool(scores(model.eval()).isfinite().all())


@HALF
def test_rows_without_interactions_have_a_length_in_half_precision(dtype):
    model = build('DiffRec', norm=True).to(dtype)
    lists = model.recommend_rows([[], [1]], 3)
    assert bool(lists.score.isfinite().all())
    vae = build('MultiVAE').to(dtype)  # Whose squares half precision may not hold.
    rows = SparseRows(torch.tensor([0, 2]), torch.tensor([3, 5]), num_cols=40)
    small = rows.with_value(torch.full((2,), 1e-4))
    expected = vae.recommend_rows(rows, 3).item
    assert torch.equal(vae.recommend_rows(small, 3).item, expected)


@HALF
def test_the_distance_to_zero_is_a_number_in_half_precision(dtype):
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype)
    assert bm3._distance(x, x).tolist() == [1, 0]


@ALL
def test_looking_at_a_loss_changes_nothing(name):
    model = build(name).eval()
    scores(model)  # The first look draws graphs.
    before = {key: x.clone() for key, x in model.state_dict().items()}
    for phase in model.phases():
        if phase.optimizer is not None:
            for _ in range(3):
                getattr(model, phase.method)(next(iter(phase.loader)))
    for key, x in model.state_dict().items():
        assert torch.equal(x, before[key]), key


@ALL
def test_no_users_have_no_lists(name):
    model = build(name)
    calls = [model.recommend]
    if hasattr(model, 'recommend_rows'):
        calls.append(model.recommend_rows)
    for call in calls:
        out = call([], k=5)
        assert out.item.shape == out.score.shape == (0, 5)
    rows = model.history.index_select(torch.arange(0))
    assert model.eval().score(torch.arange(0), rows).shape == (0, 40)


def fresh(name, model):
    """A model of the same hyper-parameters that has seen no data."""
    torch.manual_seed(1)
    options = SMALL.get(name, {})
    if name in PAIRWISE:
        options = {'num_users': 60, **options}
    if name == 'LDiffRec':  # Other clusters of the same sizes.
        options = {'cluster': model.vae.cluster.roll(7), **options}
    return getattr(models, name)(40, **options)


@ALL
def test_a_model_is_served_from_its_state(name):
    model, file = build(name), io.BytesIO()
    for phase in model.phases():
        if phase.optimizer is not None:
            getattr(model, phase.method)(next(iter(phase.loader)))['total'].backward()
            phase.optimizer.step()
    expected = scores(model.eval())  # The first look draws graphs.
    torch.save(model.state_dict(), file)
    file.seek(0)
    twin = fresh(name, model).eval()
    twin.load_state_dict(torch.load(file, weights_only=True))
    if name in PAIRWISE:  # They know users, by what is no part of their state.
        with pytest.raises(ValueError, match=r"'(from_data|fit_features)'"):
            twin.recommend([0], 3)
        twin.fit_history(model.history)
        if hasattr(twin, 'fit_ties'):
            twin.ties = model.ties
        if hasattr(twin, 'fit_features'):
            twin.fit_features({'planted': full_data()['item'].x_planted})
        if name == 'DiffMM':
            twin.load_state_dict(model.state_dict())  # The graphs are those of it.
    elif name != 'Planted':
        rows = [[1, 2], [], [39, 0, 4]]
        lists = (x.recommend_rows(rows, k=6).item for x in (twin, model))
        assert torch.equal(*lists)
    twin.history = model.history
    assert torch.equal(scores(twin), expected)
    twin.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(scores(twin), expected)


@pytest.mark.parametrize('name', ['EASE', 'GFCF', 'GiffCF', 'Planted'])
def test_a_state_over_other_items_is_refused(name):
    state = build(name, full_data(60, 30)).state_dict()
    with pytest.raises(RuntimeError, match='size mismatch'):
        getattr(models, name)(40, **SMALL.get(name, {})).load_state_dict(state)


@pytest.mark.parametrize('name', ['EASE', 'GFCF', 'GiffCF', 'Planted'])
def test_a_model_that_is_not_solved_says_so(name):
    model = getattr(models, name)(40, **SMALL.get(name, {}))
    rows = SparseRows(torch.tensor([0, 1]), torch.tensor([3]), num_cols=40)
    with pytest.raises(ValueError, match=f"'{name}' has no .* yet: .*'from_data'"):
        model.score(torch.tensor([0]), rows)


@pytest.mark.parametrize('name', PAIRWISE)
def test_tables_are_derived_once_for_an_evaluation_or_a_list(name, monkeypatch):
    data = full_data()
    model, calls = build(name, data), []
    scores(model)  # The first look draws graphs.
    tables = model.tables
    monkeypatch.setattr(model, 'tables', lambda: calls.append(1) or tables())
    evaluate(model, data, 'val', batch_size=7)
    assert len(calls) == 1
    model.recommend(range(60), 3, batch_size=7)
    assert len(calls) == 2
    scores(model.eval())
    assert len(calls) == 3


@pytest.mark.parametrize(
    'options', [{'num_noising_steps': 3}, {'sampling_noise': True}]
)
def test_contract_of_diffrec_with_noise_at_inference(options):
    check_model(models.DiffRec, toy_data(), hidden_channels=8, **options)


@ALL
def test_repr_and_bad_sizes(name):
    cls = getattr(models, name)
    assert repr(cls(7, **SMALL.get(name, {}))).startswith(f'{name}(7')
    with pytest.raises(ValueError, match="'num_items' needs to be positive"):
        cls(0)
