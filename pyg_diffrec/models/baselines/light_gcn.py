from typing import Any, Optional, Sequence

import torch

from pyg_diffrec.models.baselines.pairwise import PairwiseRecommender, Tables
from pyg_diffrec.nn.encoders.light_gcn import LightGCNEncoder
from pyg_diffrec.utils.keep import Kept
from pyg_diffrec.utils.propagation import BipartiteAdj


class LightGCN(PairwiseRecommender):
    r"""Matrix factorisation over embeddings that are propagated along the training
    interactions, from the `"LightGCN: Simplifying and Powering Graph Convolution
    Network for Recommendation" <https://arxiv.org/abs/2002.02126>`_ paper.

    .. math::
        \mathrm{score}_{u,i} = \mathbf{e}_u^{\top} \mathbf{e}_i, \qquad
        \mathbf{E} = \sum_{l=0}^{L} \alpha_l \, \hat{\mathbf{A}}^l \mathbf{E}^{(0)}

    Without layers this is :class:`~pyg_diffrec.models.baselines.MFBPR`.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`3`)
        alpha (list, optional): The :math:`L + 1` layer weights;
            :math:`1 / (L + 1)` each if :obj:`None`. (default: :obj:`None`)
        edge_dropout (float, optional): The share of interactions dropped per
            training step. (default: :obj:`0.0`)
        **kwargs (optional): :obj:`embedding_dim`, :obj:`lr`, :obj:`l2`,
            :obj:`batch_size`, :obj:`negatives` and :obj:`temporal` of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: what is propagated
          along are the training interactions, whatever the evaluation shows
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range.

    .. note::
        As in the authors' code, the penalty is on :math:`\mathbf{E}^{(0)}`. Weighted
        interactions enter :math:`\hat{\mathbf{A}}` with their weights, times the
        temporal ones, which a common factor does not change:
        :math:`\hat{r}_{u,i} = w_{u,i} / \sqrt{\textstyle\sum_j w_{u,j} \sum_v
        w_{v,i}}`.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        num_layers: int = 3,
        alpha: Optional[Sequence[float]] = None,
        edge_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_items, num_users, **kwargs)
        self.encoder = LightGCNEncoder(
            num_users,
            num_items,
            self.embedding_dim,
            num_layers,
            alpha=alpha,
            edge_dropout=edge_dropout,
        )
        self._adj = Kept()

    def reset_parameters(self) -> None:
        r"""Draws new embeddings."""
        self.encoder.reset_parameters()

    def learned_tables(self) -> Tables:
        encoder = self.encoder
        return encoder.user_embedding.weight, encoder.item_embedding.weight

    def tables(self) -> Tables:
        return self.encoder(self._graph())

    def _graph(self) -> BipartiteAdj:
        weight, history = self.encoder.item_embedding.weight, self._known_history()

        def build() -> BipartiteAdj:
            # From the history, as a cast of the graph would keep lost digits lost.
            rows = history.to(weight.device, torch.double)
            if self.temporal is not None:
                rows = self.temporal(rows)
            return BipartiteAdj(rows, weight.dtype)

        return self._adj.get(build, history, self.temporal, weight.device, weight.dtype)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_users={self.num_users}, embedding_dim={self.embedding_dim}, '
            f'num_layers={self.encoder.num_layers})'
        )
