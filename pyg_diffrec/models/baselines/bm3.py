from typing import Any, Mapping, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines.light_gcn import LightGCN
from pyg_diffrec.models.baselines.multi_modal import MultiModalRecommender
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.utils.precision import at_least_float


class BM3(MultiModalRecommender, LightGCN):
    r"""LightGCN learned without negative items, by prediction of what dropout leaves
    of the embeddings and features, from the `"Bootstrap Latent Representations for
    Multi-modal Recommendation" <https://arxiv.org/abs/2207.05969>`_ paper.

    .. math::
        \mathrm{score}_{u,i} = p(\mathbf{h}_u)^{\top} p(\mathbf{h}_i), \qquad
        \mathbf{h}_u = \mathbf{z}_u, \qquad
        \mathbf{h}_i = \mathbf{z}_i + \mathbf{e}_i

        \mathcal{L} = \frac{1}{B} \sum_{(u, i)} \left( C(\mathbf{h}_u, \mathbf{h}_i) +
        C(\mathbf{h}_i, \mathbf{h}_u) + \lambda_m \sum_m C(\mathbf{f}_{i,m},
        \mathbf{h}_i) + C(\mathbf{f}_{i,m}, \mathbf{f}_{i,m}) +
        \frac{\lambda}{2} \left( {\lVert \mathbf{h}_u \rVert}^2 +
        {\lVert \mathbf{h}_i \rVert}^2 \right) \right)

        C(\mathbf{x}, \mathbf{y}) = 1 - \cos \left( p(\mathbf{x}), \;
        \mathrm{dropout}(\mathbf{y}) \right)

    with the output :math:`\mathbf{z}` of LightGCN on the embeddings
    :math:`\mathbf{e}`, the linear predictor :math:`p`, and linear projections
    :math:`\mathbf{f}_{i,m}` of the features of modality :math:`m`. Targets
    :math:`\mathbf{y}` have no gradient. The terms are the reconstruction of the
    interactions, the alignment of modalities with embeddings, and the masking within a
    modality.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        modalities (dict, optional): The number of features of each modality.
            :meth:`from_data` also takes names, and all :obj:`x_<modality>` of the
            items if :obj:`None`. (default: :obj:`None`)
        num_layers (int, optional): The number of layers. (default: :obj:`2`)
        dropout (float, optional): The share of a target's entries that is dropped; a
            node's are the same in the whole batch. (default: :obj:`0.3`)
        modality_weight (float, optional): The weight :math:`\lambda_m` of alignment
            and masking. (default: :obj:`2.0`)
        lr (float, optional): The learning rate of Adam. (default: :obj:`3e-3`)
        l2 (float, optional): The weight :math:`\lambda`. (default: :obj:`1e-3`)
        batch_size (int, optional): The number of interactions per training batch.
            (default: :obj:`4096`)
        **kwargs (optional): Further arguments of
            :class:`~pyg_diffrec.models.LightGCN`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: what is propagated
          along are the training interactions, whatever the evaluation shows
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, there is no modality, or
            features are missing or not finite.

    .. note::
        Features shape the embeddings in training; a score does not read them. The
        negative items of a batch are unused. An item without a modality has no terms
        of it.

    .. note::
        Unlike in the authors' code features are not learned along, and the penalty is
        the paper's, on the nodes of a batch, where the code takes the lengths of both
        tables, not squared, divided by the number of items.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        modalities: Optional[Mapping[str, int]] = None,
        num_layers: int = 2,
        dropout: float = 0.3,
        modality_weight: float = 2.0,
        lr: float = 3e-3,
        l2: float = 1e-3,
        batch_size: int = 4096,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_items,
            num_users,
            modalities,
            num_layers=num_layers,
            lr=lr,
            l2=l2,
            batch_size=batch_size,
            **kwargs,
        )
        self.dropout = dropout
        self.modality_weight = modality_weight
        #: The predictor :math:`p`.
        self.predictor = torch.nn.Linear(self.embedding_dim, self.embedding_dim)
        #: The projections of the modalities.
        self.projections = torch.nn.ModuleList(
            torch.nn.Linear(channels, self.embedding_dim)
            for channels in self.modalities.values()
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws Glorot-uniform embeddings and Glorot-normal weights, as the authors'
        code does."""
        # The losses do not depend on lengths, but how fast they fall does.
        for table in self.learned_tables():
            torch.nn.init.xavier_uniform_(table)
        for lin in (self.predictor, *self.projections):
            lin.reset_parameters()
            torch.nn.init.xavier_normal_(lin.weight)

    def tables(self) -> Tables:
        user, item = self._embeddings()
        return self.predictor(user), self.predictor(item)

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The reconstruction of a batch of interactions, the alignment and masking of
        its items' modalities, and the penalty."""
        # A node of the batch is computed once, and each of its pairs looks it up.
        user_index, u = batch.user.unique(return_inverse=True)
        item_index, i = batch.positive.unique(return_inverse=True)
        all_users, all_items = self._embeddings()
        user = all_users.index_select(0, user_index)
        item = all_items.index_select(0, item_index)
        user_target, item_target = self._target(user), self._target(item)
        user_guess, item_guess = self.predictor(user), self.predictor(item)
        weight = user.new_ones(len(u)) if batch.weight is None else batch.weight
        weight = weight.to(user.dtype) / len(u)

        there = weight @ _distance(user_guess[u], item_target[i])
        back = weight @ _distance(item_guess[i], user_target[u])
        square = user.square().sum(1)[u] + item.square().sum(1)[i]
        losses = {'interaction': there + back, 'l2': 0.5 * self.l2 * square.mean()}
        if self.modality_weight > 0:
            item_weight = weight.new_zeros(len(item)).index_add_(0, i, weight)
            aligned, masked = [], []
            for x, lin in zip(self.item_features()[0], self.projections):
                x = x.index_select(0, item_index)
                known = item_weight * x.any(1)
                feature = lin(x)
                guess = self.predictor(feature)
                aligned.append(known @ _distance(guess, item_target))
                masked.append(known @ _distance(guess, self._target(feature)))
            losses['alignment'] = self.modality_weight * torch.stack(aligned).sum()
            losses['masking'] = self.modality_weight * torch.stack(masked).sum()
        return {'total': torch.stack(list(losses.values())).sum(), **losses}

    def _embeddings(self) -> Tables:
        r"""The embeddings :math:`\mathbf{h}` of all users and items."""
        user, item = super().tables()
        return user, item + self.learned_tables()[1]

    def _target(self, x: Tensor) -> Tensor:
        return F.dropout(x.detach(), self.dropout, self.training)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    cosine = F.cosine_similarity(at_least_float(first), at_least_float(second))
    return 1.0 - cosine.to(first.dtype)
