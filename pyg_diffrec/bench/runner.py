r"""Runs a suite: every model on every dataset with every seed."""

import gc
import hashlib
import json
import math
import time
import traceback
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

import click
import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_diffrec import models
from pyg_diffrec.bench.data import build_dataset
from pyg_diffrec.bench.environment import (
    PeakMemory,
    commit,
    out_of_memory,
    versions,
)
from pyg_diffrec.bench.files import clear_leftovers
from pyg_diffrec.bench.results import ResultsFile
from pyg_diffrec.bench.suite import ModelSpec, Suite
from pyg_diffrec.evaluation import (
    Protocol,
    measure,
    measure_groups,
    parse_metric,
    rank,
)
from pyg_diffrec.training import FitResult, NonFiniteLossError, fit_readings
from pyg_diffrec.typing import Split

Record = dict[str, Any]

# What decides a training; the rest of an identity is what is measured of it.
_TRAINED = ['model', 'hyper_parameters', 'grid', 'dataset', 'seed', 'metric']
_TRAINED += ['training']
# Seconds between two lines on a training, where there is no progress bar.
_LINE_EVERY = 60.0


@dataclass(frozen=True)
class Run:
    r"""One line of the results: a model, a dataset and a seed."""

    suite: Suite
    dataset: dict[str, Any]
    model: ModelSpec
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        r"""All that decides the numbers, apart from the code."""
        parts = {
            'model': self.model.name,
            'hyper_parameters': self.model.args,
            'grid': self.model.grid,
            'dataset': self.dataset,
            'seed': self.seed,
            'metric': self.suite.metric,
            'metrics': self.suite.metrics,
            'protocols': [asdict(protocol) for protocol in self.protocols],
            'training': self.training,
        }
        if self.suite.best_on_test:
            parts['best_on_test'] = True
        if self.suite.user_groups:
            parts['user_groups'] = self.suite.user_groups
        return parts

    @property
    def protocols(self) -> list[Protocol]:
        return self.suite.protocols_of(self.dataset)

    @property
    def training(self) -> dict[str, Any]:
        r"""How long the model trains: arguments of
        :meth:`~pyg_diffrec.training.fit`."""
        return {**asdict(self.suite.training), **self.model.training}

    @property
    def key(self) -> str:
        return _digest(self.identity)

    def trainings(self) -> Iterator[tuple[str, dict[str, Any]]]:
        r"""The hyper-parameters of each combination of the grid, and what names its
        training: all that decides the weights of an epoch. Scoring and the roles of
        validation and test do not."""
        cls = getattr(models, self.model.name)
        for args in self.model.points():
            scoring = cls.scoring_arguments(args)
            parts = {
                'model': self.model.name,
                'hyper_parameters': {k: v for k, v in args.items() if k not in scoring},
                'dataset': {**self.dataset, 'roles': None},
                'seed': self.seed,
                'metric': self.suite.metric,
                'training': self.training,
            }
            yield _digest(parts), args

    def __str__(self) -> str:
        dataset = ' '.join(str(value) for value in self.dataset.values())
        return f'{self.model.label} on {dataset}, seed {self.seed}'


def _digest(parts: dict[str, Any]) -> str:
    # What JSON does not have is refused before it is run.
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(suite: Suite) -> Iterator[Run]:
    r"""All runs of a suite, each once. Models that do not depend on a seed run with the
    first."""
    seen = set()
    for index, dataset in enumerate(suite.datasets):
        for spec in (spec.on(index) for spec in suite.models):
            deterministic = getattr(models, spec.name).deterministic
            for seed in suite.seeds[:1] if deterministic else suite.seeds:
                run = Run(suite, dataset, spec, seed)
                if (run.key, spec.label) not in seen:
                    seen.add((run.key, spec.label))
                    yield run


def finished(runs: Sequence[Run], records: Sequence[Record]) -> dict[str, Record]:
    r"""The records of those runs that need not be run: by the key of the run, its own
    record, or else one of the same training that measured the same and more."""
    by_key = {record['key']: record for record in records}
    by_rest: dict[str, list[Record]] = {}
    for record in records:
        rest = {key: record[key] for key in _TRAINED}
        by_rest.setdefault(_digest(rest), []).append(record)
    out = {}
    for run in runs:
        identity = run.identity
        rest = {key: identity[key] for key in _TRAINED}
        others = [x for x in by_rest.get(_digest(rest), []) if _covers(x, identity)]
        found = by_key.get(run.key, others[0] if others else None)
        if found is not None:
            out[run.key] = found
    return out


