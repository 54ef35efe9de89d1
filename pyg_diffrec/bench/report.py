r"""Tables and plots of finished runs. Matplotlib is imported only to plot."""

import io
import math
import re
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Iterator, Optional, Sequence

import click

from pyg_diffrec import models
from pyg_diffrec.bench.files import write_whole
from pyg_diffrec.bench.suite import Suite
from pyg_diffrec.evaluation import USER_METRICS, parse_metric

Records = list[dict[str, Any]]

# More lines than this in one plot cannot be told apart.
_LINES = 8


def _groups(suite: Suite, records: Records) -> Iterator[tuple[str, str, str, dict]]:
    r"""Yields dataset, history, protocol and the records of each label."""
    for dataset in suite.datasets:
        for protocol in suite.protocols_of(dataset):
            by_label: dict[str, Records] = {}
            for record in records:
                if record['dataset'] == dataset:
                    runs = by_label.setdefault(record['label'], [])
                    # A run that is there twice is one run.
                    if record['key'] not in [run['key'] for run in runs]:
                        runs.append(record)
            if by_label:
                by_label = dict(sorted(by_label.items(), key=_is_oracle))
                first = next(iter(by_label.values()))[0]
                name = ' '.join(str(x) for x in dataset.values() if isinstance(x, str))
                if 'random_share' in dataset:
                    name += f' +{dataset["random_share"]:.0%} random'
                if 'modalities' in dataset:
                    name += f' ({", ".join(dataset["modalities"])})'
                if 'rewired_share' in dataset:
                    name += f', {dataset["rewired_share"]:.0%} of ties rewired'
                history = protocol.history
                yield name, history, first['protocol'][history], by_label


def _is_oracle(entry: tuple[str, Records]) -> bool:
    return getattr(getattr(models, entry[1][0]['model'], None), 'oracle', False)


def _spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _cell(values: list[float], rank: Optional[int] = None) -> str:
    text = f'{mean(values):.4f}'
    if len(values) > 1:
        text += f' ± {_spread(values):.4f}'
    return {0: f'**{text}**', 1: f'_{text}_'}.get(-1 if rank is None else rank, text)


def _ranks(metric: str, means: dict[str, float]) -> dict[str, int]:
    r"""The place of each label; labels with the same four digits share it. What
    describes lists, such as how popular their items are, is neither good nor bad."""
    if parse_metric(metric)[0] not in USER_METRICS:
        return {}
    order = sorted({round(value, 4) for value in means.values()}, reverse=True)
    return {label: order.index(round(value, 4)) for label, value in means.items()}


def table(suite: Suite, records: Records, failures: Sequence[str] = ()) -> str:
    r"""The results as Markdown: one table per dataset and history, mean and standard
    deviation over seeds, best in bold and second in italics. An oracle, which knows the
    answer, stands last and is neither.

    Args:
        suite (Suite): The suite.
        records (list): The records of its runs.
        failures (list, optional): What went wrong with runs that failed, to be named.
            (default: :obj:`()`)
    """
    lines = [f'# {suite.title}', '']
    for name, history, protocol, by_label in _groups(suite, records):
        lines += [f'## {name}, history = {history}', '']
        lines += [
            f'Protocol: {protocol}; chosen on validation {suite.metric}; mean ± '
            f'standard deviation over seeds, **best** and _second_.',
            '',
        ]
        header = ['model', 'seeds', f'val {suite.metric}']
        header += [f'test {metric}' for metric in suite.table]
        header += ['epochs', 's / epoch', 's / evaluation', 'peak MiB']
        rows = [header, ['---'] + ['---:'] * (len(header) - 1)]
        compared = {k: v for k, v in by_label.items() if not _is_oracle((k, v))}
        ranks = [_ranks(suite.metric, _means(compared, 'validation', suite.metric))]
        for metric in suite.table:
            means = _means(compared, 'test', history, metric)
            ranks.append(_ranks(metric, means))
        for label, runs in by_label.items():
            name = label if label in compared else f'{label} (oracle)'
            row = [name, 'any' if runs[0]['deterministic'] else str(len(runs))]
            columns = [_values(runs, 'validation', suite.metric)]
            columns += [
                _values(runs, 'test', history, metric) for metric in suite.table
            ]
            row += [_cell(x, rank.get(label)) for x, rank in zip(columns, ranks)]
            trained = any(run['num_epochs'] for run in runs)
            epochs = ', '.join(str(run['selected_epoch']) for run in runs)
            row.append(epochs if trained else '–')
            seconds = mean(run['seconds_per_epoch'] for run in runs)
            row.append(f'{seconds:.2f}' if trained else '–')
            row.append(f'{mean(run["seconds_per_evaluation"] for run in runs):.2f}')
            peaks = [run['peak_memory_bytes'] or 0 for run in runs]
            row.append(f'{max(peaks) / 2**20:.0f}' if any(peaks) else '–')
            rows.append(row)
        lines += ['| ' + ' | '.join(row) + ' |' for row in rows] + ['']
        lines += _user_groups(suite, history, by_label)
        lines += _chosen(by_label)
        lines += _best_on_test(suite, by_label)
    if failures:
        lines += ['Failed, and not in the tables:', '']
        lines += [f'- {" ".join(x.split())}' for x in failures] + ['']
    if records:
        lines += _provenance(records)
    return '\n'.join(lines) + '\n'


