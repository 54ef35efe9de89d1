r"""Tables and plots of finished runs."""

import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Iterator

import click
import matplotlib

from pyg_diffrec.bench.suite import Suite

Records = list[dict[str, Any]]


def _groups(suite: Suite, records: Records) -> Iterator[tuple[str, str, str, dict]]:
    r"""Yields dataset, history, protocol and the records of each label."""
    for dataset in suite.datasets:
        for protocol in suite.protocols_of(dataset):
            by_label: dict[str, Records] = {}
            for record in records:
                if record['dataset'] == dataset:
                    by_label.setdefault(record['label'], []).append(record)
            if by_label:
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


def _spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _cell(values: list[float], rank: int) -> str:
    text = f'{mean(values):.4f}'
    if len(values) > 1:
        text += f' ± {_spread(values):.4f}'
    return {0: f'**{text}**', 1: f'_{text}_'}.get(rank, text)


def _ranks(means: dict[str, float]) -> dict[str, int]:
    r"""The place of each label; labels with the same four digits share it."""
    order = sorted({round(value, 4) for value in means.values()}, reverse=True)
    return {label: order.index(round(value, 4)) for label, value in means.items()}


def table(suite: Suite, records: Records) -> str:
    r"""The results as Markdown: one table per dataset and history, mean and standard
    deviation over seeds, best in bold and second in italics."""
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
        columns = {'val': _means(by_label, lambda r: r['validation'][suite.metric])}
        for metric in suite.table:
            columns[metric] = _means(
                by_label, lambda r, h=history, m=metric: r['test'][h][m]
            )
        ranks = {key: _ranks(column) for key, column in columns.items()}
        for label, runs in by_label.items():
            row = [label, 'any' if runs[0]['deterministic'] else str(len(runs))]
            val = [run['validation'][suite.metric] for run in runs]
            row.append(_cell(val, ranks['val'][label]))
            for metric in suite.table:
                values = [run['test'][history][metric] for run in runs]
                row.append(_cell(values, ranks[metric][label]))
            trained = any(run['num_epochs'] for run in runs)
            epochs = ', '.join(str(run['selected_epoch']) for run in runs)
            row.append(epochs if trained else '–')
            seconds = mean(run['seconds_per_epoch'] for run in runs)
            row.append(f'{seconds:.2f}' if trained else '–')
            row.append(f'{mean(run["seconds_per_evaluation"] for run in runs):.2f}')
            peak = max(run['peak_memory_bytes'] for run in runs)
            row.append(f'{peak / 2**20:.0f}')
            rows.append(row)
        lines += ['| ' + ' | '.join(row) + ' |' for row in rows] + ['']
        lines += _user_groups(suite, history, by_label)
        lines += _chosen(by_label)
        lines += _best_on_test(suite, by_label)
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
        cells = [_cell(values, -1) for values in columns]
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


def _means(by_label: dict[str, Records], value: Any) -> dict[str, float]:
    return {label: mean(map(value, runs)) for label, runs in by_label.items()}


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
        cells = [_cell([x[metric] for x in best], -1) for metric in suite.table]
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
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    paths = []
    for index, (name, history, _, by_label) in enumerate(_groups(suite, records)):
        suffix = re.sub(r'[^\w.]+', '-', f'{index}-{name}-{history}')
        figure, axes = plt.subplots(
            1, 2, figsize=(14, 4.5), sharey=True, layout='constrained'
        )
        _plot_curves(axes, suite, by_label)
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
            figure, axes = plt.subplots(figsize=(9, 4.5), layout='constrained')
            _plot_user_groups(axes, suite, history, by_label)
            axes.set_title(f'{name}: test by number of interactions')
            paths.append(out / f'user-groups-{suffix}.png')
            _save(figure, paths[-1])
        plt.close('all')
    if suite.over is not None:
        # Datasets may have histories of their own: those of the first are plotted.
        for protocol in suite.protocols_of(suite.datasets[0]):
            history = protocol.history
            figure, axes = plt.subplots(figsize=(9, 4.5), layout='constrained')
            _plot_over(axes, suite, records, history)
            paths.append(out / f'over-{suite.over}-{history.replace("+", "-")}.png')
            _save(figure, paths[-1])
            plt.close('all')
    return paths


def _save(figure: Any, path: Path) -> None:
    temporary = path.with_name(f'.{path.name}')
    figure.savefig(temporary, dpi=120, format='png')
    temporary.replace(path)


def _color(index: int, count: int) -> Any:
    return matplotlib.colormaps['tab10' if count <= 10 else 'tab20'](index % 20)


