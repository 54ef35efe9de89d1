r"""Files that are whole at every moment, in a folder that one process writes to."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import IO, Any, Iterator

_TEMPORARY = '.part'


def make_folder(path: Path) -> None:
    r"""Makes a folder and those above it.

    Raises:
        OSError: If a file is in the way or the place cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"'{path}' cannot be a folder, there is a file in its place: choose "
            f'another folder'
        ) from error
    except OSError as error:
        raise unwritable(path, error) from error


def write_whole(path: Path, content: bytes) -> None:
    r"""Writes a file beside :obj:`path` and renames it, so that the file is the old or
    the new one, whatever kills the process.

    Raises:
        OSError: If it cannot be written; the old file stays.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(
            f"'{path}' needs to be a file, there is a folder in its place: rename the "
            f'folder'
        )
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f'.{path.name}.', suffix=_TEMPORARY
        )
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OSError:
    r"""The error of a file that cannot be written, with its name and what to do."""
    reason = error.strerror or str(error)
    return type(error)(
        f"'{path}' cannot be written ({reason}): make room or change its permissions, "
        f'and start the same command again'
    )


def clear_leftovers(folder: Path, *patterns: str) -> None:
    r"""Removes the temporary files that killed processes left in a folder.

    Args:
        folder (Path): The folder, which nobody else writes to.
        *patterns (str): What other temporary files are called.
    """
    for pattern in (f'.*{_TEMPORARY}', *patterns):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):  # A file that stays does no harm.
                path.unlink()


@contextlib.contextmanager
def lock_folder(folder: Path, what: str) -> Iterator[None]:
    r"""Keeps a second process out of a folder. The operating system gives the lock
    back when the process ends, however it ends.

    Raises:
        ValueError: If another process has the folder.
        OSError: If the folder cannot be written to.
    """
    make_folder(folder)
    path = folder / '.lock'
    try:
        file = open(path, 'a', encoding='utf-8')  # noqa: SIM115 (closed below)
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        try:
            _lock(file)
        except BlockingIOError:
            raise ValueError(
                f"Another {what} is running in '{folder}': wait for it, or choose "
                f'another folder with --out'
            ) from None
        except OSError as error:  # Some network file systems have no locks.
            raise unwritable(path, error) from error
        yield


def _lock(file: IO[Any]) -> None:
    r"""Locks a file or raises a :class:`BlockingIOError`."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        lock: Any = msvcrt
        try:
            lock.locking(file.fileno(), lock.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
