r"""Hyper-parameter search on validation, with Optuna."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

import click
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_diffrec import models
from pyg_diffrec.bench.data import build_dataset, check_dataset
from pyg_diffrec.bench.environment import out_of_memory
from pyg_diffrec.bench.files import clear_leftovers, lock_folder, write_whole
from pyg_diffrec.bench.suite import Training, check_metric
from pyg_diffrec.evaluation import Protocol, evaluate
from pyg_diffrec.models import MODELS, VARIANTS, preset
from pyg_diffrec.models.hyper_parameters import check_hyper_parameters
from pyg_diffrec.resolver import unknown
from pyg_diffrec.training import NonFiniteLossError, fit_readings
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.toml import read_toml

_FOLDER = Path(models.__file__).parent / 'spaces'


class _RefusedError(ValueError):
    r"""A model refuses hyper-parameters that others of the space may stand in for."""


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
    those that are already there, and the others are what they would have been without
    a stop. From the fifth trial on, those whose validations
    stay below the median of the others at the same epoch are stopped early. Trials
    that diverge, do not fit into memory or are refused by the model count as failed,
    with a message; a search that is started again tries them again. All other errors
    end the search.

    With several :obj:`roles` a trial is trained once and validated under each; a
    preset per role is the best by its own validation. The search itself is guided
    by the mean.

    Args:
        model (str): The name of the model or variant.
        dataset (dict): The dataset's :obj:`name` and arguments.
        trials (int): The number of trials.
        out (Path): The folder of the study and the preset.
        metric (str, optional): The validation metric, one of which higher is better.
            (default: :obj:`'Recall@20'`)
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
            is unknown or does not suit the space, the metric cannot choose, the
            dataset lacks what the model needs, another search is running in the
            folder, the journal is damaged, or no trial succeeded.
        OSError: If the folder cannot be written to.
        ImportError: If Optuna is not installed.
    """
    check_whole('tune', trials=trials)
    check_whole('tune', minimum=0, seed=seed)
    space = load_space(model)
    first = [_start(model, name, space) for name in dict.fromkeys(start)]
    check_metric(metric, 'tune')
    datasets = [{**dataset, 'roles': role} for role in roles] or [dataset]
    for spec in datasets:
        check_dataset(spec)
    try:
        import optuna
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
    training = Training()
    if epochs is not None:
        training = replace(training, epochs=epochs)
    with lock_folder(out, 'search'):
        clear_leftovers(out)
        data = [build_dataset(spec, data_root, out / 'data') for spec in datasets]
        for graph in data:
            # Wrong for the most popular items is wrong for every model.
            popular = models.MostPopular.from_data(graph)
            evaluate(popular, graph, 'val', [metric], Protocol())
        study = _open_study(
            out / f'{name}.journal', f'{name}-{metric}-{training.epochs}-seed{seed}'
        )
        if not study.trials and 'start' not in study.user_attrs:
            study.set_user_attr('start', first)
        search = _Search(model, space, data, metric, seed, device, training, study)
        failed = ''
        for place, note, args in search.run(trials):
            failed = note if note.startswith('failed') else failed
            echo(f'[{place + 1}/{trials}] {note} {args}')
        done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        if not done:
            raise ValueError(
                f"No trial of '{name}' succeeded: nothing to choose from; the last "
                f'one {failed}'
            )
        paths = []
        for index, (name, spec) in enumerate(zip(names, datasets)):
            values = [trial.user_attrs['values'][index] for trial in done]
            value = max(values)
            best = done[values.index(value)]
            args = suggest(optuna.trial.FixedTrial(best.params), space)
            paths.append(out / f'{name}.toml')
            origin = f'{metric} {value:.4f} on validation of {spec}'
            _write_preset(paths[-1], args, origin)
            echo(f'best of {len(done)}: {metric} {value:.4f} {args}\nwrote {paths[-1]}')
        return paths


def _open_study(path: Path, name: str) -> Any:
    r"""The study of a journal, which is begun if there is none."""
    import optuna

    from pyg_diffrec.bench.journal import Journal

    # Versions before this one had Optuna's lock: it stayed behind if they were killed.
    path.with_name(f'{path.name}.lock').unlink(missing_ok=True)
    journal = Journal(path)
    try:
        return optuna.create_study(
            study_name=name,
            storage=optuna.storages.JournalStorage(journal),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=10),
            direction='maximize',
            load_if_exists=True,
        )
    except (
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"'{path}' is not a journal of a search ({type(error).__name__}: {error}): "
            f'remove the file to start over'
        ) from error


