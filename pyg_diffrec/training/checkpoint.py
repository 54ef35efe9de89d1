r"""Checkpoints: tensors and plain values in one file, written whole or not at all."""

import os
import random
import tempfile
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch


def save_checkpoint(state: dict[str, Any], path: Union[str, Path]) -> None:
    r"""Writes :obj:`state` to a temporary file and renames it to :obj:`path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def load_checkpoint(path: Union[str, Path]) -> dict[str, Any]:
    r"""Reads a checkpoint. No code in the file is ever run.

    Raises:
        ValueError: If the file is not a checkpoint of this package.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise ValueError(
            f"'{path}' is not a readable checkpoint ({error}); delete it to start over"
        ) from error
    if not isinstance(state, dict) or state.get('format') != 2:
        raise ValueError(
            f"'{path}' is not a checkpoint of this version; delete it to start over"
        )
    return state


def random_state() -> dict[str, Any]:
    r"""The states of all random number generators, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    return {
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        'numpy': [
            name,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            position,
            has_gauss,
            gauss,
        ],
        'python': [version, list(internal), gauss_next],
    }


def set_random_state(state: dict[str, Any]) -> None:
    r"""Restores what :meth:`random_state` returned."""
    torch.set_rng_state(state['torch'])
    if state['cuda']:
        torch.cuda.set_rng_state_all(state['cuda'])
    name, keys, position, has_gauss, gauss = state['numpy']
    legacy = (name, keys.numpy().astype(np.uint32), position, has_gauss, gauss)
    np.random.set_state(legacy)  # noqa: NPY002
    version, internal, gauss_next = state['python']
    random.setstate((version, tuple(internal), gauss_next))
