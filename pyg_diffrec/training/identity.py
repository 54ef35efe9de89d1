r"""What makes a training run the same run: its settings and its data, by name."""

import functools
import hashlib
from enum import Enum
from numbers import Number
from typing import Any, Callable, Iterable, Mapping, Optional

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import Dataset

from pyg_diffrec.typing import Phase

# A module's mode, and options that change how fast a loader is, but not what it loads.
_IGNORED = {'persistent_workers', 'pin_memory', 'pin_memory_device', 'prefetch_factor'}
_IGNORED |= {'timeout', 'training'}
_LONG = 200
_FEW = 8
_CHUNK = 1 << 16


def identity(
    model: torch.nn.Module, phases: Iterable[Phase], data: bool = True
) -> dict[str, str]:
    r"""Settings and data by name, each as a text that is the same in every process
    and on every device.

    They are what the model and its modules hold in public attributes and in buffers,
    the shapes of their parameters, the parameters, options and schedule of each
    optimizer, and all that the loaders hold. Parameters and random states are left
    out.

    Args:
        model (torch.nn.Module): The model.
        phases (list): What an epoch trains.
        data (bool, optional): Whether tensors are looked at, except buffers that are
            part of the model's state; their text is empty otherwise.
            (default: :obj:`True`)
    """
    walk = _Walk(data)
    for name, module in model.named_modules():
        walk.module(module, f'model.{name}'.rstrip('.'))
    names = {id(param): name for name, param in model.named_parameters()}
    for phase in phases:
        key = f"phase '{phase.name}'"
        walk.out[f'{key}.method'] = phase.method
        walk.optimizer(phase.optimizer, names, f'{key}.optimizer')
        walk.out[f'{key}.scheduler'] = _kind(phase.scheduler)
        if phase.scheduler is not None:
            walk.add(phase.scheduler.state_dict(), f'{key}.scheduler')
        walk.add(phase.loader, f'{key}.loader')
    return walk.out


def changing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    r"""The names of what training itself has changed: state, and no settings."""
    return [
        name
        for name in {**before, **now}
        if name not in before or now.get(name) not in ('', before[name])
    ]


def differences(
    saved: Mapping[str, str], now: Mapping[str, str], ignored: Iterable[str]
) -> list[str]:
    r"""What differs between two runs, in words; plain values come first."""
    out, ignored = [], set(ignored)
    for name in {**now, **saved}:
        mine, other = now.get(name, 'missing'), saved.get(name, 'missing')
        if name not in ignored and not _same(mine, other):
            out.append(f'{name} is {mine:.60}, was {other:.60}')
    return sorted(out, key=lambda text: ' ~ ' in text)


class _Walk:
    r"""Collects settings, through whatever holds them."""

    def __init__(self, data: bool) -> None:
        self.data = data
        self.out: dict[str, str] = {}
        # With the object itself, so that no other gets its id.
        self.seen: dict[int, tuple[str, Any]] = {}
        self.digests: dict[int, tuple[str, Any]] = {}

    def module(self, module: torch.nn.Module, key: str) -> None:
        if id(module) in self.seen:
            return
        self.seen[id(module)] = key, module
        self.out[key] = _kind(module)
        for name, param in module.named_parameters(recurse=False):
            self.out[f'{key}.{name}'] = _form(param)
        for name, buffer in module.named_buffers(recurse=False):
            persistent = name not in module._non_persistent_buffers_set
            self.add(buffer, f'{key}.{name}', state=persistent)
        self.attributes(module, key)

    def optimizer(
        self, optimizer: Optional[Optimizer], names: Mapping[int, str], key: str
    ) -> None:
        self.out[key] = _kind(optimizer)
        for index, group in enumerate(optimizer.param_groups if optimizer else []):
            for name, value in group.items():
                if name == 'params':
                    value = [names.get(id(param), '') for param in value]
                self.add(value, f'{key}.param_groups[{index}].{name}')

    def attributes(self, owner: Any, key: str) -> None:
        slots = [x for kind in type(owner).__mro__ for x in _slots(kind)]
        values = {x: getattr(owner, x) for x in slots if hasattr(owner, x)}
        for name, value in {**values, **getattr(owner, '__dict__', {})}.items():
            # What others keep in private is derived, or state.
            private = name[0] == '_' and not isinstance(owner, Dataset)
            if not private and name not in _IGNORED:
                self.add(value, f'{key}.{name}')

    def add(self, value: Any, key: str, state: bool = False) -> None:
        text = _text(value)
        if text is not None:
            self.out[key] = _short(text)
        elif isinstance(value, Tensor) and value.layout != torch.strided:
            self.out[key] = _form(value)
            for name, part in _sparse_parts(value.detach()).items():
                self.add(part, f'{key}.{name}', state)
        elif isinstance(value, Tensor) or _is_array(value):
            self.out[key] = self.tensor(value) if self.data or state else ''
        elif id(value) in self.seen:
            self.out[key] = f'the same as {self.seen[id(value)][0]}'
        else:
            self.seen[id(value)] = key, value
            self.parts(value, key)

    def parts(self, value: Any, key: str) -> None:
        if isinstance(value, torch.nn.Module):
            for name, module in value.named_modules():
                self.module(module, f'{key}.{name}'.rstrip('.'))
        elif isinstance(value, Mapping):
            self.entries(((f'.{name}', value[name]) for name in value), key)
        elif isinstance(value, (list, tuple, np.ndarray)):
            self.entries(((f'[{i}]', x) for i, x in enumerate(value)), key)
        elif isinstance(value, (set, frozenset)):
            self.out[key] = f'{len(value)} entries'  # In no order to rely on.
        elif isinstance(value, functools.partial):
            self.add([value.func, value.args, value.keywords], key)
        elif callable(getattr(value, 'to_dict', None)):
            # Graphs of PyG and tables of pandas.
            self.add(value.to_dict(), key)
        else:
            self.out[key] = _kind(value)
            if not isinstance(value, (Optimizer, torch.Generator)):
                self.attributes(value, key)

    def entries(self, values: Iterable[tuple[str, Any]], key: str) -> None:
        r"""Each entry by its name, or all in one text if they are many."""
        inner = _Walk(self.data)
        inner.seen, inner.digests = self.seen, self.digests
        for name, value in values:
            inner.add(value, f'{key}{name}')
        if len(inner.out) <= _LONG:
            self.out |= inner.out
        elif '' in inner.out.values():
            self.out[key] = ''
        else:
            self.out[key] = _short(str(inner.out))

    def tensor(self, value: Any) -> str:
        if id(value) not in self.digests:
            self.digests[id(value)] = _digest(value), value
        return self.digests[id(value)][0]


