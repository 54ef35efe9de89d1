"""Dependencies point one way, as `docs/architecture.md` says."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyg_diffrec

ROOT = Path(pyg_diffrec.__file__).parent
FILES = sorted(ROOT.rglob('*.py'))

PAGE = Path(__file__).parent.parent / 'docs' / 'architecture.md'


def code_in(cell):
    return re.findall('`(.*?)`', cell)


def read_allowed():
    """What each part may import, from the table of the page."""
    _, _, table = PAGE.read_text().partition('| part | may import |\n|---|---|\n')
    rows = [row.split('|')[1:3] for row in table.split('\n\n')[0].splitlines()]
    return {part: set(code_in(right)) for left, right in rows for part in code_in(left)}


ALLOWED = read_allowed()


def for_types_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'


def imported(path):
    """Full names of all that a file imports when it runs, wherever in the file."""
    tree = ast.parse(path.read_text())
    skipped = {
        inner for node in ast.walk(tree) if for_types_only(node) for inner in node.body
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
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
    allowed = {part(path), *ALLOWED[part(path)]}
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
    assert set().union(*ALLOWED.values()) <= set(ALLOWED)


def run_without(blocked, code):
    """Runs code in a process that lacks some packages, and turns warnings into
    errors; PyG's own about PyTorch are not ours."""
    lines = [
        'import sys, warnings',
        *(f"sys.modules['{name}'] = None" for name in blocked),
        "warnings.filterwarnings('ignore', '.torch.jit', DeprecationWarning)",
        code,
    ]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', '\n'.join(lines)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path.home(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


COMPILED = ['torch_sparse', 'torch_scatter']


def test_diffusion_works_with_pytorch_alone():
    out = run_without(
        [*COMPILED, 'torch_geometric', 'scipy'],
        'import torch\n'
        'from pyg_diffrec.diffusion import *\n'
        'x = torch.rand(2, 3)\n'
        'for process in (GaussianDiffusion("linear", 3), GraphSmoothing(torch.abs)):\n'
        '    process.training_losses(lambda x_t, t: x_t, x)\n'
        '    print(list(process.p_sample_loop(lambda x_t, t: x_t, x).shape))',
    )
    assert out.split('\n') == ['[2, 3]', '[2, 3]', '']


def test_all_works_without_compiled_packages():
    names = [name for name in ALLOWED if not name.startswith('__')]
    code = '\n'.join(f'import pyg_diffrec.{name}' for name in names)
    run_without(COMPILED, code)


def test_importing_the_package_loads_nothing():
    heavy = {'torch', 'torch_geometric', 'numpy', 'scipy', 'matplotlib', 'optuna'}
    run_without(heavy, 'import pyg_diffrec\nassert pyg_diffrec.__version__')
    run_without(
        ['torch_geometric', 'scipy', *COMPILED],
        'import pyg_diffrec.typing, pyg_diffrec.resolver, pyg_diffrec.products\n'
        'import pyg_diffrec.utils.checks, pyg_diffrec.utils.counter_noise\n'
        'import pyg_diffrec.utils.precision',
    )


def test_files_of_utils_load_on_first_use():
    from pyg_diffrec import utils

    assert set(utils.__all__) == set(utils._FILES) <= set(dir(utils))
    assert all(getattr(utils, name).__name__ == name for name in utils.__all__)
    with pytest.raises(AttributeError, match="no attribute 'SparseRow'"):
        _ = utils.SparseRow


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


def test_models_are_found_at_the_top():
    from pyg_diffrec import LightGCN  # As any name of `pyg_diffrec.models`.

    assert LightGCN is pyg_diffrec.models.LightGCN
    for name in pyg_diffrec.models.MODELS:
        assert getattr(pyg_diffrec, name) is getattr(pyg_diffrec.models, name)
    with pytest.raises(ImportError, match="cannot import name 'DifRec'"):
        from pyg_diffrec import DifRec  # noqa: F401


def test_other_names_do_not_load_pytorch():
    script = 'import sys, pyg_diffrec; hasattr(pyg_diffrec, "cli"); print(*sys.modules)'
    out = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    )
    assert 'torch' not in out.stdout.split()
