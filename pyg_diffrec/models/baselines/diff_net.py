from typing import Any

import torch

from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.models.baselines.social import SocialRecommender, row_mean
from pyg_diffrec.typing import Activation
from pyg_diffrec.utils.activation import resolve_activation
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.directed_adj import DirectedAdj
from pyg_diffrec.utils.sparse import SparseRows


class DiffNet(SocialRecommender):
    r"""Matrix factorisation over user embeddings that diffuse along ties, from the
    `"A Neural Influence Diffusion Model for Social Recommendation"
    <https://arxiv.org/abs/1904.10322>`_ paper, without features of users and items.

    .. math::
        \mathrm{score}_{u,i} = {\Big( \mathbf{z}_u + \frac{1}{|S_u|} \sum_{j \in S_u}
        \mathbf{e}_j \Big)}^{\top} \mathbf{e}_i, \qquad \mathbf{h}_u^{(0)} =
        \mathbf{e}_u, \quad \mathbf{m}_u^{(l)} = \frac{1}{|T_u|} \sum_{v \in T_u}
        \mathbf{h}_v^{(l - 1)}

    with the interactions :math:`S_u` of a user and the users :math:`T_u` it has ties
    to, and one of

    .. math::
        \mathbf{z}_u = \mathbf{h}_u^{(L)}, \quad \mathbf{h}_u^{(l)} = \mathrm{act}
        \big( \mathbf{W}_l \, (\mathbf{m}_u^{(l)} \, \Vert \,
        \mathbf{h}_u^{(l - 1)}) \big) \qquad \text{or} \qquad \mathbf{z}_u =
        \sum_{l=1}^{L} \mathbf{h}_u^{(l)}, \quad \mathbf{h}_u^{(l)} =
        \mathbf{m}_u^{(l)}

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`2`)
        layer_weight (bool, optional): Whether layers have matrices, as in the paper;
            otherwise they are means and summed, as in the authors' code.
            (default: :obj:`False`)
        act (str or Callable, optional): The non-linearity between matrices.
            (default: :obj:`'tanh'`)
        **kwargs (optional): :obj:`embedding_dim`, :obj:`lr`, :obj:`l2`,
            :obj:`batch_size` and :obj:`negatives` of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: users are known by
          their embeddings
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities; an empty
          mean is zero

    Raises:
        ValueError: If a hyper-parameter is out of range, or there are no ties.

    .. note::
        A tie from :math:`u` to :math:`v` lets :math:`v` influence :math:`u`. Where
        the authors' code fits each score to 0 or 1, we learn from pairs, as the paper
        does. Weighted interactions enter their mean with their weights.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        num_layers: int = 2,
        layer_weight: bool = False,
        act: Activation = 'tanh',
        **kwargs: Any,
    ) -> None:
        super().__init__(num_items, num_users, **kwargs)
        check_whole(self.__class__.__name__, num_layers=num_layers)
        self.num_layers = num_layers
        self.layer_weight = layer_weight
        self.act = resolve_activation(act)
        channels = self.embedding_dim
        self.lins = torch.nn.ModuleList(
            torch.nn.Linear(2 * channels, channels, bias=False)
            for _ in range(num_layers if layer_weight else 0)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new embeddings and weights."""
        for param in self.parameters():
            torch.nn.init.xavier_uniform_(param)

    def graphs(self, interactions: SparseRows, ties: SparseRows) -> list[DirectedAdj]:
        return [DirectedAdj.from_rows(row_mean(x)) for x in (interactions, ties)]

    def tables(self) -> Tables:
        interactions, ties = self._graphs()
        user, item = self.learned_tables()
        out = interactions.propagate(item)
        if not self.layer_weight:
            for _ in range(self.num_layers):
                user = ties.propagate(user)
                out = out + user
            return out, item
        for lin in self.lins:
            user = self.act(lin(torch.cat([ties.propagate(user), user], dim=1)))
        return out + user, item

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_users={self.num_users}, embedding_dim={self.embedding_dim}, '
            f'num_layers={self.num_layers}, layer_weight={self.layer_weight})'
        )
