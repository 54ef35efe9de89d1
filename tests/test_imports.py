"""Dependencies point one way, as `docs/architecture.md` says."""

import ast
from pathlib import Path

import pytest

import pyg_diffrec

ROOT = Path(pyg_diffrec.__file__).parent
FILES = sorted(ROOT.rglob('*.py'))

ALLOWED = {
    'bench': 'datasets evaluation models resolver training transforms typing utils',
    'cli': 'bench diffusion models resolver',
    'data': 'resolver typing utils',
    'datasets': 'data transforms typing utils',
    'diffusion': 'resolver typing utils',
    'evaluation': 'data resolver typing utils',
    'loader': 'typing utils',
    'models': 'data diffusion loader nn resolver typing utils',
    'nn': 'typing utils',
    'resolver': '',
    'testing': 'data diffusion evaluation nn utils',
    'training': 'evaluation typing utils',
    'transforms': 'data typing utils',
    'typing': 'utils',
    'utils': '',
    '__init__': '',
    '__main__': 'cli',
}


def imported(path):
    """Full names of all that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} has a relative import'
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def part(path):
    return path.relative_to(ROOT).parts[0].removesuffix('.py')


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_one_way(path):
    allowed = {part(path), *ALLOWED[part(path)].split()}
    for name in imported(path):
        head, _, rest = name.partition('.')
        if head == 'pyg_diffrec' and rest:
            target = rest.split('.')[0]
            if (ROOT / target).exists() or (ROOT / f'{target}.py').exists():
                assert target in allowed, f'{path} imports {name}'
        elif part(path) == 'diffusion':
            assert head != 'torch_geometric', f'{path} imports {name}'


def test_each_file_belongs_to_a_known_part():
    assert {part(path) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize(
    ('package', 'expected'),
    [('torch_sparse', {'utils/sparse.py'}), ('torch_scatter', set())],
)
def test_compiled_packages_are_imported_in_one_place(package, expected):
    importers = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name.split('.')[0] == package for name in imported(path))
    }
    assert importers == expected


def test_no_code_evaluates_or_unpickles():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ('eval', 'exec'), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                text = ast.unparse(node)
                if text.startswith('torch.load'):
                    assert 'weights_only=True' in text, path
                assert not text.startswith(('pickle.load', 'pickle.Unpickler')), path
                if text.startswith('np.load('):
                    assert 'allow_pickle=False' in text, path


PACKAGES = 'bench data datasets diffusion evaluation loader models nn testing training '
PACKAGES += 'transforms utils'


@pytest.mark.parametrize('name', PACKAGES.split())
def test_all_is_sorted_complete_and_importable(name):
    import importlib

    module = importlib.import_module(f'pyg_diffrec.{name}')
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, key) for key in module.__all__)


def test_top_level_is_lazy():
    assert pyg_diffrec.models.DiffRec
    assert 'models' in dir(pyg_diffrec)
    with pytest.raises(AttributeError, match="no attribute 'modles'"):
        _ = pyg_diffrec.modles