def _user_groups(suite: Suite, history: str, by_label: dict[str, Records]) -> list[str]:
    if not suite.user_groups:
        return []
    first = next(iter(by_label.values()))[0]['groups'][history]
    header = ['model', *(f'{_interval(x)} ({x["users"]:,} users)' for x in first)]
    lines = [
        f'Test {suite.metric} by the number of training interactions of users:',
        '',
        '| ' + ' | '.join(header) + ' |',
        '| --- |' + ' ---: |' * len(first),
    ]
    for label, runs in by_label.items():
        columns = _by_user_group(suite, history, runs)
        cells = [_cell(values) for values in columns]
        lines.append('| ' + ' | '.join([label, *cells]) + ' |')
    return [*lines, '']


def _by_user_group(suite: Suite, history: str, runs: Records) -> list[list[float]]:
    r"""The test metric of each group, over the runs."""
    rows = [[x[suite.metric] for x in run['groups'][history]] for run in runs]
    return [list(values) for values in zip(*rows)]


def _interval(group: dict[str, Any]) -> str:
    low, last = group['interactions']
    if last is None:
        return f'{low} or more'
    return str(low) if low == last else f'{low} to {last}'


def _values(runs: Records, *keys: str) -> list[float]:
    r"""What lies under the keys in each record."""
    values: list[Any] = runs
    for key in keys:
        values = [value[key] for value in values]
    return values


def _means(by_label: dict[str, Records], *keys: str) -> dict[str, float]:
    return {label: mean(_values(runs, *keys)) for label, runs in by_label.items()}


def _chosen(by_label: dict[str, Records]) -> list[str]:
    lines = []
    for label, runs in by_label.items():
        for run in runs:
            if run['grid']:
                chosen = ', '.join(
                    f'{key} = {run["chosen"][key]}' for key in run['grid']
                )
                points = len(run['tried'])
                seed = '' if run['deterministic'] else f' (seed {run["seed"]})'
                lines.append(f'- {label}{seed}: {chosen}, of {points} on validation')
    return [*lines, ''] if lines else []


def _best_on_test(suite: Suite, by_label: dict[str, Records]) -> list[str]:
    if not suite.best_on_test:
        return []
    columns = {
        label: [run['best_on_test'] for run in runs]
        for label, runs in by_label.items()
        if all('best_on_test' in run for run in runs)
    }
    if not columns:
        return []
    lines = [
        f'Best epochs by _test_ {suite.metric}, as papers report that choose on test; '
        f'higher by construction, and not comparable with the table above:',
        '',
        '| ' + ' | '.join(['model', *suite.table, 'epochs']) + ' |',
        '| --- |' + ' ---: |' * (len(suite.table) + 1),
    ]
    for label, best in columns.items():
        cells = [_cell([x[metric] for x in best]) for metric in suite.table]
        epochs = ', '.join(str(x['epoch']) for x in best)
        lines.append('| ' + ' | '.join([label, *cells, epochs]) + ' |')
    return [*lines, '']


def _provenance(records: Records) -> list[str]:
    seeds = sorted({run['seed'] for run in records})
    commits = sorted({str(run['commit']) for run in records})
    versions = sorted({run['versions']['torch'] for run in records})
    where = sorted(
        {f'{run["device"]} with {run["threads"]} threads' for run in records}
    )
    return [
        f'Seeds {seeds}; {", ".join(where)}; torch {", ".join(versions)}; commit '
        f'{", ".join(commits)}. Seconds are wall-clock time of a shared machine.'
    ]


def terminal_table(markdown: str) -> str:
    r"""The Markdown tables with aligned columns, for a terminal."""
    out, block = [], []
    for line in [*markdown.splitlines(), '']:
        if line.startswith('|'):
            block.append([cell.strip() for cell in line.strip('|').split('|')])
            continue
        if block:
            header, _, *rows = block
            columns = list(zip(header, *rows))
            widths = [max(map(len, column)) for column in columns]
            lines = [_align(row, widths) for row in [header, *rows]]
            rule = '  '.join('-' * width for width in widths)
            out += [lines[0], rule, *lines[1:]]
            block = []
        out.append(line)
    return '\n'.join(out)


