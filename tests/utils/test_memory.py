import os

import pytest

from pyg_diffrec.utils import memory
from pyg_diffrec.utils.memory import available_memory


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes the files of a made-up system."""
    monkeypatch.setattr(memory, '_PROC', tmp_path / 'proc')
    monkeypatch.setattr(memory, '_CGROUP', tmp_path / 'cgroup')

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    write(**{'proc/meminfo': 'MemTotal: 9000 kB\nMemAvailable: 8000 kB\n'})
    return write


def limited(folder, limit, usage, cache=0):
    return {
        f'{folder}/memory.max': f'{limit}\n',
        f'{folder}/memory.current': f'{usage}\n',
        f'{folder}/memory.stat': f'anon 1\ninactive_file {cache}\n',
    }


def test_the_system_says_what_is_available(machine):
    assert available_memory() == 8000 * 1024
    machine(**{'proc/self/cgroup': '0::/job\n', 'cgroup/job/memory.max': 'max\n'})
    assert available_memory() == 8000 * 1024


def test_the_limit_of_a_container_counts(machine):
    machine(**{'proc/self/cgroup': '0::/\n'}, **limited('cgroup', 1000, 400, 50))
    assert available_memory() == 650
    machine(**limited('cgroup', 1000, 1400))
    assert available_memory() == 0


def test_the_tightest_of_nested_groups_counts(machine):
    machine(**{'proc/self/cgroup': '0::/a/b\n'})
    machine(**limited('cgroup/a', 500, 100), **limited('cgroup/a/b', 9000, 100))
    assert available_memory() == 400


def test_groups_of_version_1_are_read(machine):
    machine(
        **{
            'proc/self/cgroup': '3:cpu:/x\n2:memory:/on/the/host\n',
            'cgroup/memory/memory.limit_in_bytes': '1000\n',
            'cgroup/memory/memory.usage_in_bytes': '300\n',
            'cgroup/memory/memory.stat': 'total_inactive_file 20\n',
        }
    )
    assert available_memory() == 720


def test_systems_that_do_not_say_are_not_asked(machine, tmp_path, monkeypatch):
    (tmp_path / 'proc' / 'meminfo').unlink()
    monkeypatch.setattr(os, 'sysconf', {'SC_PAGE_SIZE': 4, 'SC_PHYS_PAGES': 25}.get)
    assert available_memory() == 100
    monkeypatch.delattr(os, 'sysconf')
    assert available_memory() is None
