"""Text goes to files and programs in UTF-8, whatever the locale."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyg_diffrec

ROOT = Path(pyg_diffrec.__file__).parent
FILES = sorted(ROOT.rglob('*.py'))


def without_encoding(source):
    """The calls that read or write text and leave the encoding to the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).split('.')[-1]
        owner = ast.unparse(getattr(node.func, 'value', node.func))
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if 'encoding' in given:
            continue
        if name in ('read_text', 'write_text'):
            yield ast.unparse(node)
        elif name in ('open', 'fdopen', 'NamedTemporaryFile', 'TemporaryFile'):
            texts = [ast.unparse(arg) for arg in node.args] + [given.get('mode', '')]
            modes = [x.strip('\'"') for x in texts if set(x) <= set('\'"rwaxbt+')]
            # Archives yield bytes.
            if owner not in ('archive', 'tarfile') and not any(
                'b' in mode for mode in modes
            ):
                yield ast.unparse(node)
        elif given.get('text') == 'True' or 'universal_newlines' in given:
            yield ast.unparse(node)


@pytest.mark.parametrize(
    ('source', 'found'),
    [
        ("path.write_text('a')", 1),
        ("path.write_text('a', encoding='utf-8')", 0),
        ('open(path)', 1),
        ("open(path, 'w')", 1),
        ("open(path, mode='wb')", 0),
        ("open(path, 'rb')", 0),
        ("os.fdopen(handle, 'w')", 1),
        ('path.open()', 1),
        ('subprocess.run(x, text=True)', 1),
        ("subprocess.run(x, encoding='utf-8')", 0),
    ],
)
def test_the_check_sees_what_it_should(source, found):
    assert len(list(without_encoding(source))) == found


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_has_an_encoding(path):
    assert list(without_encoding(path.read_text(encoding='utf-8'))) == []


def test_a_bench_ends_well_where_the_locale_is_ascii(tmp_path):
    suite = tmp_path / 'small.toml'
    text = "title = 'Größe'\n[[datasets]]\nname = 'synthetic'\nnum_users = 40\n"
    text += "num_items = 50\n[[models]]\nname = 'MostPopular'\nlabel = '常见'\n"
    suite.write_text(text, encoding='utf-8')
    command = [sys.executable, '-m', 'pyg_diffrec', 'bench', str(suite)]
    plain = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    plain['PYTHONIOENCODING'] = 'latin-1'
    out = subprocess.run(
        [*command, '--out', str(tmp_path / 'out')],
        env={**os.environ, **plain, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
    )
    assert out.returncode == 0, out.stderr
    page = (tmp_path / 'out' / 'results.md').read_text(encoding='utf-8')
    assert 'Größe' in page
    assert '常见' in page
