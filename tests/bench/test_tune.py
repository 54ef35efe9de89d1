import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from torch_geometric.data import HeteroData

from pyg_diffrec.bench import parse_suite, plan, tune
from pyg_diffrec.bench import tune as tune_function
from pyg_diffrec.bench.tune import load_space, spaces, suggest
from pyg_diffrec.cli import main
from pyg_diffrec.datasets import SyntheticInteractions

DATA = {'name': 'synthetic', 'num_users': 60, 'num_items': 50}
TINY = {'name': 'synthetic', 'num_users': 20, 'num_items': 50}


def trials_of(model, budgets, out, data=DATA, **kwargs):
    """The lines of the trials, without their last ones on what was written."""
    lines = []
    for budget in budgets:
        tune(model, data, budget, out, echo=lines.append, **kwargs)
    return [line.split('] ')[1] for line in lines if line.startswith('[')]


class Middle:
    """Suggests the first choice or the middle of a range."""

    def suggest_categorical(self, name, choices):
        return choices[0]

    def suggest_int(self, name, low, high, log=False):
        return (low + high) // 2

    def suggest_float(self, name, low, high, log=False):
        return (low + high) / 2


@pytest.mark.parametrize('name', spaces())
def test_every_space_suggests_arguments_of_its_model(name):
    from pyg_diffrec import models
    from pyg_diffrec.models.hyper_parameters import hyper_parameters

    args = suggest(Middle(), load_space(name))
    assert set(args) <= set(hyper_parameters(getattr(models, name)))


def test_search_starts_with_presets(tmp_path):
    lines = []
    start = ['ml-1m_clean published', 'ml-1m_clean chronological'] * 2
    tune('EASE', DATA, 3, tmp_path, start=start, echo=lines.append)
    values = [float(line.split("'l2': ")[1].rstrip('}')) for line in lines[:3]]
    assert values[:2] == [1379.2, 245.5]
    assert values[2] not in values[:2]
    lines.clear()
    tune('EASE', DATA, 4, tmp_path, start=start, echo=lines.append)
    assert [line.split()[0] for line in lines[:1]] == ['[4/4]']
    with pytest.raises(ValueError, match=r"lacks \['dropout'\] of the search"):
        tune('TDiffRec', DATA, 1, tmp_path, start=['yelp_clean'])
    with pytest.raises(ValueError, match='Unknown preset'):
        tune('EASE', DATA, 1, tmp_path, start=['nothing'])


def test_search_chooses_on_validation_and_goes_on(tmp_path, monkeypatch):
    module = sys.modules['pyg_diffrec.bench.tune']
    splits = []

    def spy(model, data, split, *args):
        splits.append(split)
        return evaluate(model, data, split, *args)

    evaluate = module.evaluate
    monkeypatch.setattr(module, 'evaluate', spy)
    lines = []
    (path,) = tune('EASE', DATA, 3, tmp_path, metric='Recall@5', echo=lines.append)
    assert set(splits) == {'val'}
    assert len(splits) == 1 + 3  # Whether the metric can be had, then the trials.
    values = [float(line.split()[2]) for line in lines[:3]]
    assert f'{max(values):.4f}' in lines[3]
    lines.clear()
    again = tune('EASE', DATA, 5, tmp_path, metric='Recall@5', echo=lines.append)
    assert again == [path]
    assert [line.split()[0] for line in lines[:2]] == ['[4/5]', '[5/5]']
    assert len(splits) == 1 + 3 + 1 + 2

    models = [{'name': 'EASE', 'preset': str(path)}]
    suite = parse_suite({'datasets': [DATA], 'models': models}, 'mine')
    l2 = next(plan(suite)).model.args['l2']
    assert f"'l2': {l2}" in lines[2]