def _start(model: str, name: str, space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    r"""A preset as the parameters of a trial."""
    args = preset(model, name)
    missing = [key for key in space if key not in args]
    if missing:
        raise ValueError(
            f"Preset '{name}' of '{model}' cannot start a search: it lacks {missing} "
            f'of the search space'
        )
    for key, entry in space.items():
        choices = entry.get('choices', [args[key]])
        if json.dumps(args[key]) not in map(json.dumps, choices):
            raise ValueError(
                f"Preset '{name}' of '{model}' cannot start a search: its '{key}' is "
                f'{args[key]!r}, where the search space has {choices}'
            )
    return {
        key: json.dumps(args[key]) if 'choices' in entry else args[key]
        for key, entry in space.items()
    }


class _Search:
    r"""Runs the trials of a study by their place in it: a trial that was interrupted
    or that failed leaves its place to another, whatever numbers Optuna gives them.

    Args:
        model (str): The name of the model or variant.
        space (dict): Its search space.
        data (list): The graph of each reading.
        metric (str): The validation metric.
        seed (int): The seed of the search and of every trial.
        device (str): Where to train.
        training (Training): How long to train.
        study (optuna.Study): The study.
    """

    def __init__(
        self,
        model: str,
        space: dict[str, dict[str, Any]],
        data: list[HeteroData],
        metric: str,
        seed: int,
        device: str,
        training: Training,
        study: Any,
    ) -> None:
        import optuna

        self.model = model
        self.space = space
        self.data = data
        self.metric = metric
        self.seed = seed
        self.device = device
        self.training = training
        self.study = study
        # A sampler's random state is not kept with a study. Here all that the study
        # has drawn is drawn again, place by place, with the results before it.
        sampler = optuna.samplers.TPESampler(seed=seed)
        self.replay = optuna.create_study(sampler=sampler, direction='maximize')
        # Whether the model took some hyper-parameters on this data.
        self.accepted = False

    def run(self, trials: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
        r"""Runs what is left of so many trials. Yields the place of each, how it went
        and its hyper-parameters."""
        from optuna.trial import TrialState

        ended = self.study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
        done = {trial.user_attrs.get('place', trial.number): trial for trial in ended}
        self.accepted = len(done) > 0
        first = self.study.user_attrs.get('start', [])
        for place in range(trials):
            params = first[place] if place < len(first) else self._draw()
            if place in done:
                self.replay.add_trial(done[place])
                continue
            trial, note, args = self._try(place, params)
            if trial.state != TrialState.FAIL:
                self.replay.add_trial(trial)
            yield place, note, args

    def _draw(self) -> dict[str, Any]:
        from optuna.trial import TrialState

        trial = self.replay.ask()
        suggest(trial, self.space)
        # Its result is added once it is there.
        self.replay.tell(trial, state=TrialState.FAIL)
        return trial.params

    def _try(
        self, place: int, params: dict[str, Any]
    ) -> tuple[Any, str, dict[str, Any]]:
        from optuna import TrialPruned
        from optuna.samplers import PartialFixedSampler, RandomSampler
        from optuna.trial import TrialState

        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # It is called experimental.
            self.study.sampler = PartialFixedSampler(params, RandomSampler())
        trial = self.study.ask()
        trial.set_user_attr('place', place)
        args = suggest(trial, self.space)
        try:
            values = self._objective(trial, args)
        except TrialPruned:
            return (
                self.study.tell(trial, state=TrialState.PRUNED),
                'stopped early',
                args,
            )
        except Exception as error:
            # What a hyper-parameter may be the cause of is a failed trial, all else
            # ends the search.
            curable = isinstance(error, (NonFiniteLossError, _RefusedError))
            if not curable and not out_of_memory(error):
                raise
            note = f'failed: {error}'
            return self.study.tell(trial, state=TrialState.FAIL), note, args
        trial.set_user_attr('values', values)
        note = f'{self.metric} {", ".join(f"{value:.4f}" for value in values)}'
        return self.study.tell(trial, sum(values) / len(values)), note, args

    def _objective(self, trial: Any, args: dict[str, Any]) -> list[float]:
        r"""The best validation under each reading of the data."""
        from optuna import TrialPruned

        curves: list[list[float]] = [[] for _ in self.data]

        def validation(index: int) -> Callable[[Any], dict[str, float]]:
            def validate(built: Any) -> dict[str, float]:
                data = self.data[index]
                metrics = evaluate(built, data, 'val', [self.metric], Protocol())
                curves[index].append(metrics[self.metric])
                rounds = len(curves[index])
                # Whether all readings are validated, and go on.
                if all(len(curve) == rounds for curve in curves):
                    mean = sum(curve[-1] for curve in curves) / len(curves)
                    trial.report(mean, rounds * self.training.eval_every)
                    if trial.should_prune():
                        raise TrialPruned
                return metrics

            return validate

        seed_everything(self.seed)
        readings = fit_readings(
            self._build(args),
            {str(index): validation(index) for index in range(len(self.data))},
            epochs=self.training.epochs,
            eval_every=self.training.eval_every,
            patience=self.training.patience,
            metric=self.metric,
            device=self.device,
            progress=False,
        )
        values = [reading.result.best_metric for reading in readings.values()]
        if not all(map(math.isfinite, values)):
            raise NonFiniteLossError(
                f"The validation metric '{self.metric}' is not finite"
            )
        return values

    def _build(self, args: dict[str, Any]) -> Any:
        r"""Builds the model, or says that it refuses these hyper-parameters."""
        base, fixed = VARIANTS.get(self.model, (self.model, {}))
        cls = getattr(models, base)
        try:
            built = cls.from_data(self.data[0], **{**fixed, **args})
        except ValueError as error:
            # What the model never took and refuses with its defaults too, no
            # hyper-parameter cures.
            if not self.accepted:
                cls.from_data(self.data[0], **fixed)
            raise _RefusedError(str(error)) from error
        self.accepted = True
        return built


def _write_preset(path: Path, args: dict[str, Any], origin: str) -> None:
    lines = [f'# {origin}']
    # Numbers, strings and lists of them look the same in JSON and TOML.
    lines += [f'{key} = {json.dumps(value)}' for key, value in args.items()]
    write_whole(path, ('\n'.join(lines) + '\n').encode())
