import json

import pytest

from pyg_diffrec.bench import (
    ResultsFile,
    parse_suite,
    plan,
    report,
    run_suite,
    write_report,
)
from pyg_diffrec.bench.report import table, terminal_table

TABLE = {
    'title': 'Small',
    'seeds': [1, 2],
    'metric': 'Recall@5',
    'metrics': ['Recall@5', 'NDCG@5'],
    'protocol': {'history': ['train', 'train+val']},
    'training': {'epochs': 4, 'eval_every': 2},
    'datasets': [{'name': 'synthetic', 'num_users': 60, 'num_items': 50}],
    'models': [
        {'name': 'DiffRec', 'hidden_channels': [8], 'batch_size': 20},
        {'name': 'EASE', 'grid': {'l2': [1.0, 30.0, 1000.0]}},
        {'name': 'MostPopular'},
    ],
}


def run(out, lines=None, resume=True, **changes):
    suite = parse_suite({**TABLE, **changes}, 'small')
    echo = (lambda line: None) if lines is None else lines.append
    return suite, run_suite(suite, out, progress=False, resume=resume, echo=echo)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp('bench')
    suite, (records, failures) = run(out)
    assert failures == []
    return out, suite, records


def test_records_tell_the_whole_story(finished):
    out, _, records = finished
    assert records == ResultsFile(out / 'results.jsonl').load()
    assert [(r['model'], r['seed']) for r in records] == [
        ('DiffRec', 1),
        ('DiffRec', 2),
        ('EASE', 1),
        ('MostPopular', 1),
    ]
    for record in records:
        assert set(record['test']) == {'train', 'train+val'}
        assert set(record['validation']) == {'Recall@5', 'NDCG@5'}
        assert 'history = train+val' in record['protocol']['train+val']
        assert record['peak_memory_bytes'] > 0
        assert record['versions']['torch']
    first, second = records[:2]
    assert first['test'] != second['test']
    assert first['selected_epoch'] in (2, 4)
    assert [point['epoch'] for point in first['curve']] == [2, 4]


def test_grid_is_chosen_on_validation(finished):
    record = finished[2][2]
    tried = {x['hyper_parameters']['l2']: x['Recall@5'] for x in record['tried']}
    assert set(tried) == {1.0, 30.0, 1000.0}
    assert tried[record['chosen']['l2']] == max(tried.values())
    assert record['validation']['Recall@5'] == max(tried.values())


def test_test_split_is_touched_once_per_history(tmp_path, monkeypatch):
    from pyg_diffrec.bench import runner

    looks = []

    def spy(function):
        def spied(model, data, split, what, protocol):
            looks.append((split, protocol.history))
            return function(model, data, split, what, protocol)

        return spied

    monkeypatch.setattr(runner, 'evaluate', spy(runner.evaluate))
    monkeypatch.setattr(runner, 'rank', spy(runner.rank))
    run(tmp_path, models=[TABLE['models'][1]])
    assert looks[-2:] == [('test', 'train'), ('test', 'train+val')]
    assert [split for split, _ in looks[:-2]] == ['val'] * 3


def test_finished_runs_are_not_run_again(finished):
    out, _, records = finished
    lines = []
    before = (out / 'results.jsonl').read_bytes()
    assert run(out, lines)[1][0] == records
    assert all('already there' in line for line in lines)
    assert (out / 'results.jsonl').read_bytes() == before


def test_a_renamed_model_keeps_its_runs_under_the_new_name(finished):
    out, _, records = finished
    models = [{**TABLE['models'][2], 'label': 'popularity'}]
    renamed = run(out, models=models)[1][0]
    assert renamed == [{**records[3], 'label': 'popularity'}]


def test_same_numbers_in_another_folder_and_from_a_checkpoint(finished, tmp_path):
    _, _, records = finished
    models = [TABLE['models'][0]]
    again = run(tmp_path, models=models)[1][0]
    (tmp_path / 'results.jsonl').unlink()  # The checkpoints stay.
    resumed = run(tmp_path, models=models)[1][0]
    for other in (again, resumed):
        assert [r['test'] for r in other] == [r['test'] for r in records[:2]]
        assert [r['curve'] for r in other] == [r['curve'] for r in records[:2]]
    fresh = run(tmp_path, models=models, resume=False)[1][0]
    assert [r['test'] for r in fresh] == [r['test'] for r in records[:2]]
    assert len(ResultsFile(tmp_path / 'results.jsonl').load()) == 4


DIFFREC = {**TABLE['models'][0], 'dropout': 0.0}
RECENCY = {'temporal': {'form': 'hyperbolic', 'h': 2.0}, 'temporal_training': False}