def test_failed_trials_do_not_stop_the_search(tmp_path, monkeypatch):
    module = sys.modules['pyg_diffrec.bench.tune']
    space = {'l2': {'choices': [-1.0, 5.0]}}
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    lines = []
    (path,) = tune_function('EASE', DATA, 12, tmp_path, echo=lines.append)
    assert any("failed: 'l2' must not be negative" in line for line in lines)
    assert 'l2 = 5.0' in path.read_text()
    space['l2'] = {'choices': [-1.0]}
    with pytest.raises(ValueError, match='No trial of .* succeeded'):
        tune_function('EASE', DATA, 2, tmp_path / 'other', echo=lines.append)


def test_hopeless_trials_stop_early(tmp_path, monkeypatch):
    module = sys.modules['pyg_diffrec.bench.tune']
    space = {'lr': {'choices': [1e-2, 5e-3, 1e-7]}}
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    data = {'name': 'synthetic', 'num_users': 200, 'num_items': 60}
    lines = []
    tune_function('MFBPR', data, 9, tmp_path, seed=3, epochs=30, echo=lines.append)
    stopped = [line for line in lines if 'stopped early' in line]
    assert stopped
    assert all('1e-07' in line for line in stopped)
    assert '1e-07' not in lines[-1]


def test_roles_share_trials_and_choose_on_their_own(tmp_path, monkeypatch):
    module = sys.modules['pyg_diffrec.bench.tune']
    scores = {'a': {10.0: 0.3, 20.0: 0.1}, 'b': {10.0: 0.2, 20.0: 0.5}}
    models = []

    class Fake(module.models.EASE):
        @classmethod
        def from_data(cls, data, l2):
            models.append(cls(5, l2=l2))
            return models[-1]

    def build_dataset(spec, *args):
        data = SyntheticInteractions(30, 20, num_groups=2, interactions_per_user=6)[0]
        data.roles = spec['roles']
        return data

    def evaluate(model, data, split, metrics, protocol):
        assert split == 'val'
        # The first look is whether the metric can be had at all.
        return {metrics[0]: scores[data.roles][model.l2] if model in models else 0.0}

    monkeypatch.setattr(module.models, 'EASE', Fake)
    monkeypatch.setattr(module, 'evaluate', evaluate)
    monkeypatch.setattr(module, 'check_dataset', lambda spec: None)
    monkeypatch.setattr(module, 'build_dataset', build_dataset)
    space = {'l2': {'choices': [10.0, 20.0]}}
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    paths = tune(
        'EASE', {'name': 'd'}, 8, tmp_path, roles=['a', 'b'], echo=lambda line: None
    )
    assert [path.name for path in paths] == ['EASE-d-a.toml', 'EASE-d-b.toml']
    assert len(models) == 8
    assert 'l2 = 10.0' in paths[0].read_text()
    assert 'l2 = 20.0' in paths[1].read_text()


def test_command_and_mistakes(tmp_path):
    def call(*args):
        return CliRunner().invoke(main, ['tune', *args, '--out', str(tmp_path)])

    result = call(
        'TDiffRec', '--dataset', 'synthetic', '--trials', '1', '--epochs', '1'
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / 'TDiffRec-synthetic.toml').exists()
    for args, message in [
        (['EAZE', '--dataset', 'synthetic'], "Did you mean 'EASE'"),
        (['MostPopular', '--dataset', 'synthetic'], 'has no search space; models that'),
        (['EASE', '--dataset', 'synthetik'], "Did you mean 'synthetic'"),
        (['EASE', '--dataset', 'synthetic', '--roles', 'x'], "'roles'"),
    ]:
        result = call(*args)
        assert result.exit_code == 2, result.output
        assert message in result.output
    with pytest.raises(ValueError, match='There is no preset file'):
        parse_suite(
            {'datasets': [DATA], 'models': [{'name': 'EASE', 'preset': 'no.toml'}]}, 'm'
        )


