import os
import random

import numpy as np
import pytest
import torch

from pyg_diffrec.training import load_checkpoint, save_checkpoint
from pyg_diffrec.training.checkpoint import random_state, set_random_state


def test_random_states_make_the_round_trip(tmp_path):
    path = tmp_path / 'state.pt'
    save_checkpoint({'format': 2, 'random': random_state()}, path)

    def draw():
        return torch.rand(3).tolist(), np.random.rand(), random.random()  # noqa: NPY002

    first = draw()
    assert draw() != first
    set_random_state(load_checkpoint(path)['random'])
    assert draw() == first


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'state.pt'
    save_checkpoint({'format': 2, 'value': 1}, path)

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='disk full'):
        save_checkpoint({'format': 2, 'value': 2}, path)
    assert load_checkpoint(path)['value'] == 1
    assert [x.name for x in tmp_path.iterdir()] == ['state.pt']


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path / "ran"}',)

    torch.save({'format': 2, 'evil': Evil()}, tmp_path / 'state.pt')
    with pytest.raises(ValueError, match='is not a readable checkpoint'):
        load_checkpoint(tmp_path / 'state.pt')
    assert not (tmp_path / 'ran').exists()
