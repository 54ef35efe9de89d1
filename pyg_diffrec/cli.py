r"""The command line. PyTorch is imported only when a command runs."""

import errno
import io
import sys
from pathlib import Path
from typing import Any, Optional

import click

from pyg_diffrec import __version__


class _Group(click.Group):
    r"""Turns errors about what a user gave into a message and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # Nobody reads on, which is no mistake.
                raise
            raise click.UsageError(_describe(error)) from error


def _describe(error: OSError) -> str:
    r"""What went wrong with which file; our own errors say it themselves."""
    if error.strerror is None or error.filename is None:
        return str(error)
    name = str(error.filename)
    name = name if len(name) < 200 else f'{name[:100]}...'
    return f"{error.strerror}: '{name}'"


def _split(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Any:
    r"""The parts of a list that means a set."""
    if value is None:
        return None
    parts = [x.strip() for x in value.split(',') if x.strip()]
    if not parts:
        raise click.BadParameter(f"needs names separated by commas (got '{value}')")
    return _each_once(parts)


def _integers(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Any:
    if value is None:
        return None
    try:
        parts = [int(x) for x in value.split(',') if x.strip()]
    except ValueError:
        parts = []
    if not parts:
        raise click.BadParameter(
            f"needs integers separated by commas, e.g. '1,2,3' (got '{value}')"
        )
    return _each_once(parts)


def _each_once(parts: list) -> list:
    for part in parts:
        if parts.count(part) > 1:
            raise click.BadParameter(f"names '{part}' more than once")
    return parts


@click.group(cls=_Group, context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='pyg-diffrec')
def main() -> None:
    r"""Diffusion models for recommendation on PyTorch Geometric."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign shows '?', rather than an error after
        # hours of training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='replace')