def _align(row: list[str], widths: list[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row, widths)]
    return '  '.join([row[0].ljust(widths[0]), *cells[1:]])


def plots(suite: Suite, records: Records, out: Path) -> list[Path]:
    r"""Writes the plots as PNG: the validation metric over epochs, and the test
    metrics by model."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    paths = []
    for index, (name, history, _, by_label) in enumerate(_groups(suite, records)):
        suffix = re.sub(r'[^\w.]+', '-', f'{index}-{name}-{history}')
        figure, panels = _panels(len(by_label), columns=2)
        for axes, shown in zip(panels, _shares(by_label)):
            _plot_curves(axes, suite, by_label, shown)
        figure.suptitle(f'{name}: validation {suite.metric} (dots: chosen epochs)')
        paths.append(out / f'curves-{suffix}.png')
        _save(figure, paths[-1])

        figure, axes = plt.subplots(
            1,
            len(suite.table),
            figsize=(1.5 + 2.8 * len(suite.table), 1.2 + 0.26 * len(by_label)),
            sharey=True,
            squeeze=False,
            layout='constrained',
        )
        _plot_models(axes[0], suite, history, by_label)
        figure.suptitle(f'{name}: test, history = {history}')
        paths.append(out / f'models-{suffix}.png')
        _save(figure, paths[-1])

        if suite.user_groups:
            figure, panels = _panels(len(by_label))
            for (axes,), shown in zip(panels, _shares(by_label)):
                _plot_user_groups(axes, suite, history, by_label, shown)
            figure.suptitle(f'{name}: test by number of interactions')
            paths.append(out / f'user-groups-{suffix}.png')
            _save(figure, paths[-1])
        plt.close('all')
    if suite.over is not None:
        # Datasets may have histories of their own: those of the first are plotted.
        for protocol in suite.protocols_of(suite.datasets[0]):
            history = protocol.history
            lines = _over(suite, records, history)
            figure, panels = _panels(len(lines))
            for (axes,), shown in zip(panels, _shares(lines)):
                _plot_over(axes, suite, lines, shown)
            figure.suptitle(f'test {suite.metric} over that of the first dataset')
            paths.append(out / f'over-{suite.over}-{history.replace("+", "-")}.png')
            _save(figure, paths[-1])
            plt.close('all')
    return paths


def _save(figure: Any, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format='png')
    write_whole(path, content.getvalue())


def _panels(count: int, columns: int = 1) -> tuple[Any, Any]:
    r"""A figure with a row of panels for every few lines of :obj:`count`."""
    from matplotlib import pyplot as plt

    rows = max(1, math.ceil(count / _LINES))
    return plt.subplots(
        rows,
        columns,
        figsize=(9 if columns == 1 else 14, 1 + 3.5 * rows),
        sharex='col',
        sharey=True,
        squeeze=False,
        layout='constrained',
    )


def _shares(labels: Any) -> list[list[str]]:
    r"""The labels, in even shares of a few."""
    names = list(labels)
    rows = max(1, math.ceil(len(names) / _LINES))
    bounds = [index * len(names) // rows for index in range(rows + 1)]
    return [names[low:high] for low, high in pairwise(bounds)]


def _style(label: str, shown: list[str]) -> dict[str, Any]:
    r"""How the lines of a label look: in colour where they are shown, else grey and in
    the background, to compare with."""
    if label in shown:
        return {'color': f'C{shown.index(label)}', 'zorder': 2.5}
    return {'color': '0.85', 'zorder': 1, 'linewidth': 0.8}


def _legend(axes: Any) -> None:
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5))


def _plot_curves(
    panels: Any, suite: Suite, by_label: dict[str, Records], shown: list[str]
) -> None:
    r"""Over epochs, and over seconds of training."""
    ends = []
    for label, runs in by_label.items():
        style = _style(label, shown)
        if not any(run['num_epochs'] for run in runs):
            level = mean(_values(runs, 'validation', suite.metric))
            name = label if label in shown else None
            for axes in panels:
                axes.axhline(level, linestyle='--', label=name, **style)
            continue
        for number, run in enumerate(runs):
            values = [point[suite.metric] for point in run['curve']]
            epochs = [point['epoch'] for point in run['curve']]
            seconds = [epoch * run['seconds_per_epoch'] for epoch in epochs]
            ends += [seconds[0], seconds[-1]]
            name = label if label in shown and number == 0 else None
            chosen = epochs.index(run['selected_epoch'])
            for axes, places in zip(panels, (epochs, seconds)):
                axes.plot(places, values, label=name, **style)
                if label in shown:
                    axes.plot(places[chosen], values[chosen], 'o', **style)
    panels[0].set_xlabel('epoch')
    panels[0].set_ylabel(suite.metric)
    panels[1].set_xlabel('seconds of training')
    _scale_seconds(panels[1], ends)
    for axes in panels:
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
    _legend(panels[1])


def _scale_seconds(axes: Any, ends: list[float]) -> None:
    r"""A logarithmic scale with labels that leave room for each other; a linear one
    where there is not even a decade."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    if not ends or min(ends) <= 0 or max(ends) < 10 * min(ends):
        return
    axes.set_xscale('log')
    few = max(ends) < 1000 * min(ends)
    steps = (1.0, 2.0, 5.0) if few else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axes.xaxis.set_major_formatter(FormatStrFormatter('%g'))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plot_user_groups(
    axes: Any,
    suite: Suite,
    history: str,
    by_label: dict[str, Records],
    shown: list[str],
) -> None:
    for label, runs in by_label.items():
        columns = _by_user_group(suite, history, runs)
        axes.errorbar(
            range(len(columns)),
            [mean(values) for values in columns],
            yerr=[_spread(values) for values in columns],
            marker='o' if label in shown else None,
            capsize=3,
            label=label if label in shown else None,
            **_style(label, shown),
        )
    groups = by_label[shown[0]][0]['groups'][history]
    ticks = [f'{_interval(x)}\n{x["users"]:,} users' for x in groups]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.tick_params(labelbottom=True)
    axes.set_xlabel('training interactions')
    axes.set_ylabel(suite.metric)
    axes.grid(alpha=0.3)
    _legend(axes)


