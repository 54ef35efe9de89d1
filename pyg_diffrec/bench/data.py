r"""Datasets by name, as suites and the command line know them."""

import inspect
from pathlib import Path
from typing import Any, Optional

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform, Compose

from pyg_diffrec.datasets.diffrec import DiffRecDataset
from pyg_diffrec.datasets.multi_modal import MultiModalDataset
from pyg_diffrec.datasets.social import SocialDataset
from pyg_diffrec.datasets.synthetic import SyntheticInteractions
from pyg_diffrec.resolver import unknown
from pyg_diffrec.transforms.add_random_interactions import AddRandomInteractions
from pyg_diffrec.transforms.rewire_social_edges import RewireSocialEdges

_SYNTHETIC = 'synthetic'
# The share of random interactions that is added to training, for every dataset.
_RANDOM = 'random_share'
# The share of ties that give way to fake ones, where there are ties, and its seed.
_REWIRED, _REWIRED_SEED = 'rewired_share', 'rewired_seed'
_TRANSFORMS = (_RANDOM, _REWIRED, _REWIRED_SEED)

_FROM_FILES = (DiffRecDataset, SocialDataset, MultiModalDataset)


def dataset_names() -> list[str]:
    r"""The names of all datasets."""
    return [_SYNTHETIC, *(name for cls in _FROM_FILES for name in cls.names)]


def _arguments(name: str) -> list[str]:
    if name == _SYNTHETIC:
        signature = inspect.signature(SyntheticInteractions.__init__)
        keys = [key for key in signature.parameters if key not in ('self', 'transform')]
        return [*keys, *_TRANSFORMS]
    if name in SocialDataset.names:
        return list(_TRANSFORMS)
    if name in MultiModalDataset.names:
        return ['modalities', _RANDOM]
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
    if _REWIRED_SEED in spec and _REWIRED not in spec:
        raise ValueError(
            f"'{_REWIRED_SEED}' of dataset '{name}' says nothing without '{_REWIRED}': "
            f'give both, or neither'
        )


def _transform(spec: dict[str, Any]) -> BaseTransform:
    transforms: list[BaseTransform] = []
    if _RANDOM in spec:
        transforms.append(AddRandomInteractions(spec[_RANDOM]))
    if _REWIRED in spec:
        seed = spec.get(_REWIRED_SEED, 0)
        transforms.append(RewireSocialEdges(spec[_REWIRED], seed))
    return Compose(transforms)


def build_dataset(
    spec: dict[str, Any], data_root: Optional[Path], cache: Path
) -> HeteroData:
    r"""Loads a dataset.

    Args:
        spec (dict): Its :obj:`name` and arguments, such as :obj:`roles` or a list of
            :obj:`modalities`, where it has them; :obj:`random_share` for
            :class:`~pyg_diffrec.transforms.AddRandomInteractions`; and, where there
            are ties, :obj:`rewired_share` and :obj:`rewired_seed` for
            :class:`~pyg_diffrec.transforms.RewireSocialEdges`.
        data_root (Path, optional): The folder with one folder of raw files per
            dataset; what is not there is downloaded to :obj:`cache`.
        cache (Path): The folder for processed files and downloads.
    """
    name, no_args = spec['name'], ('name', *_TRANSFORMS)
    args = {key: value for key, value in spec.items() if key not in no_args}
    args['transform'] = _transform(spec)
    if name == _SYNTHETIC:
        return SyntheticInteractions(**args)[0]
    raw_dir = None
    if data_root is not None:
        raw_dir = data_root / name
        if not raw_dir.is_dir():
            raise FileNotFoundError(
                f"'{data_root}' has no folder '{name}': put the raw files "
                f'there, or leave out --data-root to download them'
            )
    cls: Any = next(cls for cls in _FROM_FILES if name in cls.names)
    return cls(
        str(cache),
        name,
        raw_dir=None if raw_dir is None else str(raw_dir),
        **args,
    )[0]
