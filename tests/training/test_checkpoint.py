import copy
import fcntl
import os
import random
from collections import Counter, OrderedDict, namedtuple
from enum import IntEnum

import numpy as np
import pytest
import torch
from line import Halving, Line, scripted

from pyg_diffrec.training import fit, load_checkpoint, save_checkpoint
from pyg_diffrec.training.checkpoint import (
    clear_temporary,
    plain,
    random_state,
    set_random_state,
)
from pyg_diffrec.training.schema import FORMAT, check_optimizer


def trained(path, epochs=1, cls=Line):
    options = {'validate': scripted([0.1] * epochs), 'eval_every': 1}
    fit(cls(), epochs=epochs, checkpoint=path, progress=False, **options)
    return load_checkpoint(path)


def test_random_states_make_the_round_trip(tmp_path):
    path = tmp_path / 'state.pt'
    state = trained(path)
    save_checkpoint({**state, 'random': random_state()}, path)

    def draw():
        return torch.rand(3).tolist(), np.random.rand(), random.random()  # noqa: NPY002

    first = draw()
    assert draw() != first
    set_random_state(load_checkpoint(path)['random'])
    assert draw() == first


def test_random_states_of_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    taken = []
    monkeypatch.setattr(torch.cuda, 'set_rng_state', lambda *args: taken.append(args))
    set_random_state({**random_state(), 'cuda': ['first', 'second']})
    assert taken == [('first', 0)]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'state.pt'
    state = trained(path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='disk full'):
        save_checkpoint({**state, 'model': {}}, path)
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ['state.pt']


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path / "ran"}',)

    torch.save({'format': FORMAT, 'evil': Evil()}, tmp_path / 'state.pt')
    with pytest.raises(ValueError, match='is not a readable checkpoint'):
        load_checkpoint(tmp_path / 'state.pt')
    assert not (tmp_path / 'ran').exists()


class Size(IntEnum):
    small = 3


class Marked(torch.Tensor):
    pass


Pair = namedtuple('Pair', ['a', 'b'])


def test_what_is_written_can_be_read(tmp_path):
    values = {
        'float': np.float64(0.5),
        'bool': np.bool_(True),
        'array': np.arange(3),
        'enum': Size.small,
        'tensor': torch.ones(2).as_subclass(Marked),
        'parameter': torch.nn.Parameter(torch.ones(2)),
        'sparse': torch.eye(2).to_sparse(),
        'pair': Pair(np.int64(1), [np.float32(2)]),
        np.str_('key'): {np.int64(4): None},
        'counter': Counter({3: np.int64(2)}),
        'ordered': OrderedDict(a=torch.float16),
    }
    torch.save(plain(values), tmp_path / 'plain.pt')
    read = torch.load(tmp_path / 'plain.pt', weights_only=True)
    assert read['float'] == 0.5
    assert read['bool'] is True
    assert read['array'].tolist() == [0, 1, 2]
    assert read['enum'] == 3
    assert type(read['tensor']) is torch.Tensor
    assert read['sparse'].to_dense().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert read['pair'] == (1, [2.0])
    assert read['key'] == {4: None}
    assert read['counter'] == Counter({3: 2})
    assert read['ordered'] == {'a': torch.float16}


@pytest.mark.parametrize(
    'value', [object(), print, {1, 2}, np.array([None]), {(1, 2): 3}, random.Random()]
)
def test_what_could_not_be_read_is_never_written(tmp_path, value):
    state = trained(tmp_path / 'run.pt')
    before = (tmp_path / 'run.pt').read_bytes()
    state['model'] = {'layer': [value]}
    with pytest.raises(
        TypeError, match=r"'model\.layer\[0\]' has a '.*' .*: convert it"
    ):
        save_checkpoint(state, tmp_path / 'run.pt')
    assert (tmp_path / 'run.pt').read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_options_of_an_optimizer_may_be_numbers_of_numpy(tmp_path):
    path = tmp_path / 'run.pt'
    fit(Line(lr=np.float64(0.1)), epochs=2, checkpoint=path, progress=False)
    resumed, whole = Line(lr=np.float64(0.1)), Line()
    fit(resumed, epochs=4, checkpoint=path, resume=True, progress=False)
    fit(whole, epochs=4, progress=False)
    assert torch.equal(resumed.weight, whole.weight)


