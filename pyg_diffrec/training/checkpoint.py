r"""Checkpoints: tensors and plain values in one file, written whole or not at all."""

import glob
import os
import random
import tempfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import IO, Any, Mapping, Union

import numpy as np
import torch
from torch import Tensor

from pyg_diffrec.training.schema import FORMAT, check_state

try:
    import fcntl
except ImportError:  # Not on Windows, where temporary files are left alone.
    fcntl = None  # type: ignore[assignment]

_PLAIN: tuple[type, ...] = (type(None), bool, int, float, str, bytes)
_PLAIN += (torch.device, torch.dtype, torch.Size)


def save_checkpoint(state: dict[str, Any], path: Union[str, Path]) -> None:
    r"""Writes :obj:`state` to a temporary file and renames it to :obj:`path`.

    Raises:
        TypeError: If the state holds what :meth:`load_checkpoint` could not read
            back; nothing is written then.
    """
    state, path = plain(state), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file, name = _temporary(path)
    try:
        with file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:
                os.replace(name, path)  # While the lock still says whose it is.
        if fcntl is None:
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Union[str, Path]) -> dict[str, Any]:
    r"""Reads a checkpoint of :meth:`~pyg_diffrec.training.fit`. No code in the file
    is ever run.

    Raises:
        ValueError: If the file is not a whole checkpoint of this version.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"'{path}' is not a readable checkpoint ({reason}); delete it to start over"
        ) from error
    found = state.get('format') if isinstance(state, dict) else None
    if type(found) is not int or found != FORMAT:
        raise ValueError(
            f"'{path}' is not a checkpoint of this version, whose 'format' is {FORMAT} "
            f'(got {found!r}); delete it to start over'
        )
    check_state(state, path)
    return state


def plain(value: Any, key: str = '') -> Any:
    r"""The same of tensors and plain Python values alone, which can be read without
    running code: NumPy's numbers and arrays are converted.

    Raises:
        TypeError: If there is anything else, with the key where it stands.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Tensor):
        known = type(value) in (Tensor, torch.nn.Parameter)
        return value if known else value.as_subclass(Tensor)
    if isinstance(value, np.generic) and type(value.item()) in _PLAIN:
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(value)
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, Mapping):
        entries = {}
        for name, entry in value.items():
            own = plain(name, key)
            if not isinstance(own, (int, str)):
                raise TypeError(_unreadable(name, key))
            entries[own] = plain(entry, f'{key}.{own}'.lstrip('.'))
        kind: Any = type(value) if type(value) in (Counter, OrderedDict) else dict
        out = kind(entries)
        if hasattr(value, '_metadata'):  # The versions of a state dict's modules.
            out._metadata = value._metadata
        return out
    if isinstance(value, (list, tuple)):
        values = [plain(x, f'{key}[{i}]') for i, x in enumerate(value)]
        return values if isinstance(value, list) else tuple(values)
    raise TypeError(_unreadable(value, key))


def _unreadable(value: Any, key: str) -> str:
    return (
        f"A checkpoint holds tensors and plain values alone, but '{key}' has a "
        f"'{type(value).__name__}' ({value!r:.60}): convert it, e.g. with 'float' or "
        f"'torch.as_tensor', or train without 'checkpoint'"
    )


def clear_temporary(path: Union[str, Path]) -> None:
    r"""Removes what killed processes left of checkpoints that they were writing:
    beside :obj:`path`, whatever the checkpoint's name. Those that another process
    is writing stay."""
    path = Path(path)
    # Earlier versions named them after the checkpoint alone.
    names = ['.*.checkpoint-????????', f'.{glob.escape(path.name)}.????????']
    for pattern in names if fcntl is not None else []:
        for left in path.parent.glob(pattern):
            try:
                with left.open('rb') as file:
                    if _lock(file):
                        left.unlink()
            except OSError:  # Another process was faster, or may not be ours.
                continue


def _temporary(path: Path) -> tuple[IO[bytes], str]:
    r"""A new file beside :obj:`path`, locked as long as it is open, by which
    :meth:`clear_temporary` tells it from those of processes that are no more."""
    while True:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f'.{path.name}.checkpoint-'
        )
        file = os.fdopen(handle, 'wb')
        # It may have been taken for left behind before it was locked.
        if not _lock(file) or os.path.exists(name):
            return file, name
        file.close()


def _lock(file: IO[bytes]) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # Held by another process, or a file system without locks.
        return False
    return True


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
    # This machine may have fewer devices than the one that saved.
    for index, own in enumerate(state['cuda'][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(own, index)
    name, keys, position, has_gauss, gauss = state['numpy']
    legacy = (name, keys.numpy().astype(np.uint32), position, has_gauss, gauss)
    np.random.set_state(legacy)  # noqa: NPY002
    version, internal, gauss_next = state['python']
    random.setstate((version, tuple(internal), gauss_next))
