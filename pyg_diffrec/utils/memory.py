r"""How much memory there is to take."""

import os
from pathlib import Path
from typing import Optional

_PROC = Path('/proc')
_CGROUP = Path('/sys/fs/cgroup')


def available_memory() -> Optional[int]:
    r"""Returns the bytes that can be taken without swapping: what the system has
    available, or what is left below the limit of a control group of this process
    (container, job), if that is less; :obj:`None` where the system does not say."""
    found = [_system_memory(), *_group_memory()]
    return min((size for size in found if size is not None), default=None)


def _system_memory() -> Optional[int]:
    try:
        for line in (_PROC / 'meminfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # Not a Linux system.
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError, OSError):
        return None  # Windows, for one.


def _group_memory() -> list[Optional[int]]:
    r"""What is left in each control group with a limit, of version 1 or 2."""
    try:
        lines = (_PROC / 'self' / 'cgroup').read_text(encoding='utf-8').splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if controllers == '':
            root, limit, usage, cache = _CGROUP, 'max', 'current', 'inactive_file'
        elif 'memory' in controllers.split(','):
            root, limit, usage = _CGROUP / 'memory', 'limit_in_bytes', 'usage_in_bytes'
            cache = 'total_inactive_file'
        else:
            continue
        # Limits of groups further out count as well. In a container the path may be
        # that on the host, of which nothing but the root is there.
        group = root / path.lstrip('/')
        for folder in [group, *group.parents]:
            found.append(_left(folder, limit, usage, cache))
            if folder == root:
                break
    return found


def _left(folder: Path, limit: str, usage: str, cache: str) -> Optional[int]:
    try:
        most = (folder / f'memory.{limit}').read_text(encoding='utf-8').strip()
        if most == 'max':
            return None
        used = int((folder / f'memory.{usage}').read_text(encoding='utf-8'))
        stat = (folder / 'memory.stat').read_text(encoding='utf-8').splitlines()
        # The page cache counts as used, and gives way.
        spare = next((int(x.split()[1]) for x in stat if x.split()[0] == cache), 0)
        return max(int(most) - used + spare, 0)
    except (OSError, ValueError, IndexError):
        return None
