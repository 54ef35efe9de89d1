r"""Datasets by name, as suites and the command line know them."""

from pathlib import Path
from typing import Any, Optional

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform, Compose

from pyg_diffrec.datasets.diffrec import DiffRecDataset
from pyg_diffrec.datasets.multi_modal import MultiModalDataset, check_modalities
from pyg_diffrec.datasets.raw import DownloadError
from pyg_diffrec.datasets.social import SocialDataset
from pyg_diffrec.datasets.synthetic import SyntheticInteractions
from pyg_diffrec.resolver import unknown
from pyg_diffrec.transforms.add_random_interactions import AddRandomInteractions
from pyg_diffrec.transforms.rewire_social_edges import RewireSocialEdges
from pyg_diffrec.utils.arguments import check_argument, constructor_hints

_SYNTHETIC = 'synthetic'
# The share of random interactions that is added to training, for every dataset.
_RANDOM = 'random_share'
# The share of ties that give way to fake ones, where there are ties, and its seed.
_REWIRED, _REWIRED_SEED = 'rewired_share', 'rewired_seed'
# A thousand random interactions for each true one leave nothing to learn.
_MOST_RANDOM = 1000
_TRANSFORMS = (_RANDOM, _REWIRED, _REWIRED_SEED)

_FROM_FILES = (DiffRecDataset, SocialDataset, MultiModalDataset)

# Arguments that are no matter of a suite.
_NOT_IN_SUITES = {'force_reload', 'name', 'raw_dir', 'root'}
_NOT_IN_SUITES |= {'pre_transform', 'transform'}


def dataset_names() -> list[str]:
    r"""The names of all datasets."""
    return [_SYNTHETIC, *(name for cls in _FROM_FILES for name in cls.names)]


def dataset_arguments(name: str) -> dict[str, Any]:
    r"""The arguments that a dataset takes in a suite, with their annotations."""
    cls = _class(name)
    hints = constructor_hints(cls)
    found = {key: hints[key] for key in hints if key not in _NOT_IN_SUITES}
    found[_RANDOM] = float
    if cls in (SyntheticInteractions, SocialDataset):
        found |= {_REWIRED: float, _REWIRED_SEED: int}
    return found


def _class(name: str) -> Any:
    if name == _SYNTHETIC:
        return SyntheticInteractions
    return next(cls for cls in _FROM_FILES if name in cls.names)


def check_dataset(spec: Any) -> None:
    r"""Refuses a dataset or an argument that does not exist, and values that no
    dataset takes.

    Args:
        spec (dict): See :meth:`build_dataset`.

    Raises:
        ValueError: The error names the dataset and the key, with the choices and the
            nearest match for a name that does not exist. It is one for values of a
            wrong type as well, which come from a file.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get('name'), str):
        raise ValueError(
            f"A dataset needs to be a table with the 'name' of one of "
            f'{dataset_names()} (got {spec!r})'
        )
    name = spec['name']
    if name not in dataset_names():
        raise ValueError(unknown('dataset', name, dataset_names()))
    hints = dataset_arguments(name)
    try:
        for key, value in spec.items():
            if key == 'name':
                continue
            if key not in hints:
                raise ValueError(unknown(f"key of dataset '{name}'", str(key), hints))
            check_argument(key, value, hints[key], f"dataset '{name}'")
        _check_values(name, spec)
    except TypeError as error:  # In a file, a wrong type is a wrong value.
        raise ValueError(str(error)) from error
    if _REWIRED_SEED in spec and _REWIRED not in spec:
        raise ValueError(
            f"'{_REWIRED_SEED}' of dataset '{name}' says nothing without '{_REWIRED}': "
            f'give both, or neither'
        )


def _check_values(name: str, spec: dict[str, Any]) -> None:
    if spec.get(_RANDOM, 0) > _MOST_RANDOM:
        raise ValueError(
            f"'{_RANDOM}' needs to lie in [0, {_MOST_RANDOM}] in dataset '{name}' (got "
            f'{spec[_RANDOM]})'
        )
    if name == _SYNTHETIC:
        no_args = ('name', *_TRANSFORMS)
        SyntheticInteractions.check(
            **{key: value for key, value in spec.items() if key not in no_args}
        )
    if name in MultiModalDataset.names and spec.get('modalities') is not None:
        check_modalities(spec['modalities'])


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

    Raises:
        ValueError: If the dataset is refused by :meth:`check_dataset`, or its files
            are not what they should be.
        FileNotFoundError: If there are no files, and they cannot be downloaded.
    """
    check_dataset(spec)
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
    try:
        dataset = _class(name)(
            str(cache),
            name,
            raw_dir=None if raw_dir is None else str(raw_dir),
            **args,
        )
    except DownloadError as error:
        raise FileNotFoundError(f"Dataset '{name}' is not there: {error}") from error
    return dataset[0]
