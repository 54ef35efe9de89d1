from typing import Literal

import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import USER_ITEM, check_interactions, num_nodes
from pyg_diffrec.transforms._select import entry_dims, take
from pyg_diffrec.utils.sampling import first_occurrences

Keep = Literal['first', 'last']


@functional_transform('clean_interactions')
class CleanInteractions(Configured, BaseTransform):
    r"""Makes the interactions follow the schema: stored along their time, each pair of
    a user and an item once (functional name: :obj:`clean_interactions`).

    Interactions that have a :obj:`time` are sorted by it, ties in stored order; the
    others keep their order, which is not lost as by :obj:`coalesce` or :obj:`unique`.
    Of those of one pair the first is kept, or the last. Whatever has one entry per
    interaction comes along. Apply a split afterwards, since pairs that come in two
    splits stay in one.

    Args:
        keep (str, optional): Which interaction of a pair is kept, :obj:`'first'` or
            :obj:`'last'`. (default: :obj:`'first'`)

    Raises:
        ValueError: If :obj:`keep` is none of the choices, or the interactions break the
            schema in another way.
    """

    def __init__(self, keep: Keep = 'first') -> None:
        self.keep = keep

    def forward(self, data: HeteroData) -> HeteroData:
        edge_index, store = check_interactions(data, unique=False), data[USER_ITEM]
        user, item = edge_index
        if 'time' in store:
            index = store.time.argsort(stable=True)
        else:
            index = torch.arange(user.numel(), device=user.device)
        key = (user * num_nodes(data, 'item') + item)[index]
        if self.keep == 'first':
            index = index[first_occurrences(key)]
        else:
            index = index[first_occurrences(key.flip(0)).flip(0)]
        for name, dim in entry_dims(data, store, user.numel()).items():
            store[name] = take(store[name], index, dim)
        store.edge_index = edge_index[:, index]
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(keep='{self.keep}')"