@pytest.mark.parametrize('model', ['EASE', 'GFCF'])
def test_a_search_that_goes_on_tries_what_it_would_have_tried(tmp_path, model):
    once = trials_of(
        model, [14], tmp_path / 'once', TINY
    )  # The model from the 11th on.
    often = trials_of(model, [2, 9, 11, 12, 14], tmp_path / 'often', TINY)
    assert often == once
    assert len(set(once)) == 14


def test_a_search_begins_as_it_always_did(tmp_path):
    data = {**DATA, 'num_items': 40, 'num_groups': 3, 'interactions_per_user': 8}
    lines = trials_of('EASE', [2, 4], tmp_path, data)
    values = [float(line.split("'l2': ")[1].rstrip('}')) for line in lines]
    assert [round(x, 1) for x in values] == [133.5, 879.3, 10.0, 65.5]


def test_presets_of_a_search_that_was_interrupted_are_tried(tmp_path, monkeypatch):
    start = ['ml-1m_clean published', 'ml-1m_clean chronological']
    module = sys.modules['pyg_diffrec.bench.tune']
    fit_readings = module.fit_readings
    monkeypatch.setattr(module, 'fit_readings', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trials_of('EASE', [3], tmp_path, start=start)
    monkeypatch.setattr(module, 'fit_readings', fit_readings)
    lines = trials_of('EASE', [3], tmp_path, start=start)
    assert lines == trials_of('EASE', [3], tmp_path / 'other', start=start)
    assert "'l2': 1379.2" in lines[0]
    assert "'l2': 245.5" in lines[1]


@pytest.mark.parametrize(
    ('model', 'data', 'metric', 'message'),
    [
        ('EASE', DATA, 'recall@20', "Did you mean 'Recall'"),
        ('EASE', DATA, 'Recall', 'needs a list length'),
        ('EASE', DATA, 'Recall@51', '51'),
        ('EASE', DATA, 'AveragePopularity@20', 'of which higher is better'),
        ('RecDiff', DATA, 'Recall@20', "'RecDiff' needs ties between users"),
        ('VBPR', DATA, 'Recall@20', "'VBPR' needs at least one modality"),
        ('DiffMM', DATA, 'Recall@20', 'modality'),
    ],
)
def test_what_no_hyper_parameter_cures_ends_the_search(
    tmp_path, monkeypatch, model, data, metric, message
):
    module = sys.modules['pyg_diffrec.bench.tune']
    trained = []
    monkeypatch.setattr(
        module, 'fit_readings', lambda *args, **kwargs: trained.append(1)
    )
    lines = []
    with pytest.raises(ValueError, match=message):
        tune(model, data, 5, tmp_path, metric=metric, echo=lines.append)
    assert lines == trained == []


@pytest.mark.parametrize('budgets', [[8], [1, 2, 8]])
def test_a_space_may_leave_out_the_defaults(tmp_path, monkeypatch, budgets):
    """Which the model refuses on this data, as DiffMM does with one modality."""
    module = sys.modules['pyg_diffrec.bench.tune']
    from_data = module.models.EASE.from_data

    def picky(data, l2=7.0):
        if l2 < 500.0:
            raise ValueError('not on this data')
        return from_data(data, l2=l2)

    monkeypatch.setattr(module.models.EASE, 'from_data', picky)
    space = {'l2': {'choices': [1000.0, 5.0, 600.0]}}
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    start = tmp_path / 'start.toml'
    start.write_text('l2 = 600.0')
    lines = trials_of('EASE', budgets, tmp_path / 'out', TINY, start=[str(start)])
    failed = [line for line in lines if line.startswith('failed: not on this data')]
    assert len(failed) > 0
    assert len([line for line in lines if line.startswith('Recall')]) > 1


def test_errors_of_training_that_no_hyper_parameter_causes_end_the_search(
    tmp_path, monkeypatch
):
    module = sys.modules['pyg_diffrec.bench.tune']
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 2, 3
    # Who trains has every item: there is no negative to draw.
    pairs = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 0]])
    data['user', 'interacts', 'item'].edge_index = pairs
    for name, row in [('train', [1, 1, 1, 0]), ('val', [0, 0, 0, 1])]:
        data['user', 'interacts', 'item'][f'{name}_mask'] = torch.tensor(row).bool()
    data['user', 'interacts', 'item'].test_mask = torch.zeros(4).bool()
    monkeypatch.setattr(module, 'build_dataset', lambda *args: data)
    lines = []
    with pytest.raises(ValueError, match='every item'):
        tune('LightGCN', DATA, 5, tmp_path, metric='Recall@1', echo=lines.append)
    assert lines == []