def _covers(record: Record, identity: Record) -> bool:
    r"""Whether a record of the same training holds all that a run measures."""
    protocols = identity['protocols']
    return (
        set(identity['metrics']) <= set(record['metrics'])
        and all(protocol in record['protocols'] for protocol in protocols)
        # Validation and the best epoch on test go by the first.
        and protocols[0] == record['protocols'][0]
        and bool(record.get('best_on_test')) >= bool(identity.get('best_on_test'))
        and identity.get('user_groups') in (None, record.get('user_groups'))
    )


def recorded(suite: Suite, records: Sequence[Record]) -> list[Record]:
    r"""All records of a suite, of whatever seeds, under its labels and in its order."""
    seeds = dict.fromkeys([*suite.seeds, *sorted({x['seed'] for x in records})])
    out = []
    for seed in seeds:
        runs = list(plan(replace(suite, seeds=[seed])))
        done = finished(runs, records)
        out += [
            (i, run, done[run.key]) for i, run in enumerate(runs) if run.key in done
        ]
    out.sort(key=lambda x: x[0])
    found, deterministic = [], set()
    for _, run, record in out:
        name = (run.model.label, _digest(run.dataset))
        # Another seed would be another row of the same numbers.
        if record['deterministic'] and name in deterministic:
            continue
        deterministic.add(name)
        found.append({**record, 'label': run.model.label})
    return found


def run_suite(
    suite: Suite,
    out: Path,
    *,
    data_root: Optional[Path] = None,
    device: str = 'cpu',
    resume: bool = True,
    progress: bool = True,
    echo: Callable[[str], None] = click.echo,
) -> tuple[list[Record], list[str]]:
    r"""Runs what is not yet among the results, and records each run at once. A run that
    fails does not keep the others from running; what is wrong with the machine, such as
    a full disk, ends all.

    Args:
        suite (Suite): The suite.
        out (Path): The folder of :obj:`results.jsonl`, checkpoints and processed
            datasets.
        data_root (Path, optional): The folder with one folder of raw files per
            dataset. (default: :obj:`None`)
        device (str, optional): Where to train. (default: :obj:`'cpu'`)
        resume (bool, optional): Whether to use finished runs and checkpoints; else
            new records take the place of those of the same run.
            (default: :obj:`True`)
        progress (bool, optional): Whether to show progress bars; without them there
            is a line a minute. (default: :obj:`True`)
        echo (Callable, optional): Receives messages.

    Returns:
        The records of all runs of the suite, and what went wrong with those that
        failed.

    Raises:
        ValueError: If the results cannot be read, another bench is running in the
            folder, or there is but one dataset and it is not as it should be.
        OSError: If the folder cannot be written to.
    """
    results = ResultsFile(out / 'results.jsonl')
    runs = list(plan(suite))
    with results.lock():
        clear_leftovers(out, '.results-*')
        clear_leftovers(out / 'checkpoints', '.*.pt.*')
        done = finished(runs, results.load()) if resume else {}
        datasets = _Datasets(suite, data_root, out / 'data', echo)
        bench = _Bench(runs, datasets, out, device, resume, progress, echo)
        bench.run_all(done, results)
    # A record may come from a suite that called the model otherwise.
    records = [
        {**done[run.key], 'label': run.model.label} for run in runs if run.key in done
    ]
    return records, bench.failures


class _Datasets:
    r"""The datasets of a suite, loaded when they are first asked for. Those that
    differ in their roles alone are kept together."""

    def __init__(
        self,
        suite: Suite,
        data_root: Optional[Path],
        cache: Path,
        echo: Callable[[str], None],
    ) -> None:
        self.suite = suite
        self.data_root = data_root
        self.cache = cache
        self.echo = echo
        self.loaded: list[tuple[dict[str, Any], HeteroData]] = []

    def __call__(self, spec: dict[str, Any]) -> HeteroData:
        for other, data in self.loaded:
            if other == spec:
                return data
        data = build_dataset(spec, self.data_root, self.cache)
        for protocol in self.suite.protocols_of(spec):
            protocol.check(data)
            self.echo(f'protocol: {protocol.describe(data)}')
        same = [x for x in self.loaded if _same_files(x[0], spec)]
        self.loaded = [*same, (spec, data)]
        return data


