import os
from typing import Any

import scipy.sparse
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data.interactions import USER_ITEM
from pyg_diffrec.data.schema import SPLITS, USER_USER
from pyg_diffrec.datasets._matrices import check_count, nonzero_entries
from pyg_diffrec.datasets._pickled_arrays import load_zipped_arrays
from pyg_diffrec.datasets.raw import DownloadError, RawDataset

ARCHIVE = 'dataset.pkl.zip'
TRUST = 'trust'


def _check_keys(arrays: Any, path: str) -> None:
    needed = [*SPLITS, TRUST, 'userCount', 'itemCount']
    found = list(arrays)[:9] if isinstance(arrays, dict) else type(arrays)
    if not isinstance(arrays, dict) or not set(needed) <= set(arrays):
        raise ValueError(
            f"'{path}' needs to hold a dictionary with {needed} (got {found})"
        )


def _count(arrays: dict[str, Any], key: str, path: str) -> int:
    count = arrays[key]
    if type(count) is not int or count < 1:
        raise ValueError(
            f"'{path}': '{key}' needs to be a positive whole number (got {count!r})"
        )
    return count


def _edges(
    arrays: dict[str, Any], key: str, shape: tuple[int, int], path: str
) -> Tensor:
    matrix = arrays[key]
    is_sparse = isinstance(matrix, scipy.sparse.coo_matrix)
    if not is_sparse or matrix.shape != shape:
        got = f'shape {list(matrix.shape)}' if is_sparse else f"'{type(matrix)}'"
        raise ValueError(
            f"'{path}': '{key}' needs to be a sparse matrix of shape {list(shape)} "
            f'(got {got})'
        )
    axes = ('user', 'user' if key == TRUST else 'item')
    return nonzero_entries(matrix, f"'{path}': '{key}'", axes)


class SocialDataset(RawDataset):
    r"""Interactions and ties between users, from the `"RecDiff: Diffusion Model for
    Social Recommendation" <https://arxiv.org/abs/2406.01629>`_ paper, in the
    authors' file :obj:`dataset.pkl.zip`.

    The archive holds one pickle with the sparse matrices :obj:`train`, :obj:`val`
    and :obj:`test` :math:`(U, I)` and :obj:`trust` :math:`(U, U)`, and the numbers
    :obj:`userCount` and :obj:`itemCount`; whatever else it holds is left out. An
    entry that is not zero is an interaction, or a tie from the user of its row to
    the user of its column, whatever its value, as in the authors' code; entries that
    name the same place count once, as their sum. The pickle is read as data, and can
    run no code.

    The graph holds all interactions with their masks, in the order of the file,
    which is no order in time (:obj:`time_ordered` is :obj:`False`);
    :obj:`('user', 'trusts', 'user')`; :obj:`name` and :obj:`roles`. Many test
    items of :obj:`ciao` occur in no training interaction, and many of its users have
    no test or no validation interaction.

    Args:
        root (str): The folder for :obj:`<name>/processed`, and for
            :obj:`<name>/raw` unless :obj:`raw_dir` is given.
        name (str): :obj:`'ciao'`, :obj:`'epinions'` or :obj:`'yelp'`.
        raw_dir (str, optional): A folder that holds the file. Nothing is
            downloaded or written there. (default: :obj:`None`)
        transform (callable, optional): Applied to the graph on every access.
            (default: :obj:`None`)
        pre_transform (callable, optional): Applied to the graph before it is
            checked and saved, e.g.
            :class:`~pyg_diffrec.transforms.CleanSocialEdges`. Processed files are
            kept apart by its :meth:`__repr__`: two functions of the same name need
            :obj:`force_reload`. (default: :obj:`None`)
        force_reload (bool, optional): Whether to process the raw file again.
            (default: :obj:`False`)

    Raises:
        ValueError: If :obj:`name` is unknown, the file is not what it should be, or
            the graph breaks the schema.
        FileNotFoundError: If the file is missing in :obj:`raw_dir`.
        RuntimeError: If the file is missing and cannot be downloaded.
    """

    url = 'https://github.com/HKUDS/RecDiff/raw'
    revision = '66420a409469f514b62325d91113c5a790130fcb'
    names = ('ciao', 'epinions', 'yelp')
    checksums = {
        'ciao': {
            ARCHIVE: 'be7cbc46d5dde994b8372456e95cf7cc51ee89e76655812079a7103269bfde89'
        }
    }

    @property
    def raw_file_names(self) -> list[str]:
        return [ARCHIVE]

    def download(self) -> None:
        r"""Downloads the authors' archive into :obj:`raw_dir`."""
        with self._download_folder() as folder:
            source = f'{self.url}/{self._known_revision(ARCHIVE)}/datasets'
            path = self._fetch(f'{source}/{self.name}/{ARCHIVE}', folder)
            try:
                self._check_sum(ARCHIVE, path)
                _check_keys(load_zipped_arrays(path), path)
            except ValueError as error:
                raise DownloadError(f'{error}: {self._what_to_do()}') from error
            os.makedirs(self.raw_dir, exist_ok=True)
            os.replace(path, self.raw_paths[0])

    def process(self) -> None:
        path = self.raw_paths[0]
        arrays = load_zipped_arrays(path)
        _check_keys(arrays, path)
        num_users = _count(arrays, 'userCount', path)
        num_items = _count(arrays, 'itemCount', path)
        matrices = [arrays[key] for key in (*SPLITS, TRUST)]
        num_entries = sum(x.nnz for x in matrices if scipy.sparse.issparse(x))
        check_count(num_users, num_entries, f"'{path}': 'userCount'")
        check_count(num_items, num_entries, f"'{path}': 'itemCount'")
        parts = [_edges(arrays, key, (num_users, num_items), path) for key in SPLITS]
        code = torch.arange(3).repeat_interleave(
            torch.tensor([part.size(1) for part in parts])
        )

        data = HeteroData()
        data['user'].num_nodes, data['item'].num_nodes = num_users, num_items
        data[USER_ITEM].edge_index = torch.cat(parts, dim=1)
        for i, split in enumerate(SPLITS):
            data[USER_ITEM][f'{split}_mask'] = code == i
        data[USER_USER].edge_index = _edges(arrays, TRUST, (num_users, num_users), path)
        data.name, data.roles = self.name, self.roles
        data.time_ordered = False  # By rows of a matrix.
        self._save(data)