def test_runs_that_differ_in_scoring_alone_share_a_training(tmp_path, monkeypatch):
    from pyg_diffrec.bench import runner

    trained = []

    def spy(model, readings, **kwargs):
        trained.append(len(readings))
        return fit_readings(model, readings, **kwargs)

    fit_readings = runner.fit_readings
    monkeypatch.setattr(runner, 'fit_readings', spy)
    grid = {'temporal': ['linear', {'form': 'hyperbolic', 'h': 1.0}]}
    models = [
        DIFFREC,
        {**DIFFREC, **RECENCY, 'label': 'recency'},
        {**DIFFREC, 'temporal_training': False, 'label': 'chosen', 'grid': grid},
        {**DIFFREC, 'temporal': 'linear', 'label': 'trained on weights'},
    ]
    training = {'epochs': 12, 'eval_every': 2, 'patience': 4}
    lines = []
    together = run(tmp_path / 'all', lines, models=models, training=training)[1][0]
    assert trained == [4, 4, 1, 1]  # Two seeds, then weighted training for each.
    assert sum('from the same training' in line for line in lines) == 4
    assert [r['label'] for r in together[:3]] == ['DiffRec', 'DiffRec', 'recency']
    ignored = {'key', 'trained_with', 'date', 'seconds_total', 'peak_memory_bytes'}
    ignored |= {'seconds_per_epoch', 'seconds_per_evaluation'}
    for index, model in enumerate(models):
        out = tmp_path / str(index)
        alone = run(out, models=[model], training=training)[1][0]
        for mine, other in zip(alone, together[2 * index : 2 * index + 2]):
            assert mine['trained_with'] == []
            for key in set(mine) - ignored:
                assert mine[key] == other[key], key
    assert together[0]['test'] != together[2]['test']
    assert len({r['num_epochs'] for r in together}) > 1


def test_roles_and_scoring_do_not_name_a_training():
    data = [{'name': 'ml-1m_clean', 'roles': x} for x in ('published', 'chronological')]
    models = [DIFFREC, {**DIFFREC, **RECENCY, 'label': 'recency'}, {'name': 'EASE'}]
    suite = parse_suite({**TABLE, 'datasets': data, 'models': models}, 'roles')
    keys = {}
    for entry in plan(suite):
        for key, _ in entry.trainings():
            keys.setdefault(key, []).append((entry.model.label, entry.seed))
    assert sorted(keys.values()) == [
        [('DiffRec', 1), ('recency', 1)] * 2,
        [('DiffRec', 2), ('recency', 2)] * 2,
        [('EASE', 1)] * 2,
    ]


def test_best_on_test_stands_beside_the_results(tmp_path, finished):
    training = {'epochs': 12, 'eval_every': 2, 'patience': 4}
    changes = {'models': [DIFFREC], 'training': training, 'seeds': [1, 2]}
    changes['protocol'] = {'history': ['train']}
    plain = run(tmp_path / 'plain', **changes)[1][0]
    suite, (records, _) = run(tmp_path / 'both', best_on_test=True, **changes)
    for mine, other in zip(plain, records):
        assert mine['key'] != other['key']
        for key in ('validation', 'test', 'curve', 'selected_epoch', 'num_epochs'):
            assert mine[key] == other[key]
        assert 'best_on_test' not in mine
        best = other['best_on_test']
        assert best['Recall@5'] >= other['test']['train']['Recall@5']
        assert best['epoch'] % 2 == 0
    markdown = table(suite, records)
    assert 'Best epochs by _test_ Recall@5' in markdown
    assert 'Best epochs' not in table(finished[1], finished[2])


def test_groups_of_users_stand_beside_the_results(tmp_path, finished):
    models, bounds = TABLE['models'][1:], [5, 11, 12, 1000]
    suite, (records, _) = run(tmp_path, models=models, user_groups=bounds)
    for mine, other in zip(finished[2][2:], records):
        assert mine['key'] != other['key']
        assert mine['test'] == other['test']
        groups = other['groups']['train']
        assert [x['interactions'] for x in groups] == [[5, 10], [11, 11], [12, 999]]
        users = [x['users'] for x in groups]
        mean = sum(x['Recall@5'] * n for x, n in zip(groups, users)) / sum(users)
        assert mean == pytest.approx(other['test']['train']['Recall@5'], rel=1e-6)
    markdown = write_report(suite, records, tmp_path)
    assert f'| 11 ({users[1]} users) |' in markdown
    assert len(list(tmp_path.glob('user-groups-*.png'))) == 2


