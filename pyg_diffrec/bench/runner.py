r"""Runs a suite: every model on every dataset with every seed."""

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import click
import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_diffrec import models
from pyg_diffrec.bench.data import build_dataset
from pyg_diffrec.bench.environment import PeakMemory, commit, versions
from pyg_diffrec.bench.results import ResultsFile
from pyg_diffrec.bench.suite import ModelSpec, Suite
from pyg_diffrec.evaluation import (
    Protocol,
    evaluate,
    measure,
    measure_groups,
    parse_metric,
    rank,
)
from pyg_diffrec.training import FitResult, NonFiniteLossError, fit_readings
from pyg_diffrec.typing import Split


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
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(suite: Suite) -> Iterator[Run]:
    r"""All runs of a suite. Models that do not depend on a seed run with the first."""
    for index, dataset in enumerate(suite.datasets):
        for spec in (spec.on(index) for spec in suite.models):
            deterministic = getattr(models, spec.name).deterministic
            for seed in suite.seeds[:1] if deterministic else suite.seeds:
                yield Run(suite, dataset, spec, seed)


def run_suite(
    suite: Suite,
    out: Path,
    *,
    data_root: Optional[Path] = None,
    device: str = 'cpu',
    resume: bool = True,
    progress: bool = True,
    echo: Callable[[str], None] = click.echo,
) -> tuple[list[dict[str, Any]], list[str]]:
    r"""Runs what is not yet among the results, and records each run at once.

    Args:
        suite (Suite): The suite.
        out (Path): The folder of :obj:`results.jsonl`, checkpoints and processed
            datasets.
        data_root (Path, optional): The folder with one folder of raw files per
            dataset. (default: :obj:`None`)
        device (str, optional): Where to train. (default: :obj:`'cpu'`)
        resume (bool, optional): Whether to use finished runs and checkpoints.
            (default: :obj:`True`)
        progress (bool, optional): Whether to show progress bars.
            (default: :obj:`True`)
        echo (Callable, optional): Receives messages.

    Returns:
        The records of all runs of the suite, and what went wrong with those that
        failed.
    """
    results, failures = ResultsFile(out / 'results.jsonl'), []
    runs = list(plan(suite))
    data = _Datasets(suite, data_root, out / 'data', echo)
    with results.lock():
        done = {record['key']: record for record in results.load()} if resume else {}
        left = []
        for number, run in enumerate(runs, start=1):
            if run.key in done:
                echo(f'[{number}/{len(runs)}] {run}: already there')
            else:
                left.append(run)
        while left:
            bundle = _bundle(left)
            left = [run for run in left if run not in bundle]
            for run in bundle:
                shared = ', from the same training' if run is not bundle[0] else ''
                echo(f'[{runs.index(run) + 1}/{len(runs)}] {run}{shared}')
            try:
                records = _execute(bundle, data, out, device, resume, progress)
            except (MemoryError, NonFiniteLossError) as error:
                for run in bundle:
                    failures.append(f'{run}: {error}')
                    echo(f'{run} failed: {error}')
                continue
            for record in records:
                results.append(record)
                done[record['key']] = record
    # A record may come from a suite that called the model otherwise.
    records = [
        {**done[run.key], 'label': run.model.label} for run in runs if run.key in done
    ]
    return records, failures


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
        same = [
            x for x in self.loaded if {**x[0], 'roles': ''} == {**spec, 'roles': ''}
        ]
        self.loaded = [*same, (spec, data)]
        return data


def _same_graph(a: dict[str, Any], b: dict[str, Any]) -> bool:
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


@dataclass
class _Best:
    r"""The best combination of a run so far, by validation."""

    value: float
    model: Any
    state: Optional[dict[str, Any]]
    args: dict[str, Any]
    result: FitResult
    training: str