def _legend(axes: Any) -> None:
    # In columns, beside which the plot keeps its size.
    handles, labels = axes.get_legend_handles_labels()
    columns, figure = 1 + (len(labels) - 1) // 18, axes.figure
    figure.set_figwidth(figure.get_figwidth() + 2.5 * (columns - 1))
    figure.legend(handles, labels, loc='outside right upper', ncols=columns)


def _plot_curves(panels: Any, suite: Suite, by_label: dict[str, Records]) -> None:
    r"""Over epochs, and over seconds of training."""
    for index, (label, runs) in enumerate(by_label.items()):
        color = _color(index, len(by_label))
        line = ('-', '-.', ':')[index // 20 % 3]
        if not any(run['num_epochs'] for run in runs):
            level = mean(run['validation'][suite.metric] for run in runs)
            for axes in panels:
                axes.axhline(level, color=color, linestyle='--', label=label)
            continue
        for number, run in enumerate(runs):
            values = [point[suite.metric] for point in run['curve']]
            for axes, unit in zip(panels, (1, run['seconds_per_epoch'])):
                axes.plot(
                    [point['epoch'] * unit for point in run['curve']],
                    values,
                    color=color,
                    linestyle=line,
                    alpha=0.7,
                    label=label if number == 0 else None,
                )
                chosen = (
                    run['selected_epoch'] * unit,
                    run['validation'][suite.metric],
                )
                axes.plot(*chosen, 'o', color=color)
    panels[0].set_xlabel('epoch')
    panels[0].set_ylabel(suite.metric)
    panels[1].set_xlabel('seconds of training')
    panels[1].set_xscale('log')
    for axes in panels:
        axes.grid(alpha=0.3)
    _legend(panels[1])


def _plot_user_groups(
    axes: Any, suite: Suite, history: str, by_label: dict[str, Records]
) -> None:
    groups: list[dict[str, Any]] = []
    for index, (label, runs) in enumerate(by_label.items()):
        groups = runs[0]['groups'][history]
        columns = _by_user_group(suite, history, runs)
        axes.errorbar(
            range(len(columns)),
            [mean(values) for values in columns],
            yerr=[_spread(values) for values in columns],
            marker='o',
            capsize=3,
            label=label,
            color=_color(index, len(by_label)),
        )
    ticks = [f'{_interval(x)}\n{x["users"]:,} users' for x in groups]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel('training interactions')
    axes.set_ylabel(suite.metric)
    axes.grid(alpha=0.3)
    _legend(axes)


def _plot_over(axes: Any, suite: Suite, records: Records, history: str) -> None:
    r"""The share of the test metric on the first dataset that is left on others."""
    for index, spec in enumerate(suite.models):
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
            shares, levels = zip(*points)
            axes.plot(
                shares,
                [level / levels[0] for level in levels],
                marker='o',
                label=spec.label,
                color=_color(index, len(suite.models)),
            )
    axes.set_title(f'test {suite.metric} over that of the first dataset')
    axes.set_xlabel(suite.over)
    axes.set_ylabel('ratio of means over seeds')
    axes.grid(alpha=0.3)
    _legend(axes)


def _plot_models(
    panels: Any, suite: Suite, history: str, by_label: dict[str, Records]
) -> None:
    r"""A panel for each metric, in which each model has a row."""
    for axes, metric in zip(panels, suite.table):
        columns = [
            [run['test'][history][metric] for run in runs] for runs in by_label.values()
        ]
        bars = axes.barh(
            range(len(columns)),
            [mean(values) for values in columns],
            xerr=[_spread(values) for values in columns],
            color=[_color(i, len(columns)) for i in range(len(columns))],
        )
        axes.bar_label(bars, fmt='%.4f', fontsize=7, padding=3)
        axes.set_title(metric)
        axes.grid(axis='x', alpha=0.3)
        axes.margins(x=0.2, y=0.02)
    panels[0].set_yticks(range(len(by_label)), list(by_label))
    panels[0].invert_yaxis()


def write_report(suite: Suite, records: Records, out: Path) -> str:
    r"""Writes :obj:`results.md` and the plots, and returns the Markdown."""
    markdown = table(suite, records)
    images = plots(suite, records, out)
    page = markdown + ''.join(f'\n![{path.stem}]({path.name})\n' for path in images)
    temporary = out / '.results.md'
    temporary.write_text(page, encoding='utf-8')
    temporary.replace(out / 'results.md')
    for path in [out / 'results.md', *images]:
        click.echo(f'wrote {path}')
    return markdown
