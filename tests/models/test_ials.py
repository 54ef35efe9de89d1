import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data import HyperbolicTemporalWeight
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import IALS, MostPopular, Planted
from pyg_diffrec.models.baselines import ials
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows

OPTIONS = {'l2': 0.02, 'alpha0': 0.3, 'init_std': 2.0}


def build(**kwargs):
    torch.manual_seed(0)
    return IALS.from_data(toy_data(), **{**OPTIONS, **kwargs}).double()


def sweep(model, times=1):
    (phase,) = model.phases()
    assert phase.optimizer is None
    for _ in range(times):
        for batch in phase.loader:
            losses = getattr(model, phase.method)(batch)
    return losses['total']


def masses(weight, model):
    return model.l2 * (weight.sum(1) + model.alpha0 * weight.size(1)) ** model.nu


def solve(weight, factors, model):
    """The normal equations, one dense row at a time."""
    out = []
    for row, mass in zip(weight, masses(weight, model)):
        gram = factors.t() @ torch.diag(row + model.alpha0) @ factors
        gram.diagonal().add_(mass)
        out.append(torch.linalg.solve(gram, factors.t() @ row))
    return torch.stack(out)


@pytest.mark.parametrize('embedding_dim', [3, 11, 35])
@pytest.mark.parametrize('nu', [0.0, 0.5, 1.0])
def test_a_sweep_solves_the_normal_equations(embedding_dim, nu, assert_exact):
    model = build(embedding_dim=embedding_dim, nu=nu)
    value = torch.rand(model.history.nnz, dtype=torch.double) + 0.5
    model.fit_history(model.history.with_value(value))
    weight = model.history.to_dense()
    user = solve(weight, model.item, model)
    assert_exact(model.fold_in(model.history), user)
    loss = sweep(model)
    item = solve(weight.t(), user, model)
    assert_exact(model.item, item)

    score = user @ item.t()
    expected = (weight * (1 - score).square()).sum()
    expected += model.alpha0 * score.square().sum()
    expected += masses(weight, model) @ user.square().sum(1)
    expected += masses(weight.t(), model) @ item.square().sum(1)
    assert_exact(loss * model.history.nnz, expected)


def test_every_sweep_lowers_the_loss():
    model = build(embedding_dim=6)
    losses = torch.stack([sweep(model) for _ in range(20)])
    assert bool((losses.diff() < 0).all())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize('block', [1, 150, 1000])
def test_blocks_do_not_change_the_result(block, monkeypatch, assert_exact):
    whole, parts = build(embedding_dim=11), build(embedding_dim=11)
    sweep(whole, 3)
    monkeypatch.setattr(ials, '_BLOCK', block)
    sweep(parts, 3)
    assert_exact(parts.item, whole.item)


def test_scores_are_those_of_folded_in_rows_whatever_the_batch(assert_exact):
    model = build(embedding_dim=11)
    weight = model.history.to_dense().double()
    for _ in range(2):  # Nothing may be left over from the sweep before.
        sweep(model)
        expected = solve(weight, model.item, model) @ model.item.t()
        assert_exact(model.score(torch.arange(60), model.history), expected)
    users = torch.tensor([31, 7])
    some = model.score(users, model.history.index_select(users))
    assert_exact(some, expected[users])
    twin = build(embedding_dim=11)
    twin.score(users, model.history.index_select(users))
    twin.load_state_dict(model.state_dict())
    assert_exact(twin.score(torch.arange(60), model.history), expected)


def test_temporal_weights_are_for_scoring_alone(assert_exact):
    plain = build(embedding_dim=6)
    model = build(embedding_dim=6, temporal={'form': 'hyperbolic', 'h': 2.0})
    sweep(plain)
    sweep(model)
    assert torch.equal(model.item, plain.item)
    rows = model.history.to(dtype=torch.double)
    weight = HyperbolicTemporalWeight(2.0)(rows).to_dense()
    expected = solve(weight, model.item, model) @ model.item.t()
    assert_exact(model.score(torch.arange(60), model.history), expected)


@pytest.mark.parametrize('block', [1, 1000])
def test_users_and_items_without_interactions_score_zero(block, monkeypatch):
    monkeypatch.setattr(ials, '_BLOCK', block)
    data = given_data([[0, 1], [1, 2], [0, 2], []], [[3], [], [], []], [[]] * 4, 5)
    model = IALS.from_data(data, embedding_dim=4)
    assert sweep(model, 3).isfinite()
    scores = model.score(torch.arange(4), model.history)
    assert bool((scores[3] == 0).all())
    assert bool((scores[:, 3:] == 0).all())
    assert bool((scores[0, :2] > scores[0, 2]).all())
    empty = SparseRows(torch.tensor([0]), torch.tensor([]).long(), num_cols=5)
    assert model.fold_in(empty).shape == (0, 4)


def test_learns_what_was_planted():
    data = toy_data(500, 100)

    def validate(model):
        return evaluate(model, data, 'val', ['Recall@20'])

    torch.manual_seed(0)
    model = IALS.from_data(data, embedding_dim=3)
    result = fit(model, epochs=8, eval_every=1, validate=validate, progress=False)
    assert result.num_epochs == 8
    assert result.curve[-1]['loss/total'] < result.curve[0]['loss/total']
    assert validate(model)['Recall@20'] == result.best_metric
    popular, best = (
        validate(cls.from_data(data))['Recall@20'] for cls in (MostPopular, Planted)
    )
    assert popular + 0.75 * (best - popular) < result.best_metric <= best


def test_bad_input_is_refused():
    for key in ('embedding_dim', 'l2', 'alpha0', 'init_std'):
        with pytest.raises(ValueError, match=f"'{key}' needs to be positive in 'IALS'"):
            IALS(5, **{key: 0})
    with pytest.raises(ValueError, match="'nu' must not be negative in 'IALS'"):
        IALS(5, nu=-1.0)
    with pytest.raises(ValueError, match='no interactions to train on'):
        IALS(5).phases()
    rows = SparseRows(torch.tensor([0, 1]), torch.tensor([0]), num_cols=4)
    with pytest.raises(ValueError, match="'rows' need 5 columns in 'IALS'"):
        IALS(5).fold_in(rows)
    assert str(IALS(5)) == 'IALS(5, embedding_dim=64, l2=0.01, alpha0=0.3)'
