import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import check_edges, check_interactions, num_nodes
from pyg_diffrec.transforms._select import entry_dims, take


def _select_nodes(data: HeteroData, node_type: str, keep: Tensor) -> None:
    store, index = data[node_type], keep.nonzero().view(-1)
    for key, dim in entry_dims(data, store, keep.numel()).items():
        store[key] = take(store[key], index, dim)
    if 'n_id' not in store:
        store.n_id = index
    store.num_nodes = index.numel()


def _select_edges(
    data: HeteroData, edge_type: tuple[str, str, str], keep: dict[str, Tensor]
) -> None:
    store, edge_index = data[edge_type], check_edges(data, edge_type)
    num_edges = edge_index.size(1)
    mask = torch.ones(num_edges, dtype=torch.bool, device=edge_index.device)
    rows = list(edge_index)
    for i, node_type in enumerate((edge_type[0], edge_type[2])):
        if node_type in keep:
            mask &= keep[node_type][edge_index[i]]
            rows[i] = (keep[node_type].cumsum(0) - 1)[edge_index[i]]
    index = mask.nonzero().view(-1)
    for key, dim in entry_dims(data, store, num_edges).items():
        store[key] = take(store[key], index, dim)
    store.edge_index = torch.stack(rows)[:, index]


@functional_transform('interaction_k_core')
class KCore(Configured, BaseTransform):
    r"""Keeps the largest set of users and items in which every user has at least
    :obj:`k_user` and every item at least :obj:`k_item` interactions (functional
    name: :obj:`interaction_k_core`).

    Users and items below their bound are removed with their interactions, again
    and again until nothing changes. All interactions count, whatever their split:
    apply a split afterwards, since the masks carried along may leave a user
    without training interactions.

    The nodes that stay are numbered anew in their old order, and :obj:`n_id`
    holds their numbers in the original graph. Whatever has one entry per user,
    item or edge comes along, in tensors, arrays or lists: features, titles, times,
    weights, masks. Edges of other relations stay if both their ends do.

    Args:
        k_user (int): The least number of interactions of a user.
        k_item (int): The least number of interactions of an item.

    Raises:
        ValueError: If a bound is not positive, the interactions break the schema, or
            none is left.
        TypeError: If a bound is no whole number.
    """

    def __init__(self, k_user: int, k_item: int) -> None:
        self.k_user = k_user
        self.k_item = k_item

    def forward(self, data: HeteroData) -> HeteroData:
        row, col = check_interactions(data)
        num_users, num_items = num_nodes(data, 'user'), num_nodes(data, 'item')
        while True:
            keep_user = torch.bincount(row, minlength=num_users) >= self.k_user
            keep_item = torch.bincount(col, minlength=num_items) >= self.k_item
            mask = keep_user[row] & keep_item[col]
            if bool(mask.all()):
                break
            row, col = row[mask], col[mask]
        if row.numel() == 0:
            raise ValueError(
                f"No interaction is left in '{self.__class__.__name__}' with "
                f'k_user={self.k_user} and k_item={self.k_item}: lower the bounds'
            )

        keep = {'user': keep_user, 'item': keep_item}
        for edge_type in data.edge_types:
            if edge_type[0] in keep or edge_type[2] in keep:
                _select_edges(data, edge_type, keep)
        for node_type, node_mask in keep.items():
            _select_nodes(data, node_type, node_mask)
        return data

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(k_user={self.k_user}, k_item={self.k_item})'
