import pytest
import torch
from toy import toy_data

from pyg_diffrec.data import interaction_rows
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import DiffRec, MostPopular, Planted
from pyg_diffrec.training import fit
from pyg_diffrec.typing import RowBatch
from pyg_diffrec.utils import SparseRows


@pytest.mark.parametrize('hidden', [[8], [8, 4], [9, 7, 3]])
@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('steps', [0, 3])
def test_hidden_path_equals_dense_path(hidden, norm, steps):
    torch.manual_seed(0)
    data = toy_data()
    model = DiffRec.from_data(
        data, hidden_channels=hidden, norm=norm, num_noising_steps=steps
    ).double()
    users = torch.arange(60)
    with torch.no_grad():
        model.eval()
        hidden_score = model.score(users, model.history).to_dense()
        dense_score = model.score(users, model.history, path='dense')
    assert dense_score.dtype == torch.double
    torch.testing.assert_close(hidden_score, dense_score, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    'options', [{'num_noising_steps': 3}, {'sampling_noise': True}]
)
def test_noise_when_scoring_depends_on_user_and_seed_alone(options):
    torch.manual_seed(0)
    data = toy_data()
    model = DiffRec.from_data(
        data, hidden_channels=8, noise_max=0.9, **options
    ).double()
    model.eval()
    users = torch.tensor([3, 17, 40])

    @torch.no_grad()
    def score(users):
        out = model.score(users, model.history.index_select(users))
        return out if isinstance(out, torch.Tensor) else out.to_dense()

    torch.testing.assert_close(score(users)[1:2], score(users[1:2]))
    same = model.history.index_select(torch.tensor([3, 3]))
    with torch.no_grad():  # One history, two users: two noises.
        out = model.score(torch.tensor([3, 4]), same)
    out = out if isinstance(out, torch.Tensor) else out.to_dense()
    assert (out[0] - out[1]).abs().max() > 1e-6
    first = score(users)
    model.noise_seed = 1
    assert (score(users) - first).abs().max() > 1e-6


def test_peak_memory_does_not_grow_with_users_or_items(monkeypatch):
    # A matrix of users x items would hold 4e10 numbers. Rows are never dense when
    # scoring: the dense view is taken away.
    num_users, num_items = 200_000, 200_000
    user = torch.arange(num_users).repeat_interleave(3)
    item = (user * 7919 + torch.arange(len(user)) * 104729) % num_items
    rows = SparseRows.from_coo(user, item, num_rows=num_users, num_cols=num_items)
    model = DiffRec(num_items, hidden_channels=4, batch_size=8)
    model.fit_history(rows)
    monkeypatch.setattr(SparseRows, 'to_dense', None)
    out = model.recommend([5, 199_999], k=3)
    assert out.item.shape == (2, 3)
    batch = next(iter(model.phases()[0].loader))
    assert batch.rows.shape == (8, num_items)
    model.loss(batch)['total'].backward()


def test_loss_is_the_mean_over_users():
    torch.manual_seed(0)
    data = toy_data()
    model = DiffRec.from_data(data, hidden_channels=8, dropout=0.0)
    users = torch.arange(10)
    batch = RowBatch(users, model.history.index_select(users))
    torch.manual_seed(1)
    total = model.loss(batch)['total']
    torch.manual_seed(1)
    x_start = batch.rows.to_dense()
    terms = model.diffusion.training_losses(model.denoiser, x_start)
    torch.testing.assert_close(total, terms.loss.mean())


def test_learns_the_planted_groups():
    data = toy_data(300, 60, interactions_per_user=15)
    torch.manual_seed(0)
    model = DiffRec.from_data(data, hidden_channels=32, lr=3e-3, batch_size=50)
    fit(model, epochs=30, progress=False)
    popular = evaluate(MostPopular.from_data(data), data, 'test', ['Recall@10'])
    learned = evaluate(model, data, 'test', ['Recall@10'])
    best = evaluate(Planted.from_data(data), data, 'test', ['Recall@10'])
    share = (learned['Recall@10'] - popular['Recall@10']) / (
        best['Recall@10'] - popular['Recall@10']
    )
    # Of the way from popularity to the best possible ranking; EASE, tuned, goes 0.68.
    assert 0.6 < share < 1


def test_reset_parameters_draws_new_weights_and_forgets_losses():
    torch.manual_seed(0)
    model = DiffRec(6, hidden_channels=3)
    before = model.denoiser.weight.clone()
    model.diffusion.timestep_sampler.record(torch.tensor([1]), torch.tensor([2.0]))
    model.reset_parameters()
    assert not torch.equal(before, model.denoiser.weight)
    assert model.diffusion.timestep_sampler.count.sum() == 0


def test_bad_arguments_are_refused():
    with pytest.raises(
        ValueError, match=r"'num_noising_steps' needs to lie in \[0, 5\]"
    ):
        DiffRec(6, num_noising_steps=6)
    with pytest.raises(ValueError, match="'lr' needs to be positive"):
        DiffRec(6, lr=0.0)
    with pytest.raises(ValueError, match="'batch_size' needs to be positive"):
        DiffRec(6, batch_size=0)
    with pytest.raises(ValueError, match="Unknown schedule 'quadratic'"):
        DiffRec(6, schedule='quadratic')
    model = DiffRec.from_data(toy_data(), hidden_channels=3)
    with pytest.raises(ValueError, match="'path' needs to be 'hidden' or 'dense'"):
        model.score(torch.tensor([0]), model.history, path='sideways')
    assert str(model) == 'DiffRec(40, hidden_channels=[3], num_timesteps=5)'
    assert DiffRec(6, schedule='cosine').diffusion.schedule == 'cosine'


@torch.no_grad()
@pytest.mark.parametrize('norm', [False, True])
def test_scores_follow_weights_however_they_are_changed(norm):
    data = toy_data()
    model = DiffRec.from_data(data, hidden_channels=8, norm=norm).eval()
    users = torch.arange(10)
    rows = interaction_rows(data).index_select(users)
    model.score(users, rows)
    for param in model.parameters():
        param.data.mul_(2)  # How averages of weights are swapped in.
    hidden, dense = (model.score(users, rows, path) for path in ('hidden', 'dense'))
    torch.testing.assert_close(hidden.to_dense(), dense)


@pytest.mark.parametrize(
    'name', ['linear_var', 'Linear-Var', 'linear_var_beta_schedule']
)
def test_noise_bounds_reach_a_schedule_under_all_its_names(name):
    options = {'noise_scale': 0.3, 'noise_min': 0.01, 'noise_max': 0.5}
    plain = 'linear-var' if 'var' in name.lower() else 'linear'
    first, second = (DiffRec(9, 4, schedule=x, **options) for x in (plain, name))
    assert torch.equal(first.diffusion.betas, second.diffusion.betas)
    other = DiffRec(9, 4, schedule=lambda n: torch.full((n,), 0.1), **options)
    assert other.diffusion.betas[1:].tolist() == pytest.approx([0.1] * 4)
    assert DiffRec(9, 4, schedule='cosine', **options).diffusion.schedule == 'cosine'
