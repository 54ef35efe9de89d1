r"""The file of finished runs."""

import fcntl
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator


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
            ValueError: If a line is not a JSON object; the error names it.
        """
        if not self.path.exists():
            return []
        records = []
        lines = self.path.read_text(encoding='utf-8').splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"'{self.path}' line {number} is not valid JSON ({error}): "
                    f'remove the line; its run will be repeated'
                ) from error
            records.append(record)
        return records

    def append(self, record: dict[str, Any]) -> None:
        r"""Adds a record."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        old = self.path.read_bytes() if self.path.exists() else b''
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix='.results-')
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(old + json.dumps(record, allow_nan=False).encode() + b'\n')
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        r"""Keeps a second bench out of the folder.

        Raises:
            ValueError: If another bench is running there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.parent / '.lock', 'w', encoding='utf-8') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"Another bench is running in '{self.path.parent}': wait for it, "
                    f'or choose another folder with --out'
                ) from None
            yield
