import os
import re
from typing import Callable, Optional, Sequence

import scipy.sparse
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data.interactions import USER_ITEM
from pyg_diffrec.data.schema import SPLITS
from pyg_diffrec.datasets._matrices import check_count, nonzero_entries
from pyg_diffrec.datasets._npy import read_item_rows, read_npy
from pyg_diffrec.datasets._pickled_arrays import load_arrays
from pyg_diffrec.datasets._zipped import read_entry
from pyg_diffrec.datasets.raw import DownloadError, RawDataset

MATRICES = ('trnMat.pkl', 'valMat.pkl', 'tstMat.pkl')
_FEATURES = re.compile(r'(\w+)_feat\.npy')
_ANY = '<modality>_feat.npy'


def _feature_file(modality: str) -> str:
    return f'{modality}_feat.npy'


def check_modalities(modalities: Sequence[str]) -> list[str]:
    r"""Returns the names of modalities, or says why they are none."""
    names = list(modalities) if isinstance(modalities, (list, tuple)) else []
    fits = all(isinstance(name, str) and re.fullmatch(r'\w+', name) for name in names)
    if not names or not fits or len(set(names)) < len(names):
        raise ValueError(
            f"'modalities' needs to be a list of different names, at least one, in "
            f"'MultiModalDataset', such as ['image', 'text'] (got {modalities!r})"
        )
    return names


def _read_matrix(path: str) -> scipy.sparse.coo_matrix:
    matrix = load_arrays(path)
    if not isinstance(matrix, scipy.sparse.coo_matrix):
        raise ValueError(
            f"'{path}' needs to hold one sparse matrix of users and items "
            f"(got '{type(matrix)}')"
        )
    return matrix


def _unzip(path: str, name: str) -> str:
    def is_wanted(entry: str) -> bool:
        return entry.split('/')[-1] == name

    # No name within the archive decides where anything is written.
    _, content = read_entry(path, is_wanted, f"'{name}'", is_strict=False)
    target = os.path.join(os.path.dirname(path), name)
    with open(target, 'wb') as file:
        file.write(content)
    return target