def _text(value: Any) -> Optional[str]:
    r"""A value without parts; :obj:`None` for all others."""
    if value is None or isinstance(value, (str, bytes, range, torch.dtype)):
        return repr(value)
    if isinstance(value, torch.device):
        return 'device'  # A run may go on on another one.
    if isinstance(value, torch.Size):
        return str(value)
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, Number):
        whole = _whole(value)
        # 1 and 1.0 set the same.
        return repr(whole) if value == whole else repr(_bare(value))
    if isinstance(value, Mapping) and not value:
        return '{}'
    if isinstance(value, (list, tuple)):
        texts = [_text(x) for x in value]
        return None if None in texts else f'[{", ".join(map(str, texts))}]'
    if isinstance(value, (set, frozenset)):
        texts = [_text(x) for x in value]
        return None if None in texts else f'{{{", ".join(sorted(map(str, texts)))}}}'
    if isinstance(value, type) or (
        isinstance(value, Callable) and hasattr(value, '__qualname__')  # type: ignore[arg-type]
    ):
        return _name(value)
    return None


def _kind(value: Any) -> str:
    return 'None' if value is None else _name(type(value))


def _bare(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _whole(value: Any) -> Optional[int]:
    try:
        return int(value)
    except (OverflowError, TypeError, ValueError):  # Infinite, complex, NaN.
        return None


def _name(value: Any) -> str:
    return f'{getattr(value, "__module__", "")}.{value.__qualname__}'


def _slots(kind: type) -> list[str]:
    slots = kind.__dict__.get('__slots__', ())
    slots = [slots] if isinstance(slots, str) else list(slots)
    return [x for x in slots if x not in ('__dict__', '__weakref__')]


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f'{text[:20]}... ({_hash(text.encode())})'


def _form(tensor: Any) -> str:
    return f'{str(tensor.dtype).removeprefix("torch.")} {list(tensor.shape)}'


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind != 'O'


def _sparse_parts(value: Tensor) -> dict[str, Tensor]:
    if value.layout == torch.sparse_coo:
        value = value.coalesce()
        return {'indices': value.indices(), 'values': value.values()}
    rows = value.layout in (torch.sparse_csr, torch.sparse_bsr)
    names = ['crow_indices', 'col_indices'] if rows else ['ccol_indices', 'row_indices']
    return {name: getattr(value, name)() for name in [*names, 'values']}


def _digest(value: Any) -> str:
    r"""Type, shape, and what tells the values from others: numbers if they are
    floating point, which another processor may derive with other last digits."""
    form = _form(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == 'f':
        value = torch.from_numpy(value.astype(np.float64))
    if isinstance(value, Tensor) and value.is_floating_point():
        return f'{form} ~ {" ".join(f"{x:.9g}" for x in _sketch(value.detach()))}'
    size = value.numel() if isinstance(value, Tensor) else value.size
    if size <= _FEW:
        return f'{form} {value.tolist()}'
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return f'{form} {_hash(np.ascontiguousarray(value).data)}'


def _sketch(value: Tensor) -> list[float]:
    r"""The values if they are few; otherwise their root mean square and, on the same
    scale, two sums of them with signs and weights that depend on the position."""
    value = value.cpu().reshape(-1)
    if value.numel() <= _FEW:
        return value.tolist()
    weights = torch.stack([_signed(_CHUNK, step) for step in (2**0.5, 3**0.5)])
    chunks = value.split(_CHUNK)
    square, total = torch.zeros(1).double(), torch.zeros(2).double()
    for part, scale in zip(chunks, _signed(len(chunks), 5**0.5).abs()):
        part = part.double()
        square += part @ part
        total += weights[:, : part.numel()] @ part * scale
    size = value.numel() ** 0.5
    return [float(x) / size for x in (square.sqrt(), *total)]


def _signed(size: int, step: float) -> Tensor:
    r"""Weights between .5 and 1 of either sign, the same everywhere."""
    out = (torch.arange(size, dtype=torch.double) * step).frac()
    return torch.where(out < 0.5, out - 1, out)


def _same(mine: str, other: str) -> bool:
    r"""Whether two texts are equal, up to the round-off of floating point tensors."""
    (form, _, a), (other_form, _, b) = (x.partition(' ~ ') for x in (mine, other))
    if mine == other or form != other_form or not form.startswith(('float', 'bfloat')):
        return mine == other
    try:
        numbers = [(float(x), float(y)) for x, y in zip(a.split(), b.split())]
    except ValueError:
        return False
    scale = max(max(abs(x), abs(y)) for x, y in numbers)
    return all(abs(x - y) <= 1e-6 * scale for x, y in numbers)


def _hash(raw: Any) -> str:
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
