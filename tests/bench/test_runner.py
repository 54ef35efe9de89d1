import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch_geometric import seed_everything

from pyg_diffrec import models
from pyg_diffrec.bench import (
    ResultsFile,
    build_dataset,
    load_suite,
    parse_suite,
    plan,
    recorded,
    run_suite,
    write_report,
)
from pyg_diffrec.bench import finished as finished_runs
from pyg_diffrec.bench.report import table
from pyg_diffrec.cli import main
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import DiffRec
from pyg_diffrec.training import fit

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
    assert ResultsFile(tmp_path / 'results.jsonl').load() == fresh


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


INF = float('inf')


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ({'name': 'EASE', 'memory_limit': 5}, "'EASE' needs"),
        ({'name': 'EASE', 'l2': -1.0}, "'l2' must not be negative"),
        ({'name': 'DiffRec', 'hidden_channels': 'abc'}, 'DiffRec on synthetic 60 50'),
        (
            {'name': 'SimGCL', 'temperature': INF},
            "hyper_parameters.temperature' is inf",
        ),
        ({'name': 'EASE', 'grid': {'l2': [1.0, INF]}}, "'grid.l2.1' is inf"),
        ({'name': 'EASE', 'l2': date(1979, 5, 27)}, "l2' is datetime.date(1979"),
        ({'name': 'RecDiff'}, 'needs ties between users'),
        ({'name': 'SimGCL', 'layer_weights': [1.0]}, "'layer_weights'"),
    ],
)
def test_failed_run_is_reported_and_the_others_go_on(tmp_path, model, message):
    models, lines = [{'name': model['name']}, {'name': 'MostPopular'}], []
    suite = parse_suite({**TABLE, 'models': models, 'seeds': [1]}, 'small')
    # A suite may refuse some of these by itself.
    grid, args = model.pop('grid', {}), {k: v for k, v in model.items() if k != 'name'}
    spec = replace(suite.models[0], args=args, grid=grid)
    suite = replace(suite, models=[spec, suite.models[1]])
    records, failures = run_suite(suite, tmp_path, progress=False, echo=lines.append)
    assert [record['model'] for record in records] == ['MostPopular']
    assert len(failures) == 1
    assert message in failures[0]
    assert any(f'failed: {failures[0].split(": ", 1)[1]}' in line for line in lines)
    stored = ResultsFile(tmp_path / 'results.jsonl').load()
    assert [record['model'] for record in stored] == ['MostPopular']
    write_report(suite, records, tmp_path, failures)
    page = (tmp_path / 'results.md').read_text(encoding='utf-8')
    assert '| MostPopular |' in page
    assert ' '.join(f'- {failures[0]}'.split()) in page


