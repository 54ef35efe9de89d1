r"""The state of a training run: one epoch, one validation, one checkpoint at a time."""

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Union

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from pyg_diffrec.training.checkpoint import (
    clear_temporary,
    load_checkpoint,
    plain,
    random_state,
    save_checkpoint,
    set_random_state,
)
from pyg_diffrec.training.device import resolve_device
from pyg_diffrec.training.identity import changing, differences, identity
from pyg_diffrec.training.schema import (
    FORMAT,
    check_like,
    check_optimizer,
    damaged,
)

# Losses are looked at after this many steps, so that a step waits for no device.
_CHECK_EVERY = 100


class NonFiniteLossError(RuntimeError):
    r"""A term of the loss became NaN or infinite."""


@dataclass
class FitResult:
    r"""What a training run did.

    Args:
        num_epochs (int): The number of epochs run.
        best_epoch (int): The epoch whose weights the model now has.
        best_metric (float): Its validation metric; NaN without validation.
        stopped_early (bool): Whether patience ran out.
        curve (list): One record per validated epoch: :obj:`epoch`, mean losses and
            validation metrics.
        seconds_per_epoch (float): Mean wall-clock time of training per epoch.
        seconds_per_evaluation (float): Mean wall-clock time of a validation.
    """

    num_epochs: int = 0
    best_epoch: int = 0
    best_metric: float = float('nan')
    stopped_early: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def seconds_per_epoch(self) -> float:
        return self.training_seconds / max(self.num_epochs, 1)

    @property
    def seconds_per_evaluation(self) -> float:
        return self.evaluation_seconds / max(len(self.curve), 1)


class Reading:
    r"""One way to validate a training run, and the best weights by it.

    Args:
        validate (Callable, optional): Maps the model to its validation metrics.
    """

    def __init__(
        self, validate: Optional[Callable[[Any], Mapping[str, float]]] = None
    ) -> None:
        self.validate = validate
        self.result = FitResult()
        self.best_state: Optional[dict[str, Any]] = None
        #: Whether training goes on without it.
        self.finished = False

    @property
    def waited(self) -> int:
        r"""The epochs from the best validation to the last one."""
        curve = self.result.curve
        return int(curve[-1]['epoch']) - self.result.best_epoch if curve else 0