def _same_files(a: dict[str, Any], b: dict[str, Any]) -> bool:
    r"""Whether two datasets differ at most in their roles."""
    return {**a, 'roles': None} == {**b, 'roles': None}


def _bundle(runs: list[Run]) -> list[Run]:
    r"""The first run, and those that share a training with it or with each other."""
    trainings = [{key for key, _ in run.trainings()} for run in runs]
    keys, before = set(trainings[0]), set[str]()
    while keys != before:
        before = set(keys)
        for own in trainings:
            if own & keys:
                keys |= own
    return [run for run, own in zip(runs, trainings) if own & keys]


class _FailedError(Exception):
    r"""Some runs of a bundle cannot be finished, because of an error."""

    def __init__(self, runs: list[Run], error: Exception) -> None:
        super().__init__(str(error))
        self.runs = runs
        self.error = error


@contextmanager
def _blame(runs: list[Run]) -> Iterator[None]:
    r"""Says whose errors they are. Those of the operating system are nobody's."""
    try:
        yield
    except (_FailedError, OSError):
        raise
    except Exception as error:
        raise _FailedError(runs, error) from error


@dataclass
class _Best:
    r"""The best combination of a run so far, by validation."""

    value: float
    model: Any
    state: Optional[dict[str, Any]]
    args: dict[str, Any]
    result: FitResult
    training: str