class MultiModalDataset(RawDataset):
    r"""Interactions and the features of items in several modalities, from the
    `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper, in the authors' files
    :obj:`trnMat.pkl`, :obj:`valMat.pkl`, :obj:`tstMat.pkl` and
    :obj:`<modality>_feat.npy`.

    Each of the three pickles holds one sparse matrix :math:`(U, I)`. An entry that
    is not zero is an interaction, whatever its value, as in the authors' code;
    entries that name the same place count once, as their sum. The pickles are read
    as data, and can run no code.

    The graph holds all interactions with their masks, in the order of the files,
    which is no order in time (:obj:`time_ordered` is :obj:`False`);
    :obj:`data['item'].x_<modality>` :math:`(I, F)`, float32, for each modality;
    :obj:`name` and :obj:`roles`. Features are stored as they are, and not scaled; what
    is not finite as float32 is refused.

    In :obj:`tiktok` each user has one interaction in validation, or one in test, or
    none, but never both; some of these users, and of these items, occur in no
    training interaction.

    Args:
        root (str): The folder for :obj:`<name>/processed`, and for
            :obj:`<name>/raw` unless :obj:`raw_dir` is given.
        name (str): :obj:`'tiktok'`, :obj:`'baby'` or :obj:`'sports'`.
        modalities (list, optional): The modalities, in the order of the graph; if
            :obj:`None`, all that have a file, in the order of their names.
            (default: :obj:`None`)
        raw_dir (str, optional): A folder that holds the files. Nothing is
            downloaded or written there. (default: :obj:`None`)
        transform (callable, optional): Applied to the graph on every access.
            (default: :obj:`None`)
        pre_transform (callable, optional): Applied to the graph before it is
            checked and saved. Processed files are kept apart by its
            :meth:`__repr__`: two functions of the same name need
            :obj:`force_reload`. (default: :obj:`None`)
        force_reload (bool, optional): Whether to process the raw files again.
            (default: :obj:`False`)

    Raises:
        ValueError: If :obj:`name` is unknown, :obj:`modalities` is no list of
            different names, a file is not what it should be, or the graph breaks
            the schema.
        FileNotFoundError: If a file is missing in :obj:`raw_dir`, or there are no
            features at all.
        RuntimeError: If a file is missing and cannot be downloaded.

    .. note::
        A download fetches :obj:`modalities`, or all that the authors publish. The
        files of :obj:`sports` are not in their repository, and come by hand.
    """

    url = 'https://github.com/HKUDS/DiffMM/raw'
    revision = '1337447834aee475c1b1a59d291087e9ded9771a'
    published = {
        'tiktok': ('image', 'text', 'audio'),
        'baby': ('image', 'text'),
        'sports': ('image', 'text'),
    }
    names = tuple(published)

    checksums = {
        'tiktok': {
            'trnMat.pkl': (
                '1efbc49d1a7ce5268f01e3e0c558df1f8f8644628c76aa6536be4ec61d256916'
            ),
            'valMat.pkl': (
                'b6971ed696613d565613dd74b101c45b2aa002b66e8ba99cad03abf04db2397b'
            ),
            'tstMat.pkl': (
                'e83a93787d88728572dbdd5b131bae01a90e17c340820e7b8f0a7c27e69d6f9e'
            ),
            'image_feat.npy': (
                'f6c1ec1726ed2aa80315411199ab2143bee6333821bf58c5f00bd3f5b462efc2'
            ),
            'audio_feat.npy': (
                'd45a44a9d462f578802de914c2feea5cfd45742b2922775a085b9bdc1beba26f'
            ),
        }
    }

    # Where the files are that the repository holds as an archive, or not at all.
    zipped = {'baby': ('image_feat.npy',)}
    elsewhere = {
        'sports': 'https://drive.google.com/file/d/1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx/view'
    }

    def __init__(
        self,
        root: str,
        name: str,
        modalities: Optional[Sequence[str]] = None,
        raw_dir: Optional[str] = None,
        transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        pre_transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        force_reload: bool = False,
    ) -> None:
        self.modalities = None if modalities is None else check_modalities(modalities)
        super().__init__(root, name, raw_dir, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        return [*MATRICES, *map(_feature_file, self.modalities or [])]

    def download(self) -> None:
        r"""Downloads what is missing of the authors' files into :obj:`raw_dir`."""
        if self.name in self.elsewhere:
            raise DownloadError(
                f"The authors' repository does not hold '{self.name}', but says that "
                f"it is at '{self.elsewhere[self.name]}': {self._what_to_do()}"
            )
        modalities = self.modalities or self.published[self.name]
        # Matrices come last: until they are there, features count as incomplete.
        names = [*map(_feature_file, modalities), *MATRICES]
        paths = {name: os.path.join(self.raw_dir, name) for name in names}
        with self._download_folder() as folder:
            missing = [name for name in names if not os.path.isfile(paths[name])]
            fetched = {name: self._fetch_file(name, folder) for name in missing}
            os.makedirs(self.raw_dir, exist_ok=True)
            for name, path in fetched.items():
                os.replace(path, paths[name])

    def process(self) -> None:
        paths = self.raw_paths[: len(MATRICES)]
        matrices = [_read_matrix(path) for path in paths]
        shapes = [matrix.shape for matrix in matrices]
        # What two of three say, so that the third is to blame.
        shape = max(shapes, key=shapes.count)
        for path, matrix in zip(paths, matrices, strict=True):
            if matrix.shape != shape:
                raise ValueError(
                    f"'{path}' needs to hold a matrix of shape {list(shape)}, which is "
                    f"that of '{MATRICES[shapes.index(shape)]}' (got "
                    f'{list(matrix.shape)})'
                )
        # The features bear witness to the number of items.
        num_entries = sum(matrix.nnz for matrix in matrices)
        check_count(shape[0], num_entries, f"'{paths[0]}': the number of users")
        parts = [
            nonzero_entries(matrix, f"'{path}'")
            for path, matrix in zip(paths, matrices, strict=True)
        ]
        code = torch.arange(3).repeat_interleave(
            torch.tensor([part.size(1) for part in parts])
        )

        data = HeteroData()
        data['user'].num_nodes, data['item'].num_nodes = shape
        data[USER_ITEM].edge_index = torch.cat(parts, dim=1)
        for i, split in enumerate(SPLITS):
            data[USER_ITEM][f'{split}_mask'] = code == i
        for modality in self.modalities or self._found():
            path = os.path.join(self.raw_dir, _feature_file(modality))
            data['item'][f'x_{modality}'] = read_item_rows(
                path, f"features of modality '{modality}'", shape[1]
            )
        data.name, data.roles = self.name, self.roles
        data.time_ordered = False  # By rows of a matrix.
        self._save(data)

    def _fetch_file(self, name: str, folder: str) -> str:
        is_zipped = name in self.zipped.get(self.name, ())
        source = f'{self.url}/{self._known_revision(name)}/Datasets/{self.name}'
        path = self._fetch(f'{source}/{name}' + ('.zip' if is_zipped else ''), folder)
        try:
            path = _unzip(path, name) if is_zipped else path
            self._check_sum(name, path)
            if name in MATRICES:
                _read_matrix(path)
            else:
                read_npy(path, 'features')
        except ValueError as error:
            raise DownloadError(f'{error}: {self._what_to_do()}') from error
        return path

    def _found(self) -> list[str]:
        # The modalities that have a file.
        names = os.listdir(self.raw_dir) if os.path.isdir(self.raw_dir) else []
        return [match[1] for match in map(_FEATURES.fullmatch, sorted(names)) if match]

    def _optional(self) -> list[str]:
        found = self._found() if self.modalities is None else []
        return list(map(_feature_file, found))

    def _missing(self) -> list[str]:
        missing = super()._missing()
        if self.modalities is None and not self._found():
            missing.append(_ANY)
        return missing

    def _raw_bytes(self, name: str) -> bytes:
        # The same features may change their name, and so their modality.
        return name.encode() + super()._raw_bytes(name)

    def _processed_name(self, raw: str) -> str:
        # No graph of other modalities stands in where raw files are gone.
        asked = 'all' if self.modalities is None else '-'.join(self.modalities)
        return f'{asked}_{super()._processed_name(raw)}'

    def _what_to_do(self) -> str:
        if self.modalities is not None:
            return f"{super()._what_to_do()}, or ask for other 'modalities'"
        return (
            f"put {self.raw_file_names} and at least one '{_ANY}' of '{self.name}' "
            f"into '{self.raw_dir}'"
        )

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}('{self.name}', modalities={self.modalities})"
