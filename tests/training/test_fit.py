import math

import pytest
import torch
from toy import toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import DiffRec, MostPopular
from pyg_diffrec.training import NonFiniteLossError, fit, fit_readings
from pyg_diffrec.typing import Phase


def build(seed=0, **kwargs):
    data = toy_data()
    torch.manual_seed(seed)
    options = {'hidden_channels': 8, 'batch_size': 20, 'lr': 3e-3, **kwargs}
    return data, DiffRec.from_data(data, **options)


class Line(torch.nn.Module):
    """Minimises (w - 3)^2; its metric follows a script."""

    def __init__(self, script=(), losses=()):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.script, self.losses, self.steps = list(script), list(losses), 0

    def phases(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [Phase('line', [torch.tensor(3.0)] * 2, optimizer)]

    def loss(self, batch):
        fit_term = (self.weight - batch).square().sum()
        extra = self.losses[self.steps] if self.steps < len(self.losses) else 0.0
        self.steps += 1
        return {
            'total': fit_term + extra,
            'fit': fit_term,
            'extra': fit_term * 0 + extra,
        }


def scripted(values):
    values = iter(values)
    return lambda model: {'Recall@20': next(values)}


def test_gradient_steps_by_hand():
    model = Line()
    result = fit(model, epochs=2, progress=False)
    # Each step moves by 0.2 * (3 - w): after four, 3 * (1 - 0.8^4).
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**4))
    assert (result.num_epochs, result.best_epoch) == (2, 2)
    assert math.isnan(result.best_metric)


def test_best_weights_are_kept_and_patience_stops():
    model = Line()
    validate = scripted([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    result = fit(
        model, epochs=99, eval_every=2, patience=6, validate=validate, progress=False
    )
    assert (result.best_epoch, result.num_epochs) == (4, 10)
    assert result.best_metric == 0.5
    assert result.stopped_early
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**8))
    assert [x['Recall@20'] for x in result.curve] == [0.1, 0.5, 0.4, 0.5, 0.3]
    assert [x['epoch'] for x in result.curve] == [2, 4, 6, 8, 10]


def test_last_epoch_is_validated():
    validate = scripted([0.1, 0.2])
    result = fit(Line(), epochs=3, eval_every=2, validate=validate, progress=False)
    assert [x['epoch'] for x in result.curve] == [2, 3]
    assert not result.stopped_early


def test_models_in_closed_form_are_validated_once():
    data = toy_data()
    model = MostPopular.from_data(data)
    result = fit(model, validate=lambda m: evaluate(m, data, 'val'), progress=False)
    assert (result.num_epochs, result.best_epoch, len(result.curve)) == (0, 0, 1)
    assert result.best_metric == evaluate(model, data, 'val')['Recall@20']


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('bad_step', [2, 3, 150])
def test_loss_that_is_not_finite_names_term_and_step(tmp_path, value, bad_step):
    class Long(Line):
        def phases(self):
            phase = super().phases()[0]
            return [phase._replace(loader=[torch.tensor(3.0)] * 200)]

    path = tmp_path / 'run.pt'
    fit(Line(), epochs=1, checkpoint=path, checkpoint_every=1, progress=False)
    before = path.read_bytes()
    model = Long(losses=[0.0] * (bad_step - 1) + [value])
    with pytest.raises(
        NonFiniteLossError, match=rf"term 'extra' of phase 'line' .* step {bad_step} of"
    ):
        fit(model, epochs=1, checkpoint=path, progress=False)
    assert path.read_bytes() == before


def test_metric_that_is_nan_or_missing_stops():
    with pytest.raises(NonFiniteLossError, match="'Recall@20' became NaN at epoch 5"):
        fit(Line(), epochs=9, validate=scripted([float('nan')]), progress=False)
    with pytest.raises(ValueError, match="'metric' needs to be one of .*got 'NDCG@1'"):
        fit(Line(), epochs=9, metric='NDCG@1', validate=scripted([1.0]), progress=False)


def run(path, epochs, resume=False, seed=0, stop=None):
    data, model = build(seed)

    def validate(model):
        metrics = evaluate(model, data, 'val', ['Recall@10'])
        if stop is not None and len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(metrics)
        return metrics

    seen = []
    result = fit(
        model,
        epochs=epochs,
        eval_every=2,
        patience=100,
        metric='Recall@10',
        validate=validate,
        checkpoint=path,
        checkpoint_every=3,
        resume=resume,
        progress=False,
    )
    return model, result


def assert_same_run(first, second):
    (model, result), (other, other_result) = first, second
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert result.curve == other_result.curve
    assert result.best_epoch == other_result.best_epoch


def test_interrupted_and_resumed_run_ends_bit_identical(tmp_path):
    path = tmp_path / 'run.pt'
    whole = run(tmp_path / 'whole.pt', 14)
    with pytest.raises(KeyboardInterrupt):
        run(path, 14, stop=4)  # Stops in epoch 10; the checkpoint is of epoch 9.
    # Another seed: all that matters comes from the checkpoint.
    resumed = run(path, 14, resume=True, seed=5)
    assert_same_run(whole, resumed)
    assert resumed[0].diffusion.timestep_sampler.count.sum() > 0
    # A finished run is not run again.
    again = run(path, 14, resume=True, seed=6)
    assert_same_run(whole, again)
    assert again[1].num_epochs == 14


