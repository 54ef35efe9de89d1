import os
from typing import Callable, Literal, Optional, get_args

import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data.interactions import USER_ITEM
from pyg_diffrec.datasets._archive import TOOLS, extract, find_tools
from pyg_diffrec.datasets._lists import PairLists
from pyg_diffrec.datasets._npy import read_item_rows, read_npy
from pyg_diffrec.datasets.raw import DownloadError, RawDataset

Roles = Literal['published', 'chronological']

# Item embeddings that come with some of the datasets.
EMBEDDING = 'item_emb.npy'


class DiffRecDataset(RawDataset):
    r"""The datasets of the `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_ paper, in the authors' files
    :obj:`train_list.npy`, :obj:`valid_list.npy` and :obj:`test_list.npy`.

    A user's rows in a file are in time order, and we keep it: the interactions
    are grouped by user and ordered by time within a user.

    The files of :obj:`ml-1m` are not in the order that their names say: in time,
    :obj:`test_list` lies between :obj:`train_list` and :obj:`valid_list`
    (measured, for :obj:`ml-1m_clean` and :obj:`ml-1m_noisy`). :obj:`roles` decides
    how they are read:

    - :obj:`'published'`: validation is :obj:`valid_list`, test is
      :obj:`test_list`, as in every paper that used these files.
      :obj:`split_order` is :obj:`('train', 'test', 'val')`: a history of
      training and validation interactions holds the future of the test.
    - :obj:`'chronological'`: validation is :obj:`test_list`, test is
      :obj:`valid_list`. :obj:`split_order` is :obj:`('train', 'val', 'test')`.

    For :obj:`yelp` and :obj:`amazon-book` nobody verified the time order of the
    files. There the graph has no :obj:`split_order`, and the interactions are
    stored in the order that :obj:`roles` assumes: training, validation, test.

    Where :obj:`item_emb.npy` lies beside them, its rows become
    :obj:`data['item'].embedding`, by which L-DiffRec clusters the items.

    The graph also holds :obj:`name`, :obj:`roles` and :obj:`time_ordered`, which,
    like :obj:`split_order`, is absent where the items of every user rise from row to
    row: that is no order in time. The numbers of users and items are one more than
    the largest in the three files.

    Args:
        root (str): The folder for :obj:`<name>/processed`, and for
            :obj:`<name>/raw` unless :obj:`raw_dir` is given.
        name (str): :obj:`'ml-1m_clean'`, :obj:`'ml-1m_noisy'`,
            :obj:`'yelp_clean'`, :obj:`'yelp_noisy'`, :obj:`'amazon-book_clean'`
            or :obj:`'amazon-book_noisy'`.
        roles (str, optional): :obj:`'published'` or :obj:`'chronological'`.
            (default: :obj:`'published'`)
        raw_dir (str, optional): A folder that holds the three files. Nothing is
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
        ValueError: If :obj:`name` or :obj:`roles` is unknown, a file is not what
            it should be, which names the file and the row, or the graph breaks the
            schema.
        FileNotFoundError: If a file is missing in :obj:`raw_dir`.
        RuntimeError: If the files are missing and cannot be downloaded.

    .. note::
        Downloaded files are unpacked with the first of :obj:`bsdtar`,
        :obj:`unrar`, :obj:`7z` and :obj:`unar` that is installed and succeeds. The
        sums of the files of :obj:`ml-1m` are known and compared; of the others only
        the form is checked.
    """

    url = 'https://github.com/YiyanXu/DiffRec/raw'
    revision = 'd503f1703d8a950a484bfe3d5e67bff6b5ae5fd1'
    names = (
        'ml-1m_clean',
        'ml-1m_noisy',
        'yelp_clean',
        'yelp_noisy',
        'amazon-book_clean',
        'amazon-book_noisy',
    )
    layout = 2
    checksums = {
        'ml-1m_clean': {
            'train_list.npy': (
                'b39010ebf49c1159c71b5a44a2a45081f01c3f653f4221027fef2721cc0b0523'
            ),
            'valid_list.npy': (
                '93f795d0a8439bb07e644d7e69679a2c1799684bf4b19d10bd415d80a05681b2'
            ),
            'test_list.npy': (
                '645010f80c5a4e7b35f154587acacb596cdf3b2502531a7c71e3a8ae020c06c9'
            ),
            EMBEDDING: (
                '51cdab37eb5de0fcbb057e7616e19498328398633a4805471cd5078b4e3e2c77'
            ),
        },
        'ml-1m_noisy': {
            'train_list.npy': (
                'fd19bd8593815306dc43ab8d9c8c856c3b3fa11cad0aef0c13ecface801e2dfb'
            ),
            'valid_list.npy': (
                '0b56d7cb7d0d057b2d5eea388a33d5c9fef4c89730712aa35d5d0a5ff0e3e1d0'
            ),
            'test_list.npy': (
                'ba638f755595545bbd5255d06685e2427c2d2502806e7ccca07fc3d76aa4e9c6'
            ),
            EMBEDDING: (
                '6eb214c203bee7020f6d5703093075c892058a8e2bc77cae7693e62d1ae8251d'
            ),
        },
    }

    def __init__(
        self,
        root: str,
        name: str,
        roles: Roles = 'published',
        raw_dir: Optional[str] = None,
        transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        pre_transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        force_reload: bool = False,
    ) -> None:
        if roles not in get_args(Roles):
            raise ValueError(
                f"'roles' needs to be one of {list(get_args(Roles))} in "
                f"'{self.__class__.__name__}' (got '{roles}')"
            )
        self.roles = roles
        super().__init__(root, name, raw_dir, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        return ['train_list.npy', 'valid_list.npy', 'test_list.npy']

    def download(self) -> None:
        r"""Downloads and unpacks the authors' archive into :obj:`raw_dir`."""
        if not find_tools():
            raise DownloadError(
                f"Cannot unpack '{self.name}.rar' without one of {list(TOOLS)}: "
                f'install one, or {self._what_to_do()}'
            )
        with self._download_folder() as folder:
            names = self.raw_file_names
            source = f'{self.url}/{self._known_revision(*names)}/datasets'
            archive = self._fetch(f'{source}/{self.name}.rar', folder)
            try:
                scratch = os.path.join(folder, 'unpacked')
                found = extract(archive, scratch, names, [EMBEDDING])
                for name, path in found.items():
                    self._check_sum(name, path)
                PairLists([found[name] for name in names])
            except (RuntimeError, ValueError) as error:
                raise DownloadError(f'{error}: {self._what_to_do()}') from error
            os.makedirs(self.raw_dir, exist_ok=True)
            # The optional file comes first: with the lists, nothing is missing.
            for name in reversed(found):
                os.replace(found[name], os.path.join(self.raw_dir, name))

    def process(self) -> None:
        lists = PairLists(self.raw_paths)
        train, valid, test = lists.parts
        val = {'published': valid, 'chronological': test}[self.roles]
        test = {'published': test, 'chronological': valid}[self.roles]
        parts = {'train': train, 'val': val, 'test': test}

        split_order: Optional[tuple[str, ...]] = None
        is_ordered = not lists.are_sorted_by_item()
        if self.name.startswith('ml-1m') and is_ordered:
            split_order = ('train', 'val', 'test')
            if self.roles == 'published':
                split_order = ('train', 'test', 'val')

        order = split_order or ('train', 'val', 'test')
        pairs = torch.cat([parts[split] for split in order])
        code = torch.arange(3).repeat_interleave(
            torch.tensor([len(parts[split]) for split in order])
        )
        perm = pairs[:, 0].argsort(stable=True)
        pairs, code = pairs[perm], code[perm]

        data = HeteroData()
        data['user'].num_nodes = lists.num_users
        data['item'].num_nodes = lists.num_items
        data[USER_ITEM].edge_index = pairs.t().contiguous()
        for i, split in enumerate(order):
            data[USER_ITEM][f'{split}_mask'] = code == i
        data.name, data.roles, data.split_order = self.name, self.roles, split_order
        if is_ordered:
            data.time_ordered = True  # Within a user and a file, for all datasets.
        for name in self._optional():
            path = os.path.join(self.raw_dir, name)
            lists.check_items(read_npy(path, 'a float array'), path)
            hint = f'; {lists.where_largest()}; remove the file to do without it'
            data['item'].embedding = read_item_rows(
                path, 'embeddings', lists.num_items, hint
            )
        self._save(data)

    def _optional(self) -> list[str]:
        path = os.path.join(self.raw_dir, EMBEDDING)
        return [EMBEDDING] if os.path.isfile(path) else []

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}('{self.name}', roles='{self.roles}')"
