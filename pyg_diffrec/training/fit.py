r"""Training of any model that follows the protocol of
:class:`~pyg_diffrec.models.Recommender`."""

from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Union

from tqdm import tqdm

from pyg_diffrec.training.run import FitResult, Reading, TrainingRun
from pyg_diffrec.utils.checks import check_positive

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
    device: str = 'cpu',
    precision: Any = '32-true',
    strategy: str = 'auto',
    progress: bool = True,
) -> FitResult:
    r"""Trains a model and leaves it with its best weights.

    An epoch runs the model's phases in turn. Every :obj:`eval_every` epochs the
    model is validated; training stops once :obj:`patience` epochs have passed since
    the best validation. A model without phases (in closed form) is validated once.

    A run that was killed and is started again with :obj:`resume=True` goes on from
    its last checkpoint and, on a CPU, ends with exactly the weights it would have
    had.

    Args:
        model (torch.nn.Module): The model.
        epochs (int, optional): The number of epochs at most.
            (default: :obj:`1000`)
        validate (Callable, optional): Maps the model to its validation metrics;
            without it the last weights are kept. (default: :obj:`None`)
        metric (str, optional): The metric that chooses, higher is better.
            (default: :obj:`'Recall@20'`)
        eval_every (int, optional): Epochs between two validations.
            (default: :obj:`5`)
        patience (int, optional): Epochs without a better validation after which to
            stop; never if :obj:`None`. (default: :obj:`20`)
        checkpoint (str or Path, optional): The file that receives checkpoints.
            (default: :obj:`None`)
        checkpoint_every (int, optional): Epochs between two checkpoints.
            (default: :obj:`5`)
        resume (bool, optional): Whether to go on from the checkpoint, if there is
            one. (default: :obj:`False`)
        device (str, optional): Where to train, *e.g.* :obj:`'cpu'`, :obj:`'cuda'`,
            :obj:`'cuda:1'`. (default: :obj:`'cpu'`)
        precision (str, optional): The precision of
            :class:`lightning_fabric.Fabric`. (default: :obj:`'32-true'`)
        strategy (str, optional): The strategy of
            :class:`lightning_fabric.Fabric`. (default: :obj:`'auto'`)
        progress (bool, optional): Whether to show a progress bar.
            (default: :obj:`True`)

    Raises:
        NonFiniteLossError: If a term of the loss or the chosen metric becomes NaN or
            infinite; the last checkpoint stays as it was.
        ValueError: If an argument is out of range, the chosen metric is missing, or
            the checkpoint belongs to another model.
    """
    reading = fit_readings(
        model,
        {'': validate},
        epochs=epochs,
        metric=metric,
        eval_every=eval_every,
        patience=patience,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        resume=resume,
        device=device,
        precision=precision,
        strategy=strategy,
        progress=progress,
    )['']
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
    device: str = 'cpu',
    precision: Any = '32-true',
    strategy: str = 'auto',
    progress: bool = True,
) -> dict[str, Reading]:
    r"""Trains a model once and validates it in several ways, each of which chooses
    its own best weights: as often as there are ways, :meth:`fit` would have trained
    the same weights again.

    Training goes on until the patience of every reading has run out. The model is
    left with its last weights.

    Args:
        model (torch.nn.Module): The model.
        readings (dict): Per name, the function that maps the model to its
            validation metrics.
        **kwargs: See :meth:`fit`.

    Returns:
        Per name, a reading with the :obj:`result` that :meth:`fit` would have
        returned and the :obj:`best_state` it would have left.
    """
    check_positive(
        'fit', epochs=epochs, eval_every=eval_every, checkpoint_every=checkpoint_every
    )
    if resume and checkpoint is None:
        raise ValueError("resume=True needs a 'checkpoint' to resume from")
    run = TrainingRun(model, metric, readings, device, precision, strategy)
    if not run.phases:
        run.evaluate()
        run.finish(last=True, patience=None)
        return run.readings
    if resume and checkpoint is not None and Path(checkpoint).exists():
        run.load(checkpoint)
    bar = tqdm(total=epochs, initial=run.num_epochs, disable=not progress, leave=False)
    with bar:
        while run.active:
            run.train_epoch()
            epoch = run.num_epochs
            last = epoch >= epochs
            if epoch % eval_every == 0 or last:
                run.evaluate()
            run.finish(last, patience)
            if checkpoint is not None and (
                epoch % checkpoint_every == 0 or not run.active
            ):
                run.save(checkpoint)
            bar.set_postfix(run.summary())
            bar.update()
    return run.readings
