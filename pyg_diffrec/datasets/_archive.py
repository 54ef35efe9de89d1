r"""Taking known files, and nothing else, out of an archive of unknown contents."""

import os
import shutil
import subprocess
from collections.abc import Sequence

TOOLS = ('bsdtar', 'unrar', '7z', 'unar')


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


def _unpack(archive: str, folder: str) -> None:
    # Debian's '7z' has no rar codec unless asked for: try what else there is.
    failures = []
    for tool in find_tools():
        target = os.path.join(folder, tool)
        os.makedirs(target)
        out = subprocess.run(
            _command(tool, archive, target),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding='utf-8',
            errors='replace',
        )
        if out.returncode == 0:
            return
        failures.append(f'{tool}: {(out.stderr or out.stdout).strip()[-200:]}')
        shutil.rmtree(target)
    raise RuntimeError(f"Could not unpack '{archive}' ({failures or 'no tool'})")


def extract(
    archive: str,
    scratch: str,
    names: Sequence[str],
    destination: str,
    optional: Sequence[str] = (),
) -> None:
    r"""Unpacks :obj:`archive` inside :obj:`scratch`, an empty folder on the same
    file system as :obj:`destination`, and moves the files :obj:`names` there, and
    those of :obj:`optional` that it holds.

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
    os.makedirs(destination, exist_ok=True)
    for name, path in found.items():
        os.replace(path, os.path.join(destination, name))
