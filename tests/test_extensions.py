"""Setting up torch-scatter and torch-sparse."""

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyg_diffrec import extensions
from pyg_diffrec.extensions import ExtensionError, build_wheel

SETUP = """
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

setup(
    name='many',
    version='0',
    cmdclass={'build_ext': BuildExtension},
    ext_modules=[
        CppExtension(f'many_{i}', [f'first_{i}.cpp', f'second_{i}.cpp'])
        for i in range(3)
    ],
)
"""

needs_compiler = pytest.mark.skipif(
    not shutil.which('c++'), reason='There is no C++ compiler'
)


def write_package(folder, broken=None):
    folder.mkdir()
    (folder / 'setup.py').write_text(SETUP)
    for index in range(3):
        for name in ('first', 'second'):
            body = 'no code' if index == broken else f'int {name}_{index} = 1;'
            (folder / f'{name}_{index}.cpp').write_text(body)
    return folder


@needs_compiler
@pytest.mark.parametrize('ninja', [True, False])
def test_extensions_are_built_side_by_side_in_folders_of_their_own(
    tmp_path, monkeypatch, ninja
):
    if ninja and not shutil.which('ninja'):
        pytest.skip('There is no ninja')
    if not ninja:  # One that does not answer counts as none.
        hidden = tmp_path / 'bin'
        hidden.mkdir()
        (hidden / 'ninja').write_text('#!/bin/sh\nexit 1\n')
        (hidden / 'ninja').chmod(0o755)
        monkeypatch.setenv('PATH', str(hidden), prepend=':')
    # A user's configuration that lets setuptools build several at once.
    config = tmp_path / 'user.cfg'
    config.write_text('[build_ext]\nparallel = 4\n')
    monkeypatch.setenv('DIST_EXTRA_CONFIG', str(config))
    source = write_package(tmp_path / 'many')
    with ThreadPoolExecutor(3) as pool:
        wheel = build_wheel(source, tmp_path / 'out', 3, pool)
    modules = [x for x in zipfile.ZipFile(wheel).namelist() if x.endswith('.so')]
    assert sorted(name[:6] for name in modules) == [f'many_{i}' for i in range(3)]
    made = {path.parent.name for path in source.glob('build/temp-*/build.ninja')}
    assert made == ({f'temp-{i}' for i in range(3)} if ninja else set())


@needs_compiler
def test_what_the_compiler_says_is_passed_on(tmp_path):
    source = write_package(tmp_path / 'many', broken=2)
    # As an interrupted build left it.
    (source / 'build' / 'temp-0').mkdir(parents=True)
    (source / 'build' / 'temp-0' / 'first_0.o').write_text('half')
    with (
        ThreadPoolExecutor(2) as pool,
        pytest.raises(ExtensionError, match=r'(?s)many failed .*error.*no code'),
    ):
        build_wheel(source, tmp_path / 'out', 2, pool)
    assert not (source / 'build' / 'temp-0' / 'first_0.o').exists() or (
        (source / 'build' / 'temp-0' / 'first_0.o').read_bytes() != b'half'
    )


def refuse(*args, **kwargs):
    raise AssertionError('nothing should be installed')


def test_what_is_there_and_computes_is_kept(monkeypatch, capsys):
    monkeypatch.setattr(extensions, 'usable', lambda: True)
    monkeypatch.setattr(extensions, '_checked', refuse)
    assert extensions.main([]) == 0
    assert 'are installed' in capsys.readouterr().out


def test_nothing_is_done_without_a_gpu(monkeypatch):
    monkeypatch.setattr(extensions, 'install', refuse)
    monkeypatch.setattr(extensions, '_GPU', 'raise SystemExit(1)')
    assert extensions.main(['--if-gpu']) == 0
    monkeypatch.setattr(extensions, '_GPU', '')
    with pytest.raises(AssertionError):
        extensions.main(['--if-gpu'])