def _over(
    suite: Suite, records: Records, history: str
) -> dict[str, tuple[list[float], list[float]]]:
    r"""Per label the values of the key in which the datasets differ, and the share of
    the test metric on the first dataset that is left there."""
    lines = {}
    for spec in suite.models:
        points = []
        for dataset in suite.datasets:
            values = [
                run['test'][history][suite.metric]
                for run in records
                if run['label'] == spec.label
                and run['dataset'] == dataset
                and history in run['test']
            ]
            if values:
                points.append((dataset.get(str(suite.over), 0), mean(values)))
        if points and points[0][0] == 0:
            first = points[0][1]
            lines[spec.label] = [x for x, _ in points], [y / first for _, y in points]
    return lines


def _plot_over(axes: Any, suite: Suite, lines: Any, shown: list[str]) -> None:
    for label, (shares, ratios) in lines.items():
        name = label if label in shown else None
        marker = 'o' if label in shown else None
        axes.plot(shares, ratios, marker=marker, label=name, **_style(label, shown))
    axes.tick_params(labelbottom=True)
    axes.set_xlabel(suite.over)
    axes.set_ylabel('ratio of means over seeds')
    axes.grid(alpha=0.3)
    if shown:
        _legend(axes)


def _plot_models(
    panels: Any, suite: Suite, history: str, by_label: dict[str, Records]
) -> None:
    r"""A panel for each metric, in which each model has a row."""
    for axes, metric in zip(panels, suite.table):
        columns = [_values(runs, 'test', history, metric) for runs in by_label.values()]
        bars = axes.barh(
            range(len(columns)),
            [mean(values) for values in columns],
            xerr=[_spread(values) for values in columns],
            color=[f'C{i}' for i in range(len(columns))],
        )
        axes.bar_label(bars, fmt='%.4f', fontsize=7, padding=3)
        axes.set_title(metric)
        axes.grid(axis='x', alpha=0.3)
        axes.margins(x=0.2, y=0.02)
    panels[0].set_yticks(range(len(by_label)), list(by_label))
    panels[0].invert_yaxis()


def write_report(
    suite: Suite, records: Records, out: Path, failures: Sequence[str] = ()
) -> str:
    r"""Writes :obj:`results.md` and the plots, and returns the Markdown.

    Args:
        suite (Suite): The suite.
        records (list): The records of its runs.
        out (Path): The folder.
        failures (list, optional): What went wrong with runs that failed.
            (default: :obj:`()`)

    Raises:
        OSError: If a file cannot be written.
    """
    markdown = table(suite, records, failures)
    images = plots(suite, records, out)
    page = markdown + ''.join(f'\n![{path.stem}]({path.name})\n' for path in images)
    write_whole(out / 'results.md', page.encode())
    for path in [out / 'results.md', *images]:
        click.echo(f'wrote {path}')
    return markdown