class Unreadable(Line):
    def get_extra_state(self):
        return object()

    def set_extra_state(self, state):
        pass


def test_a_state_that_cannot_be_read_is_refused_before_training(tmp_path):
    model = Unreadable()
    with pytest.raises(TypeError, match=r"'model\._extra_state' has a 'object'"):
        fit(model, epochs=1, checkpoint=tmp_path / 'run.pt', progress=False)
    assert model.steps == 0
    with pytest.raises(ValueError, match="'checkpoint' needs to be a file, but"):
        fit(model, epochs=1, checkpoint=tmp_path, progress=False)


class Counting(Line):
    """With a state that grows."""

    def get_extra_state(self):
        return {str(i): np.int64(i) for i in range(self.steps)}

    def set_extra_state(self, state):
        self.steps = len(state)


def test_extra_state_of_any_form_goes_on(tmp_path):
    model, path = Counting(), tmp_path / 'run.pt'
    fit(model, epochs=2, checkpoint=path, progress=False)
    resumed = Counting()
    fit(resumed, epochs=3, checkpoint=path, resume=True, progress=False)
    assert resumed.steps == 6


def test_files_left_by_killed_processes_are_removed(tmp_path):
    path = tmp_path / 'run.pt'
    left = ['.run.pt.checkpoint-abc_1234', '.other.pt.checkpoint-abcd1234']
    left += ['.run.pt.abcd1234']  # As earlier versions called them.
    kept = ['.run.pt.mine', 'run.pt.backup', '.notes', 'checkpoint-abcd1234']
    for name in [*left, *kept]:
        (tmp_path / name).write_bytes(b'half of a checkpoi')
    fit(Line(), epochs=1, checkpoint=path, progress=False)
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted([*kept, 'run.pt'])


def test_files_that_others_are_writing_stay(tmp_path):
    name = tmp_path / '.run.pt.checkpoint-abcd1234'
    with name.open('wb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clear_temporary(tmp_path / 'run.pt')
        assert name.exists()
    clear_temporary(tmp_path / 'run.pt')
    assert not name.exists()


@pytest.mark.parametrize('cls', ['Adam', 'AdamW', 'Adagrad', 'RMSprop'])
@pytest.mark.parametrize('damage', ['one', 'row', 'kind', 'missing', 'more'])
def test_what_an_optimizer_keeps_has_to_fit_its_parameters(cls, damage, tmp_path):
    weight = torch.nn.Parameter(torch.ones(3, 4))
    fused = {'fused': True} if cls.startswith('Adam') else {}
    optimizer = getattr(torch.optim, cls)([weight], **fused)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    check_optimizer(state, optimizer, 'optimizer', tmp_path / 'a.pt')
    entry = state['state'][0]
    (name, *_) = [key for key, value in entry.items() if value.dim() == 2]
    if damage == 'missing':
        del entry[name]
    elif damage == 'more':
        entry['another'] = torch.ones(3, 4)
    else:
        new = {'one': torch.zeros(1), 'row': torch.zeros(4)}
        entry[name] = new.get(damage, entry[name].long())
    before = weight.detach().clone()
    with pytest.raises(ValueError, match=r"a.pt' is a damaged .*'optimizer.state.0\."):
        check_optimizer(state, optimizer, 'optimizer', tmp_path / 'a.pt')
    assert torch.equal(weight, before)


def test_a_save_is_not_disturbed_by_clearing(tmp_path, monkeypatch):
    path, sync = tmp_path / 'run.pt', os.fsync

    def clear(handle):
        clear_temporary(path)
        sync(handle)

    monkeypatch.setattr(os, 'fsync', clear)
    assert trained(path)['readings']['']['result']['num_epochs'] == 1


def paths(value, path=()):
    """The path of everything in a state that is not opened by others."""
    entries = {}
    if isinstance(value, dict):
        entries = value
    elif isinstance(value, (list, tuple)) and len(value) < 10:
        entries = dict(enumerate(value))
    for key, entry in entries.items():
        yield (*path, key)
        yield from paths(entry, (*path, key))


def changed(value, path, change):
    if isinstance(value, dict):
        out = dict(value)
    else:
        out = list(value)
    if len(path) > 1:
        out[path[0]] = changed(value[path[0]], path[1:], change)
    elif change == 'nothing':
        del out[path[0]]
    else:
        out[path[0]] = change
    return out


class Moving(Halving):
    """With a state per parameter, and a random one."""

    def phases(self):
        (phase,) = super().phases()
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.5)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return [phase._replace(optimizer=optimizer, scheduler=scheduler)]


