import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from pyg_diffrec import __version__
from pyg_diffrec.bench import suite_names
from pyg_diffrec.cli import main

SUITE = """
title = 'Small'
seeds = [1, 2, 3]
metric = 'Recall@5'
metrics = ['Recall@5']
[training]
epochs = 3
eval_every = 1
[[datasets]]
name = 'synthetic'
num_users = 60
num_items = 50
[[models]]
name = 'DiffRec'
hidden_channels = [8]
[[models]]
name = 'MostPopular'
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / 'small.toml'
    path.write_text(SUITE)
    return str(path)


def call(*args):
    return CliRunner().invoke(main, args)


def in_process(*args):
    return [sys.executable, '-m', 'pyg_diffrec', *args]


def test_help_does_not_import_torch():
    for args in (['--help'], ['bench', '--help'], ['list', '--help'], ['--version']):
        code = (
            'import sys; from pyg_diffrec.cli import main\n'
            f'try: main({args})\n'
            "except SystemExit: assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


def test_help_is_fast():
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        out = subprocess.run(in_process('--help'), check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    assert b'bench' in out.stdout
    assert min(times) < 0.5
    assert call('--version').output == f'pyg-diffrec, version {__version__}\n'


@pytest.mark.parametrize(
    ('what', 'expected'),
    [
        ('models', ['DiffRec', 'EASE', 'MostPopular']),
        ('datasets', ['synthetic', 'ml-1m_clean', 'yelp_noisy']),
        ('suites', ['default', 'ml-1m']),
        ('schedules', ['binomial', 'cosine', 'linear', 'linear-var']),
    ],
)
def test_list(what, expected):
    result = call('list', what)
    assert result.exit_code == 0
    names = [line.split('  ')[0] for line in result.output.splitlines()]
    assert set(expected) <= set(names)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['bench', 'defualt'], "Unknown suite 'defualt'. Did you mean 'default'"),
        (['bench', '--models', 'EAS'], "Did you mean 'EASE'"),
        (['bench', '--device', 'tpu'], "'--device' needs to be one of cpu"),
        (['bench', '--device', 'cpu:7'], "'--device' needs to be one of cpu"),
        (['bench', '--device', 'cpu:0'], "'--device' needs to be one of cpu"),
        (['bench', '--device', 'mps:0'], "'--device' needs to be one of cpu"),
        (['bench', '--device', 'cuda:x'], "'--device' needs to be one of cpu"),
        (['bench', '--device', 'cpu:'], "'--device' needs to be one of cpu"),
        (['bench', '--seeds', '1,x'], 'needs integers separated by commas'),
        (['bench', '--seeds', ','], 'needs integers separated by commas'),
        (['bench', '--seeds', '1,2,1'], "'--seeds': names '1' more than once"),
        (['bench', '--seeds', '-1'], "'seeds' needs at least one whole number in [0"),
        (['bench', '--models', ''], "'--models': needs names separated by commas"),
        (['bench', '--models', 'EASE,EASE'], "'--models': names 'EASE' more than once"),
        (['bench', '--models', 'EASE,ease'], "'models' lists 'ease' more than once"),
        (['bench', 'missing.toml'], "There is no suite file 'missing.toml'"),
        (['bench', '--epochs', '0'], "'--epochs': 0 is not in the range"),
        (['bench', '--data-root', '/no/such/folder'], 'does not exist'),
        (
            ['tune', 'EASE', '--dataset', 'synthetic', '--seed', '-1'],
            'not in the range',
        ),
        (['tune', 'EASE', '--dataset', 'ml-1m_clean', '--roles', 'a,a'], 'than once'),
        (['list', 'colours'], "'models', 'datasets', 'suites', 'schedules'"),
        (['bnech'], "No such command 'bnech'"),
    ],
)
def test_mistakes_exit_with_code_2(args, message):
    result = call(*args)
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_graphics_card_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    result = call('bench', '--device', 'cuda:2', '--dry-run')
    assert result.exit_code == 2
    assert "'--device cuda:2' does not exist: the last one is 'cuda:1'" in result.output
    assert call('bench', '--device', 'cuda:1', '--dry-run').exit_code == 0
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    for device in ('cuda', 'mps'):
        result = call('bench', '--device', device, '--dry-run')
        assert result.exit_code == 2
        assert f"'--device {device}' needs a" in result.output


def test_mistakes_in_a_suite_name_file_and_key(tmp_path):
    path = tmp_path / 'mine.toml'
    for change, message in (
        ("seeds = '1'", "'seeds' needs to be a list of whole numbers"),
        ('seeds = [1, 1]', "'seeds' lists 1 more than once"),
        ('over = [0]', "'over' needs to be a string"),
        ('[protocol]\nhistory = 3.5', "'history' needs to be a string or a list"),
    ):
        path.write_text(change + SUITE.partition(']')[2], encoding='utf-8')
        result = call('bench', str(path), '--dry-run')
        assert result.exit_code == 2
        assert f"'{path}': {message}" in result.output
    path.write_text(SUITE.replace('[8]', "['8']"), encoding='utf-8')
    result = call('bench', str(path), '--dry-run')
    assert result.exit_code == 2
    message = "'hidden_channels' needs to be a whole number or a list of whole numbers"
    assert f"'{path}': {message} in model 'DiffRec' of suite 'mine'" in result.output


@pytest.mark.parametrize('command', ['bench', 'tune'])
def test_folders_and_files_that_cannot_be_used(tmp_path, suite, command):
    (tmp_path / 'file').write_text('', encoding='utf-8')
    args = ['bench', suite, '--models', 'MostPopular']
    if command == 'tune':
        pytest.importorskip('optuna')
        args = ['tune', 'EASE', '--dataset', 'synthetic', '--trials', '1']
    for out, message in (
        (tmp_path / 'file' / 'below', 'cannot be a folder, there is a file'),
        (tmp_path / ('x' * 300), 'File name too long'),
        (Path('/proc/nothing/here'), 'No such file or directory'),
    ):
        result = call(*args, '--out', str(out))
        assert (result.exit_code, type(result.exception)) == (2, SystemExit)
        assert result.output.splitlines()[-1].startswith('Error: ')
        assert message in result.output
        assert f"'{out}" in result.output
        assert len(result.output) < 700


def test_a_suite_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / 'mine.toml'
    path.mkdir()
    result = call('bench', str(path), '--dry-run')
    assert result.exit_code == 2
    assert f"There is no suite file '{path}'" in result.output
    path.rmdir()
    path.write_text(SUITE, encoding='utf-8')

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'read_text', refuse)  # Root may read everything.
    result = call('bench', str(path), '--dry-run')
    assert result.exit_code == 2
    assert f"Error: Permission denied: '{path}'" in result.output


def test_unknown_suite_lists_all():
    output = call('bench', 'zzz').output
    assert all(name in output for name in suite_names())


def test_missing_raw_files_say_where_to_put_them(tmp_path):
    out = ['--out', str(tmp_path / 'out')]
    result = call('bench', 'ml-1m', '--data-root', str(tmp_path), *out)
    assert result.exit_code == 2
    assert "has no folder 'ml-1m_clean'" in result.output
    (tmp_path / 'ml-1m_clean').mkdir()
    result = call('bench', 'ml-1m', '--data-root', str(tmp_path), *out)
    assert result.exit_code == 2
    assert 'train_list.npy' in result.output


def test_bench_runs_resumes_and_plans(tmp_path, suite):
    args = ['bench', suite, '--out', str(tmp_path / 'out'), '--seeds', '1']
    plan = call(*args, '--dry-run')
    assert plan.output.count('to run') == 2
    assert not (tmp_path / 'out').exists()
    result = call(*args)
    assert result.exit_code == 0, result.output
    assert 'MostPopular' in result.output
    assert call(*args, '--dry-run').output.count('already there') == 2
    more = call(*args[:-1], '1,2', '--models', 'DiffRec')
    assert more.output.count('already there') == 1
    lines = (tmp_path / 'out' / 'results.jsonl').read_text().splitlines()
    assert [json.loads(line)['seed'] for line in lines] == [1, 1, 2]


@pytest.mark.parametrize('stop', [signal.SIGKILL, signal.SIGINT])
def test_stopped_bench_leaves_valid_results_and_goes_on(tmp_path, suite, stop):
    out = tmp_path / 'out'
    path = out / 'results.jsonl'
    args = ['bench', suite, '--out', str(out), '--epochs', '400', '--models', 'DiffRec']
    text = SUITE.replace('eval_every = 1', 'eval_every = 20\npatience = 400')
    (tmp_path / 'small.toml').write_text(text)
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(
        in_process(*args),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A test run in the background of a shell inherits an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 100
    while not path.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(stop)
    _, errors = process.communicate()
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert b'the same command continues' in errors
    done = [json.loads(line)['seed'] for line in path.read_text().splitlines()]
    assert done in ([1], [1, 2])
    again = subprocess.run(in_process(*args), env=environment, capture_output=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(b'already there') == len(done)
    seeds = [json.loads(line)['seed'] for line in path.read_text().splitlines()]
    assert seeds == [1, 2, 3]
