r"""Datasets by name, as suites and the command line know them."""

import inspect
from pathlib import Path
from typing import Any, Optional

from torch_geometric.data import HeteroData

from pyg_diffrec.datasets import DiffRecDataset, SyntheticInteractions
from pyg_diffrec.resolver import unknown
from pyg_diffrec.transforms import AddRandomInteractions

_SYNTHETIC = 'synthetic'
# The share of random interactions that is added to training, for every dataset.
_RANDOM = 'random_share'


def dataset_names() -> list[str]:
    r"""The names of all datasets."""
    return [_SYNTHETIC, *DiffRecDataset.names]


def _arguments(name: str) -> list[str]:
    if name == _SYNTHETIC:
        signature = inspect.signature(SyntheticInteractions.__init__)
        keys = [key for key in signature.parameters if key not in ('self', 'transform')]
        return [*keys, _RANDOM]
    return ['roles', _RANDOM]


def check_dataset(spec: dict[str, Any]) -> None:
    r"""Refuses a dataset or an argument that does not exist.

    Raises:
        ValueError: With the choices and the nearest match.
    """
    name = spec['name']
    if name not in dataset_names():
        raise ValueError(unknown('dataset', name, dataset_names()))
    for key in spec:
        if key != 'name' and key not in _arguments(name):
            raise ValueError(unknown(f"key of dataset '{name}'", key, _arguments(name)))


def build_dataset(
    spec: dict[str, Any], data_root: Optional[Path], cache: Path
) -> HeteroData:
    r"""Loads a dataset.

    Args:
        spec (dict): Its :obj:`name` and arguments, and :obj:`random_share` for
            :class:`~pyg_diffrec.transforms.AddRandomInteractions`.
        data_root (Path, optional): The folder with one folder of raw files per
            dataset; what is not there is downloaded to :obj:`cache`.
        cache (Path): The folder for processed files and downloads.
    """
    args = {key: value for key, value in spec.items() if key not in ('name', _RANDOM)}
    if _RANDOM in spec:
        args['transform'] = AddRandomInteractions(spec[_RANDOM])
    if spec['name'] == _SYNTHETIC:
        return SyntheticInteractions(**args)[0]
    raw_dir = None
    if data_root is not None:
        raw_dir = data_root / spec['name']
        if not raw_dir.is_dir():
            raise FileNotFoundError(
                f"'{data_root}' has no folder '{spec['name']}': put the raw files "
                f'there, or leave out --data-root to download them'
            )
    return DiffRecDataset(
        str(cache),
        spec['name'],
        raw_dir=None if raw_dir is None else str(raw_dir),
        **args,
    )[0]