class _Bench:
    r"""Runs the runs of a suite, those together that share a training."""

    def __init__(
        self,
        runs: list[Run],
        datasets: _Datasets,
        out: Path,
        device: str,
        resume: bool,
        progress: bool,
        echo: Callable[[str], None],
    ) -> None:
        self.runs = runs
        self.datasets = datasets
        self.out = out
        self.device = device
        self.resume = resume
        self.progress = progress
        self.echo = echo
        self.failures: list[str] = []
        # Asked for before anything runs: that is the code that will have run.
        self.code = {'versions': versions(), 'commit': commit()}

    def run_all(self, done: dict[str, Record], results: ResultsFile) -> None:
        r"""Runs what is not done, and adds it there and to the results."""
        left: list[Run] = []
        for run in self.runs:
            if run.key in done:
                self.echo(f'{self._name(run)}: already there')
            elif run.key not in [other.key for other in left]:
                left.append(run)
        left = [run for run in left if self._can_be_recorded(run)]
        begin, number = time.perf_counter(), len(left)
        while left:
            bundle = _bundle(left)
            left = [run for run in left if run not in bundle]
            try:
                self.datasets(bundle[0].dataset)
            except Exception as error:
                if all(run.dataset == bundle[0].dataset for run in self.runs):
                    raise
                same = [x for x in left if x.dataset == bundle[0].dataset]
                left = [x for x in left if x.dataset != bundle[0].dataset]
                self._fail([*bundle, *same], error)
                continue
            for run in bundle:
                shared = ', from the same training' if run is not bundle[0] else ''
                self.echo(f'{self._name(run)}{shared}')
            try:
                records = self._execute(bundle)
            except _FailedError as failed:
                self._fail(failed.runs, failed.error)
                # What the others need for themselves is trained without the failed.
                left = [*(run for run in bundle if run not in failed.runs), *left]
                continue
            for run, record in zip(bundle, records):
                results.append(record)
                done[run.key] = record
                self.echo(f'{self._name(run)}: {_result(record)}')
            if left:
                ended = number - len(left)
                seconds = (time.perf_counter() - begin) / ended * len(left)
                self.echo(f'{len(left)} to go, about {_duration(seconds)} at this pace')

    def _name(self, run: Run) -> str:
        return f'[{self.runs.index(run) + 1}/{len(self.runs)}] {run}'

    def _can_be_recorded(self, run: Run) -> bool:
        r"""Looks at what would be written before there is any work in it."""
        try:
            _check_recordable(run.identity)
        except ValueError as error:
            self._fail([run], error)
            return False
        return True

    def _fail(self, runs: list[Run], error: Exception) -> None:
        kinds = (TypeError, ValueError, NonFiniteLossError, OSError)
        expected = isinstance(error, kinds)
        reason = str(error)
        if not (expected or out_of_memory(error)) or not reason:
            reason = f'{type(error).__name__}: {error}'
            self.echo(''.join(traceback.format_exception(error)).rstrip())
        for run in runs:
            self.failures.append(f'{run}: {reason}')
            self.echo(f'{run} failed: {reason}')
        # The frames of the error hold what may have filled the memory.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        if self.device.startswith('cuda'):
            torch.cuda.empty_cache()

    def _execute(self, bundle: list[Run]) -> list[Record]:
        by_training: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
        for run in bundle:
            with _blame([run]):
                for key, args in run.trainings():
                    by_training.setdefault(key, []).append((run, args))
        best: dict[str, _Best] = {}
        on_test: dict[str, _Best] = {}
        tried: dict[str, list[dict[str, Any]]] = {run.key: [] for run in bundle}
        seconds = time.perf_counter()
        records = []
        with PeakMemory(self.device) as memory:
            for training, readings in by_training.items():
                with _blame([run for run, _ in readings]):
                    trained = self._train(training, readings)
                for run, split, found in trained:
                    if split == 'test':
                        if (
                            run.key not in on_test
                            or found.value > on_test[run.key].value
                        ):
                            on_test[run.key] = found
                        continue
                    tried[run.key].append(
                        {'hyper_parameters': found.args, run.suite.metric: found.value}
                    )
                    if run.key not in best or found.value > best[run.key].value:
                        best[run.key] = found
            for run in bundle:
                with _blame([run]):
                    # The only look at the test interactions that counts, once per
                    # history.
                    chosen = best[run.key]
                    if chosen.state is not None:
                        chosen.model.load_state_dict(chosen.state)
                    data = self.datasets(run.dataset)
                    record = _record(run, data, chosen, tried[run.key])
                    record |= _test(run, data, chosen.model)
                    if run.key in on_test:
                        record['best_on_test'] = _selected(run, on_test[run.key].result)
                    _check_recordable(record)
                records.append(record)
        chosen_trainings = {found.training for found in best.values()}
        for training in set(by_training) - chosen_trainings:
            self._checkpoint(training, by_training[training]).unlink(missing_ok=True)
        shared = [run.key for run in bundle]
        for record in records:
            record |= {
                'seconds_total': time.perf_counter() - seconds,
                'trained_with': [key for key in shared if key != record['key']],
                'peak_memory_bytes': memory.bytes,
                'peak_memory_source': memory.source,
                'device': self.device,
                'threads': torch.get_num_threads(),
                **self.code,
                'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            }
        return records

    def _checkpoint(
        self, training: str, readings: list[tuple[Run, dict[str, Any]]]
    ) -> Path:
        r"""The checkpoint of a training; other readings of it have another one."""
        runs = [[run.key, args] for run, args in readings]
        name = _digest({'training': training, 'runs': runs})
        return self.out / 'checkpoints' / f'{name}.pt'

    def _train(
        self, training: str, readings: list[tuple[Run, dict[str, Any]]]
    ) -> list[tuple[Run, Split, _Best]]:
        r"""Trains once for all readings, each of which chooses its own epoch."""
        first, args = readings[0]
        checkpoint = self._checkpoint(training, readings)
        if not self.resume:
            checkpoint.unlink(missing_ok=True)
        cls, data = getattr(models, first.model.name), self.datasets(first.dataset)
        seed_everything(first.seed)
        model = cls.from_data(data, **args)
        names = cls.scoring_arguments(args)
        entries: list[tuple[Run, dict[str, Any], Any, Split]] = []
        validate = {}
        for run, own in readings:
            with _blame([run]):
                view = model.rescored(**{key: own[key] for key in names if key in own})
            splits: list[Split] = ['val', 'test'] if run.suite.best_on_test else ['val']
            for split in splits:
                entries.append((run, own, view, split))
                name = f'{run.key} {json.dumps(own)} {split}'
                validate[name] = self._validation(view, run, split)
        fitted = fit_readings(
            model,
            validate,
            **first.training,
            metric=first.suite.metric,
            checkpoint=checkpoint,
            resume=self.resume,
            device=self.device,
            progress=self.progress,
        )
        out = []
        for (run, own, view, split), x in zip(entries, fitted.values()):
            result = x.result
            best = _Best(result.best_metric, view, x.best_state, own, result, training)
            out.append((run, split, best))
        return out

    def _validation(self, view: Any, run: Run, split: Split) -> Callable[[Any], Any]:
        r"""Measures the metric that chooses, and the others where it is the best."""
        suite = run.suite
        with _blame([run]):
            data = self.datasets(run.dataset)
        k = max(parse_metric(metric)[1] for metric in suite.metrics)
        protocol, metric = run.protocols[0], suite.metric
        others = [x for x in suite.metrics if x != metric]
        best, count = -math.inf, 0
        said = time.monotonic()

        def validate(model: Any) -> dict[str, float]:
            nonlocal best, count, said
            with _blame([run]):
                users, items = rank(view, data, split, k, protocol)
                found = measure(items, users, data, split, [metric], protocol)
                value = found[metric]
                if not math.isfinite(value):
                    raise NonFiniteLossError(
                        f"The metric '{metric}' of '{split}' became {value}"
                    )
                if value > best:
                    best = value
                    if others:
                        found |= measure(items, users, data, split, others, protocol)
            count += 1
            now = time.monotonic()
            if not self.progress and split == 'val' and now - said > _LINE_EVERY:
                said = now
                self.echo(
                    f'{self._name(run)}: {metric} {value:.4f}, best {best:.4f}, '
                    f'validation {count} since the start'
                )
            return found

        return validate


def _result(record: Record) -> str:
    r"""One line on a finished run."""
    metric = record['metric']
    parts = [f'{metric} {record["validation"][metric]:.4f} on validation']
    if record['num_epochs']:
        parts[0] += f' at epoch {record["selected_epoch"]} of {record["num_epochs"]}'
    for history, values in record['test'].items():
        parts.append(f'{values[metric]:.4f} on test with history = {history}')
    return ', '.join([*parts, _duration(record['seconds_total'])])


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f'{seconds:.0f} s'
    if seconds < 6000:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'


def _selected(run: Run, result: FitResult) -> dict[str, float]:
    record = next(x for x in result.curve if x['epoch'] == result.best_epoch)
    return {key: record[key] for key in ['epoch', *run.suite.metrics]}


def _test(run: Run, data: HeteroData, model: Any) -> dict[str, Any]:
    r"""The test metrics by history, and those of groups of users."""
    suite = run.suite
    k = max(parse_metric(metric)[1] for metric in suite.metrics)
    test, groups = {}, {}
    for protocol in run.protocols:
        users, items = rank(model, data, 'test', k, protocol)
        test[protocol.history] = measure(
            items, users, data, 'test', suite.metrics, protocol
        )
        if suite.user_groups:
            groups[protocol.history] = measure_groups(
                items, users, data, 'test', suite.metrics, suite.user_groups, protocol
            )
    return {'test': test, 'groups': groups} if groups else {'test': test}


def _record(
    run: Run, data: HeteroData, best: _Best, tried: list[dict[str, Any]]
) -> dict[str, Any]:
    suite, result = run.suite, best.result
    selected = _selected(run, result)
    return {
        'key': run.key,
        **run.identity,
        'suite': suite.name,
        'label': run.model.label,
        'chosen': best.args,
        'tried': tried if run.model.grid else [],
        'protocol': {p.history: p.describe(data) for p in run.protocols},
        'selected_epoch': result.best_epoch,
        'num_epochs': result.num_epochs,
        'validation': {metric: selected[metric] for metric in suite.metrics},
        'curve': [
            {'epoch': x['epoch'], suite.metric: x[suite.metric]} for x in result.curve
        ],
        'deterministic': best.model.deterministic,
        'seconds_per_epoch': result.seconds_per_epoch,
        'seconds_per_evaluation': result.seconds_per_evaluation,
    }


def _check_recordable(value: Any, where: str = '') -> None:
    r"""Refuses what JSON does not have, wherever it is."""
    entries: Any = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, (list, tuple)):
        entries = enumerate(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"'{where}' is {value}, which cannot be recorded")
    elif value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"'{where}' is {value!r}, which cannot be recorded")
    for key, entry in entries:
        _check_recordable(entry, f'{where}.{key}' if where else str(key))
