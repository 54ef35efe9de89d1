r"""Training of any model that follows the protocol of
:class:`~pyg_diffrec.models.Recommender`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Union

import torch
from tqdm import tqdm

from pyg_diffrec.training.run import FitResult, Reading, TrainingRun
from pyg_diffrec.utils.checks import check_whole

Validate = Callable[[Any], Mapping[str, float]]


def fit(
    model: Any,
    *,
    epochs: int = 1000,
    validate: Optional[Validate] = None,
    metric: str = 'Recall@20',
    eval_every: int = 5,
    patience: Optional[int] = 20,
    checkpoint: Optional[Union[str, Path]] = None,
    checkpoint_every: int = 5,
    resume: bool = False,
    device: Union[str, torch.device] = 'cpu',
    precision: Any = '32-true',
    strategy: str = 'auto',
    progress: bool = True,
) -> FitResult:
    r"""Trains a model and leaves it with its best weights.

    An epoch runs the model's phases in turn. Every :obj:`eval_every` epochs, and
    after the last one, the model is validated; only there training may stop, once
    :obj:`patience` epochs or more have passed since the best validation. A model
    without phases (in closed form) is validated once, and needs no checkpoint.

    A run that was killed and is started again with :obj:`resume=True` goes on from
    its last checkpoint and, on a CPU with as many threads as before, ends with
    exactly the weights it would have had. With another number of threads, or on
    another device or processor, sums are rounded differently in their last bits, and
    so, in time, are weights and lists.

    A finished run goes on in the same way if it is asked for more :obj:`epochs`; it
    ends like a run that was asked for them at once, as long as both are validated at
    the same epochs: the last epoch of the shorter run is one more validation unless
    :obj:`eval_every` divides it. A run whose patience ran out stays ended unless
    :obj:`patience` is raised.

    A checkpoint knows the settings and the training data of its run: what the model
    and its modules hold in public attributes and buffers, the form of their
    parameters, optimizers, schedules, loaders, :obj:`metric` and :obj:`precision`. It
    is refused for another run, with the names of what differs. What training itself
    changes is no setting. What goes on are the state dicts of the model, optimizers and
    schedules, and the global and the loaders' generators of random numbers.

    Whatever ends the training, an exception or Ctrl-C too, the model is left in
    evaluation mode and with its best weights so far, or, if it was never validated,
    with its last ones.

    Args:
        model (torch.nn.Module): The model.
        epochs (int, optional): The number of epochs at most.
            (default: :obj:`1000`)
        validate (Callable, optional): Maps the model to its validation metrics,
            numbers of any library by name; without it the last weights are kept.
            (default: :obj:`None`)
        metric (str, optional): The metric that chooses, higher is better.
            (default: :obj:`'Recall@20'`)
        eval_every (int, optional): Epochs between two validations.
            (default: :obj:`5`)
        patience (int, optional): Epochs without a better validation after which the
            next validation, if it is no better, ends training; never if
            :obj:`None`. (default: :obj:`20`)
        checkpoint (str or Path, optional): The file that receives checkpoints.
            (default: :obj:`None`)
        checkpoint_every (int, optional): Epochs between two checkpoints.
            (default: :obj:`5`)
        resume (bool, optional): Whether to go on from the checkpoint, if there is
            one. (default: :obj:`False`)
        device (str or torch.device, optional): Where to train, *e.g.* :obj:`'cpu'`,
            :obj:`'cuda'`, :obj:`'cuda:1'`, :obj:`'mps'`. (default: :obj:`'cpu'`)
        precision (str, optional): The precision of
            :class:`lightning_fabric.Fabric`. (default: :obj:`'32-true'`)
        strategy (str, optional): The strategy of
            :class:`lightning_fabric.Fabric`. (default: :obj:`'auto'`)
        progress (bool, optional): Whether to show a progress bar.
            (default: :obj:`True`)

    Raises:
        NonFiniteLossError: If a term of the loss or the chosen metric becomes NaN or
            infinite; the last checkpoint stays as it was.
        ValueError: If an argument is out of range, there is no such device, the
            chosen metric is missing, a loss is not one number per term, or the
            checkpoint is damaged, belongs to another run, or has already reached more
            epochs.
        TypeError: If a number of epochs is not whole, a metric no number, or the state
            of the model nothing that a checkpoint can hold.
    """
    plan = _Plan(
        epochs, eval_every, patience, checkpoint, checkpoint_every, resume, progress
    )
    saves = checkpoint is not None
    run = TrainingRun(model, metric, {'': validate}, device, precision, strategy, saves)
    reading = run.readings['']
    try:
        plan.train(run)
    finally:
        if reading.best_state is not None:
            model.load_state_dict(reading.best_state)
        model.eval()
    return reading.result


def fit_readings(
    model: Any,
    readings: Mapping[str, Optional[Validate]],
    *,
    epochs: int = 1000,
    metric: str = 'Recall@20',
    eval_every: int = 5,
    patience: Optional[int] = 20,
    checkpoint: Optional[Union[str, Path]] = None,
    checkpoint_every: int = 5,
    resume: bool = False,
    device: Union[str, torch.device] = 'cpu',
    precision: Any = '32-true',
    strategy: str = 'auto',
    progress: bool = True,
) -> dict[str, Reading]:
    r"""Trains a model once and validates it in several ways, each of which chooses
    its own best weights: as often as there are ways, :meth:`fit` would have trained
    the same weights again.

    Training goes on until the patience of every reading has run out. Whatever ends
    it, the model is left with its last weights and in evaluation mode. A finished run
    can be given more patience only if all its readings ended at the same epoch.

    Args:
        model (torch.nn.Module): The model.
        readings (dict): Per name, the function that maps the model to its
            validation metrics.
        **kwargs: See :meth:`fit`.

    Returns:
        Per name, a reading with the :obj:`result` that :meth:`fit` would have
        returned and the :obj:`best_state` it would have left.
    """
    plan = _Plan(
        epochs, eval_every, patience, checkpoint, checkpoint_every, resume, progress
    )
    saves = checkpoint is not None
    run = TrainingRun(model, metric, readings, device, precision, strategy, saves)
    try:
        plan.train(run)
    finally:
        model.eval()
    return run.readings


@dataclass(frozen=True)
class _Plan:
    r"""How long a run trains, and when it is validated and saved."""

    epochs: int
    eval_every: int
    patience: Optional[int]
    checkpoint: Optional[Union[str, Path]]
    checkpoint_every: int
    resume: bool
    progress: bool

    def __post_init__(self) -> None:
        check_whole(
            'fit',
            epochs=self.epochs,
            eval_every=self.eval_every,
            checkpoint_every=self.checkpoint_every,
        )
        if self.patience is not None:
            check_whole('fit', patience=self.patience)
        if self.resume and self.checkpoint is None:
            raise ValueError("resume=True needs a 'checkpoint' to resume from")

    def train(self, run: TrainingRun) -> None:
        if not run.phases:
            run.evaluate()
            return
        if self.checkpoint is not None:
            run.prepare(self.checkpoint)
            if self.resume and Path(self.checkpoint).exists():
                run.load(self.checkpoint, self.epochs, self.patience)
        with tqdm(
            total=self.epochs,
            initial=run.num_epochs,
            disable=not self.progress,
            leave=False,
        ) as bar:
            while run.active:
                run.train_epoch()
                epoch = run.num_epochs
                if epoch % self.eval_every == 0 or epoch >= self.epochs:
                    run.evaluate()
                    # Not between validations: nothing has been learned there of
                    # whether to go on.
                    run.finish(self.epochs, self.patience)
                if self.checkpoint is not None and (
                    epoch % self.checkpoint_every == 0 or not run.active
                ):
                    run.save(self.checkpoint)
                bar.set_postfix(run.summary())
                bar.update()