def _execute(
    bundle: list[Run],
    datasets: _Datasets,
    out: Path,
    device: str,
    resume: bool,
    progress: bool,
) -> list[dict[str, Any]]:
    by_training: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for run in bundle:
        for key, args in run.trainings():
            by_training.setdefault(key, []).append((run, args))
    best: dict[str, _Best] = {}
    on_test: dict[str, _Best] = {}
    tried: dict[str, list[dict[str, Any]]] = {run.key: [] for run in bundle}
    seconds = time.perf_counter()
    records = []
    with PeakMemory(device) as memory:
        for training, readings in by_training.items():
            for run, split, found in _train(
                training, readings, datasets, out, device, resume, progress
            ):
                if split == 'test':
                    if run.key not in on_test or found.value > on_test[run.key].value:
                        on_test[run.key] = found
                    continue
                tried[run.key].append(
                    {'hyper_parameters': found.args, run.suite.metric: found.value}
                )
                if run.key not in best or found.value > best[run.key].value:
                    best[run.key] = found
        for run in bundle:
            # The only look at the test interactions that counts, once per history.
            chosen = best[run.key]
            if chosen.state is not None:
                chosen.model.load_state_dict(chosen.state)
            data = datasets(run.dataset)
            record = _record(run, data, chosen, tried[run.key])
            record |= _test(run, data, chosen.model)
            if run.key in on_test:
                record['best_on_test'] = _selected(run, on_test[run.key].result)
            records.append(record)
    chosen_trainings = {found.training for found in best.values()}
    for training in set(by_training) - chosen_trainings:
        _checkpoint(out, training, by_training[training]).unlink(missing_ok=True)
    shared = [run.key for run in bundle]
    for record in records:
        record |= {
            'seconds_total': time.perf_counter() - seconds,
            'trained_with': [key for key in shared if key != record['key']],
            'peak_memory_bytes': memory.bytes,
            'peak_memory_source': memory.source,
            'device': device,
            'threads': torch.get_num_threads(),
            'versions': versions(),
            'commit': commit(),
            'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        }
        _refuse_non_finite(record)
    return records


def _checkpoint(
    out: Path, training: str, readings: list[tuple[Run, dict[str, Any]]]
) -> Path:
    r"""The checkpoint of a training; other readings of it have another one."""
    parts = {'training': training, 'runs': [[run.key, args] for run, args in readings]}
    return out / 'checkpoints' / f'{_digest(parts)}.pt'


def _train(
    training: str,
    readings: list[tuple[Run, dict[str, Any]]],
    datasets: _Datasets,
    out: Path,
    device: str,
    resume: bool,
    progress: bool,
) -> list[tuple[Run, Split, _Best]]:
    r"""Trains once for all readings, each of which chooses its own epoch."""
    first, args = readings[0]
    checkpoint = _checkpoint(out, training, readings)
    if not resume:
        checkpoint.unlink(missing_ok=True)
    cls, data = getattr(models, first.model.name), datasets(first.dataset)
    seed_everything(first.seed)
    model = cls.from_data(data, **args)
    names = cls.scoring_arguments(args)
    entries: list[tuple[Run, dict[str, Any], Any, Split]] = []
    validate = {}
    for run, own in readings:
        view = model.rescored(**{key: own[key] for key in names if key in own})
        splits: list[Split] = ['val', 'test'] if run.suite.best_on_test else ['val']
        for split in splits:
            entries.append((run, own, view, split))
            validate[f'{run.key} {json.dumps(own)} {split}'] = _validation(
                view, run, datasets, split
            )
    fitted = fit_readings(
        model,
        validate,
        **first.training,
        metric=first.suite.metric,
        checkpoint=checkpoint,
        resume=resume,
        device=device,
        progress=progress,
    )
    return [
        (
            run,
            split,
            _Best(x.result.best_metric, view, x.best_state, own, x.result, training),
        )
        for (run, own, view, split), x in zip(entries, fitted.values())
    ]


def _validation(
    view: Any, run: Run, datasets: _Datasets, split: Split
) -> Callable[[Any], Any]:
    suite, data = run.suite, datasets(run.dataset)
    return lambda model: evaluate(view, data, split, suite.metrics, run.protocols[0])


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


def _refuse_non_finite(record: dict[str, Any]) -> None:
    for history, values in record['test'].items():
        for metric, value in values.items():
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"The test metric '{metric}' with history '{history}' is {value}"
                )