def test_best_weights_survive_the_interruption(tmp_path):
    def resume(script, epochs):
        model = Line()
        return model, fit(
            model,
            epochs=epochs,
            eval_every=1,
            patience=None,
            validate=scripted(script),
            checkpoint=tmp_path / 'run.pt',
            checkpoint_every=1,
            resume=True,
            progress=False,
        )

    resume([0.1, 0.9, 0.2], 3)
    # The checkpoint says that three epochs were all: let it go on.
    state = torch.load(tmp_path / 'run.pt', weights_only=True)
    state['readings']['']['result']['finished'] = False
    torch.save(state, tmp_path / 'run.pt')
    model, result = resume([0.3, 0.4], 5)
    assert (result.best_epoch, result.num_epochs) == (2, 5)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**4))


def test_resume_refuses_what_it_cannot_use(tmp_path):
    path = tmp_path / 'run.pt'
    with pytest.raises(ValueError, match="resume=True needs a 'checkpoint'"):
        fit(Line(), resume=True)
    path.write_bytes(b'nonsense')
    with pytest.raises(ValueError, match='is not a readable checkpoint'):
        fit(Line(), checkpoint=path, resume=True)
    torch.save({'format': 99}, path)
    with pytest.raises(ValueError, match='is not a checkpoint of this version'):
        fit(Line(), checkpoint=path, resume=True)
    fit(build()[1], epochs=1, checkpoint=path, progress=False)
    with pytest.raises(ValueError, match=r'holds a checkpoint of DiffRec.*, not of'):
        fit(build(hidden_channels=7)[1], checkpoint=path, resume=True)
    for name in ('epochs', 'eval_every', 'checkpoint_every'):
        with pytest.raises(ValueError, match=f"'{name}' needs to be positive"):
            fit(Line(), **{name: 0})


def test_precision_is_passed_on():
    _, model = build()
    fit(model, epochs=1, precision='bf16-mixed', progress=False)
    assert model.denoiser.weight.dtype == torch.float
    _, model = build()
    fit(model, epochs=1, precision='64-true', progress=False)
    assert model.denoiser.weight.dtype == torch.double


def test_readings_choose_and_stop_on_their_own():
    model = Line()
    readings = fit_readings(
        model,
        {
            'early': scripted([0.5, 0.4, 0.4]),
            'late': scripted([0.1, 0.2, 0.3, 0.4, 0.3, 0.3]),
        },
        epochs=99,
        eval_every=1,
        patience=2,
        progress=False,
    )
    early, late = readings['early'], readings['late']
    assert (early.result.best_epoch, early.result.num_epochs) == (1, 3)
    assert (late.result.best_epoch, late.result.num_epochs) == (4, 6)
    assert len(early.result.curve) == 3  # Not validated once it has stopped.
    for reading, epochs in ((early, 1), (late, 4)):
        weight = reading.best_state['weight'].item()
        assert weight == pytest.approx(3 * (1 - 0.8 ** (2 * epochs)))
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**12))


def test_other_readings_cannot_resume(tmp_path):
    options = {'epochs': 2, 'eval_every': 1, 'progress': False}
    path = tmp_path / 'run.pt'
    fit_readings(Line(), {'a': scripted([0.1, 0.2])}, checkpoint=path, **options)
    with pytest.raises(ValueError, match=r"validated as \['a'\], not as \['b'\]"):
        fit_readings(Line(), {'b': None}, checkpoint=path, resume=True, **options)


class Halving(Line):
    """The learning rate is halved after each epoch."""

    def phases(self):
        (phase,) = super().phases()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(phase.optimizer, 0.5)
        return [phase._replace(scheduler=scheduler)]


def test_scheduler_steps_after_each_epoch_and_resumes(tmp_path):
    whole, half = Halving(), Halving()
    fit(whole, epochs=3, progress=False)
    # Steps with 2 * lr = .2, .1 and .05 of the way, two per epoch.
    assert whole.weight.item() == pytest.approx(3 * (1 - (0.8 * 0.9 * 0.95) ** 2))
    path = tmp_path / 'run.pt'
    options = {'checkpoint': path, 'checkpoint_every': 1, 'progress': False}
    fit(half, epochs=2, **options)
    state = torch.load(path, weights_only=True)
    state['readings']['']['result']['finished'] = False
    torch.save(state, path)
    resumed = Halving()
    fit(resumed, epochs=3, resume=True, **options)
    assert torch.equal(resumed.weight, whole.weight)


class ClosedSteps(Line):
    """Moves half of the way by itself."""

    def phases(self):
        return [Phase('steps', [torch.tensor(3.0)], None)]

    def loss(self, batch):
        assert not torch.is_grad_enabled()
        self.weight.add_((batch - self.weight) / 2)
        return {'total': (batch - self.weight).square().sum()}


def test_phase_without_optimizer_updates_by_itself(tmp_path):
    model, path = ClosedSteps(), tmp_path / 'run.pt'
    fit(model, epochs=3, checkpoint=path, progress=False)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.5**3))
    again = ClosedSteps()
    fit(again, epochs=3, checkpoint=path, resume=True, progress=False)
    assert torch.equal(again.weight, model.weight)
