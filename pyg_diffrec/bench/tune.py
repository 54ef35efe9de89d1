r"""Hyper-parameter search on validation, with Optuna."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import click
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_diffrec import models
from pyg_diffrec.bench.data import build_dataset, check_dataset
from pyg_diffrec.bench.suite import Training
from pyg_diffrec.evaluation import Protocol, evaluate
from pyg_diffrec.models import MODELS, VARIANTS, preset
from pyg_diffrec.models.hyper_parameters import check_hyper_parameters
from pyg_diffrec.resolver import unknown
from pyg_diffrec.training import NonFiniteLossError, fit_readings
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
    space = read_toml(path)
    for key, entry in space.items():
        for value in entry.get('choices', [entry.get('low'), entry.get('high')]):
            check_hyper_parameters(
                getattr(models, base), {key: value}, f"the search space of '{model}'"
            )
    return space


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
    roles: Sequence[str] = (),
    start: Sequence[str] = (),
    echo: Callable[[str], None] = click.echo,
) -> list[Path]:
    r"""Searches the best hyper-parameters on validation; test is never looked at.

    The study lies in :obj:`out` and goes on where it stopped: :obj:`trials` counts
    those that are already there. From the fifth trial on, those whose validations
    stay below the median of the others at the same epoch are stopped early. Trials
    that diverge, do not fit into memory or are refused by the model count as failed,
    with a message.

    With several :obj:`roles` a trial is trained once and validated under each; a
    preset per role is the best by its own validation. The search itself is guided
    by the mean.

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
        roles (list, optional): Readings of the dataset's files, where it has
            several. (default: :obj:`()`)
        start (list, optional): Presets of the model, the first trials of a new
            study; they count as such. (default: :obj:`()`)
        echo (Callable, optional): Receives messages.

    Returns:
        The preset files, one per role, which a suite names by their path.

    Raises:
        ValueError: If the model has no search space, the dataset is unknown, a preset
            is unknown or lacks a hyper-parameter of the space, or no trial succeeded.
        ImportError: If Optuna is not installed.
    """
    space = load_space(model)
    first = [_start(model, name, space) for name in start]
    datasets = [{**dataset, 'roles': role} for role in roles] or [dataset]
    for spec in datasets:
        check_dataset(spec)
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ImportError("Tuning needs Optuna: pip install 'pyg-diffrec[tune]'") from (
            error
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = [
        f'{model}-{"-".join(str(value) for value in spec.values())}'
        for spec in datasets
    ]
    name = '+'.join([names[0], *roles[1:]])
    out.mkdir(parents=True, exist_ok=True)
    data = [build_dataset(spec, data_root, out / 'data') for spec in datasets]
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
    if not study.trials:
        for params in first:
            study.enqueue_trial(params, skip_if_exists=True)
    while sum(trial.state.is_finished() for trial in study.trials) < trials:
        trial = study.ask()
        args = suggest(trial, space)
        state, note = None, ''
        try:
            values = _objective(
                model, data, args, metric, seed, device, training, trial
            )
            trial.set_user_attr('values', values)
            value = sum(values) / len(values)
        except optuna.TrialPruned:
            value, state, note = None, optuna.trial.TrialState.PRUNED, 'stopped early'
        except (MemoryError, NonFiniteLossError, ValueError) as error:
            # A combination that the model refuses is a failed trial, not a failed
            # search.
            value, state, note = None, optuna.trial.TrialState.FAIL, f'failed: {error}'
        study.tell(trial, value, state=state)
        note = note or f'{metric} {", ".join(f"{value:.4f}" for value in values)}'
        echo(f'[{trial.number + 1}/{trials}] {note} {args}')
    done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if not done:
        raise ValueError(f"No trial of '{name}' succeeded: nothing to choose from")
    paths = []
    for index, (name, spec) in enumerate(zip(names, datasets)):
        values = [trial.user_attrs['values'][index] for trial in done]
        value = max(values)
        best = done[values.index(value)]
        args = suggest(optuna.trial.FixedTrial(best.params), space)
        paths.append(out / f'{name}.toml')
        _write_preset(paths[-1], args, f'{metric} {value:.4f} on validation of {spec}')
        echo(f'best of {len(done)}: {metric} {value:.4f} {args}\nwrote {paths[-1]}')
    return paths


def _start(model: str, name: str, space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    r"""A preset as the parameters of a trial."""
    args = preset(model, name)
    missing = [key for key in space if key not in args]
    if missing:
        raise ValueError(
            f"Preset '{name}' of '{model}' cannot start a search: it lacks {missing} "
            f'of the search space'
        )
    return {
        key: json.dumps(args[key]) if 'choices' in entry else args[key]
        for key, entry in space.items()
    }


def _objective(
    model: str,
    data: list[HeteroData],
    args: dict[str, Any],
    metric: str,
    seed: int,
    device: str,
    training: Training,
    trial: Any,
) -> list[float]:
    r"""The best validation under each reading of the data."""
    from optuna import TrialPruned

    base, fixed = VARIANTS.get(model, (model, {}))
    curves: list[list[float]] = [[] for _ in data]

    def validation(index: int) -> Callable[[Any], dict[str, float]]:
        def validate(built: Any) -> dict[str, float]:
            metrics = evaluate(built, data[index], 'val', [metric], Protocol())
            curves[index].append(metrics[metric])
            rounds = len(curves[index])
            # Whether all readings are validated, and go on.
            if all(len(curve) == rounds for curve in curves):
                mean = sum(curve[-1] for curve in curves) / len(curves)
                trial.report(mean, rounds * training.eval_every)
                if trial.should_prune():
                    raise TrialPruned
            return metrics

        return validate

    seed_everything(seed)
    built = getattr(models, base).from_data(data[0], **{**fixed, **args})
    readings = fit_readings(
        built,
        {str(index): validation(index) for index in range(len(data))},
        epochs=training.epochs,
        eval_every=training.eval_every,
        patience=training.patience,
        metric=metric,
        device=device,
        progress=False,
    )
    values = [reading.result.best_metric for reading in readings.values()]
    if not all(map(math.isfinite, values)):
        raise NonFiniteLossError(f"The validation metric '{metric}' is not finite")
    return values


def _write_preset(path: Path, args: dict[str, Any], origin: str) -> None:
    lines = [f'# {origin}']
    # Numbers, strings and lists of them look the same in JSON and TOML.
    lines += [f'{key} = {json.dumps(value)}' for key, value in args.items()]
    temporary = path.with_name(f'.{path.name}')
    temporary.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    temporary.replace(path)
