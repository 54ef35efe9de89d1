import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from pyg_diffrec.bench import ResultsFile


def test_results_file_is_whole_at_every_moment(tmp_path, monkeypatch, make_record):
    results = ResultsFile(tmp_path / 'results.jsonl')
    results.append(make_record('a'))

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match=r"results.jsonl' cannot be written \(disk full"):
        results.append(make_record('b'))
    with pytest.raises(ValueError, match='Out of range float'):
        results.append(make_record('b', threads=float('nan')))
    assert results.load() == [make_record('a')]
    assert [x.name for x in tmp_path.iterdir()] == ['results.jsonl']


def test_a_record_takes_the_place_of_that_of_the_same_run(tmp_path, make_record):
    results = ResultsFile(tmp_path / 'results.jsonl')
    for key, seed in [('a', 1), ('b', 2), ('a', 3)]:
        results.append(make_record(key, seed=seed))
    assert results.load() == [make_record('b', seed=2), make_record('a', seed=3)]


@pytest.mark.parametrize('end', ['', '\n', '\n\n', '\r\n'])
def test_a_last_line_without_an_end_is_not_written_on(tmp_path, make_record, end):
    results = ResultsFile(tmp_path / 'results.jsonl')
    line = json.dumps(make_record('a'))
    results.path.write_text(line + end, encoding='utf-8', newline='')
    results.append(make_record('b'))
    assert results.load() == [make_record('a'), make_record('b')]


def without(record, *keys):
    *path, last = keys
    inner = record
    for key in path:
        inner = inner[key]
    del inner[last]
    return record


def changed(record, value, *keys):
    *path, last = keys
    inner = record
    for key in path:
        inner = inner[key]
    inner[last] = value
    return record


@pytest.mark.parametrize('line', ['[1]', '3', 'null', '"a"', 'true'])
def test_a_line_that_is_no_object_is_named(tmp_path, make_record, line):
    path = tmp_path / 'results.jsonl'
    path.write_text(f'{json.dumps(make_record())}\n{line}\n', encoding='utf-8')
    message = r"results.jsonl' line 2 is not the record of a run: the line needs to be"
    with pytest.raises(ValueError, match=message + '.*remove the line'):
        ResultsFile(path).load()


@pytest.mark.parametrize(
    'content', [b'{"key"\n', b'{"key": "\xff"}\n', b'[' * 100_000, b'{"key": "a"} {}']
)
def test_a_line_that_is_no_json_is_named(tmp_path, make_record, content):
    path = tmp_path / 'results.jsonl'
    path.write_bytes(json.dumps(make_record()).encode() + b'\n' + content)
    for use in (ResultsFile(path).load, lambda: ResultsFile(path).append({'key': 1})):
        with pytest.raises(
            ValueError, match=r"results.jsonl' line 2 is not valid JSON"
        ):
            use()


def test_what_is_missing_is_named(tmp_path, make_record):
    results = ResultsFile(tmp_path / 'results.jsonl')
    free = {'suite', 'seconds_total', 'trained_with', 'peak_memory_source', 'date'}
    for key in make_record().keys() - free:
        results.path.write_text(json.dumps(without(make_record(), key)))
        with pytest.raises(ValueError, match=f"line 1 .*'{key}' is missing"):
            results.load()
    for keys in [
        ('test', 'train'),
        ('test', 'train', 'NDCG@5'),
        ('validation', 'NDCG@5'),
        ('curve', 1, 'Recall@5'),
        ('curve', 0, 'epoch'),
        ('versions', 'torch'),
        ('protocol', 'train'),
        ('protocols', 0, 'history'),
    ]:
        results.path.write_text(json.dumps(without(make_record(), *keys)))
        name = '.'.join(map(str, keys))
        with pytest.raises(ValueError, match=f"line 1 .*'{name}' is missing"):
            results.load()


@pytest.mark.parametrize('value', [None, [], 'x', True, {'x': 1}, 0.5])
def test_what_is_of_another_type_is_named(tmp_path, make_record, value):
    results = ResultsFile(tmp_path / 'results.jsonl')
    for keys in [
        ('key',),
        ('seed',),
        ('metrics',),
        ('deterministic',),
        ('dataset',),
        ('test', 'train'),
        ('validation', 'NDCG@5'),
        ('curve', 2),
        ('protocols', 0),
        ('threads',),
        ('peak_memory_bytes',),
    ]:
        record = make_record()
        old = record
        for key in keys:
            old = old[key]
        fits = type(old) is type(value) and not isinstance(value, (list, dict))
        if fits or (keys == ('peak_memory_bytes',) and value is None):
            continue
        if keys[0] in ('dataset', 'metrics') and type(old) is type(value):
            continue  # Any dataset is one; without metrics there are no numbers.
        results.path.write_text(json.dumps(changed(record, value, *keys)))
        with pytest.raises(ValueError, match='line 1 is not the record of a run'):
            results.load()


