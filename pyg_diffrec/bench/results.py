r"""The file of finished runs."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Iterator

from pyg_diffrec.bench.files import lock_folder, write_whole

_WORDS = {
    str: 'a string',
    int: 'a whole number',
    float: 'a number',
    bool: 'true or false',
    list: 'a list',
    dict: 'an object',
}
_SCHEMA: dict[str, type] = {
    'key': str,
    'model': str,
    'label': str,
    'hyper_parameters': dict,
    'grid': dict,
    'chosen': dict,
    'tried': list,
    'dataset': dict,
    'seed': int,
    'metric': str,
    'metrics': list,
    'protocols': list,
    'protocol': dict,
    'training': dict,
    'selected_epoch': int,
    'num_epochs': int,
    'validation': dict,
    'test': dict,
    'curve': list,
    'deterministic': bool,
    'seconds_per_epoch': float,
    'seconds_per_evaluation': float,
    'device': str,
    'threads': int,
    'versions': dict,
}


class ResultsFile:
    r"""Finished runs, one JSON object per line. At every moment the file on disk is
    valid: a new version is written beside it and renamed.

    Args:
        path (Path): The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> list[dict[str, Any]]:
        r"""All records, in the order of their addition.

        Raises:
            ValueError: If a line is not the record of a run; the error names it.
            OSError: If the file cannot be read.
        """
        records = []
        for number, _, record in list(self._lines()):
            try:
                _check(record)
            except ValueError as error:
                raise ValueError(
                    f"'{self.path}' line {number} is not the record of a run: {error}; "
                    f'remove the line; its run will be repeated'
                ) from None
            records.append(record)
        return records

    def append(self, record: dict[str, Any]) -> None:
        r"""Adds a record, in place of those of the same run.

        Raises:
            ValueError: If the record holds a number that is not finite.
            OSError: If the file cannot be written; it stays as it is.
        """
        line = json.dumps(record, allow_nan=False).encode()
        others = [
            old
            for _, old, found in self._lines()
            if not isinstance(found, dict) or found.get('key') != record['key']
        ]
        write_whole(self.path, b'\n'.join([*others, line, b'']))

    def lock(self) -> AbstractContextManager[None]:
        r"""Keeps a second bench out of the folder.

        Raises:
            ValueError: If another bench is running there.
            OSError: If the folder cannot be written to.
        """
        return lock_folder(self.path.parent, 'bench')

    def _lines(self) -> Iterator[tuple[int, bytes, Any]]:
        if self.path.is_dir():
            raise IsADirectoryError(
                f"'{self.path}' needs to be a file, there is a folder in its place: "
                f'rename the folder'
            )
        if not self.path.exists():
            return
        lines = self.path.read_bytes().split(b'\n')
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, line, json.loads(line.decode())
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"'{self.path}' line {number} is not valid JSON ({error}): "
                    f'remove the line; its run will be repeated'
                ) from error


def _check(record: Any) -> None:
    r"""Refuses what is not the record of a run, down to each number that a report
    shows."""
    _typed('the line', record, dict)
    for key, kind in _SCHEMA.items():
        _held(record, key, kind)
    _held(record['versions'], 'torch', str, 'versions')
    metrics = [*record['metrics'], record['metric']]
    for metric in metrics:
        _typed("an entry of 'metrics'", metric, str)
    _numbers(record['validation'], metrics, 'validation')
    for index, point in enumerate(record['curve']):
        _numbers(point, ['epoch', record['metric']], f'curve.{index}')
    for index, protocol in enumerate(record['protocols']):
        _typed(f"'protocols.{index}'", protocol, dict)
        history = _held(protocol, 'history', str, f'protocols.{index}')
        _held(record['protocol'], history, str, 'protocol')
        measured = _held(record['test'], history, dict, 'test')
        _numbers(measured, metrics, f'test.{history}')
        if record.get('user_groups'):
            _groups(record, history, metrics)
    for key in record['grid']:
        if key not in record['chosen']:
            raise ValueError(f"'chosen.{key}' is missing")
    if record.get('best_on_test'):
        _numbers(record['best_on_test'], ['epoch', *metrics], 'best_on_test')
    for key, kind in (('peak_memory_bytes', int), ('commit', str)):
        if key not in record:
            raise ValueError(f"'{key}' is missing")
        if record[key] is not None:
            _held(record, key, kind)


def _groups(record: dict[str, Any], history: str, metrics: list[str]) -> None:
    groups = _held(record, 'groups', dict)
    for index, group in enumerate(_held(groups, history, list, 'groups')):
        where = f'groups.{history}.{index}'
        _numbers(group, ['users', *metrics], where)
        bounds = _held(group, 'interactions', list, where)
        if len(bounds) != 2 or type(bounds[0]) is not int:
            raise ValueError(f"'{where}.interactions' needs two bounds (got {bounds})")


def _numbers(table: Any, keys: list[str], where: str) -> None:
    _typed(f"'{where}'", table, dict)
    for key in keys:
        _held(table, key, float, where)


def _held(table: dict[str, Any], key: str, kind: type, where: str = '') -> Any:
    name = f'{where}.{key}' if where else key
    if key not in table:
        raise ValueError(f"'{name}' is missing")
    return _typed(f"'{name}'", table[key], kind)


def _typed(name: str, value: Any, kind: type) -> Any:
    kinds: tuple[type, ...] = (int, float) if kind is float else (kind,)
    # A Boolean is an integer to Python.
    if not isinstance(value, kinds) or isinstance(value, bool) is not (kind is bool):
        raise ValueError(f'{name} needs to be {_WORDS[kind]} (got {value!r:.60})')
    return value
