import math

import numpy as np
import pytest
import torch
from line import Halving, Line, scripted
from torch.utils.data import DataLoader
from toy import toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import EASE, DiffRec, MostPopular
from pyg_diffrec.training import (
    NonFiniteLossError,
    fit,
    fit_readings,
    load_checkpoint,
)
from pyg_diffrec.typing import Phase


def build(seed=0, **kwargs):
    data = toy_data()
    torch.manual_seed(seed)
    options = {'hidden_channels': 8, 'batch_size': 20, 'lr': 3e-3, **kwargs}
    return data, DiffRec.from_data(data, **options)


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
    with pytest.raises(ValueError, match=r'of another run: .* is \[7\], was \[8\]'):
        fit(build(hidden_channels=7)[1], checkpoint=path, resume=True)
    with pytest.raises(ValueError, match=r'model is \S+Line, was \S+DiffRec;'):
        fit(Line(), checkpoint=path, resume=True)


@pytest.mark.parametrize(
    'name', ['epochs', 'eval_every', 'checkpoint_every', 'patience']
)
def test_numbers_of_epochs_are_positive_whole_numbers(name):
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"'{name}' needs to be positive"):
            fit(Line(), **{name: value})
    for value in (2.5, 2.0, True, '3'):
        with pytest.raises(TypeError, match=f"'{name}' needs to be a whole number"):
            fit_readings(Line(), {'': None}, **{name: value})
    fit(Line(), **{'epochs': 1, name: np.int64(1)}, progress=False)


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


def test_scheduler_steps_after_each_epoch_and_resumes(tmp_path):
    whole, half = Halving(), Halving()
    fit(whole, epochs=3, progress=False)
    # Steps with 2 * lr = .2, .1 and .05 of the way, two per epoch.
    assert whole.weight.item() == pytest.approx(3 * (1 - (0.8 * 0.9 * 0.95) ** 2))
    path = tmp_path / 'run.pt'
    options = {'checkpoint': path, 'checkpoint_every': 1, 'progress': False}
    fit(half, epochs=2, **options)
    resumed = Halving()
    fit(resumed, epochs=3, resume=True, **options)
    assert torch.equal(resumed.weight, whole.weight)


class Noisy(Line):
    """Its loader draws targets with a generator of its own."""

    def phases(self):
        (phase,) = super().phases()
        generator = torch.Generator().manual_seed(3)
        loader = DataLoader(torch.rand(9), shuffle=True, generator=generator)
        return [phase._replace(loader=loader)]


def test_generators_of_loaders_are_resumed(tmp_path):
    torch.manual_seed(0)
    whole = Noisy()
    fit(whole, epochs=4, progress=False)
    for epochs in (2, 4):
        torch.manual_seed(0)
        model = Noisy()
        path = tmp_path / 'run.pt'
        fit(model, epochs=epochs, checkpoint=path, resume=True, progress=False)
    assert torch.equal(model.weight, whole.weight)


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