@pytest.mark.parametrize(
    'error',
    [
        torch.cuda.OutOfMemoryError('CUDA out of memory'),
        RuntimeError('something else'),
        KeyError('key'),
        ZeroDivisionError(),
    ],
)
def test_no_error_of_a_model_ends_the_bench(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(DiffRec, 'loss', fail)
    lines = []
    records, failures = run(tmp_path, lines, models=TABLE['models'])[1]
    assert [record['model'] for record in records] == ['EASE', 'MostPopular']
    assert len(failures) == 2
    assert all(str(error) in failure for failure in failures)
    # What nobody expects comes with the place it comes from.
    expected = isinstance(error, torch.cuda.OutOfMemoryError)
    assert any('Traceback' in line for line in lines) is not expected


def test_what_is_not_finite_is_a_failed_run(tmp_path, monkeypatch):
    from pyg_diffrec.bench import runner

    def broken(items, users, data, split, metrics, protocol):
        found = measure(items, users, data, split, metrics, protocol)
        bad = split == where and metric in metrics
        return {**found, metric: float('nan')} if bad else found

    measure = runner.measure
    monkeypatch.setattr(runner, 'measure', broken)
    for where, metric in [('val', 'Recall@5'), ('val', 'NDCG@5'), ('test', 'NDCG@5')]:
        out = tmp_path / f'{where} {metric}'
        records, failures = run(out, models=TABLE['models'][2:])[1]
        assert records == []
        assert metric in failures[0]
        assert 'nan' in failures[0]


def test_a_full_disk_ends_the_bench(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match=r"results.jsonl' cannot be written \(No space"):
        run(tmp_path, models=TABLE['models'][1:])


def test_one_reading_that_fails_leaves_the_others_of_its_training(tmp_path):
    models = [
        DIFFREC,
        {**DIFFREC, **RECENCY, 'label': 'wrong'},
        {**DIFFREC, **RECENCY, 'label': 'recency'},
    ]
    suite = parse_suite({**TABLE, 'models': models, 'seeds': [1]}, 'small')
    first, wrong, last = suite.models
    # Of itself, a suite refuses it.
    args = {**wrong.args, 'temporal': {'form': 'hyperbolic', 'h': -1.0}}
    suite = replace(suite, models=[first, replace(wrong, args=args), last])
    records, failures = run_suite(suite, tmp_path, progress=False, echo=lambda _: None)
    assert [record['label'] for record in records] == ['DiffRec', 'recency']
    assert [failure.split(' on ')[0] for failure in failures] == ['wrong']


def test_a_dataset_that_is_missing_leaves_the_others(tmp_path):
    data = [{'name': 'ciao'}, TABLE['datasets'][0]]
    models, root = TABLE['models'][2:], tmp_path / 'raw'
    root.mkdir()
    suite = parse_suite({**TABLE, 'datasets': data, 'models': models}, 'two')
    lines = []
    records, failures = run_suite(
        suite, tmp_path / 'out', data_root=root, progress=False, echo=lines.append
    )
    assert [record['dataset'] for record in records] == data[1:]
    assert len(failures) == 1
    assert "has no folder 'ciao'" in failures[0]
    suite = parse_suite({**TABLE, 'datasets': data[:1], 'models': models}, 'one')
    with pytest.raises(FileNotFoundError, match="has no folder 'ciao'"):
        run_suite(suite, tmp_path / 'out', data_root=root, echo=lines.append)


@pytest.mark.parametrize('name', ['DiffRec', 'LightGCN', 'MultiVAE', 'EASE'])
def test_metrics_of_the_chosen_epoch_are_those_of_measuring_all_always(tmp_path, name):
    metrics = ['NDCG@3', 'Recall@5', 'MRR@10', 'Personalization@4']
    training = {'epochs': 8, 'eval_every': 1, 'patience': 3}
    changes = {'metrics': metrics, 'table': ['Recall@5'], 'training': training}
    changes |= {'models': [{'name': name}], 'best_on_test': True, 'seeds': [1]}
    suite, (records, _) = run(tmp_path, **changes)
    (one,) = plan(suite)
    data = build_dataset(one.dataset, None, tmp_path)
    for split in ('val', 'test'):
        seed_everything(1)
        model = getattr(models, name).from_data(data)
        result = fit(
            model,
            validate=lambda m: evaluate(m, data, split, metrics, suite.protocols[0]),  # noqa: B023
            metric='Recall@5',
            progress=False,
            # The test metrics are looked at as long as validation gets better.
            **{**training, 'patience': 3 if split == 'val' else None},
        )
        curve = result.curve[: len(records[0]['curve'])]
        best = max(curve, key=lambda x: x['Recall@5'])
        if split == 'val':
            points = [{k: x[k] for k in ('epoch', 'Recall@5')} for x in curve]
            assert records[0]['curve'] == points
            assert records[0]['validation'] == {k: best[k] for k in metrics}
        elif len(result.curve) == len(curve):
            found = {k: best[k] for k in ('epoch', *metrics)}
            assert records[0]['best_on_test'] == found


def test_other_metrics_are_measured_only_where_they_may_count(tmp_path, monkeypatch):
    from pyg_diffrec.bench import runner

    asked = []

    def spy(items, users, data, split, metrics, protocol):
        found = measure(items, users, data, split, metrics, protocol)
        if split == 'val':
            asked.append((metrics, found.get('Recall@5')))
        return found

    measure = runner.measure
    monkeypatch.setattr(runner, 'measure', spy)
    training = {'epochs': 12, 'eval_every': 1}
    run(tmp_path, models=[DIFFREC], seeds=[1], training=training)
    curve = [value for metrics, value in asked if metrics == ['Recall@5']]
    assert len(curve) == 12
    rises = sum(x > max([-1.0, *curve[:i]]) for i, x in enumerate(curve))
    assert asked.count((['NDCG@5'], None)) == rises < 12


def test_less_to_measure_is_no_other_training(finished, tmp_path):
    out, _, records = finished
    (tmp_path / 'results.jsonl').write_bytes((out / 'results.jsonl').read_bytes())
    lines = []
    less = {'metrics': ['Recall@5'], 'protocol': {'history': 'train'}}
    suite, (found, _) = run(tmp_path, lines, **less)
    assert found == records
    assert all('already there' in line for line in lines)
    assert 'NDCG' not in table(suite, found)
    other = {'protocol': {'history': 'train', 'empty_users': 'zero'}}
    more = {'metrics': ['Recall@5', 'NDCG@5', 'MRR@5']}
    for change in (more, other, {'metric': 'NDCG@5'}, {'user_groups': [3]}):
        suite = parse_suite({**TABLE, **change}, 'small')
        assert finished_runs(list(plan(suite)), records) == {}


RECORDED = {
    'diffmm': 21,
    'diffmm-ablation': 7,
    'diffmm-fusion-ratio': 3,
    'diffmm-hyper-parameters': 7,
    'diffmm-sparsity': 11,
    'diffrec-clean': 119,
    'diffrec-natural-noise': 40,
    'diffrec-noisy': 108,
    'diffrec-random-noise': 20,
    'diffrec-steps': 39,
    'ml-1m': 5,
    'ml-1m-chronological': 6,
    'recdiff': 27,
    'recdiff-ablation': 12,
    'recdiff-hyper-parameters': 13,
    'recdiff-social-noise': 27,
    'recdiff-top-n': 27,
    'recdiff-training': 5,
}
RESULTS = Path(__file__).parents[2] / 'benchmarks' / 'results'


@pytest.mark.parametrize('name', RECORDED)
def test_recorded_runs_count_as_done(name):
    records = ResultsFile(RESULTS / name / 'results.jsonl').load()
    suite = load_suite(name)
    found = finished_runs(list(plan(suite)), records)
    assert len(found) == len(records) == RECORDED[name]
    assert all(key == record['key'] for key, record in found.items())
    assert len(recorded(suite, records)) == RECORDED[name]


def test_all_recorded_runs_are_looked_at():
    assert {path.parent.name for path in RESULTS.glob('*/results.jsonl')} == {*RECORDED}


def test_reports_hold_all_that_is_there(finished):
    _, suite, records = finished
    assert recorded(suite, records) == records
    one = suite.override(models=['EASE'], seeds=[2])
    assert [r['label'] for r in recorded(one, records)] == ['EASE']
    assert recorded(suite.override(seeds=[7]), records) == records
    assert recorded(suite.override(epochs=9), records) == []


def test_a_run_that_is_named_twice_is_run_once(tmp_path):
    models = [TABLE['models'][1], {**TABLE['models'][1], 'label': 'again'}]
    suite = parse_suite({**TABLE, 'models': models}, 'twice')
    twice = replace(suite, models=[*suite.models, suite.models[0]], seeds=[1, 1])
    records, _ = run_suite(twice, tmp_path, progress=False, echo=lambda line: None)
    assert [record['label'] for record in records] == ['EASE', 'again']
    assert len(ResultsFile(tmp_path / 'results.jsonl').load()) == 1
    models = [DIFFREC]
    suite = replace(parse_suite({**TABLE, 'models': models}, 'seeds'), seeds=[1, 1])
    records, _ = run_suite(suite, tmp_path, progress=False, echo=lambda line: None)
    assert [record['seed'] for record in records] == [1]
    page = table(suite, records * 2)
    assert '| DiffRec | 1 |' in page
    assert '±' not in page.split('| DiffRec |')[1].splitlines()[0]


def test_what_killed_runs_left_is_cleared(finished, tmp_path):
    out, _, _ = finished
    (tmp_path / 'results.jsonl').write_bytes((out / 'results.jsonl').read_bytes())
    (tmp_path / 'checkpoints').mkdir()
    left = ['.results-abc', '.results.jsonl.x.part', '.curves-0.png.y.part']
    left += ['checkpoints/.0a.pt.zzz']
    for name in [*left, 'checkpoints/0a.pt', 'mine.part', '.mine']:
        (tmp_path / name).write_text('')
    run(tmp_path)
    assert [name for name in left if (tmp_path / name).exists()] == []
    assert (tmp_path / 'checkpoints' / '0a.pt').exists()
    assert (tmp_path / 'mine.part').exists()
    assert (tmp_path / '.mine').exists()


def test_lines_tell_how_far_it_is(tmp_path, monkeypatch):
    from pyg_diffrec.bench import runner

    monkeypatch.setattr(runner, '_LINE_EVERY', -1.0)
    lines = []
    records, _ = run(tmp_path, lines)[1]
    best = [record['validation']['Recall@5'] for record in records]
    curve = records[0]['curve']
    assert [line for line in lines if 'seed 1: Recall@5' in line][:3] == [
        f'[1/4] DiffRec on synthetic 60 50, seed 1: Recall@5 {curve[0]["Recall@5"]:.4f}'
        f', best {curve[0]["Recall@5"]:.4f}, validation 1 since the start',
        f'[1/4] DiffRec on synthetic 60 50, seed 1: Recall@5 {curve[1]["Recall@5"]:.4f}'
        f', best {best[0]:.4f}, validation 2 since the start',
        next(line for line in lines if 'on validation at epoch' in line),
    ]
    ends = [line for line in lines if 'on validation' in line]
    assert len(ends) == 4
    assert all(f'Recall@5 {x:.4f} on validation' in line for x, line in zip(best, ends))
    assert f'{records[0]["test"]["train"]["Recall@5"]:.4f} on test' in ends[0]
    to_go = [line for line in lines if 'to go, about' in line]
    assert [line.split()[0] for line in to_go] == ['3', '2', '1']


def test_versions_are_asked_for_before_anything_is_trained(tmp_path, monkeypatch):
    from pyg_diffrec.bench import runner

    def fail():
        raise ValueError('no metadata')

    monkeypatch.setattr(runner, 'versions', fail)
    lines = []
    with pytest.raises(ValueError, match='no metadata'):
        run(tmp_path, lines)
    assert lines == []


SUITE = """
metric = 'Recall@5'
metrics = ['Recall@5']
[training]
epochs = 2
eval_every = 1
[[datasets]]
name = 'synthetic'
num_users = 40
num_items = 50
[[models]]
name = 'EASE'
[[models]]
name = 'MostPopular'
[[models]]
name = 'DiffRec'
"""


@pytest.fixture
def bench(tmp_path):
    """The command, on a small suite."""
    (tmp_path / 'small.toml').write_text(SUITE)

    def call(*args):
        out = tmp_path / 'out'
        command = ['bench', str(tmp_path / 'small.toml'), '--out', str(out), *args]
        return CliRunner().invoke(main, command), out

    return call


def labels_of(page):
    rows = [line for line in page.splitlines() if line.startswith('| ')]
    return [line.split(' | ')[0].strip('| ') for line in rows[2:]]


def test_a_report_after_some_models_holds_the_others_too(bench):
    bench('--models', 'MostPopular')
    bench('--models', 'DiffRec', '--seeds', '1,2')
    result, out = bench('--models', 'EASE')
    assert result.exit_code == 0, result.output
    page = (out / 'results.md').read_text(encoding='utf-8')
    assert labels_of(page) == ['EASE', 'MostPopular', 'DiffRec']
    assert '| DiffRec | 2 |' in page
    assert result.output.count('MostPopular') == 1  # It is in the table.
    assert len(ResultsFile(out / 'results.jsonl').load()) == 4
    # Fewer epochs are other runs, which do not go into one table with these.
    bench('--models', 'EASE', '--epochs', '1')
    page = (out / 'results.md').read_text(encoding='utf-8')
    assert labels_of(page) == ['EASE']


def test_running_again_without_resuming_leaves_each_run_once(bench):
    bench()
    result, out = bench('--no-resume')
    assert 'already there' not in result.output
    keys = [record['key'] for record in ResultsFile(out / 'results.jsonl').load()]
    assert len(keys) == len(set(keys)) == 3


def test_a_command_with_failed_runs_names_them_and_exits_with_an_error(
    bench, monkeypatch
):
    def fail(*args, **kwargs):
        raise ValueError('no\nluck')

    monkeypatch.setattr(models.EASE, 'from_data', fail)
    result, out = bench('--models', 'EASE')
    assert result.exit_code == 1
    assert 'no luck' in (out / 'results.md').read_text(encoding='utf-8')
    result, _ = bench()
    assert result.exit_code == 1
    assert 'Some runs failed:\nEASE on synthetic 40 50, seed 1: no\nluck' in (
        result.output
    )
    page = (out / 'results.md').read_text(encoding='utf-8')
    assert labels_of(page) == ['MostPopular', 'DiffRec']
    assert '- EASE on synthetic 40 50, seed 1: no luck' in page
    plan = bench('--dry-run')[0].output
    assert plan.count('already there') == 2
    assert plan.count('to run') == 1


def test_files_in_the_way_are_errors_of_the_command(bench):
    _, out = bench('--models', 'MostPopular')
    (out / 'results.md').unlink()
    (out / 'results.md').mkdir()
    result, _ = bench('--models', 'MostPopular')
    assert result.exit_code == 2
    assert "results.md' needs to be a file" in ' '.join(result.output.split())
    result = CliRunner().invoke(
        main, ['bench', '--out', str(out / 'results.jsonl' / 'below')]
    )
    assert result.exit_code == 2
    assert 'cannot be a folder' in ' '.join(result.output.split())
