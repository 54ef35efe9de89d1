from typing import Optional

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import USER_ITEM, USER_USER, EdgeType


def _rename_relation(data: HeteroData, old: EdgeType, new: EdgeType) -> None:
    if old == new:
        return
    for key, value in list(data[old].items()):
        data[new][key] = value
    del data[old]


@functional_transform('to_user_item')
class ToUserItem(Configured, BaseTransform):
    r"""Names the node types and the relation of a graph as the schema does
    (functional name: :obj:`to_user_item`).

    .. code-block:: python

        data = MovieLens(root)[0]  # ('user', 'rates', 'movie')
        data = ToUserItem(item='movie', relation='rates')(data)

    All else stays as it is and comes along: numbers of nodes, features, times,
    weights, masks, and other relations, whose ends are renamed too.

    Args:
        user (str, optional): The node type of the users. (default: :obj:`'user'`)
        item (str, optional): The node type of the items. (default: :obj:`'item'`)
        relation (str, optional): The relation from users to items.
            (default: :obj:`'interacts'`)
        ties (str, optional): The relation from users to users that holds their ties,
            if there is one. (default: :obj:`None`)

    Raises:
        ValueError: If users and items are of one type, the graph has no such relation,
            or it uses a name of the schema for something else.
        TypeError: If :obj:`data` is no :class:`HeteroData`, or a name no string.
    """

    def __init__(
        self,
        user: str = 'user',
        item: str = 'item',
        relation: str = 'interacts',
        ties: Optional[str] = None,
    ) -> None:
        name = self.__class__.__name__
        if user == item:
            raise ValueError(
                f"'user' and 'item' need to be two node types in '{name}' (got "
                f"'{user}' twice)"
            )
        self.user = user
        self.item = item
        self.relation = relation
        self.ties = ties

    def forward(self, data: HeteroData) -> HeteroData:
        name = self.__class__.__name__
        if not isinstance(data, HeteroData):
            raise TypeError(f"'data' needs to be a 'HeteroData' (got '{type(data)}')")
        relations = {(self.user, self.relation, self.item): USER_ITEM}
        if self.ties is not None:
            relations[self.user, self.ties, self.user] = USER_USER
        for old, new in relations.items():
            if old not in data.edge_types:
                raise ValueError(
                    f"The graph has no {old} relation for '{name}' (it has "
                    f'{data.edge_types}): name its types and relation as they are there'
                )
            if new in data.edge_types and new != old:
                raise ValueError(
                    f'The graph has {new} beside {old}: rename or delete it, so that '
                    f"'{name}' can give its name to {old}"
                )
        for node_type in ('user', 'item'):
            if node_type in data.node_types and node_type not in (self.user, self.item):
                raise ValueError(
                    f"The graph has a node type '{node_type}' that is neither "
                    f"user='{self.user}' nor item='{self.item}': rename it by "
                    f"'data.rename', so that '{name}' can use its name"
                )

        # By way of names that are free, since the two may have changed places.
        data.rename(self.user, '_user').rename(self.item, '_item')
        data.rename('_user', 'user').rename('_item', 'item')
        _rename_relation(data, ('user', self.relation, 'item'), USER_ITEM)
        if self.ties is not None:
            _rename_relation(data, ('user', self.ties, 'user'), USER_USER)
        return data

    def __repr__(self) -> str:
        ties = '' if self.ties is None else f", ties='{self.ties}'"
        return (
            f"{self.__class__.__name__}(user='{self.user}', item='{self.item}', "
            f"relation='{self.relation}'{ties})"
        )
