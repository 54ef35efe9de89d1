import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.interactions import USER_ITEM, split_mask
from pyg_diffrec.data.schema import check_edges, check_unique, num_nodes
from pyg_diffrec.transforms._select import entry_dims, take
from pyg_diffrec.transforms._user_split import (
    rounded_share,
)
from pyg_diffrec.utils.sampling import sample_distinct


@functional_transform('add_random_interactions')
class AddRandomInteractions(Configured, BaseTransform):
    r"""Adds random interactions to the training interactions of every user, to see
    how a model bears noise (functional name: :obj:`add_random_interactions`).

    A user with :math:`n` training interactions gets
    :math:`\lfloor n \cdot \mathrm{share} + 1/2 \rfloor` more, with items drawn
    uniformly from those that the user has in no split. Each stands in time right
    behind one of the user's training interactions, drawn uniformly, and takes over
    its time, its weight, and whatever else has one entry per interaction. Validation
    and test stay as they are.

    Sets :obj:`noise_mask` of the interactions, and keeps marks that are there.

    Args:
        share (float): The number of added interactions per training interaction.
        seed (int, optional): The seed; the global random state is neither read nor
            changed. (default: :obj:`0`)

    Raises:
        ValueError: If :obj:`share` is negative, the graph has no split, its
            interactions break the schema, or a user has too few unknown items.
        TypeError: If :obj:`share` or :obj:`seed` is of another type.
    """

    def __init__(self, share: float, seed: int = 0) -> None:
        self.share = share
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        # Drawn on the CPU, so that a seed means the same items on every device.
        train = split_mask(data, 'train').cpu()
        check_unique(data)
        num_users, num_items = num_nodes(data, 'user'), num_nodes(data, 'item')
        store = data[USER_ITEM]
        user, item = check_edges(data, USER_ITEM, check_range=False).cpu()
        num_edges = user.numel()
        num_train = torch.bincount(user[train], minlength=num_users)
        count = rounded_share(num_train, self.share)
        known = torch.bincount(user, minlength=num_users)
        short = (known + count > num_items).nonzero().view(-1)
        if short.numel() > 0:
            raise ValueError(
                f'User {int(short[0])} has {int(known[short[0]])} of {num_items} items '
                f'and cannot get {int(count[short[0]])} more in '
                f"'{self.__class__.__name__}': use a smaller 'share'"
            )
        generator = torch.Generator().manual_seed(self.seed)
        new_user, new_item = sample_distinct(
            lambda row: torch.randint(num_items, (row.numel(),), generator=generator),
            lambda rows: torch.ones(rows.numel(), num_items),
            count,
            known=user * num_items + item,
            num_cols=num_items,
            generator=generator,
        )
        # The training interaction that each new one stands behind.
        order = train.nonzero().view(-1)
        order = order[user[order].argsort(stable=True)]
        start = num_train.cumsum(0) - num_train
        place = torch.rand(new_user.numel(), generator=generator, dtype=torch.double)
        place = (place * num_train[new_user]).long()
        anchor = order[start[new_user] + place]

        source = torch.cat([torch.arange(num_edges), anchor])
        perm = source.argsort(stable=True)
        edge_index = torch.stack(
            [torch.cat([user, new_user]), torch.cat([item, new_item])]
        )
        noise = torch.arange(source.numel()) >= num_edges
        if 'noise_mask' in store:
            noise[:num_edges] |= store.noise_mask.cpu()
        for key, dim in entry_dims(data, store, num_edges).items():
            store[key] = take(store[key], source[perm], dim)
        device = store.edge_index.device
        store.edge_index = edge_index[:, perm].to(device)
        store.noise_mask = noise[perm].to(device)
        return data

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.share}, seed={self.seed})'