def test_what_is_left_is_plotted_over_a_key_of_the_datasets(tmp_path):
    data = [
        TABLE['datasets'][0],
        {**TABLE['datasets'][0], 'random_share': 0.1},
    ]
    suite, (records, _) = run(
        tmp_path, models=TABLE['models'][1:], datasets=data, over='random_share'
    )
    write_report(suite, records, tmp_path)
    plots = list(tmp_path.glob('over-random_share-*.png'))
    assert sorted(path.name for path in plots) == [
        'over-random_share-train-val.png',
        'over-random_share-train.png',
    ]


def test_a_dataset_may_have_histories_of_its_own(tmp_path):
    data = [
        {**TABLE['datasets'][0], 'history': 'train'},
        {**TABLE['datasets'][0], 'num_items': 51},
    ]
    suite, (records, _) = run(tmp_path, models=[{'name': 'MostPopular'}], datasets=data)
    assert [list(r['test']) for r in records] == [['train'], ['train', 'train+val']]
    assert table(suite, records).count('history = train,') == 2


def test_failed_run_is_reported_and_the_others_go_on(tmp_path):
    models = [{'name': 'EASE', 'memory_limit': 5}, {'name': 'MostPopular'}]
    records, failures = run(tmp_path, models=models)[1]
    assert [record['model'] for record in records] == ['MostPopular']
    assert len(failures) == 1
    assert "'EASE' needs" in failures[0]


def test_report(finished):
    out, suite, records = finished
    markdown = write_report(suite, records, out)
    assert (out / 'results.md').read_text().startswith(markdown)
    plots = sorted(path.name for path in out.glob('*.png'))
    assert len(plots) == 4
    assert all((out / name).read_bytes()[:4] == b'\x89PNG' for name in plots)
    assert markdown.count('Protocol: roles = synthetic, history = train') == 2
    assert 'l2 = ' in markdown


def test_plots_of_many_models_leave_room_for_what_they_show(
    finished, tmp_path, monkeypatch
):
    _, suite, records = finished
    many = [
        {**record, 'label': f'{record["label"]} in its variant number {i}'}
        for record in records
        for i in range(15)
    ]
    figures = []
    monkeypatch.setattr(report, '_save', lambda figure, path: figures.append(figure))
    report.plots(suite, many, tmp_path)
    assert len(figures) == 4
    for figure in figures:
        figure.draw_without_rendering()
        panels = [axes.get_position() for axes in figure.axes]
        assert min(panel.height for panel in panels) > 0.6
        assert sum(panel.width for panel in panels) > 0.3


def test_table_by_hand(finished):
    _, suite, records = finished
    records = json.loads(json.dumps(records))
    for record, value in zip(records, [0.1, 0.3, 0.25, 0.1]):
        record['test']['train']['Recall@5'] = value
    lines = table(suite, records).splitlines()
    row = {line.split(' | ')[0]: line.split(' | ') for line in lines if '|' in line}
    rows = [line.split(' | ') for line in lines if line.startswith('| ')][2:5]
    row = {cells[0][2:]: cells for cells in rows}
    assert row['DiffRec'][3] == '_0.2000 ± 0.1414_'
    assert row['EASE'][3] == '**0.2500**'
    assert row['MostPopular'][3] == '0.1000'
    assert [row[x][1] for x in ('DiffRec', 'EASE')] == ['2', 'any']


def test_terminal_table_is_aligned():
    out = terminal_table('| a | b |\n| --- | ---: |\n| long | 1 |')
    assert out == 'a     b\n----  -\nlong  1\n'


def test_results_file_is_whole_at_every_moment(tmp_path, monkeypatch):
    import os

    results = ResultsFile(tmp_path / 'results.jsonl')
    results.append({'key': 'a'})

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        results.append({'key': 'b'})
    with pytest.raises(ValueError, match='Out of range float'):
        results.append({'key': float('nan')})
    assert results.load() == [{'key': 'a'}]
    assert [x.name for x in tmp_path.iterdir()] == ['results.jsonl']


def test_results_file_names_a_bad_line(tmp_path):
    path = tmp_path / 'results.jsonl'
    path.write_text('{"key": "a"}\n{"key"\n')
    with pytest.raises(ValueError, match=r"results.jsonl' line 2 is not valid JSON"):
        ResultsFile(path).load()


def test_second_bench_in_the_same_folder_is_refused(tmp_path):
    results = ResultsFile(tmp_path / 'results.jsonl')
    with (
        results.lock(),
        pytest.raises(ValueError, match='Another bench is running'),
        ResultsFile(tmp_path / 'results.jsonl').lock(),
    ):
        pass
    with results.lock():
        pass
