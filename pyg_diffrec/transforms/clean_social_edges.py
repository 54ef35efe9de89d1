import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import USER_USER, check_edges, num_nodes
from pyg_diffrec.transforms._select import entry_dims, take
from pyg_diffrec.utils.sampling import first_occurrences


@functional_transform('clean_social_edges')
class CleanSocialEdges(Configured, BaseTransform):
    r"""Makes the ties :obj:`('user', 'trusts', 'user')` follow the schema
    (functional name: :obj:`clean_social_edges`).

    Removes ties of users that the graph does not have, ties of a user to itself,
    and all but the first of duplicate ties. The others keep their order; with
    :obj:`undirected`, the missing opposites are added behind them. Whatever has one
    entry per tie comes along, and an added tie takes over the entry of its
    opposite.

    Args:
        undirected (bool, optional): Whether to add the opposite of each tie that
            has none. (default: :obj:`False`)

    Raises:
        ValueError: If the graph has no ties, or does not say how many users it has.
    """

    def __init__(self, undirected: bool = False) -> None:
        self.undirected = undirected

    def forward(self, data: HeteroData) -> HeteroData:
        if USER_USER not in data.edge_types:
            raise ValueError(
                f'The graph has no {USER_USER} relation for '
                f"'{self.__class__.__name__}' (it has {data.edge_types})"
            )
        edge_index = check_edges(data, USER_USER, check_range=False)
        num_users, num_edges = num_nodes(data, 'user'), edge_index.size(1)
        known = ((edge_index >= 0) & (edge_index < num_users)).all(0)
        index = (known & (edge_index[0] != edge_index[1])).nonzero().view(-1)
        edge_index = edge_index[:, index]
        if self.undirected:
            edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
            index = index.repeat(2)
        first = first_occurrences(edge_index[0] * num_users + edge_index[1])
        store = data[USER_USER]
        for key, dim in entry_dims(data, store, num_edges).items():
            store[key] = take(store[key], index[first], dim)
        store.edge_index = edge_index[:, first]
        return data

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(undirected={self.undirected})'
