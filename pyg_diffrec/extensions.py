r"""Installs torch-scatter and torch-sparse for the PyTorch that is there.

Both have compiled parts that belong to one build of PyTorch. Nothing on a CPU needs
them; sparse products on a GPU do. Run as ``python -m pyg_diffrec.extensions``.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional, Sequence

#: Those that work with each other and with the PyTorch versions we support.
PACKAGES = {'torch-scatter': '2.1.2', 'torch-sparse': '0.6.18'}

# Compilers are told to build this extension alone, given by its place; their number
# is asked for with 'count'.
_ONLY = 'PYG_DIFFREC_EXTENSION'
_GPU = 'import sys, torch; sys.exit(not torch.cuda.is_available())'
_ABOUT = """
import json, torch
from torch.utils.cpp_extension import CUDA_HOME
gpu = torch.cuda.is_available()
arch = 'sm{}{}'.format(*torch.cuda.get_device_capability()) if gpu else 'cpu'
print(json.dumps([torch.__version__, arch, gpu, CUDA_HOME, torch.version.cuda]))
"""
_TRY = """
import torch, torch_scatter, torch_sparse
for device in ['cpu', 'cuda'][: 1 + torch.cuda.is_available()]:
    ptr, col = torch.tensor([0, 2, 3]).to(device), torch.tensor([0, 1, 1]).to(device)
    x = torch.ones(2, 4, device=device, requires_grad=True)
    adj = torch_sparse.SparseTensor(rowptr=ptr, col=col, sparse_sizes=(2, 2))
    torch_sparse.matmul(adj, x).sum().backward()
    assert x.grad[:, 0].tolist() == [1, 2]
    out = torch_scatter.segment_csr(torch.ones(3, device=device), ptr, reduce='sum')
    assert out.tolist() == [2, 1]
