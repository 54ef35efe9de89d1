import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pyg_diffrec.bench import (
    ResultsFile,
    load_suite,
    parse_suite,
    recorded,
    report,
    write_report,
)
from pyg_diffrec.bench.report import table, terminal_table

RESULTS = Path(__file__).parents[2] / 'benchmarks' / 'results'
SUITE = {
    'title': 'Small',
    'metric': 'Recall@5',
    'metrics': ['Recall@5', 'NDCG@5', 'AveragePopularity@5'],
    'datasets': [{'name': 'synthetic'}],
    'models': [{'name': 'EASE'}],
}


def small(**changes):
    return parse_suite({**SUITE, **changes}, 'small')


def rows(markdown):
    """The cells of the first table by its first column."""
    lines = [line.strip('| ') for line in markdown.splitlines() if line[:2] == '| ']
    return {line.split(' | ')[0]: line.split(' | ') for line in lines}


@pytest.fixture
def make_run(make_record):
    def make(key, label, recall, **changes):
        test = {'Recall@5': recall, 'NDCG@5': 0.1, 'AveragePopularity@5': 10 * recall}
        return make_record(key, label=label, test={'train': test}, **changes)

    return make


def test_report(tmp_path, make_run):
    records = [make_run('a', 'A', 0.1), make_run('b', 'B', 0.2)]
    markdown = write_report(small(), records, tmp_path)
    page = (tmp_path / 'results.md').read_text(encoding='utf-8')
    assert page.startswith(markdown)
    plots = sorted(path.name for path in tmp_path.glob('*.png'))
    assert [name.split('-')[0] for name in plots] == ['curves', 'models']
    assert all((tmp_path / name).read_bytes()[:4] == b'\x89PNG' for name in plots)
    assert markdown.count('Protocol: all items ranked') == 1
    names = {'results.md', *plots}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_table_by_hand(make_run):
    records = [
        make_run('a', 'DiffRec', 0.1),
        make_run('b', 'DiffRec', 0.3, seed=2),
        make_run('c', 'EASE', 0.25, deterministic=True),
        make_run('d', 'MostPopular', 0.1, peak_memory_bytes=None),
    ]
    found = rows(table(small(), records))
    assert found['DiffRec'][3] == '_0.2000 ± 0.1414_'
    assert found['EASE'][3] == '**0.2500**'
    assert found['MostPopular'][3] == '0.1000'
    assert [found[x][1] for x in ('DiffRec', 'EASE')] == ['2', 'any']
    assert [found[x][-1] for x in ('DiffRec', 'MostPopular')] == ['1', '–']


def test_only_metrics_with_a_direction_have_a_best(make_run):
    records = [make_run('a', 'A', 0.1), make_run('b', 'B', 0.2)]
    found = rows(table(small(), records))
    assert found['B'][3:6] == ['**0.2000**', '**0.1000**', '2.0000']
    assert found['A'][3:6] == ['_0.1000_', '**0.1000**', '1.0000']
    metrics = ['Recall@5', 'Coverage@5', 'Personalization@5', 'MRR@5']
    values = dict.fromkeys(metrics, 0.5)
    changes = {'metrics': metrics, 'validation': values, 'test': {'train': values}}
    record = {**records[0], **changes}
    found = rows(table(small(metrics=metrics), [record]))
    assert found['A'][3:7] == ['**0.5000**', '0.5000', '0.5000', '**0.5000**']


def test_an_oracle_stands_apart(make_run):
    records = [
        make_run('p', 'Planted', 0.9, model='Planted', deterministic=True),
        make_run('a', 'A', 0.1),
        make_run('b', 'B', 0.2),
    ]
    found = rows(table(small(), records))
    assert list(found)[-3:] == ['A', 'B', 'Planted (oracle)']
    assert found['Planted (oracle)'][3] == '0.9000'
    assert found['B'][3] == '**0.2000**'
    assert found['A'][3] == '_0.1000_'
    # Whatever it is called.
    records[0]['label'] = 'upper bound'
    assert rows(table(small(), records))['upper bound (oracle)'][3] == '0.9000'


def test_a_run_that_is_there_twice_counts_once(make_run):
    records = [make_run('a', 'A', 0.1), make_run('a', 'A', 0.1)]
    found = rows(table(small(), records))
    assert found['A'][1] == '1'
    assert '±' not in ''.join(found['A'])


def test_failed_runs_are_named_even_if_nothing_is_there(tmp_path):
    page = write_report(small(), [], tmp_path, ['EASE on x: too\n large'])
    assert '- EASE on x: too large' in page
    assert 'Seeds' not in page


@pytest.mark.parametrize('name', [path.parent.name for path in RESULTS.glob('*/*.md')])
def test_recorded_tables_are_what_the_records_say(name):
    suite = load_suite(name)
    records = recorded(suite, ResultsFile(RESULTS / name / 'results.jsonl').load())
    page = (RESULTS / name / 'results.md').read_text(encoding='utf-8')
    assert page.startswith(table(suite, records))


