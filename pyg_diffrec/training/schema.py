r"""What a checkpoint holds, and the check of a file against it."""

import copy
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor

#: The number of the layout below; another layout gets another number.
FORMAT = 3


class _Maybe(NamedTuple):
    schema: Any


class _Each(NamedTuple):
    r"""A dictionary with any names."""

    schema: Any
    needs: tuple[str, ...] = ()


# A type; a dictionary with exactly these keys; a list of any length of one thing; or a
# tuple of as many things.
_SCHEMA = {
    'format': int,
    'identity': {'settings': _Each(str), 'changing': [str]},
    'model': _Each(object),
    'phases': _Each(
        {
            'optimizer': _Maybe(dict),
            'scheduler': _Maybe(dict),
            'generator': _Maybe(Tensor),
        }
    ),
    'random': {
        'torch': Tensor,
        'cuda': [Tensor],
        'numpy': (str, Tensor, int, int, float),
        'python': (int, [int], _Maybe(float)),
    },
    'readings': _Each(
        {
            'best': _Maybe(_Each(object)),
            'result': {
                'num_epochs': int,
                'best_epoch': int,
                'best_metric': float,
                'stopped_early': bool,
                'curve': [_Each(float, needs=('epoch',))],
                'training_seconds': float,
                'evaluation_seconds': float,
            },
        }
    ),
}


def check_state(state: dict[str, Any], path: Union[str, Path]) -> None:
    r"""Raises an error unless :obj:`state`, read from :obj:`path`, has all parts of a
    checkpoint and no others.

    Raises:
        ValueError: With the file and the key that is missing or wrong.
    """
    _check(state, _SCHEMA, '', path)
    for name, reading in state['readings'].items():
        # NaN: never validated.
        validated = reading['result']['best_metric'] == reading['result']['best_metric']
        if validated and reading['best'] is None:
            raise damaged(path, f'readings[{name!r}].best', 'the best weights', None)


def damaged(path: Union[str, Path], key: str, needed: str, got: Any) -> ValueError:
    r"""The error on a checkpoint whose :obj:`key` is not as :obj:`needed`."""
    if isinstance(got, Tensor):
        got = f'a tensor of {got.dtype} with shape {list(got.shape)}'
    else:
        got = f'{got!r:.60}'
    return ValueError(
        f"'{path}' is a damaged checkpoint: '{key}' needs to be {needed} (got {got}); "
        f'delete the file to start over'
    )


def _check(value: Any, schema: Any, key: str, path: Union[str, Path]) -> None:
    if isinstance(schema, _Maybe):
        if value is not None:
            _check(value, schema.schema, key, path)
    elif isinstance(schema, (dict, _Each)):
        if not isinstance(value, dict):
            raise damaged(path, key, 'a dictionary', value)
        each = isinstance(schema, _Each)
        needed = schema.needs if isinstance(schema, _Each) else tuple(schema)
        for name in needed:
            if name not in value:
                raise damaged(path, _join(key, name), 'there', 'nothing')
        for name, entry in value.items():
            if not isinstance(name, str) or not (each or name in schema):
                raise damaged(path, _join(key, name), 'left out', entry)
            if isinstance(schema, _Each):
                _check(entry, schema.schema, f'{key}[{name!r}]', path)
            else:
                _check(entry, schema[name], _join(key, name), path)
    elif isinstance(schema, (list, tuple)):
        size = None if isinstance(schema, list) else len(schema)
        if not isinstance(value, (list, tuple)) or size not in (None, len(value)):
            many = '' if size is None else f' of {size} entries'
            raise damaged(path, key, f'a list{many}', value)
        schemas = schema * len(value) if isinstance(schema, list) else schema
        for index, (entry, inner) in enumerate(zip(value, schemas)):
            _check(entry, inner, f'{key}[{index}]', path)
    else:
        kinds = (int, float) if schema is float else schema
        as_number = isinstance(value, bool) and schema in (int, float)
        if not isinstance(value, kinds) or as_number:
            raise damaged(path, key, f"of type '{schema.__name__}'", value)


