r"""The state of a training run: one epoch, one validation, one checkpoint at a time."""

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Union

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pyg_diffrec.training.checkpoint import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
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
    finished: bool = False
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


class TrainingRun:
    r"""The state of one training run and of its readings."""

    def __init__(
        self,
        model: Any,
        metric: str,
        readings: Mapping[str, Optional[Callable[[Any], Mapping[str, float]]]],
        device: str,
        precision: Any,
        strategy: str,
    ) -> None:
        self.model = model
        self.metric = metric
        self.readings = {name: Reading(validate) for name, validate in readings.items()}
        self.losses: dict[str, float] = {}
        self.phases = model.phases()
        if not self.phases:
            model.to(device)
            return
        accelerator, _, index = device.partition(':')
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=[int(index)] if index else 1,
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
        return [x for x in self.readings.values() if not x.result.finished]

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
            else:
                optimizer.zero_grad()
                terms = getattr(self.wrapped, phase.method)(batch)
                self.fabric.backward(terms['total'])
                optimizer.step()
            losses.append({name: x.detach() for name, x in terms.items()})
            if step - done == _CHECK_EVERY:
                self._drain(losses, sums, phase.name, epoch, done)
                done = step
        step = done + len(losses)
        self._drain(losses, sums, phase.name, epoch, done)
        return {name: value / max(step, 1) for name, value in sums.items()}

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
        # The parts of the total come first, so that the cause is named.
        names.sort(key=lambda name: name == 'total')
        values = torch.stack([torch.stack([x[n] for n in names]) for x in losses])
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
                metrics = dict(reading.validate(self.model))
                result.evaluation_seconds += time.perf_counter() - begin
                value = self._chosen(metrics, result.num_epochs)
                record.update(metrics)
                # The comparison is false for NaN: the first validation is the best.
                if not value <= result.best_metric:
                    result.best_metric = value
                    result.best_epoch = result.num_epochs
                    # Readings with the same best epoch share one copy.
                    state = state or copy.deepcopy(self.model.state_dict())
                    reading.best_state = state
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

    def finish(self, last: bool, patience: Optional[int]) -> None:
        r"""Ends the readings whose patience ran out, or all after the last epoch."""
        for reading in self.active:
            result = reading.result
            waited = result.num_epochs - result.best_epoch
            if reading.validate is not None and patience is not None:
                result.stopped_early = waited >= patience and not last
            result.finished = last or result.stopped_early

    def summary(self) -> dict[str, str]:
        out = {'loss': f'{sum(self.losses.values()):.4g}'}
        if 'total' in self.losses:
            out['loss'] = f'{self.losses["total"]:.4g}'
        result = next(iter(self.active or self.readings.values())).result
        if result.curve and self.metric in result.curve[-1]:
            out[self.metric] = f'{result.curve[-1][self.metric]:.4f}'
            out['best'] = f'{result.best_metric:.4f}'
        return out

    def save(self, path: Union[str, Path]) -> None:
        if not self.fabric.is_global_zero:
            return
        state = {
            'format': 2,
            'model': self.model.state_dict(),
            'model_repr': repr(self.model),
            'phases': {
                phase.name: {
                    'optimizer': optimizer and optimizer.state_dict(),
                    'scheduler': phase.scheduler and phase.scheduler.state_dict(),
                }
                for phase, optimizer in zip(self.phases, self.optimizers)
            },
            'random': random_state(),
            'readings': {
                name: {'best': reading.best_state, 'result': dict(vars(reading.result))}
                for name, reading in self.readings.items()
            },
        }
        save_checkpoint(state, path)

    def load(self, path: Union[str, Path]) -> None:
        state = load_checkpoint(path)
        if state['model_repr'] != repr(self.model):
            raise ValueError(
                f"'{path}' holds a checkpoint of {state['model_repr']}, not of "
                f'{self.model!r}; delete it to start over'
            )
        if list(state['readings']) != list(self.readings):
            raise ValueError(
                f"'{path}' holds a checkpoint that was validated as "
                f'{list(state["readings"])}, not as {list(self.readings)}; delete it '
                f'to start over'
            )
        self.model.load_state_dict(state['model'])
        for phase, optimizer in zip(self.phases, self.optimizers):
            saved = state['phases'][phase.name]
            if optimizer is not None:
                optimizer.load_state_dict(saved['optimizer'])
            if phase.scheduler is not None:
                phase.scheduler.load_state_dict(saved['scheduler'])
        set_random_state(state['random'])
        for name, saved in state['readings'].items():
            self.readings[name].best_state = saved['best']
            self.readings[name].result = FitResult(**saved['result'])