@pytest.mark.parametrize(
    'error',
    [
        MemoryError('full'),
        torch.cuda.OutOfMemoryError('full'),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_failed_trials_are_tried_again_once_their_cause_is_mended(
    tmp_path, monkeypatch, error
):
    module = sys.modules['pyg_diffrec.bench.tune']
    fit_readings = module.fit_readings

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(module, 'fit_readings', fail)
    with pytest.raises(ValueError, match='No trial .* succeeded.*failed: .*(full|mem)'):
        trials_of('EASE', [2], tmp_path)
    monkeypatch.setattr(module, 'fit_readings', fit_readings)
    assert trials_of('EASE', [3], tmp_path) == trials_of('EASE', [3], tmp_path / 'b')


KILLED = """
import os, signal, sys
from pathlib import Path
from pyg_diffrec.bench import journal, tune
spec, out, write, part = eval(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
append, count = journal.Journal.append_logs, 0
def killed(self, logs):
    global count
    count += 1
    if count == write:
        with open(self.path, 'ab') as file:
            file.write(b'{"op_code":5,"worker_id":"x","trial_id"'[:part])
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, logs)
journal.Journal.append_logs = killed
tune('EASE', spec, 3, out)
"""


def test_a_search_killed_at_any_write_goes_on(tmp_path, monkeypatch):
    from pyg_diffrec.bench import journal

    once = trials_of('EASE', [3], tmp_path / 'once', TINY)
    path = 'EASE-synthetic-20-50'
    preset = (tmp_path / 'once' / f'{path}.toml').read_bytes()
    writes = (tmp_path / 'once' / f'{path}.journal').read_bytes().count(b'\n')
    append = journal.Journal.append_logs

    class Killed(BaseException):
        pass

    def killed(self, logs):
        if next(left) == 0:
            with open(self.path, 'ab') as file:
                file.write(json.dumps(logs[0]).encode()[: 7 * (write % 3)])
            raise Killed
        append(self, logs)

    for write in range(1, writes + 1):
        left = iter(range(write - 1, -1, -1))
        out = tmp_path / str(write)
        monkeypatch.setattr(journal.Journal, 'append_logs', killed)
        with pytest.raises(Killed):
            trials_of('EASE', [3], out, TINY)
        monkeypatch.setattr(journal.Journal, 'append_logs', append)
        rest = trials_of('EASE', [3], out, TINY)
        assert rest == once[3 - len(rest) :]
        assert (out / f'{path}.toml').read_bytes() == preset
        assert trials_of('EASE', [3], out, TINY) == []  # It can be read again.


def test_a_search_that_is_killed_leaves_no_lock(tmp_path):
    """With a folder that is relative, as the default of the command is."""
    killed = [sys.executable, '-c', KILLED, repr(TINY), 'out', '9', '30']
    source = os.path.dirname(os.path.dirname(sys.modules['pyg_diffrec'].__file__))
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': source}
    run = {'cwd': tmp_path, 'env': environment, 'capture_output': True, 'timeout': 100}
    assert subprocess.run(killed, **run).returncode == -signal.SIGKILL
    again = [*killed[:-2], '0', '0']
    out = subprocess.run(again, **run)
    assert out.returncode == 0, out.stderr
    once = trials_of('EASE', [3], tmp_path / 'once', TINY)
    assert out.stdout.decode().split('] ')[-1].split('\n')[0] == once[-1]


def test_a_lock_that_an_earlier_version_left_does_no_harm(tmp_path):
    os.symlink('nowhere', tmp_path / 'EASE-synthetic-20-50.journal.lock')
    assert len(trials_of('EASE', [1], tmp_path, TINY)) == 1


def test_second_search_in_the_same_folder_is_refused(tmp_path):
    from pyg_diffrec.bench.files import lock_folder

    with (
        lock_folder(tmp_path, 'search'),
        pytest.raises(ValueError, match='Another search is running'),
    ):
        trials_of('EASE', [1], tmp_path, TINY)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (b'{"op_code": 0', r"journal' line 2 is not"),
        (b'[1]', 'line 2.*no operation'),
        (b'\xff', 'line 2'),
        (b'{"op_code": 4}', "journal' is not a journal of a search"),
        (b'{"op_code": "x"}', "journal' is not a journal of a search"),
        (b'{"op_code": 9, "worker_id": "a"}', 'is not a journal of a search'),
    ],
)
def test_a_damaged_journal_is_named(tmp_path, line, message):
    trials_of('EASE', [1], tmp_path, TINY)
    (path,) = tmp_path.glob('*.journal')
    first, rest = path.read_bytes().split(b'\n', 1)
    path.write_bytes(first + b'\n' + line + b'\n' + rest)
    with pytest.raises(ValueError, match=message):
        trials_of('EASE', [2], tmp_path, TINY)