"""


class ExtensionError(RuntimeError):
    r"""The extensions cannot be installed; the message says what is missing."""


def _run(command: Sequence[str], **kwargs: Any) -> 'subprocess.CompletedProcess[str]':
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding='utf-8',
        errors='replace',
        **kwargs,
    )


def _checked(command: Sequence[str], what: str, **kwargs: Any) -> str:
    done = _run(command, **kwargs)
    if done.returncode != 0:
        tail = '\n'.join(done.stdout.splitlines()[-60:])
        raise ExtensionError(f'{what} failed (exit code {done.returncode}):\n{tail}')
    return done.stdout


def _python(code: str) -> 'subprocess.CompletedProcess[str]':
    # Away from the checkout, whose files must not be imported in place of packages.
    return _run([sys.executable, '-c', code], cwd=tempfile.gettempdir())


def _pip(*args: str) -> list[str]:
    return [sys.executable, '-m', 'pip', '--disable-pip-version-check', *args]


def usable() -> bool:
    r"""Whether both packages are there and compute, on a GPU too if there is one."""
    return _python(_TRY).returncode == 0


def _cache(about: Sequence[Any]) -> Path:
    r"""Where wheels for this Python, PyTorch and device are kept."""
    version, device = about[:2]
    parts = ['torch', version, device, sys.implementation.cache_tag, platform.machine()]
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(home) / 'pyg-diffrec' / '-'.join(str(part) for part in parts)


def _install(wheels: Sequence[Path]) -> bool:
    args = ['install', '--quiet', '--no-deps', '--no-index', '--force-reinstall']
    _checked(_pip(*args, *map(str, wheels)), 'Installing the wheels')
    return usable()


def _install_prebuilt(pages: Sequence[str]) -> bool:
    r"""Installs prebuilt wheels from pages or folders, if they have matching ones."""
    pins = [f'{name}=={version}' for name, version in PACKAGES.items()]
    links = [arg for page in pages for arg in ('--find-links', page)]
    # Neither a source nor what pip once built from one, maybe for another PyTorch.
    args = ['--only-binary', ','.join(PACKAGES), '--no-deps', '--force-reinstall']
    done = _run(_pip('install', '--no-cache-dir', *args, *links, *pins))
    if done.returncode == 0 and usable():
        return True
    print('No prebuilt wheels for this PyTorch there: compiling.', flush=True)
    return False


def build_wheel(source: Path, out: Path, jobs: int, pool: Executor) -> Path:
    r"""Compiles a package of PyTorch extensions, each of them in a process and a
    folder of its own.

    PyTorch gives all extensions of a package one ``build.ninja``: where ninja is
    installed, extensions that setuptools builds at the same time overwrite it. Apart
    from each other, they can be built on all cores, with ninja and without.

    Args:
        source (Path): The folder of the package, with its ``setup.py``.
        out (Path): The folder for the wheel.
        jobs (int): The number of compilers that run at once.
        pool (Executor): Runs as many processes at once.

    Returns:
        The path of the wheel.

    Raises:
        ExtensionError: If the compiler fails; the message ends with its output.
    """
    setup = [sys.executable, '-m', 'pyg_diffrec.extensions', '--setup']
    build = source / 'build'
    shutil.rmtree(build, ignore_errors=True)
    root = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(filter(None, [str(root), os.environ.get('PYTHONPATH')]))

    def run(*args: str, only: str, max_jobs: int = 1) -> str:
        chosen = {_ONLY: only, 'MAX_JOBS': str(max_jobs), 'PYTHONPATH': path}
        env = {**os.environ, **chosen}
        what = f"'setup.py {' '.join(args[:1])}' of {source.name}"
        return _checked([*setup, *args], what, cwd=source, env=env)

    count = int(run('build_ext', only='count').splitlines()[-1])
    futures = [
        pool.submit(
            run,
            *('build_ext', '--build-lib', str(build / 'lib')),
            *('--build-temp', str(build / f'temp-{index}')),
            only=str(index),
            max_jobs=max(1, jobs // count),
        )
        for index in range(count)
    ]
    for future in futures:
        future.result()
    pack = ['bdist_wheel', '--dist-dir', str(out.resolve())]
    run('build', '--build-lib', str(build / 'lib'), *pack, only='none')
    return next(out.glob('*.whl'))


def _compile(name: str, version: str, wheels: Path, jobs: int, pool: Executor) -> Path:
    r"""Downloads a package, compiles it, and keeps its wheel in a folder."""
    kept = wheels / name
    found = list(kept.glob('*.whl'))
    if found:
        return found[0]
    print(f'Compiling {name} {version} ...', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        sdist, out = Path(folder) / 'sdist', Path(folder) / 'wheel'
        args = ['--no-deps', '--no-binary', ':all:', '--no-build-isolation']
        command = _pip('download', *args, '--dest', str(sdist), f'{name}=={version}')
        _checked(command, f'Downloading {name}')
        with tarfile.open(next(sdist.glob('*.tar.gz'))) as archive:
            if hasattr(tarfile, 'data_filter'):
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(folder)
        source = next(path.parent for path in Path(folder).glob('*/setup.py'))
        wheel = build_wheel(source, out, jobs, pool)
        # Renamed when whole: an interrupted build leaves no half of one.
        kept.mkdir(parents=True, exist_ok=True)
        part = kept / f'.{os.getpid()}.part'
        shutil.copyfile(wheel, part)
        os.replace(part, kept / wheel.name)
    return kept / wheel.name


def _compile_all(wheels: Path, jobs: int) -> list[Path]:
    r"""Compiles all packages side by side: the slowest file of each takes minutes."""
    with ThreadPoolExecutor(jobs) as pool, ThreadPoolExecutor() as packages:
        futures = [
            packages.submit(_compile, *package, wheels, jobs, pool)
            for package in PACKAGES.items()
        ]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check_compilers(about: Sequence[Any]) -> None:
    version, _, gpu, cuda_home, cuda = about
    if os.name != 'nt' and not shutil.which(os.environ.get('CXX', 'c++')):
        raise ExtensionError(
            'There is no C++ compiler to build torch-scatter and torch-sparse with: '
            'install one (on Debian: apt-get install g++ python3-dev), or give the '
            f'page of prebuilt wheels for PyTorch {version} with --wheels'
        )
    if gpu and cuda_home is None:
        raise ExtensionError(
            f'PyTorch {version} has a GPU, but there is no CUDA compiler to build '
            f'torch-scatter and torch-sparse with: install the CUDA toolkit {cuda} and '
            f'let CUDA_HOME name it, or give the page of prebuilt wheels with --wheels'
        )


def install(wheels: Sequence[str] = (), jobs: Optional[int] = None) -> None:
    r"""Installs both packages, unless they are there and compute.

    Args:
        wheels (list, optional): Pages or folders of prebuilt wheels, asked first.
        jobs (int, optional): The number of compilers that run at once; as many as
            there are cores if :obj:`None`. (default: :obj:`None`)

    Raises:
        ExtensionError: If there is neither a matching wheel nor a way to compile one.
    """
    if usable():
        print('torch-scatter and torch-sparse are installed and compute.')
        return
    if wheels and _install_prebuilt(wheels):
        return
    needs = ['setuptools>=64,<81', 'wheel', 'numpy', 'scipy']
    _checked(_pip('install', '--quiet', *needs), 'Installing what builds need')
    about = _python(_ABOUT)
    if about.returncode != 0:
        raise ExtensionError(
            f"PyTorch cannot be imported by '{sys.executable}': install it first\n"
            f'{about.stdout}'
        )
    facts = json.loads(about.stdout.splitlines()[-1])
    cache = _cache(facts)
    kept = [path for name in PACKAGES for path in cache.glob(f'{name}/*.whl')]
    if len(kept) == len(PACKAGES):
        if _install(kept):
            return
        shutil.rmtree(cache)  # Of a PyTorch that has the same name and differs.
    _check_compilers(facts)
    jobs = jobs or int(os.environ.get('MAX_JOBS') or 0) or _num_cores()
    print(f'{jobs} compilers run at once; on two cores it takes half an hour.')
    if not _install(_compile_all(cache, jobs)):
        output = _python(_TRY).stdout
        shutil.rmtree(cache)
        raise ExtensionError(
            f'torch-scatter and torch-sparse were built, but do not work:\n{output}'
        )


def _num_cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _setup(args: list[str]) -> None:
    r"""Runs ``setup.py`` with that extension alone that the environment names."""
    import runpy

    from torch.utils import cpp_extension

    build_extensions = cpp_extension.BuildExtension.build_extensions

    def build_one(self: Any) -> None:
        only = os.environ[_ONLY]
        if only == 'count':
            print(len(self.extensions))
        elif only != 'none':
            self.parallel = None  # Whatever the user's configuration says.
            self.extensions = [self.extensions[int(only)]]
            build_extensions(self)

    setattr(cpp_extension.BuildExtension, 'build_extensions', build_one)  # noqa: B010
    sys.argv = ['setup.py', *args]
    try:
        runpy.run_path('setup.py', run_name='__main__')
    except Exception as error:  # What the compiler said stands above it.
        sys.exit(f'{type(error).__name__}: {error}')


def main(args: Optional[Sequence[str]] = None) -> int:
    r"""The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m pyg_diffrec.extensions',
        description='Installs torch-scatter and torch-sparse for the PyTorch that is '
        'there: from prebuilt wheels where they match, else compiled on all cores.',
    )
    parser.add_argument(
        '--wheels',
        action='append',
        default=[],
        metavar='PAGE',
        help='a page or folder of prebuilt wheels; may be repeated',
    )
    parser.add_argument('--jobs', type=int, help='compilers at once (default: cores)')
    parser.add_argument(
        '--if-gpu', action='store_true', help='do nothing where PyTorch sees no GPU'
    )
    options = parser.parse_args(args)
    if options.jobs is not None and options.jobs < 1:
        parser.error(f'--jobs needs to be positive (got {options.jobs})')
    if options.if_gpu and _python(_GPU).returncode != 0:
        return 0
    try:
        install(options.wheels, options.jobs)
    except ExtensionError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    if sys.argv[1:2] == ['--setup']:
        _setup(sys.argv[2:])
    else:
        sys.exit(main())