class TrainingRun:
    r"""The state of one training run and of its readings."""

    def __init__(
        self,
        model: Any,
        metric: str,
        readings: Mapping[str, Optional[Callable[[Any], Mapping[str, float]]]],
        device: Union[str, torch.device],
        precision: Any,
        strategy: str,
        saves: bool = False,
    ) -> None:
        device = resolve_device(device)
        if not readings:
            raise ValueError("'readings' needs at least one entry (got none)")
        self.model = model
        self.metric = metric
        self.readings = {name: Reading(validate) for name, validate in readings.items()}
        self.losses: dict[str, float] = {}
        self.phases = model.phases()
        if not self.phases:
            model.to(device)
            return
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(
                f"The phases of '{model.__class__.__name__}' need names of their own "
                f'(got {names})'
            )
        self.precision = precision
        #: Settings and data before training; empty as long as nothing is saved.
        self.identity: dict[str, str] = {}
        #: What training has changed of it before the checkpoint that was loaded.
        self.changing: list[str] = []
        if saves:
            self.identity = self._identity()
        self.fabric = Fabric(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            precision=precision,
            strategy=strategy,
        )
        self.fabric.launch()
        self.wrapped = self.fabric.setup_module(model)
        self.optimizers: list[Any] = [
            phase.optimizer and self.fabric.setup_optimizers(phase.optimizer)
            for phase in self.phases
        ]
        for phase in self.phases:
            self.wrapped.mark_forward_method(phase.method)

    @property
    def active(self) -> list[Reading]:
        r"""The readings that training goes on for."""
        return [x for x in self.readings.values() if not x.finished]

    @property
    def num_epochs(self) -> int:
        return max(x.result.num_epochs for x in self.readings.values())

    def train_epoch(self) -> None:
        begin = time.perf_counter()
        epoch = self.num_epochs + 1
        self.model.train()
        self.losses = {}
        for phase, optimizer in zip(self.phases, self.optimizers):
            means = self._train_phase(phase, optimizer, epoch)
            for term, value in means.items():
                key = term if len(self.phases) == 1 else f'{phase.name}/{term}'
                self.losses[key] = value
            if phase.scheduler is not None:
                phase.scheduler.step()
        seconds = time.perf_counter() - begin
        for reading in self.active:
            reading.result.num_epochs = epoch
            reading.result.training_seconds += seconds

    def _train_phase(self, phase: Any, optimizer: Any, epoch: int) -> dict[str, float]:
        losses: list[dict[str, Tensor]] = []
        done = 0
        sums: dict[str, float] = {}
        for step, batch in enumerate(phase.loader, start=1):
            batch = self.fabric.to_device(batch)
            if optimizer is None:
                with torch.no_grad():
                    terms = getattr(self.wrapped, phase.method)(batch)
                terms = self._terms(terms, phase)
            else:
                optimizer.zero_grad()
                terms = getattr(self.wrapped, phase.method)(batch)
                terms = self._terms(terms, phase)
                self.fabric.backward(terms['total'])
                optimizer.step()
            losses.append({name: x.detach() for name, x in terms.items()})
            if step - done == _CHECK_EVERY:
                self._drain(losses, sums, phase.name, epoch, done)
                done = step
        step = done + len(losses)
        self._drain(losses, sums, phase.name, epoch, done)
        return {name: value / max(step, 1) for name, value in sums.items()}

    def _terms(self, terms: Any, phase: Any) -> dict[str, Tensor]:
        r"""The terms of a loss, each without dimensions; a loss that is a tensor is
        its own total. Nothing here waits for the device."""
        if isinstance(terms, Tensor):
            terms = {'total': terms}
        name = f"'{phase.method}' of '{self.model.__class__.__name__}'"
        if not isinstance(terms, Mapping):
            raise TypeError(
                f'{name} needs to return a loss, or a dictionary of losses (got a '
                f"'{type(terms).__name__}')"
            )
        if phase.optimizer is not None and 'total' not in terms:
            raise ValueError(
                f"{name} needs to return what is minimised as 'total' (got "
                f'{list(terms)})'
            )
        out = {}
        for key, value in terms.items():
            value = torch.as_tensor(value)
            if value.numel() != 1:
                raise ValueError(
                    f"{name} needs to return one number per term (got '{key}' of shape "
                    f'{list(value.shape)}): take its mean or sum'
                )
            out[key] = value.reshape(())
        if phase.optimizer is not None and not out['total'].requires_grad:
            raise ValueError(
                f"{name} returns a 'total' that depends on no parameter: nothing can "
                f'be trained'
            )
        return out

    def _drain(
        self,
        losses: list[dict[str, Tensor]],
        sums: dict[str, float],
        phase: str,
        epoch: int,
        done: int,
    ) -> None:
        r"""Adds the losses to their sums, or says which was not finite first."""
        if not losses:
            return
        names = list(losses[0])
        for step, terms in enumerate(losses, start=done + 1):
            if terms.keys() != losses[0].keys():
                raise ValueError(
                    f"The loss of phase '{phase}' needs the same terms in every batch "
                    f'(got {list(terms)} at step {step}, {names} before)'
                )
        # The parts of the total come first, so that the cause is named.
        names.sort(key=lambda name: name == 'total')
        device = max(
            (losses[0][n].device for n in names), key=lambda x: x.type != 'cpu'
        )
        values = torch.stack(
            [torch.stack([x[n].to(device) for n in names]) for x in losses]
        )
        values = values.double().cpu()  # [steps, terms]
        bad = (~values.isfinite()).nonzero()
        if len(bad) > 0:
            step, term = bad[0].tolist()
            raise NonFiniteLossError(
                f"The loss term '{names[term]}' of phase '{phase}' became "
                f'{float(values[step, term])} at step {done + step + 1} of epoch '
                f'{epoch}; the last checkpoint is untouched. Try a smaller learning '
                f'rate'
            )
        for name, value in zip(names, values.sum(0).tolist()):
            sums[name] = sums.get(name, 0.0) + value
        losses.clear()

    def evaluate(self) -> None:
        state: Optional[dict[str, Any]] = None
        for reading in self.active:
            result = reading.result
            record: dict[str, float] = {'epoch': result.num_epochs}
            record |= {f'loss/{name}': value for name, value in self.losses.items()}
            if reading.validate is None:
                result.best_epoch = result.num_epochs
            else:
                begin = time.perf_counter()
                metrics = _numbers(reading.validate(self.model))
                result.evaluation_seconds += time.perf_counter() - begin
                value = self._chosen(metrics, result.num_epochs)
                record.update(metrics)
                # The comparison is false for NaN: the first validation is the best.
                if not value <= result.best_metric:
                    # Readings with the same best epoch share one copy.
                    state = state or copy.deepcopy(self.model.state_dict())
                    reading.best_state = state
                    result.best_metric = value
                    result.best_epoch = result.num_epochs
            result.curve.append(record)

    def _chosen(self, metrics: dict[str, float], epoch: int) -> float:
        if self.metric not in metrics:
            raise ValueError(
                f"'metric' needs to be one of {sorted(metrics)} in 'fit' "
                f"(got '{self.metric}')"
            )
        value = metrics[self.metric]
        if value != value:
            raise NonFiniteLossError(
                f"The validation metric '{self.metric}' became NaN at epoch "
                f'{epoch}; the last checkpoint is untouched'
            )
        return value

    def finish(self, epochs: int, patience: Optional[int]) -> None:
        r"""Ends the readings whose patience has run out by their last validation, or
        all after the last epoch."""
        for reading in self.active:
            last = reading.result.num_epochs >= epochs
            ran_out = (
                patience is not None
                and reading.validate is not None
                and reading.waited >= patience
            )
            reading.result.stopped_early = ran_out and not last
            reading.finished = last or ran_out

    def summary(self) -> dict[str, str]:
        out = {'loss': f'{sum(self.losses.values()):.4g}'}
        if 'total' in self.losses:
            out['loss'] = f'{self.losses["total"]:.4g}'
        result = next(iter(self.active or self.readings.values())).result
        if result.curve and self.metric in result.curve[-1]:
            out[self.metric] = f'{result.curve[-1][self.metric]:.4f}'
            out['best'] = f'{result.best_metric:.4f}'
        return out

    def _identity(self, data: bool = True) -> dict[str, str]:
        out = identity(self.model, self.phases, data)
        return {**out, 'metric': self.metric, 'precision': str(self.precision)}

    def _generators(self) -> list[Optional[torch.Generator]]:
        r"""The loaders' own sources of random numbers."""
        found = [getattr(phase.loader, 'generator', None) for phase in self.phases]
        return [x if isinstance(x, torch.Generator) else None for x in found]

    def prepare(self, path: Union[str, Path]) -> None:
        r"""Finds out before training whether checkpoints can be written."""
        path = Path(path)
        if path.is_dir():
            raise ValueError(
                f"'checkpoint' needs to be a file, but '{path}' is a folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_temporary(path)
        plain(self.state())

    def state(self) -> dict[str, Any]:
        changed = {*self.changing, *changing(self.identity, self._identity(data=False))}
        settings = {k: v for k, v in self.identity.items() if k not in changed}
        return {
            'format': FORMAT,
            'identity': {'settings': settings, 'changing': sorted(changed)},
            'model': self.model.state_dict(),
            'phases': {
                phase.name: {
                    'optimizer': optimizer and optimizer.state_dict(),
                    'scheduler': phase.scheduler and phase.scheduler.state_dict(),
                    'generator': generator and generator.get_state(),
                }
                for phase, optimizer, generator in zip(
                    self.phases, self.optimizers, self._generators()
                )
            },
            'random': random_state(),
            'readings': {
                name: {'best': reading.best_state, 'result': dict(vars(reading.result))}
                for name, reading in self.readings.items()
            },
        }

    def save(self, path: Union[str, Path]) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint(self.state(), path)

    def load(
        self, path: Union[str, Path], epochs: int, patience: Optional[int]
    ) -> None:
        r"""Takes over a checkpoint, or says why it cannot before anything changes."""
        state = load_checkpoint(path)
        own = state['identity']
        differ = differences(own['settings'], self.identity, own['changing'])
        if differ:
            more = f'; and {len(differ) - 5} more' if len(differ) > 5 else ''
            raise ValueError(
                f"'{path}' holds a checkpoint of another run: {'; '.join(differ[:5])}"
                f'{more}. Build the model as for the run that wrote it, with the same '
                f'hyper-parameters and data, or delete it to start over'
            )
        if list(state['readings']) != list(self.readings):
            raise ValueError(
                f"'{path}' holds a checkpoint that was validated as "
                f'{list(state["readings"])}, not as {list(self.readings)}; delete it '
                f'to start over'
            )
        reached = max(x['result']['num_epochs'] for x in state['readings'].values())
        if reached > epochs:
            raise ValueError(
                f"'epochs' needs to be at least {reached}, which '{path}' has already "
                f'reached (got {epochs}); delete it to start over'
            )
        self._check(state, path)
        for name, saved in state['readings'].items():
            self.readings[name].result = FitResult(**saved['result'])
        self.finish(epochs, patience)
        for name, reading in self.readings.items():
            if not reading.finished and reading.result.num_epochs < reached:
                raise ValueError(
                    f"'patience' cannot be raised for '{name}' of '{path}': it ended "
                    f'at epoch {reading.result.num_epochs} and was not validated up to '
                    f'epoch {reached}, where others went on to; delete it to start over'
                )
        self._set_random_state(state, path)
        self.model.load_state_dict(state['model'])
        for phase, optimizer in zip(self.phases, self.optimizers):
            saved = state['phases'][phase.name]
            if optimizer is not None:
                optimizer.load_state_dict(saved['optimizer'])
            if phase.scheduler is not None:
                phase.scheduler.load_state_dict(saved['scheduler'])
        self.changing = own['changing']
        for name, saved in state['readings'].items():
            self.readings[name].best_state = saved['best']

    def _set_random_state(self, state: dict[str, Any], path: Union[str, Path]) -> None:
        before = random_state()
        try:
            set_random_state(state['random'])
            for phase, generator in zip(self.phases, self._generators()):
                if generator is not None:
                    generator.set_state(state['phases'][phase.name]['generator'])
        except (OverflowError, RuntimeError, TypeError, ValueError) as error:
            set_random_state(before)
            raise damaged(path, 'random', 'states of generators', error) from error

    def _check(self, state: dict[str, Any], path: Union[str, Path]) -> None:
        r"""Raises an error unless all parts fit the model and its phases."""
        weights = _weights(self.model.state_dict())
        check_like(_weights(state['model']), weights, 'model', path)
        for name, saved in state['readings'].items():
            if saved['best'] is not None:
                best, key = _weights(saved['best']), f'readings[{name!r}].best'
                check_like(best, weights, key, path)
        names: dict[str, Any] = {phase.name: {} for phase in self.phases}
        check_like({x: {} for x in state['phases']}, names, 'phases', path)
        for phase, generator in zip(self.phases, self._generators()):
            saved, key = state['phases'][phase.name], f'phases[{phase.name!r}]'
            drawn = generator and generator.get_state()
            check_like(saved['generator'], drawn, f'{key}.generator', path)
            if phase.optimizer is not None:
                check_optimizer(
                    saved['optimizer'], phase.optimizer, f'{key}.optimizer', path
                )
            if phase.scheduler is not None:
                own = phase.scheduler.state_dict()
                check_like(saved['scheduler'], own, f'{key}.scheduler', path)
        mine = {**random_state(), 'cuda': state['random']['cuda']}
        check_like(state['random'], mine, 'random', path)


def _weights(state: Mapping[str, Any]) -> dict[str, Any]:
    r"""A state dict without what modules add to it in a form of their own."""
    return {k: v for k, v in state.items() if not k.endswith('_extra_state')}


def _numbers(metrics: Any) -> dict[str, float]:
    r"""The metrics as plain numbers, whatever library they come from."""
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"'validate' needs to return a dictionary of metrics (got a "
            f"'{type(metrics).__name__}')"
        )
    out = {}
    for name, value in metrics.items():
        if name == 'epoch' or not isinstance(name, str):
            raise ValueError(
                f"'validate' needs to call its metrics by names other than 'epoch' "
                f'(got {name!r})'
            )
        try:
            if isinstance(value, (Tensor, np.ndarray)):
                value = value.item()
            if isinstance(value, (str, bytes)):
                raise TypeError
            out[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"'validate' needs to return numbers (got {value!r:.60} for '{name}')"
            ) from error
    return out
