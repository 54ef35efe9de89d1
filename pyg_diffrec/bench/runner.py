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
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.training import FitResult, NonFiniteLossError, fit


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
        return {
            'model': self.model.name,
            'hyper_parameters': self.model.args,
            'grid': self.model.grid,
            'dataset': self.dataset,
            'seed': self.seed,
            'metric': self.suite.metric,
            'metrics': self.suite.metrics,
            'protocols': [asdict(protocol) for protocol in self.suite.protocols],
            'training': self.training,
        }

    @property
    def training(self) -> dict[str, Any]:
        r"""How long the model trains: arguments of
        :meth:`~pyg_diffrec.training.fit`."""
        return {**asdict(self.suite.training), **self.model.training}

    @property
    def key(self) -> str:
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        dataset = ' '.join(str(value) for value in self.dataset.values())
        return f'{self.model.label} on {dataset}, seed {self.seed}'


def plan(suite: Suite) -> Iterator[Run]:
    r"""All runs of a suite. Models that do not depend on a seed run with the first."""
    for dataset in suite.datasets:
        for spec in suite.models:
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
    with results.lock():
        done = {record['key']: record for record in results.load()} if resume else {}
        data: Optional[HeteroData] = None
        loaded = None
        runs = list(plan(suite))
        for number, run in enumerate(runs, start=1):
            head = f'[{number}/{len(runs)}] {run}'
            if run.key in done:
                echo(f'{head}: already there')
                continue
            if data is None or loaded != run.dataset:
                data = build_dataset(run.dataset, data_root, out / 'data')
                loaded = run.dataset
                for protocol in suite.protocols:
                    protocol.check(data)
                    echo(f'protocol: {protocol.describe(data)}')
            echo(head)
            try:
                record = _execute(run, data, out, device, resume, progress)
            except (MemoryError, NonFiniteLossError) as error:
                failures.append(f'{run}: {error}')
                echo(f'{head} failed: {error}')
                continue
            results.append(record)
            done[run.key] = record
    # A record may come from a suite that called the model otherwise.
    records = [
        {**done[run.key], 'label': run.model.label} for run in runs if run.key in done
    ]
    return records, failures


def _execute(
    run: Run, data: HeteroData, out: Path, device: str, resume: bool, progress: bool
) -> dict[str, Any]:
    suite = run.suite
    best: Optional[tuple[float, int, Any, FitResult]] = None
    tried = []
    seconds = time.perf_counter()
    with PeakMemory(device) as memory:
        for index, args in enumerate(run.model.points()):
            checkpoint = out / 'checkpoints' / f'{run.key}-{index}.pt'
            if not resume:
                checkpoint.unlink(missing_ok=True)
            seed_everything(run.seed)
            model = getattr(models, run.model.name).from_data(data, **args)
            result = fit(
                model,
                **run.training,
                validate=lambda model: evaluate(
                    model, data, 'val', suite.metrics, suite.protocols[0]
                ),
                metric=suite.metric,
                checkpoint=checkpoint,
                resume=resume,
                device=device,
                progress=progress,
            )
            tried.append({'hyper_parameters': args, suite.metric: result.best_metric})
            if best is None or result.best_metric > best[0]:
                best = (result.best_metric, index, model, result)
        assert best is not None
        _, chosen, model, result = best
        # The only look at the test interactions, once per history.
        test = {
            protocol.history: evaluate(model, data, 'test', suite.metrics, protocol)
            for protocol in suite.protocols
        }
    _keep_only(chosen, run, out)
    curve = [{'epoch': x['epoch'], suite.metric: x[suite.metric]} for x in result.curve]
    selected = next(x for x in result.curve if x['epoch'] == result.best_epoch)
    record = {
        'key': run.key,
        **run.identity,
        'suite': suite.name,
        'label': run.model.label,
        'chosen': tried[chosen]['hyper_parameters'],
        'tried': tried if run.model.grid else [],
        'protocol': {p.history: p.describe(data) for p in suite.protocols},
        'selected_epoch': result.best_epoch,
        'num_epochs': result.num_epochs,
        'validation': {metric: selected[metric] for metric in suite.metrics},
        'test': test,
        'curve': curve,
        'deterministic': model.deterministic,
        'seconds_total': time.perf_counter() - seconds,
        'seconds_per_epoch': result.seconds_per_epoch,
        'seconds_per_evaluation': result.seconds_per_evaluation,
        'peak_memory_bytes': memory.bytes,
        'peak_memory_source': memory.source,
        'device': device,
        'threads': torch.get_num_threads(),
        'versions': versions(),
        'commit': commit(),
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
    }
    _refuse_non_finite(record)
    return record


def _keep_only(chosen: int, run: Run, out: Path) -> None:
    for path in (out / 'checkpoints').glob(f'{run.key}-*.pt'):
        if path.stem != f'{run.key}-{chosen}':
            path.unlink()


def _refuse_non_finite(record: dict[str, Any]) -> None:
    for history, values in record['test'].items():
        for metric, value in values.items():
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"The test metric '{metric}' with history '{history}' is {value}"
                )