@pytest.mark.parametrize(
    ('facts', 'match'),
    [
        (['2.13.0', 'cpu', False, None, None], 'no C\\+\\+ compiler .*g\\+\\+'),
        (['2.13.0', 'sm90', True, None, '13.0'], 'no CUDA compiler .*toolkit 13.0'),
    ],
)
def test_missing_compilers_are_named(monkeypatch, facts, match):
    found = None if facts[1] == 'cpu' else 'c++'
    monkeypatch.setattr(shutil, 'which', lambda name: found)
    with pytest.raises(ExtensionError, match=match):
        extensions._check_compilers(facts)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine on which packages are compiled in no time; what was compiled works
    or does not."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    state = {'compiled': [], 'installed': None, 'works': True}

    def checked(command, what, **kwargs):
        if 'download' in command:
            target = Path(command[command.index('--dest') + 1])
            target.mkdir()
            name = command[-1].split('==')[0]
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / 'setup.py').touch()
            with tarfile.open(target / f'{name}.tar.gz', 'w:gz') as archive:
                archive.add(tmp_path / name, arcname=name)
        elif '--no-index' in command:
            state['installed'] = [Path(x).name for x in command if x.endswith('.whl')]
        return ''

    def build(source, out, *args):
        state['compiled'].append(source.name)
        out.mkdir()
        path = out / f'{source.name}-1-cp311.whl'
        path.write_text('wheel')
        return path

    monkeypatch.setattr(extensions, '_checked', checked)
    monkeypatch.setattr(extensions, 'build_wheel', build)
    monkeypatch.setattr(extensions, '_check_compilers', lambda facts: None)
    works = lambda: state['installed'] is not None and state['works']  # noqa: E731
    monkeypatch.setattr(extensions, 'usable', works)
    state['facts'] = ['2.13.0+cpu', 'cpu', False, None, None]

    def python(code):
        return subprocess.CompletedProcess([], 0, json.dumps(state['facts']))

    monkeypatch.setattr(extensions, '_python', python)
    return state


def test_wheels_are_kept_for_the_next_environment(machine):
    extensions.install()
    names = list(extensions.PACKAGES)
    assert sorted(machine['compiled']) == names
    assert machine['installed'] == [f'{name}-1-cp311.whl' for name in names]
    machine['installed'] = None  # An environment that is new.
    extensions.install()
    assert sorted(machine['compiled']) == names
    extensions.install()
    assert sorted(machine['compiled']) == names


def test_wheels_that_do_not_work_are_not_kept(machine):
    machine['works'] = False
    with pytest.raises(ExtensionError, match='were built, but do not work'):
        extensions.install()
    machine.update(works=True, installed=None)
    extensions.install()
    assert sorted(machine['compiled']) == sorted(2 * list(extensions.PACKAGES))


def test_an_interrupted_build_goes_on_with_the_next_package(machine, monkeypatch):
    build = extensions.build_wheel

    def interrupted(source, out, *args):
        if source.name == 'torch-sparse':
            raise KeyboardInterrupt
        return build(source, out, *args)

    monkeypatch.setattr(extensions, 'build_wheel', interrupted)
    with pytest.raises(KeyboardInterrupt):
        extensions.install()
    monkeypatch.setattr(extensions, 'build_wheel', build)
    extensions.install()
    assert sorted(machine['compiled']) == list(extensions.PACKAGES)


@pytest.mark.parametrize(('place', 'value'), [(0, '2.14.0+cpu'), (1, 'sm90')])
def test_wheels_of_another_pytorch_or_device_are_not_taken(machine, place, value):
    extensions.install()
    machine['facts'][place] = value
    machine['installed'] = None
    extensions.install()
    assert sorted(machine['compiled']) == sorted(2 * list(extensions.PACKAGES))


def test_prebuilt_wheels_that_do_not_match_are_passed_over(machine, monkeypatch):
    commands = []

    def run(command, **kwargs):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, '')

    monkeypatch.setattr(extensions, '_run', run)
    extensions.install(['somewhere'])
    asked = commands[0]
    assert asked[asked.index('--find-links') + 1] == 'somewhere'
    assert asked[asked.index('--only-binary') + 1] == 'torch-scatter,torch-sparse'
    assert '--no-cache-dir' in asked
    assert sorted(machine['compiled']) == list(extensions.PACKAGES)


def test_the_pins_of_the_extra_are_those_that_are_built():
    text = (Path(__file__).parent.parent / 'pyproject.toml').read_text('utf-8')
    for name, version in extensions.PACKAGES.items():
        assert f"'{name}=={version}'" in text


def test_the_command_needs_nothing_but_python():
    code = 'import sys, pyg_diffrec.extensions; print("torch" in sys.modules)'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert out.stdout.strip() == 'False'


@pytest.mark.parametrize('jobs', ['0', '-1', 'x'])
def test_other_numbers_of_compilers_are_refused(jobs, capsys):
    with pytest.raises(SystemExit):
        extensions.main(['--jobs', jobs])
    assert '--jobs' in capsys.readouterr().err


def test_compiled_packages_compute_where_they_are_installed():
    pytest.importorskip('torch_sparse')
    assert extensions.usable()