@pytest.mark.parametrize(
    ('patience', 'script', 'epochs'),
    [
        # It is better every time: until the last epoch.
        (3, [0.1, 0.2, 0.3, 0.4], 20),
        (1, [0.1, 0.2, 0.3, 0.4], 20),
        # The best is of epoch 5: the first validation that is so late ends it.
        (1, [0.9, 0.1, 0.1, 0.1], 10),
        (5, [0.9, 0.1, 0.1, 0.1], 10),
        (6, [0.9, 0.1, 0.1, 0.1], 15),
        (10, [0.9, 0.1, 0.1, 0.1], 15),
        (11, [0.9, 0.1, 0.1, 0.1], 20),
    ],
)
def test_only_a_validation_ends_a_run(patience, script, epochs):
    options = {'epochs': 20, 'eval_every': 5, 'patience': patience}
    result = fit(Line(), **options, validate=scripted(script), progress=False)
    assert result.num_epochs == epochs
    assert result.stopped_early == (epochs < 20)
    assert [x['epoch'] for x in result.curve] == list(range(5, epochs + 1, 5))
    assert result.best_metric == max(script[: epochs // 5])


def test_readings_of_unequal_patience_end_at_validations():
    validate = {'a': scripted([0.9, 0.1, 0.1]), 'b': scripted([0.1, 0.9, 0.1, 0.1])}
    options = {'epochs': 99, 'eval_every': 4, 'patience': 6, 'progress': False}
    readings = fit_readings(Line(), validate, **options)
    assert [x.result.num_epochs for x in readings.values()] == [12, 16]


def long_run(epochs, path=None, cls=Halving, model=None, script=None, **kwargs):
    model = cls() if model is None else model
    validate = script and scripted(script)
    options = {'eval_every': 5, 'validate': validate, 'progress': False, **kwargs}
    result = fit(
        model, epochs=epochs, checkpoint=path, resume=path is not None, **options
    )
    return model, result


def test_a_finished_run_goes_on_to_more_epochs(tmp_path):
    path = tmp_path / 'run.pt'
    whole, expected = long_run(15, script=[0.3, 0.2, 0.1])
    for epochs, script in ((5, [0.3]), (10, [0.2]), (15, [0.1])):
        model, result = long_run(epochs, path, script=script)
        assert result.num_epochs == epochs
        assert not result.stopped_early
    assert torch.equal(model.weight, whole.weight)
    assert result.curve == expected.curve
    assert (result.best_epoch, result.best_metric) == (5, 0.3)
    again, result = long_run(15, path)
    assert torch.equal(again.weight, whole.weight)
    with pytest.raises(ValueError, match=r"'epochs' needs to be at least 15, .*got 5"):
        long_run(5, path)


def test_a_finished_diffrec_goes_on_bit_identical(tmp_path):
    whole = run(tmp_path / 'whole.pt', 12)
    run(tmp_path / 'run.pt', 4)
    assert_same_run(whole, run(tmp_path / 'run.pt', 12, resume=True, seed=3))


def test_a_run_without_patience_goes_on_if_it_gets_more(tmp_path):
    path, script = tmp_path / 'run.pt', [0.9, 0.1, 0.1, 0.1, 0.1]
    whole, expected = long_run(99, patience=20, script=script)
    assert long_run(99, path, patience=10, script=script)[1].num_epochs == 15
    # It stays stopped with the same patience, however many epochs there are.
    for epochs in (99, 15, 200):
        model, result = long_run(epochs, path, patience=10, script=[])
        assert (result.num_epochs, result.stopped_early) == (15, epochs > 15)
    model, result = long_run(99, path, patience=20, script=script[3:])
    assert (result.num_epochs, result.stopped_early) == (25, True)
    assert result.curve == expected.curve
    assert torch.equal(model.weight, whole.weight)
    model, result = long_run(30, path, patience=None, script=[0.95])
    assert (result.num_epochs, result.best_epoch) == (30, 30)


def test_a_reading_that_ended_early_cannot_be_taken_up_again(tmp_path):
    options = {'epochs': 99, 'eval_every': 1, 'progress': False}
    options['checkpoint'] = tmp_path / 'run.pt'
    readings = {'early': scripted([0.5, 0.4]), 'late': scripted([0.1, 0.2, 0.1])}
    fit_readings(Line(), readings, patience=1, **options)
    readings = {'early': scripted([]), 'late': scripted([])}
    again = fit_readings(Line(), readings, patience=1, resume=True, **options)
    assert [x.result.num_epochs for x in again.values()] == [2, 3]
    model = Line()
    with pytest.raises(ValueError, match="'patience' cannot be raised for 'early'"):
        fit_readings(model, readings, patience=2, resume=True, **options)
    assert model.weight.item() == 0.0


@pytest.mark.parametrize(
    'number',
    [
        np.mean([0.1, 0.2]),
        np.float32(0.15),
        torch.tensor(0.15),
        torch.tensor([0.15], requires_grad=True),
        np.array(0.15),
        np.int64(1),
        1,
    ],
    ids=repr,
)
def test_metrics_of_any_library_are_plain_numbers(tmp_path, number):
    path = tmp_path / 'run.pt'

    def validate(model):
        return {'Recall@20': number, np.str_('other'): number}

    result = fit(Line(), epochs=2, validate=validate, checkpoint=path, progress=False)
    assert type(result.best_metric) is float
    assert {type(x) for x in result.curve[0].values()} <= {int, float}
    saved = load_checkpoint(path)['readings']['']['result']
    assert saved['curve'] == result.curve
    assert result.best_metric in (1.0, pytest.approx(0.15))


@pytest.mark.parametrize(
    ('metrics', 'message'),
    [
        ({'Recall@20': None}, "numbers .got None for 'Recall@20'"),
        ({'Recall@20': 'high'}, "numbers .got 'high' for"),
        ({'Recall@20': torch.ones(2)}, 'numbers .got tensor'),
        ({'Recall@20': 1.0, 'lists': [1.0]}, "for 'lists'"),
        (0.3, 'a dictionary of metrics .got a .float'),
        ({'Recall@20': 1.0, 'epoch': 2}, "other than 'epoch'"),
    ],
)
def test_what_is_no_metric_is_refused(metrics, message):
    with pytest.raises(
        (TypeError, ValueError), match=f"'validate' needs to .*{message}"
    ):
        fit(Line(), epochs=1, validate=lambda model: metrics, progress=False)


class Odd(Line):
    """A model whose loss is what a test makes of it."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def loss(self, batch):
        return self.form(super().loss(batch)['total'])


@pytest.mark.parametrize(
    'form',
    [
        lambda total: total,
        lambda total: total.view(1),
        lambda total: {'total': total, 'part': 0.5},
        lambda total: {
            'total': total,
            'part': total.double(),
            'count': torch.tensor(2),
        },
    ],
)
def test_losses_of_every_sound_form_train(form):
    model = Odd(form)
    fit(model, epochs=2, progress=False)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**4))


@pytest.mark.parametrize(
    ('form', 'message'),
    [
        (lambda total: {'bpr': total}, r"'loss' of 'Odd' .* as 'total' .got \['bpr'\]"),
        (lambda total: total.repeat(2), r"'total' of shape \[2\].: take its mean"),
        (lambda total: {'total': total, 'x': torch.ones(3)}, r"'x' of shape \[3\]"),
        (lambda total: (total, total), r"dictionary of losses .got a 'tuple'"),
        (lambda total: total.detach(), 'depends on no parameter'),
        (lambda total: None, "got a 'NoneType'"),
    ],
)
def test_losses_of_no_sound_form_are_refused(form, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit(Odd(form), epochs=1, progress=False)


def test_phases_of_one_name_are_refused():
    model = Line()
    phases = model.phases()
    model.phases = lambda: phases * 2
    with pytest.raises(ValueError, match=r"names of their own .*\['line', 'line'\]"):
        fit(model, epochs=1, progress=False)


def test_terms_that_come_and_go_are_refused():
    model = Odd(None)
    model.form = lambda total: {'total': total, f'part {model.steps}': total}
    with pytest.raises(ValueError, match='same terms in every batch .*at step 2'):
        fit(model, epochs=1, progress=False)


class Stop(Exception):
    pass


@pytest.mark.parametrize('error', [KeyboardInterrupt, Stop, NonFiniteLossError])
def test_the_best_weights_survive_an_error(error):
    model = Line(losses=[0.0] * 6 + [float('nan')] * (error is NonFiniteLossError))
    values = iter([0.1, 0.5, 0.3])

    def validate(model):
        try:
            return {'Recall@20': next(values)}
        except StopIteration:
            raise error from None

    with pytest.raises(error):
        fit(model, epochs=9, eval_every=1, validate=validate, progress=False)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**4))
    assert not model.training


def test_the_best_weights_of_the_checkpoint_survive_an_error_too(tmp_path, monkeypatch):
    path, model = tmp_path / 'run.pt', Line()
    long_run(5, path, cls=Line, script=[0.5])
    monkeypatch.setattr(Line, 'loss', lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        long_run(9, path, model=model)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**10))
    assert not model.training


def test_errors_before_a_validation_leave_the_last_weights():
    model = Line(losses=[0.0, 0.0, float('inf')])
    with pytest.raises(NonFiniteLossError):
        fit(model, epochs=9, eval_every=5, validate=scripted([]), progress=False)
    assert model.weight.item() != 0.0
    assert not model.training
    for readings in ({'': scripted([])}, {'': None}):
        model = Line(losses=[float('nan')] if readings[''] is None else [])
        with pytest.raises((StopIteration, NonFiniteLossError)):
            fit_readings(model, readings, epochs=9, eval_every=1, progress=False)
        assert not model.training


@pytest.mark.parametrize('device', ['cpu', 'cpu:0', torch.device('cpu')])
@pytest.mark.parametrize('cls', [EASE, DiffRec])
def test_devices_are_taken_by_name_or_as_they_are(cls, device):
    model = cls.from_data(toy_data())
    fit(model, epochs=1, device=device, progress=False)
    assert model.device.type == 'cpu'


@pytest.mark.parametrize('device', ['cpu:7', 'gpu', 'cuda:99', 'meta', '', 3, None])
@pytest.mark.parametrize('cls', [EASE, DiffRec])
def test_devices_that_are_not_there_are_refused(cls, device):
    model = cls.from_data(toy_data())
    with pytest.raises((TypeError, ValueError), match="^'device' "):
        fit(model, epochs=1, device=device, progress=False)
