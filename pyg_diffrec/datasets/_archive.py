r"""Taking known files, and nothing else, out of an archive of unknown contents."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

TOOLS = ('bsdtar', 'unrar', '7z', 'unar')

_TIME_LIMIT = 600.0  # In seconds.
_MOST_TIMES = 100
_MOST_AT_LEAST = 1 << 30


def find_tools() -> list[str]:
    r"""The programs on the search path that may open a :obj:`.rar` archive."""
    return [tool for tool in TOOLS if shutil.which(tool)]


def _command(tool: str, archive: str, folder: str) -> list[str]:
    if tool == 'bsdtar':
        return [tool, '-x', '-f', archive, '-C', folder]
    if tool == 'unrar':
        return [tool, 'x', '-y', '-inul', archive, os.path.join(folder, '')]
    if tool == '7z':
        return [tool, 'x', '-y', f'-o{folder}', archive]
    if tool == 'unar':
        return [
            tool,
            '-quiet',
            '-force-overwrite',
            '-output-directory',
            folder,
            archive,
        ]
    raise ValueError(f"'tool' needs to be one of {list(TOOLS)} (got '{tool}')")


def _kill(process: subprocess.Popen) -> None:
    # What the tool started in turn would hold its output open.
    with suppress(ProcessLookupError):
        if hasattr(os, 'killpg'):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.communicate()


def _size(folder: str) -> int:
    size = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with suppress(FileNotFoundError):  # The tool may have renamed it.
                size += os.lstat(os.path.join(place, file)).st_size
    return size


def _run(tool: str, archive: str, folder: str) -> str:
    # Returns what went wrong, if anything did.
    start, most = time.monotonic(), _MOST_TIMES * os.path.getsize(archive)
    most = max(most, _MOST_AT_LEAST)
    process = subprocess.Popen(
        _command(tool, archive, folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding='utf-8',
        errors='replace',
        start_new_session=True,
    )
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=min(1.0, _TIME_LIMIT))
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() - start >= _TIME_LIMIT:
                    _kill(process)
                    return f'took more than {_TIME_LIMIT:g} seconds'
                if _size(folder) > most:
                    _kill(process)
                    return f'unpacked more than {most} bytes'
    except BaseException:
        _kill(process)
        raise
    return '' if process.returncode == 0 else output.strip()[-200:] or 'failed'


def _unpack(archive: str, folder: str) -> None:
    # Debian's '7z' has no rar codec unless asked for: try what else there is.
    failures = []
    for tool in find_tools():
        target = os.path.join(folder, tool)
        os.makedirs(target)
        try:
            failure = _run(tool, archive, target)
        except OSError as error:
            failure = str(error)
        if not failure:
            return
        failures.append(f'{tool}: {failure}')
        shutil.rmtree(target)
    raise RuntimeError(f"Could not unpack '{archive}' ({failures or 'no tool'})")


def extract(
    archive: str,
    scratch: str,
    names: Sequence[str],
    optional: Sequence[str] = (),
) -> dict[str, str]:
    r"""Unpacks :obj:`archive` inside :obj:`scratch`, an empty folder, and returns the
    paths there of the files :obj:`names`, and of those of :obj:`optional` that it
    holds.

    Raises:
        RuntimeError: If no tool could unpack the archive, or it does not hold
            each file once as a regular file.
    """
    os.makedirs(scratch, exist_ok=True)
    _unpack(archive, scratch)
    inside = os.path.join(os.path.realpath(scratch), '')
    found = {}
    for name in [*names, *optional]:
        paths = [
            os.path.join(folder, name)
            for folder, _, files in os.walk(scratch, followlinks=False)
            if name in files
        ]
        if not paths and name in optional:
            continue
        if len(paths) != 1:
            raise RuntimeError(
                f"'{os.path.basename(archive)}' needs to hold one '{name}' "
                f'(found {len(paths)})'
            )
        path = paths[0]
        if os.path.islink(path) or not os.path.realpath(path).startswith(inside):
            raise RuntimeError(f"'{name}' in '{os.path.basename(archive)}' is a link")
        found[name] = path
    return found
