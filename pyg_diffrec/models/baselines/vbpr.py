from typing import Any, Mapping, Optional

import torch
from torch import Tensor

from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines.multi_modal import MultiModalRecommender
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.nn.losses import bpr_loss


class VBPR(MultiModalRecommender):
    r"""Matrix factorisation with factors of users for what the features of an item
    show, from the `"VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1510.01784>`_ paper, for any modalities.

    .. math::
        \mathrm{score}_{u,i} = \boldsymbol{\gamma}_u^{\top} \boldsymbol{\gamma}_i +
        \boldsymbol{\theta}_u^{\top} \sum_m \mathbf{W}_m \mathbf{f}_{i,m} + \beta_i +
        \sum_m \mathbf{w}_m^{\top} \mathbf{f}_{i,m}

        \mathcal{L} = \mathcal{L}_{\mathrm{BPR}} + \frac{\lambda}{2 B}
        \sum_{(u, i, j)} \left( {\lVert \boldsymbol{\gamma}_u \rVert}^2 +
        {\lVert \boldsymbol{\theta}_u \rVert}^2 + \sum_{k \in \{i, j\}}
        {\lVert \boldsymbol{\gamma}_k \rVert}^2 + \beta_k^2 \right) +
        \frac{\lambda_f}{2} \sum_m {\lVert \mathbf{W}_m \rVert}^2 +
        {\lVert \mathbf{w}_m \rVert}^2

    with the features :math:`\mathbf{f}_{i,m}` of modality :math:`m`, of unit length.
    A training step projects those of the items of its batch alone.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        modalities (dict, optional): The number of features of each modality.
            :meth:`from_data` also takes names, and all :obj:`x_<modality>` of the
            items if :obj:`None`. (default: :obj:`None`)
        feature_dim (int, optional): The length :math:`D` of
            :math:`\boldsymbol{\theta}`. (default: :obj:`64`)
        feature_l2 (float, optional): The weight :math:`\lambda_f`.
            (default: :obj:`1e-2`)
        lr (float, optional): The learning rate of Adam. (default: :obj:`1e-2`)
        l2 (float, optional): The weight :math:`\lambda`. (default: :obj:`3e-2`)
        batch_size (int, optional): The number of interactions per training batch.
            (default: :obj:`8192`)
        **kwargs (optional): :obj:`embedding_dim`, the length of
            :math:`\boldsymbol{\gamma}`, :obj:`negatives` and :obj:`temporal` of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: users are known by
          their embeddings
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, there is no modality, or
            features are missing or not finite.

    .. note::
        The paper has images alone, scaled by one factor for all; it also adds a
        constant and a bias of the user, which change no ranking and have no gradient.
        It takes plain stochastic gradient steps, one pair at a time; we take Adam over
        batches.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        modalities: Optional[Mapping[str, int]] = None,
        feature_dim: int = 64,
        feature_l2: float = 1e-2,
        lr: float = 1e-2,
        l2: float = 3e-2,
        batch_size: int = 8192,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_items,
            num_users,
            modalities,
            lr=lr,
            l2=l2,
            batch_size=batch_size,
            **kwargs,
        )
        self.feature_dim = feature_dim
        self.feature_l2 = feature_l2
        #: The factors :math:`\boldsymbol{\gamma}_u` and :math:`\boldsymbol{\theta}_u`.
        self.user_embedding = torch.nn.Embedding(
            num_users, self.embedding_dim + feature_dim
        )
        #: The factors :math:`\boldsymbol{\gamma}_i` and, last, the bias
        #: :math:`\beta_i`.
        self.item_embedding = torch.nn.Embedding(num_items, self.embedding_dim + 1)
        #: All :math:`\mathbf{W}_m` side by side and, in the last row,
        #: :math:`\mathbf{w}_m`.
        self.lin = torch.nn.Linear(
            sum(self.modalities.values()), feature_dim + 1, bias=False
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws factors and projections of deviation 0.1; biases start at zero."""
        for weight in self.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        with torch.no_grad():
            self.item_embedding.weight[:, -1] = 0.0
            self.lin.weight[-1] = 0.0

    def learned_tables(self) -> Tables:
        return self.user_embedding.weight, self.item_embedding.weight

    def tables(self) -> Tables:
        user, item = self.learned_tables()
        x, _ = self.item_features()
        return self._user_table(user), self._item_table(item, x)

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The pairwise loss of a batch, and the penalties on what it touches and on
        the projections."""
        x, _ = self.item_features()
        index, inverse = torch.cat([batch.positive, batch.negative]).unique(
            return_inverse=True
        )
        user = self.user_embedding.weight.index_select(0, batch.user)
        item = self.item_embedding.weight.index_select(0, index)
        table = self._item_table(item, [part.index_select(0, index) for part in x])
        # [2, B, C + D + 1] times [B, C + D + 1]
        pairs = table.index_select(0, inverse).view(2, len(user), -1)
        scores = (pairs * self._user_table(user)).sum(2)
        bpr = bpr_loss(scores[0], scores[1], batch.weight)
        count = torch.bincount(inverse).to(item.dtype)
        square = user.square().sum() + count @ item.square().sum(1)
        l2 = self.l2 * 0.5 * square / len(user)
        losses = {'total': bpr + l2, 'bpr': bpr, 'l2': l2}
        if self.feature_l2 > 0:
            feature_l2 = self.feature_l2 * 0.5 * self.lin.weight.square().sum()
            losses['total'] = losses['total'] + feature_l2
            losses['feature_l2'] = feature_l2
        return losses

    def _user_table(self, user: Tensor) -> Tensor:
        return torch.cat([user, user.new_ones(len(user), 1)], dim=1)

    def _item_table(self, item: Tensor, x: list[Tensor]) -> Tensor:
        shown = self.lin(torch.cat(x, dim=1))  # [I, D + 1]
        bias = item[:, -1:] + shown[:, -1:]
        return torch.cat([item[:, :-1], shown[:, :-1], bias], dim=1)
