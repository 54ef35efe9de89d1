r"""Training of any model that follows the protocol of
:class:`~pyg_diffrec.models.Recommender`."""

from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Union

from tqdm import tqdm

from pyg_diffrec.training.run import FitResult, TrainingRun


def fit(
    model: Any,
    *,
    epochs: int = 1000,
    validate: Optional[Callable[[Any], Mapping[str, float]]] = None,
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
    for name, value in (
        ('epochs', epochs),
        ('eval_every', eval_every),
        ('checkpoint_every', checkpoint_every),
    ):
        if value < 1:
            raise ValueError(f"'{name}' needs to be positive in 'fit' (got {value})")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs a 'checkpoint' to resume from")
    run = TrainingRun(model, metric, validate, device, precision, strategy)
    if resume and checkpoint is not None and Path(checkpoint).exists():
        run.load(checkpoint)
    if not run.phases:
        if not run.result.finished:
            run.evaluate()
            run.result.finished = True
        run.restore_best()
        return run.result
    bar = tqdm(
        total=epochs, initial=run.result.num_epochs, disable=not progress, leave=False
    )
    with bar:
        while not run.result.finished:
            run.train_epoch()
            epoch = run.result.num_epochs
            last = epoch >= epochs
            if epoch % eval_every == 0 or last:
                run.evaluate()
            waited = epoch - run.result.best_epoch
            if validate is not None and patience is not None and waited >= patience:
                run.result.stopped_early = not last
            run.result.finished = last or run.result.stopped_early
            if checkpoint is not None and (
                epoch % checkpoint_every == 0 or run.result.finished
            ):
                run.save(checkpoint)
            bar.set_postfix(run.summary())
            bar.update()
    run.restore_best()
    return run.result
