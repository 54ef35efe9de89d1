from typing import Any, Mapping

import torch
from torch import Tensor

from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.utils.sparse import SparseRows


class MostPopular(RowRecommender):
    r"""Ranks items by their number of training interactions, the same for everybody:
    the floor that every recommender has to rise above.

    .. math::
        \mathrm{score}_{u,i} = \sum_{v} x_{v,i}

    Args:
        num_items (int): The number of items :math:`I`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused
        - **score:** :math:`(B, I)`, summed interaction strength
    """

    deterministic = True
    popularity: Tensor

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.register_buffer('popularity', torch.zeros(num_items))

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        self.popularity = torch.bincount(
            history.col, weights=history.value, minlength=self.num_items
        ).to(self.popularity)

    @classmethod
    def scoring_arguments(cls, args: Mapping[str, Any]) -> list[str]:
        return []  # It looks at no row.

    def score(self, users: Tensor, history: SparseRows) -> Any:
        return self.popularity.expand(len(users), -1)