# What may be anything of its kind, and what optimizers keep as they like.
FREE = {'stopped_early', 'changing', 'settings', 'cuda', 'foreach', 'fused'}
FREE |= {'base_lrs', '_last_lr', 'curve'}
CHANGES = {
    'nothing': 'nothing',
    'text': 'text',
    'list': [1.5],
    'dictionary': {'a': 1},
    'tensor': torch.ones(7, 3),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_checkpoint_with_anything_else_in_it_is_refused(tmp_path, change):
    path = tmp_path / 'run.pt'
    state = trained(path, 2, Moving)
    tried = 0
    for key in paths(state):
        torch.save(changed(state, key, CHANGES[change]), path)
        model, before, message = Moving(), torch.get_rng_state(), ''
        try:
            fit(model, epochs=3, checkpoint=path, resume=True, progress=False)
        except ValueError as error:
            message = str(error)
        if message:
            tried += 1
            assert str(path) in message, key
            assert 'to start over' in message, key
            named = key[:1] if key[0] == 'random' else key[-2:]
            if key[0] != 'identity':  # There the settings are named.
                assert any(str(x) in message for x in named), (key, message)
            assert model.weight.item() == 0.0, key
            assert torch.equal(torch.get_rng_state(), before), key
        elif not (change == 'nothing' and key[-2] == 'state'):
            # A parameter without a gradient has no entry.
            assert FREE & set(key), key
    assert tried > 40


@pytest.mark.parametrize('damage', ['cut', 'empty', 'flip', 'text', 'folder'])
def test_damaged_bytes_name_the_file(tmp_path, damage):
    path = tmp_path / 'run.pt'
    trained(path)
    whole = path.read_bytes()
    middle = whole.index(b'model') + 40
    path.unlink()
    if damage == 'folder':
        path.mkdir()
    else:
        flipped = bytes([*whole[:middle], whole[middle] ^ 255, *whole[middle + 1 :]])
        texts = {'cut': whole[: len(whole) // 2], 'empty': b'', 'flip': flipped}
        path.write_bytes(texts.get(damage, b'{"format": 3}'))
    with pytest.raises(ValueError, match=r"run\.pt' is not a readable checkpoint"):
        load_checkpoint(path)


def test_other_formats_say_which(tmp_path):
    path = tmp_path / 'run.pt'
    state = trained(path)
    for found, text in ((2, '2'), ('3', "'3'"), (True, 'True'), (None, 'None')):
        torch.save({**state, 'format': found}, path)
        with pytest.raises(ValueError, match=f"'format' is {FORMAT} .got {text}.; del"):
            load_checkpoint(path)
    torch.save([1], path)
    with pytest.raises(ValueError, match='not a checkpoint of this version'):
        load_checkpoint(path)