def test_groups_and_best_epochs_are_checked(tmp_path, make_record):
    results = ResultsFile(tmp_path / 'results.jsonl')
    metrics = make_record()['validation']
    group = {'interactions': [0, None], 'users': 3, **metrics}
    good = {'user_groups': [3], 'groups': {'train': [group]}}
    results.append(make_record(**good, best_on_test={'epoch': 1, **metrics}))
    assert len(results.load()) == 1
    for bad, message in [
        ({'user_groups': [3]}, "'groups' is missing"),
        ({**good, 'groups': {}}, "'groups.train' is missing"),
        ({**good, 'groups': {'train': [{**group, 'users': None}]}}, '0.users'),
        ({**good, 'groups': {'train': [{**group, 'interactions': [1]}]}}, 'two bounds'),
        ({'best_on_test': True}, "'best_on_test' needs to be an object"),
        ({'grid': {'l3': [1]}}, "'chosen.l3' is missing"),
    ]:
        results.path.write_text(json.dumps(make_record(**bad)))
        with pytest.raises(ValueError, match=message):
            results.load()


def test_a_folder_in_place_of_the_file_and_the_reverse(tmp_path, make_record):
    (tmp_path / 'results.jsonl').mkdir()
    results = ResultsFile(tmp_path / 'results.jsonl')
    for use in (results.load, lambda: results.append(make_record())):
        with pytest.raises(OSError, match="results.jsonl' needs to be a file"):
            use()
    (tmp_path / 'file').write_text('')
    for folder in ('file', 'file/below'):
        results = ResultsFile(tmp_path / folder / 'results.jsonl')
        assert results.load() == []
        with pytest.raises(OSError, match=f"{folder}' cannot be a folder"):
            results.append(make_record())
        with pytest.raises(OSError, match='cannot be a folder'), results.lock():
            pass


@pytest.fixture
def limit_sizes():
    """A context in which files are limited in size, so that a write ends in the middle.
    No longer than that: the log of the tests may be a file, too."""
    resource = pytest.importorskip('resource')

    @contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def test_a_limit_of_sizes_leaves_the_file_whole(tmp_path, make_record, limit_sizes):
    results = ResultsFile(tmp_path / 'results.jsonl')
    results.append(make_record('a'))
    message = r"results.jsonl' cannot be written \(File too large\): make room"
    with (
        pytest.raises(OSError, match=message),
        limit_sizes(results.path.stat().st_size + 100),
    ):
        results.append(make_record('b'))
    assert results.load() == [make_record('a')]
    assert [x.name for x in tmp_path.iterdir()] == ['results.jsonl']


def test_a_limit_of_sizes_leaves_a_journal_whole(tmp_path, limit_sizes):
    from pyg_diffrec.bench.journal import Journal

    path = tmp_path / 'a.journal'
    logs = [{'op_code': i, 'x': 'y' * 50} for i in range(4)]
    Journal(path).append_logs(logs[:2])
    journal = Journal(path)
    with (
        pytest.raises(OSError, match=r"a.journal' cannot be written \(File too large"),
        limit_sizes(path.stat().st_size + 30),
    ):
        journal.append_logs(logs[2:])
    assert Journal(path).read_logs(0) == journal.read_logs(0) == logs[:2]
    journal.append_logs(logs[2:])
    assert Journal(path).read_logs(1) == journal.read_logs(1) == logs[1:]


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


def test_folders_are_locked_where_there_is_no_fcntl(tmp_path, monkeypatch):
    locked = []

    class Windows:
        LK_NBLCK = 2

        @staticmethod
        def locking(handle, mode, size):
            assert (mode, size) == (2, 1)
            if locked:
                raise OSError
            locked.append(handle)

    monkeypatch.setitem(sys.modules, 'fcntl', None)
    monkeypatch.setitem(sys.modules, 'msvcrt', Windows)
    results = ResultsFile(tmp_path / 'results.jsonl')
    with (
        results.lock(),
        pytest.raises(ValueError, match='Another bench is running'),
        results.lock(),
    ):
        pass
    assert len(locked) == 1


def test_nothing_of_one_system_alone_is_imported():
    code = """
import sys
import torch_geometric, lightning_fabric
for name in ("fcntl", "resource", "msvcrt"):
    sys.modules[name] = None
import pyg_diffrec.bench, pyg_diffrec.cli, pyg_diffrec.bench.environment as e
from unittest import mock
with mock.patch.object(e.Path, 'write_text', side_effect=OSError):
    with e.PeakMemory('cpu') as memory:
        pass
assert memory.bytes is None and memory.source == 'unknown'
assert 'matplotlib' not in sys.modules
"""
    root = os.path.dirname(os.path.dirname(sys.modules['pyg_diffrec'].__file__))
    environment = {**os.environ, 'PYTHONPATH': root}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True)
