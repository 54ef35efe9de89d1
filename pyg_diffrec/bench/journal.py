r"""The journal of a search. Optuna is imported here: import it only to search."""

import json
import os
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from pyg_diffrec.bench.files import make_folder, unwritable


class Journal(BaseJournalBackend):
    r"""The operations of an Optuna study, one JSON object per line, of which a write
    that was cut short leaves the ones before. One process at a time may use it: who
    opens it holds the folder.

    Optuna's own file keeps a lock of its own, which a killed process never gives back,
    and cannot be read once a line is not whole.

    Args:
        path (Path): The file.

    Raises:
        ValueError: If a line is not a JSON object; the error names it.
        OSError: If the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(
                f"'{path}' needs to be a file, there is a folder in its place: rename "
                f'the folder'
            )
        content = path.read_bytes() if path.exists() else b''
        # What follows the last end of a line is a write that did not come to an end.
        self.size = content.rfind(b'\n') + 1
        if self.size < len(content):
            self._cut()
        lines = content[: self.size].splitlines()
        self.logs = [self._parse(x, i) for i, x in enumerate(lines, start=1)]

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            log = json.loads(line)
        except ValueError as error:
            raise self._damaged(number, str(error)) from error
        if not isinstance(log, dict) or 'op_code' not in log:
            raise self._damaged(number, 'it is no operation')
        return log

    def _damaged(self, number: int, reason: str) -> ValueError:
        return ValueError(
            f"'{self.path}' line {number} is not one of a journal of a search "
            f'({reason}): remove it and the lines that follow, whose trials are run '
            f'again, or remove the file to start over'
        )

    def _cut(self) -> None:
        try:
            with open(self.path, 'r+b') as file:
                file.truncate(self.size)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        r"""The operations from a number on."""
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        r"""Adds operations, all of them or, if they cannot be written, none."""
        lines = [json.dumps(log, separators=(',', ':')) + '\n' for log in logs]
        content = ''.join(lines).encode()
        try:
            with open(self.path, 'ab') as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._cut()
            raise unwritable(self.path, error) from error
        self.size += len(content)
        self.logs += map(json.loads, lines)
