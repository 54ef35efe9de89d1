from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.models.base import Recommender
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.state import adopt_sizes

if TYPE_CHECKING:
    from typing_extensions import Self


class Planted(Recommender):
    r"""Ranks items by the probabilities that synthetic interactions were drawn from:
    the best that any recommender can do on them
    (:class:`~pyg_diffrec.datasets.SyntheticInteractions`).

    .. math::
        \mathrm{score}_{u,i} = \boldsymbol{\pi}_u \cdot \boldsymbol{\phi}_i
        = P(i \mid u)

    Args:
        num_items (int): The number of items :math:`I`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused
        - **score:** :math:`(B, I)`, probabilities

    Raises:
        ValueError: If the graph has no planted answer.
    """

    deterministic = True
    oracle = True
    user: Tensor
    item: Tensor

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.register_buffer('user', torch.empty(0, 0))
        self.register_buffer('item', torch.empty(0, 0))

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'Self':
        if 'planted' not in data['user'] or 'planted' not in data['item']:
            raise ValueError(
                f"'{cls.__name__}' needs a graph with a planted answer, as "
                f"'SyntheticInteractions' has it (got '{getattr(data, 'name', None)}')"
            )
        model = super().from_data(data, **kwargs)
        model.user, model.item = data['user'].planted, data['item'].planted
        return model

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        sizes = {'user': (None, None), 'item': (self.num_items, None)}
        adopt_sizes(self, state_dict, prefix, **sizes)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def score(self, users: Tensor, history: SparseRows) -> Any:
        if self.item.numel() == 0:
            raise ValueError(
                f"'{self.__class__.__name__}' has no planted answer yet: build it with "
                f"'from_data', or load the state of a model that was"
            )
        self._check_users(users, len(self.user))
        return self.user[users] @ self.item.t()
