r"""Diffusion models for recommendation, as an extension of PyTorch Geometric.

Subpackages load on first use, so that ``import pyg_diffrec`` costs nothing and
``pyg-diffrec --help`` does not wait for PyTorch.
"""

import importlib
from types import ModuleType

__version__ = '0.1.0'

__all__ = [
    'bench',
    'data',
    'datasets',
    'diffusion',
    'evaluation',
    'loader',
    'models',
    'nn',
    'training',
    'transforms',
    'utils',
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f'{__name__}.{name}')
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