@main.command()
@click.argument('suite', default='default')
@click.option(
    '--data-root',
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help='Folder with one folder of raw files per dataset; without it, missing files '
    'are downloaded.',
)
@click.option('--device', default='cpu', show_default=True, help='cpu, cuda, cuda:1.')
@click.option('--seeds', callback=_integers, help='Seeds, e.g. 1,2,3.')
@click.option('--models', callback=_split, help='Models of the suite, e.g. EASE.')
@click.option('--epochs', type=click.IntRange(min=1), help='Epochs at most.')
@click.option(
    '--out',
    type=click.Path(file_okay=False, path_type=Path),
    help='Folder for results and checkpoints.  [default: bench-results/SUITE]',
)
@click.option(
    '--resume/--no-resume',
    default=True,
    show_default=True,
    help='Use finished runs and checkpoints, or run everything again.',
)
@click.option('--dry-run', is_flag=True, help='Show what would run, and stop.')
@click.option('--quiet', is_flag=True, help='No progress bars.')
def bench(
    suite: str,
    data_root: Optional[Path],
    device: str,
    seeds: Optional[list[int]],
    models: Optional[list[str]],
    epochs: Optional[int],
    out: Optional[Path],
    resume: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    r"""Trains, evaluates and compares the models of SUITE.

    SUITE is the name of a suite (see 'pyg-diffrec list suites') or the path of a
    TOML file. Each finished run is added to results.jsonl at once; the same command
    continues an interrupted bench.
    """
    from pyg_diffrec.bench import (
        ResultsFile,
        finished,
        load_suite,
        plan,
        recorded,
        run_suite,
        terminal_table,
        write_report,
    )

    whole = load_suite(suite).override(epochs=epochs)
    spec = whole.override(seeds=seeds, models=models)
    _check_device(device)
    out = out or Path('bench-results') / spec.name
    results = ResultsFile(out / 'results.jsonl')
    if dry_run:
        done = finished(list(plan(spec)), results.load() if resume else [])
        for run in plan(spec):
            state = 'already there' if run.key in done else 'to run'
            click.echo(f'{run}: {state}; {run.model.args} {run.model.grid or ""}')
        return
    try:
        _, failures = run_suite(
            spec,
            out,
            data_root=data_root,
            device=device,
            resume=resume,
            progress=not quiet and sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        click.echo(
            f"\nInterrupted. Finished runs are in '{out / 'results.jsonl'}'; the same "
            f'command continues.',
            err=True,
        )
        sys.exit(130)
    # The report is on all of the suite that is there, whatever ran now.
    records = recorded(whole, results.load())
    if records or failures:
        markdown = write_report(whole, records, out, failures)
        click.echo('\n' + terminal_table(markdown))
    if failures:
        raise click.ClickException('Some runs failed:\n' + '\n'.join(failures))


def _check_device(device: str) -> None:
    r"""Refuses a device that is not there, before anything is loaded."""
    import torch

    kind, colon, number = device.partition(':')
    numbered = kind == 'cuda' and number.isdecimal()
    if kind not in ('cpu', 'cuda', 'mps') or (colon and not numbered):
        raise ValueError(
            f"'--device' needs to be one of cpu, cuda, cuda:N, mps (got '{device}')"
        )
    if kind == 'cuda' and not torch.cuda.is_available():
        raise ValueError(
            f"'--device {device}' needs a GPU that this PyTorch can use; use "
            f"'--device cpu'"
        )
    if kind == 'mps' and not torch.backends.mps.is_available():
        raise ValueError(
            f"'--device {device}' needs a Mac whose GPU this PyTorch can use; use "
            f"'--device cpu'"
        )
    if number and int(number) >= torch.cuda.device_count():
        raise ValueError(
            f"'--device {device}' does not exist: the last one is "
            f"'cuda:{torch.cuda.device_count() - 1}'"
        )


@main.command()
@click.argument('model')
@click.option('--dataset', required=True, help='Name of a dataset.')
@click.option(
    '--roles',
    callback=_split,
    help="'published' or 'chronological', where a dataset has it; for both, "
    'separated by a comma, trials are trained once.',
)
@click.option(
    '--trials',
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help='Budget.',
)
@click.option(
    '--start',
    multiple=True,
    help='Preset that is the first trial of a new search, e.g. of another dataset; may '
    'be given several times.',
)
@click.option('--metric', default='Recall@20', show_default=True)
@click.option('--seed', type=click.IntRange(0, 2**32 - 1), default=1, show_default=True)
@click.option(
    '--data-root',
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help='Folder with one folder of raw files per dataset.',
)
@click.option('--device', default='cpu', show_default=True, help='cpu, cuda, cuda:1.')
@click.option('--epochs', type=click.IntRange(min=1), help='Epochs at most.')
@click.option(
    '--out',
    type=click.Path(file_okay=False, path_type=Path),
    default=Path('bench-results/tune'),
    show_default=True,
    help='Folder for the study and the preset.',
)
def tune(
    model: str,
    dataset: str,
    roles: Optional[list[str]],
    trials: int,
    start: tuple[str, ...],
    metric: str,
    seed: int,
    data_root: Optional[Path],
    device: str,
    epochs: Optional[int],
    out: Path,
) -> None:
    r"""Searches hyper-parameters of MODEL on validation, and writes a preset.

    The search looks at validation only. The same command continues it. A suite
    names the preset by its path: preset = 'bench-results/tune/....toml'.
    """
    from pyg_diffrec.bench import tune as search

    _check_device(device)
    try:
        search(
            model,
            {'name': dataset},
            trials,
            out,
            metric=metric,
            seed=seed,
            data_root=data_root,
            device=device,
            epochs=epochs,
            roles=roles or (),
            start=start,
        )
    except ImportError as error:
        raise click.ClickException(str(error)) from error


@main.command('list')
@click.argument(
    'what', type=click.Choice(['models', 'datasets', 'suites', 'schedules'])
)
def list_(what: str) -> None:
    r"""Lists the models, datasets, suites or noise schedules."""
    for line in _LISTS[what]():
        click.echo(line)


def _models() -> list[str]:
    from pyg_diffrec.models import MODELS, VARIANTS, presets

    lines = []
    for name in [*MODELS, *VARIANTS]:
        notes = []
        if name in VARIANTS:
            base, args = VARIANTS[name]
            notes.append(f'{base} with {args}')
        if presets(name):
            notes.append(f'presets: {", ".join(presets(name))}')
        lines.append(f'{name}  ({"; ".join(notes)})' if notes else name)
    return lines


def _datasets() -> list[str]:
    from pyg_diffrec.bench import dataset_names

    return dataset_names()


def _suites() -> list[str]:
    from pyg_diffrec.bench import load_suite, suite_names

    return [f'{name}  {load_suite(name).title}' for name in suite_names()]


def _schedules() -> list[str]:
    from pyg_diffrec.diffusion import schedules
    from pyg_diffrec.resolver import names

    found = names(schedules, suffix='_beta_schedule')
    return [name.replace('_', '-') for name in found]


_LISTS = {
    'models': _models,
    'datasets': _datasets,
    'suites': _suites,
    'schedules': _schedules,
}
