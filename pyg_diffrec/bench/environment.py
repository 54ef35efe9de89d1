r"""What a number depends on besides the code: versions, commit and memory."""

import contextlib
import json
import os
import platform
import resource
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

import torch

import pyg_diffrec

_PACKAGES = ['torch', 'torch-geometric', 'torch-scatter', 'torch-sparse', 'numpy']


def versions() -> dict[str, str]:
    r"""The versions of Python, of this package and of those that compute, as far as
    they are installed."""
    out = {'python': platform.python_version(), 'pyg-diffrec': pyg_diffrec.__version__}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            out[name] = metadata.version(name)
    return out


def commit() -> Optional[str]:
    r"""The commit of the source tree, with :obj:`-dirty` if files differ from it;
    :obj:`None` if the package does not run from a checkout."""
    root = Path(pyg_diffrec.__file__).parent.parent
    if not (root / '.git').exists():
        return None
    try:
        head = _git(root, 'rev-parse', 'HEAD')
        changed = _git(root, 'status', '--porcelain', '--', 'pyg_diffrec')
    except (OSError, subprocess.CalledProcessError):
        return None
    return f'{head}-dirty' if changed else head


def write_measurement(measured: dict[str, Any], path: Optional[Path] = None) -> None:
    r"""Prints what was measured with the processor, versions and commit it was measured
    with, and writes it as JSON, whole or not at all.

    Args:
        measured (dict): What was measured; its keys go before ours, *e.g.* the
            :obj:`threads` of other processes.
        path (Path, optional): The file. (default: :obj:`None`)

    Raises:
        ValueError: If a number is not finite.
    """
    where = {
        'processor': platform.processor() or platform.machine(),
        'threads': torch.get_num_threads(),
        'versions': versions(),
        'commit': commit(),
    }
    text = json.dumps(where | measured, indent=2, allow_nan=False)
    print(text, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix('.part')
        part.write_text(text + '\n', encoding='utf-8')
        os.replace(part, path)


def _git(root: Path, *args: str) -> str:
    command = ['git', '-C', str(root), *args]
    out = subprocess.run(
        command, check=True, capture_output=True, encoding='utf-8', errors='replace'
    )
    return out.stdout.strip()


class PeakMemory:
    r"""The peak memory of what runs inside the context, in bytes: of the GPU if one
    is used, else resident memory of the process.

    Args:
        device (str): The device of the run.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith('cuda')
        self.bytes: Optional[int] = None
        self.source = ''

    def __enter__(self) -> 'PeakMemory':
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return self
        try:  # Resets the high-water mark of the process, on Linux.
            Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')
            self.source = 'VmHWM'
        except OSError:
            self.source = 'maximum since the process started'
        return self

    def __exit__(self, *args: object) -> None:
        if self.cuda:
            self.bytes = torch.cuda.max_memory_allocated()
            self.source = 'torch.cuda.max_memory_allocated'
        elif self.source == 'VmHWM':
            status = Path('/proc/self/status').read_text(encoding='utf-8')
            self.bytes = int(status.split('VmHWM:')[1].split()[0]) * 1024
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            self.bytes = peak if platform.system() == 'Darwin' else peak * 1024