def check_like(value: Any, other: Any, key: str, path: Union[str, Path]) -> None:
    r"""Raises an error unless :obj:`value`, read from :obj:`path`, is built like
    :obj:`other`: the same keys, lengths, shapes and kinds of values.

    Raises:
        ValueError: With the file and the key that differs.
    """
    if other is None:
        if not isinstance(value, (type(None), bool, int, float, str)):
            raise damaged(path, key, 'a plain value', value)
        return
    if isinstance(other, dict):
        if not isinstance(value, dict):
            raise damaged(path, key, 'a dictionary', value)
        for name in [*other, *value]:
            if name not in value:
                raise damaged(path, _join(key, name), 'there', 'nothing')
            if name not in other:
                raise damaged(path, _join(key, name), 'left out', value[name])
            check_like(value[name], other[name], _join(key, name), path)
    elif isinstance(other, (list, tuple)):
        if not isinstance(value, (list, tuple)) or len(value) != len(other):
            raise damaged(path, key, f'a list of {len(other)} entries', value)
        for index, pair in enumerate(zip(value, other)):
            check_like(*pair, f'{key}[{index}]', path)
    elif isinstance(other, Tensor) and other.dim() > 0:
        if not isinstance(value, Tensor) or value.shape != other.shape:
            raise damaged(path, key, f'a tensor of shape {list(other.shape)}', value)
        if value.is_floating_point() != other.is_floating_point():
            raise damaged(path, key, f'a tensor of {other.dtype}', value)
    elif isinstance(other, (Tensor, int, float)):
        scalar = isinstance(value, Tensor) and value.dim() == 0
        if not scalar and not isinstance(value, (int, float)):
            raise damaged(path, key, 'a number', value)
    elif value is not None and type(value) is not type(other):
        raise damaged(path, key, f"of type '{type(other).__name__}'", value)


def check_optimizer(
    state: Any, optimizer: Any, key: str, path: Union[str, Path]
) -> None:
    r"""Raises an error unless :obj:`state`, read from :obj:`path`, is a state of
    :obj:`optimizer`.

    Raises:
        ValueError: With the file and the key that differs.
    """
    own = optimizer.state_dict()
    _check(state, {'state': dict, 'param_groups': [dict]}, key, path)
    check_like(state['param_groups'], own['param_groups'], f'{key}.param_groups', path)
    for index, (group, mine) in enumerate(
        zip(state['param_groups'], own['param_groups'])
    ):
        if group['params'] != mine['params']:
            at = f'{key}.param_groups[{index}].params'
            raise damaged(path, at, str(mine['params']), group['params'])
    if not type(optimizer).__module__.startswith('torch.optim'):
        return  # What others keep per parameter may have any form.
    params = [param for group in optimizer.param_groups for param in group['params']]
    kept = _state_of_a_step(optimizer)
    for index, entry in state['state'].items():
        at = f'{key}.state.{index}'
        if not isinstance(index, int) or not 0 <= index < len(params):
            raise damaged(path, at, f'of one of {len(params)} parameters', index)
        if not isinstance(entry, dict):
            raise damaged(path, at, 'a dictionary', entry)
        if kept is not None:
            check_like(entry, kept[index], at, path)


def _state_of_a_step(optimizer: Any) -> Optional[dict[int, Any]]:
    r"""What an optimizer of PyTorch keeps per parameter once it has taken a step, by a
    step of its copy along gradients of zero; :obj:`None` for those that ask for more
    than gradients. Fused kernels look at no shape: what does not fit overwrites
    memory."""
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for param in group['params']:
            param.grad = torch.zeros_like(param)
    try:
        twin.step()
    except (TypeError, RuntimeError):  # Of a closure, or of sparse gradients.
        return None
    return twin.state_dict()['state']


def _join(key: str, name: Any) -> str:
    return f'{key}.{name}' if key else str(name)
