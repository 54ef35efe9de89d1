r"""Hyper-parameter search on validation, with Optuna."""

import json
import math
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Callable, Optional

import click
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_diffrec import models
from pyg_diffrec.bench.data import build_dataset, check_dataset
from pyg_diffrec.bench.suite import Training
from pyg_diffrec.evaluation import Protocol, evaluate
from pyg_diffrec.models import MODELS, VARIANTS
from pyg_diffrec.resolver import unknown
from pyg_diffrec.training import NonFiniteLossError, fit
from pyg_diffrec.utils.toml import read_toml

_FOLDER = Path(models.__file__).parent / 'spaces'


def spaces() -> list[str]:
    r"""The models that have a search space."""
    return sorted(path.stem for path in _FOLDER.glob('*.toml'))


def load_space(model: str) -> dict[str, dict[str, Any]]:
    r"""The search space of a model: per hyper-parameter its :obj:`choices`, or
    :obj:`low`, :obj:`high` and whether the scale is :obj:`log`.

    Raises:
        ValueError: If there is no such model, or it has no search space.
    """
    if model not in [*MODELS, *VARIANTS]:
        raise ValueError(unknown('model', model, [*MODELS, *VARIANTS]))
    base, _ = VARIANTS.get(model, (model, {}))
    path = _FOLDER / f'{base}.toml'
    if not path.exists():
        raise ValueError(
            f"'{model}' has no search space; models that have one: "
            f'{", ".join(spaces())}'
        )
    return read_toml(path)


def suggest(trial: Any, space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    r"""Draws a value for each hyper-parameter."""
    out = {}
    for name, entry in space.items():
        if 'choices' in entry:
            # Optuna stores numbers and strings: lists go through JSON.
            choices = [json.dumps(choice) for choice in entry['choices']]
            out[name] = json.loads(trial.suggest_categorical(name, choices))
        elif isinstance(entry['low'], int) and isinstance(entry['high'], int):
            out[name] = trial.suggest_int(name, **entry)
        else:
            out[name] = trial.suggest_float(name, **entry)
    return out


def tune(
    model: str,
    dataset: dict[str, Any],
    trials: int,
    out: Path,
    *,
    metric: str = 'Recall@20',
    seed: int = 1,
    data_root: Optional[Path] = None,
    device: str = 'cpu',
    epochs: Optional[int] = None,
    echo: Callable[[str], None] = click.echo,
) -> Path:
    r"""Searches the best hyper-parameters on validation; test is never looked at.

    The study lies in :obj:`out` and goes on where it stopped: :obj:`trials` counts
    those that are already there. From the fifth trial on, those whose validations
    stay below the median of the others at the same epoch are stopped early. Trials
    that diverge, do not fit into memory or are refused by the model count as failed,
    with a message.

    Args:
        model (str): The name of the model or variant.
        dataset (dict): The dataset's :obj:`name` and arguments.
        trials (int): The number of trials.
        out (Path): The folder of the study and the preset.
        metric (str, optional): The validation metric. (default: :obj:`'Recall@20'`)
        seed (int, optional): The seed of the search and of every trial.
            (default: :obj:`1`)
        data_root (Path, optional): See :meth:`build_dataset`.
        device (str, optional): Where to train. (default: :obj:`'cpu'`)
        epochs (int, optional): Epochs at most. (default: :obj:`None`)
        echo (Callable, optional): Receives messages.

    Returns:
        The preset file, which a suite names by its path.

    Raises:
        ValueError: If the model has no search space, the dataset is unknown, or no
            trial succeeded.
        ImportError: If Optuna is not installed.
    """
    space = load_space(model)
    check_dataset(dataset)
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ImportError("Tuning needs Optuna: pip install 'pyg-diffrec[tune]'") from (
            error
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f'{model}-{"-".join(str(value) for value in dataset.values())}'
    out.mkdir(parents=True, exist_ok=True)
    data = build_dataset(dataset, data_root, out / 'data')
    training = Training()
    if epochs is not None:
        training = replace(training, epochs=epochs)
    study = optuna.create_study(
        study_name=f'{name}-{metric}-{training.epochs}-seed{seed}',
        storage=JournalStorage(JournalFileBackend(str(out / f'{name}.journal'))),
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=10),
        direction='maximize',
        load_if_exists=True,
    )
    for _ in range(len(study.trials), trials):
        trial = study.ask()
        args = suggest(trial, space)
        state, note = None, ''
        try:
            value = _objective(model, data, args, metric, seed, device, training, trial)
        except optuna.TrialPruned:
            value, state, note = None, optuna.trial.TrialState.PRUNED, 'stopped early'
        except (MemoryError, NonFiniteLossError, ValueError) as error:
            # A combination that the model refuses is a failed trial, not a failed
            # search.
            value, state, note = None, optuna.trial.TrialState.FAIL, f'failed: {error}'
        study.tell(trial, value, state=state)
        note = note or f'{metric} {value:.4f}'
        echo(f'[{trial.number + 1}/{trials}] {note} {args}')
    done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if not done:
        raise ValueError(f"No trial of '{name}' succeeded: nothing to choose from")
    best = max(done, key=lambda trial: trial.value)
    args = suggest(optuna.trial.FixedTrial(best.params), space)
    path = out / f'{name}.toml'
    _write_preset(path, args, f'{metric} {best.value:.4f} on validation of {dataset}')
    echo(f'best of {len(done)}: {metric} {best.value:.4f} {args}\nwrote {path}')
    return path


def _objective(
    model: str,
    data: HeteroData,
    args: dict[str, Any],
    metric: str,
    seed: int,
    device: str,
    training: Training,
    trial: Any,
) -> float:
    from optuna import TrialPruned

    base, fixed = VARIANTS.get(model, (model, {}))
    validations = count(1)

    def validate(built: Any) -> dict[str, float]:
        metrics = evaluate(built, data, 'val', [metric], Protocol())
        trial.report(metrics[metric], next(validations) * training.eval_every)
        if trial.should_prune():
            raise TrialPruned
        return metrics

    seed_everything(seed)
    built = getattr(models, base).from_data(data, **{**fixed, **args})
    result = fit(
        built,
        epochs=training.epochs,
        eval_every=training.eval_every,
        patience=training.patience,
        validate=validate,
        metric=metric,
        device=device,
        progress=False,
    )
    if not math.isfinite(result.best_metric):
        raise NonFiniteLossError(f"The validation metric '{metric}' is not finite")
    return result.best_metric


def _write_preset(path: Path, args: dict[str, Any], origin: str) -> None:
    lines = [f'# {origin}']
    # Numbers, strings and lists of them look the same in JSON and TOML.
    lines += [f'{key} = {json.dumps(value)}' for key, value in args.items()]
    temporary = path.with_name(f'.{path.name}')
    temporary.write_text('\n'.join(lines) + '\n')
    temporary.replace(path)