def figures_of(suite, records, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(report, '_save', lambda figure, path: figures.append(figure))
    report.plots(suite, records, tmp_path)
    for figure in figures:
        figure.draw_without_rendering()
    return figures


def many(make_run, count, **changes):
    return [
        make_run(str(i), f'A model in its variant {i}', 0.1 + 0.01 * i, **changes)
        for i in range(count)
    ]


@pytest.mark.parametrize('count', [1, 8, 9, 25, 45])
def test_curves_of_many_models_can_be_told_apart(
    make_run, tmp_path, monkeypatch, count
):
    records = many(make_run, count)
    curves, bars = figures_of(small(), records, tmp_path, monkeypatch)
    named = []
    for first, second in zip(curves.axes[::2], curves.axes[1::2]):
        for axes in (first, second):
            lines = [x for x in axes.lines if x.get_label()[0] != '_']
            colors = [line.get_color() for line in lines]
            assert 0 < len(set(colors)) == len(colors) <= 8
            # The others are there to compare with.
            grey = [x for x in axes.lines if x.get_color() == '0.85']
            assert len(grey) == count - len(lines)
        named += [text.get_text() for text in second.get_legend().get_texts()]
    assert named == [record['label'] for record in records]
    for figure in (curves, bars):
        width, height = figure.get_size_inches()
        for axes in figure.axes:
            panel = axes.get_position()
            assert panel.height * height > 2 or figure is bars
            assert panel.width * width > 1.5
    boxes = [axes.get_tightbbox() for axes in curves.axes]
    for i, box in enumerate(boxes):
        assert all(not box.overlaps(other) for other in boxes[i + 1 :])


def test_groups_and_what_is_left_of_many_models_can_be_told_apart(
    make_run, tmp_path, monkeypatch
):
    data = [{'name': 'synthetic'}, {'name': 'synthetic', 'random_share': 0.5}]
    records = many(make_run, 25)
    labels = [record['label'] for record in records]
    suite = small(
        datasets=data,
        over='random_share',
        user_groups=[5],
        models=[{'name': 'EASE', 'label': label} for label in labels],
    )
    group = {'interactions': [0, 4], 'users': 3, **records[0]['validation']}
    groups = {'train': [group, {**group, 'interactions': [5, None]}]}
    records = [{**x, 'dataset': y, 'groups': groups} for y in data for x in records]
    figures = figures_of(suite, records, tmp_path, monkeypatch)
    assert len(figures) == 2 * 3 + 1
    for figure in (figures[2], figures[5], figures[6]):
        named = []
        for axes in figure.axes:
            texts = axes.get_legend().get_texts()
            assert len(texts) <= 8
            named += [text.get_text() for text in texts]
        assert named == labels


@pytest.mark.parametrize(
    'seconds', [[1.0], [7.0, 12.0], [0.01], [0.1, 30.0], [0.003, 90]]
)
def test_labels_of_seconds_leave_room_for_each_other(
    make_run, tmp_path, monkeypatch, seconds
):
    curve = [{'epoch': i, 'Recall@5': 0.1 * i} for i in range(2, 12)]
    records = [
        make_run(str(x), f'{x}', 0.1, seconds_per_epoch=x, curve=curve) for x in seconds
    ]
    figure, _ = figures_of(small(), records, tmp_path, monkeypatch)
    axis = figure.axes[1].xaxis
    low, high = figure.axes[1].get_xlim()
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    labels = [
        tick.label1
        for tick in ticks
        if tick.label1.get_text() and low <= tick.get_loc() <= high
    ]
    assert len(labels) >= 2
    boxes = sorted((x.get_window_extent() for x in labels), key=lambda box: box.x0)
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_report_in_a_locale_without_these_letters(tmp_path):
    code = (
        'import sys; from pathlib import Path; from pyg_diffrec.bench import *\n'
        "suite, path = load_suite('ml-1m'), Path(sys.argv[1])\n"
        'records = recorded(suite, ResultsFile(path).load())\n'
        'write_report(suite, records, Path(sys.argv[2]))\n'
    )
    path = RESULTS / 'ml-1m' / 'results.jsonl'
    root = os.path.dirname(os.path.dirname(sys.modules['pyg_diffrec'].__file__))
    ascii_only = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    subprocess.run(
        [sys.executable, '-c', code, str(path), str(tmp_path)],
        env={**os.environ, **ascii_only, 'PYTHONPATH': root},
        check=True,
    )
    assert '±' in (tmp_path / 'results.md').read_text(encoding='utf-8')


def test_terminal_table_is_aligned():
    out = terminal_table('| a | b |\n| --- | ---: |\n| long | 1 |')
    assert out == 'a     b\n----  -\nlong  1\n'
