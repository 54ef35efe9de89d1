import copy

import pytest
import torch
from toy import toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import MostPopular, Planted, preset, presets
from pyg_diffrec.models.giffcf import GiffCF
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.typing import RowBatch
from pyg_diffrec.utils import SparseRows


def build(data=None, **kwargs):
    torch.manual_seed(0)
    data = toy_data() if data is None else data
    model = GiffCF.from_data(data, embedding_dim=6, **kwargs).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def dense_operator(rows):
    r = rows.to_dense().double()
    item = r.sum(0).clamp(min=1).pow(-0.5)
    s = item.view(-1, 1) * (r.t() @ (r / r.sum(1, keepdim=True).sqrt())) * item
    return s / torch.linalg.eigvalsh(s).max()


@pytest.mark.parametrize(
    'options',
    [{}, {'noise_scale': 0.1}, {'timestep_sampler': 'importance', 'decay': 1.0}],
)
def test_contract(options):
    check_model(GiffCF, toy_data(), embedding_dim=6, batch_size=16, **options)


@pytest.mark.parametrize('num_timesteps', [1, 3])
@torch.no_grad()
def test_score_equals_the_dense_formula(num_timesteps):
    model = build(num_timesteps=num_timesteps, alpha=1.2, decay=0.4).eval()
    s, x = dense_operator(model.history), model.history.to_dense().double()
    z = x + 1.2 * (x @ s - x)
    for t in range(num_timesteps, 0, -1):
        step = torch.full((len(x),), t - 1)
        estimate = model.denoiser(z, step, (x, x @ s))
        change = 1.2 / num_timesteps * (estimate @ s - estimate)
        z = estimate + (t - 1) * change + 0.4 * (z - estimate - t * change)
    out = model.score(torch.arange(60), model.history)
    assert out.dtype == torch.double
    torch.testing.assert_close(out, z, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('training', [True, False])
def test_loss_is_the_mean_over_users_and_drops_of_the_condition_alone(training):
    model = build().train(training)
    s, users = dense_operator(model.history), torch.arange(10)
    batch = RowBatch(users, model.history.index_select(users))
    torch.manual_seed(1)
    total = model.loss(batch)['total']
    torch.manual_seed(1)
    x = batch.rows.to_dense().double()
    # Kept interactions count twice, as usual with dropout.
    c = torch.nn.functional.dropout(x, 0.5, training)
    assert c.unique().tolist() == ([0, 2] if training else [0, 1])
    t = torch.randint(3, (10,))
    z = x + 1.5 * (t.view(-1, 1) + 1) / 3 * (x @ s - x)
    estimate = model.denoiser(z, t, (c, c @ s))
    torch.testing.assert_close(total, (estimate - x).square().sum(1).mean())


def test_all_weights_learn_and_the_graph_does_not():
    model = build()
    model.loss(next(iter(model.phases()[0].loader)))['total'].backward()
    assert all(float(p.grad.abs().max()) > 0 for p in model.parameters())
    parts = {name.split('.')[0] for name in model.state_dict()}
    assert parts == {'denoiser', 'graph'}


def test_copy_uses_its_own_graph():
    model = build()
    twin = copy.deepcopy(model)
    assert twin.graph is not model.graph
    twin.graph.value.zero_()
    ones = torch.ones(1, 40, dtype=torch.double)
    assert float(twin.diffusion.smooth(ones).abs().max()) == 0
    assert float(model.diffusion.smooth(ones).abs().max()) > 0


def test_new_users_score_as_known_ones():
    model = build()
    known = model.recommend([3], k=5, exclude='train')
    row = model.history.index_select(torch.tensor([3])).col.tolist()
    assert torch.equal(model.recommend_rows([row], k=5).item, known.item)
    # Nothing to smooth and nothing to condition on: scores stay numbers.
    assert bool(model.recommend_rows([[]], k=5).score.isfinite().all())


def test_learns_the_planted_groups():
    data = toy_data(400, 300, interactions_per_user=30)
    torch.manual_seed(0)
    model = GiffCF.from_data(data, embedding_dim=64, lr=3e-3, batch_size=50)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular = recall(MostPopular.from_data(data))
    best = recall(Planted.from_data(data))
    untrained = recall(model)
    fit(model, epochs=20, progress=False)
    share = (recall(model) - popular) / (best - popular)
    # Of the way from popularity to the best possible ranking.
    assert untrained < popular
    assert 0.5 < share < 1


def test_memory_does_not_grow_with_items_by_items_or_users_by_items():
    # Either matrix would hold 1e10 numbers.
    num_users, num_items = 100_000, 100_000
    user = torch.arange(num_users).repeat_interleave(3)
    item = (user * 7919 + torch.arange(len(user)) * 104729) % num_items
    rows = SparseRows.from_coo(user, item, num_rows=num_users, num_cols=num_items)
    model = GiffCF(num_items, embedding_dim=4, batch_size=8)
    model.fit_history(rows)
    assert model.recommend([5, 99_999], k=3).item.shape == (2, 3)
    model.loss(next(iter(model.phases()[0].loader)))['total'].backward()


def test_presets_fit_the_model():
    assert sorted(presets('GiffCF')) == ['ml-1m_clean', 'synthetic']
    for options in presets('GiffCF').values():
        model = GiffCF(7, **options)
        assert model.lr == options['lr']
    published = GiffCF(7)
    same = GiffCF(7, **preset('GiffCF', 'ml-1m_clean'))
    assert str(published.diffusion) == str(same.diffusion)
    assert (published.lr, published.batch_size) == (same.lr, same.batch_size)


def test_reset_parameters_draws_new_weights_and_forgets_losses():
    model = GiffCF(6, embedding_dim=3, timestep_sampler='importance')
    before = model.denoiser.weight.clone()
    model.diffusion.timestep_sampler.record(torch.tensor([1]), torch.tensor([2.0]))
    model.reset_parameters()
    assert not torch.equal(before, model.denoiser.weight)
    assert model.diffusion.timestep_sampler.count.sum() == 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"'dropout' needs to lie in \[0, 1\)"):
        GiffCF(6, dropout=1.0)
    for name in ('lr', 'batch_size', 'embedding_dim', 'num_timesteps', 'num_items'):
        with pytest.raises(ValueError, match=f"'{name}' needs to be positive"):
            GiffCF(**{'num_items': 6, name: 0})
    model = GiffCF(6)
    with pytest.raises(ValueError, match="'GiffCF' has no interactions to train on"):
        model.phases()
    rows = SparseRows.from_coo(*torch.tensor([[0], [1]]), num_rows=1, num_cols=6)
    with pytest.raises(ValueError, match="'GiffCF' has no item graph yet"):
        model.score(torch.tensor([0]), rows)
    assert str(model) == 'GiffCF(6, embedding_dim=200, num_timesteps=3)'