def test_a_full_disk_leaves_the_journal_whole(tmp_path, monkeypatch):
    from pyg_diffrec.bench import journal

    trials_of('EASE', [1], tmp_path, TINY)
    (path,) = tmp_path.glob('*.journal')
    before = path.read_bytes()
    fsync = os.fsync

    def full(handle):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(journal.os, 'fsync', full)
    with pytest.raises(OSError, match=r"journal' cannot be written \(No space left"):
        trials_of('EASE', [2], tmp_path, TINY)
    monkeypatch.setattr(journal.os, 'fsync', fsync)
    assert path.read_bytes() == before
    assert len(trials_of('EASE', [2], tmp_path, TINY)) == 1


def test_a_file_in_place_of_a_folder_and_the_reverse(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match="file' cannot be a folder"):
        trials_of('EASE', [1], tmp_path / 'file', TINY)
    (tmp_path / 'out' / 'EASE-synthetic-20-50.journal').mkdir(parents=True)
    with pytest.raises(OSError, match="journal' needs to be a file"):
        trials_of('EASE', [1], tmp_path / 'out', TINY)


@pytest.mark.parametrize('space', [{'l2': {'choices': [1.0, 2.0]}}])
def test_a_preset_outside_the_choices_is_refused(tmp_path, monkeypatch, space):
    module = sys.modules['pyg_diffrec.bench.tune']
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    with pytest.raises(
        ValueError, match=r"its 'l2' is 245.5, where .* has \[1.0, 2.0\]"
    ):
        trials_of('EASE', [1], tmp_path, start=['ml-1m_clean chronological'])


@pytest.mark.parametrize(
    ('change', 'kind', 'message'),
    [
        ({'trials': 0}, ValueError, "'trials' needs to be positive"),
        ({'trials': True}, TypeError, "'trials' needs to be a whole number"),
        ({'seed': -1}, ValueError, "'seed' needs to be at least 0"),
        ({'seed': 1.5}, TypeError, "'seed' needs to be a whole number"),
    ],
)
def test_numbers_of_a_search_are_checked(tmp_path, change, kind, message):
    arguments = {'model': 'EASE', 'dataset': DATA, 'trials': 1, 'out': tmp_path}
    with pytest.raises(kind, match=message):
        tune(**{**arguments, **change})
