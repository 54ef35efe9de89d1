from typing import Any, Optional

import torch
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.utils.sparse import SparseRows

# Similarities are computed for as many items at once as fit into so many entries.
_BLOCK = 1 << 24


class ItemKNN(RowRecommender):
    r"""Scores items by their similarity to those a user interacted with, from the
    `"Item-Based Top-N Recommendation Algorithms"
    <https://doi.org/10.1145/963770.963776>`_ paper, with the shrinkage of the
    `"Are We Really Making Much Progress?" <https://arxiv.org/abs/1907.06902>`_
    paper.

    .. math::
        s_{i,j} = \frac{\mathbf{x}_i \cdot \mathbf{x}_j}
        {\lVert \mathbf{x}_i \rVert \lVert \mathbf{x}_j \rVert + c}, \qquad
        \mathrm{score}_{u,j} = \sum_{i \in S_u,\, j \in N_k(i)} x_{u,i} \, s_{i,j}

    where :math:`N_k(i)` are the :math:`k` items most similar to :math:`i`.

    Args:
        num_items (int): The number of items :math:`I`.
        k (int, optional): The number of neighbours of an item; all other items if
            there are fewer. (default: :obj:`100`)
        shrinkage (float, optional): The constant :math:`c`, which favours items
            with many interactions in common. (default: :obj:`20.0`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions in the rows that are scored; similarities are those of
            unweighted rows. (default: :obj:`None`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, no unit, zero where nothing is similar

    Raises:
        ValueError: If :obj:`k` is not positive or :obj:`shrinkage` negative.

    .. note::
        Keeps :math:`2 I k` numbers. Similarities are computed by blocks of items;
        an :math:`(I, I)` matrix is never held.
    """

    deterministic = True
    neighbor: Tensor
    similarity: Tensor

    def __init__(
        self,
        num_items: int,
        k: int = 100,
        shrinkage: float = 20.0,
        temporal: Optional[Temporal] = None,
    ) -> None:
        super().__init__(num_items, temporal)
        self.k = k
        self.shrinkage = shrinkage
        size = (num_items, min(k, num_items))
        self.register_buffer('neighbor', torch.zeros(size, dtype=torch.long))
        self.register_buffer('similarity', torch.zeros(size))

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        rows = history.to_scipy()
        columns = rows.T.tocsr()
        norm = torch.from_numpy(rows.multiply(rows).sum(axis=0)).sqrt()
        step = max(1, _BLOCK // self.num_items)
        values, indices = [], []
        for items in torch.arange(self.num_items).split(step):
            common = (columns[items.numpy()] @ rows).toarray()  # [step, I]
            cosine = torch.from_numpy(common)
            cosine /= norm[items].view(-1, 1) * norm + self.shrinkage + 1e-12
            cosine[torch.arange(len(items)), items] = 0
            value, index = cosine.topk(self.neighbor.size(1), dim=1)
            values.append(value)
            indices.append(index)
        self.similarity = torch.cat(values).to(self.similarity)
        self.neighbor = torch.cat(indices).to(self.neighbor)

    def score(self, users: Tensor, history: SparseRows) -> Any:
        rows = self.weigh(history)
        out = self.similarity.new_zeros(rows.shape)
        row = rows.row.view(-1, 1).expand(-1, self.neighbor.size(1))
        weight = rows.value.to(out.dtype).view(-1, 1) * self.similarity[rows.col]
        return out.index_put((row, self.neighbor[rows.col]), weight, accumulate=True)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, k={self.k}, '
            f'shrinkage={self.shrinkage})'
        )
