r"""Diffusion models for recommendation, as an extension of PyTorch Geometric.

Models can be imported from here: ``from pyg_diffrec import DiffRec``. Subpackages load
on first use, so that ``import pyg_diffrec`` costs nothing and
``pyg-diffrec --help`` does not wait for PyTorch.
"""

import importlib
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f'{__name__}.{name}')
    if name[:1].isupper():  # `from pyg_diffrec import DiffRec`
        models = importlib.import_module(f'{__name__}.models')
        if name in models.__all__:
            return getattr(models, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
