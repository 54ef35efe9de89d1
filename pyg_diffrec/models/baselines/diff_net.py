from typing import Any, Optional

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn.resolver import activation_resolver

from pyg_diffrec.data.schema import USER_USER
from pyg_diffrec.models.baselines.pairwise import PairwiseRecommender, Tables
from pyg_diffrec.utils.directed_adj import DirectedAdj
from pyg_diffrec.utils.sparse import SparseRows


def row_mean(rows: SparseRows) -> SparseRows:
    r"""The weights of a mean over the entries of each row: what :obj:`rows`, all
    positive, become when divided by their sums. Empty rows stay empty."""
    return rows.with_value(rows.value / rows.row_sum()[rows.row])


def _directed(rows: SparseRows) -> DirectedAdj:
    perm = rows.col.argsort(stable=True)
    rows_t = SparseRows.from_coo(
        rows.col[perm],
        rows.row[perm],
        rows.value[perm],
        num_rows=rows.num_cols,
        num_cols=rows.num_rows,
    )
    return DirectedAdj(rows, rows_t)


class SocialRecommender(PairwiseRecommender):
    r"""An abstract class for pairwise models that know ties between users beside
    interactions. A subclass tells along which edges it propagates
    (:meth:`propagations`).

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        **kwargs (optional): Further arguments of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Raises:
        ValueError: If a hyper-parameter is out of range, or there are no ties.
    """

    def __init__(self, num_items: int, num_users: int = 0, **kwargs: Any) -> None:
        super().__init__(num_items, num_users, **kwargs)
        self.user_embedding = torch.nn.Embedding(num_users, self.embedding_dim)
        self.item_embedding = torch.nn.Embedding(num_items, self.embedding_dim)
        #: The ties :math:`(U, U)`, by the user they come from.
        self.ties: Optional[SparseRows] = None
        self._adjs: Optional[list[DirectedAdj]] = None

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'SocialRecommender':
        model = super().from_data(data, **kwargs)
        assert isinstance(model, cls)
        ties = torch.empty(2, 0, dtype=torch.long)
        if USER_USER in data.edge_types:
            ties = data[USER_USER].edge_index
        model.fit_ties(ties)
        return model

    def fit_ties(self, edge_index: Tensor) -> None:
        r"""Takes over the ties between users.

        Args:
            edge_index (torch.Tensor): The ties :math:`(2, E)`, each once, from its
                first to its second user.

        Raises:
            ValueError: If there is no tie, or one of an unknown user.
        """
        name = self.__class__.__name__
        if edge_index.numel() == 0:
            raise ValueError(
                f"'{name}' needs ties between users (got none): put them into "
                f"'data[{USER_USER}].edge_index'"
            )
        low, high = int(edge_index.min()), int(edge_index.max())
        if low < 0 or high >= self.num_users:
            raise ValueError(
                f"'edge_index' needs users in [0, {self.num_users}) in "
                f"'{name}.fit_ties' (got {low} to {high})"
            )
        source, target = edge_index.cpu()
        size = self.num_users
        self.ties = SparseRows.from_coo(source, target, num_rows=size, num_cols=size)
        self._forget()

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        self._forget()

    def propagations(
        self, interactions: SparseRows, ties: SparseRows
    ) -> list[SparseRows]:
        r"""The weights of the edges that are propagated along, by the node that
        receives; asked for once.

        Args:
            interactions (SparseRows): The training interactions :math:`(U, I)`, in
                float64.
            ties (SparseRows): The ties :math:`(U, U)` by the user they come from,
                ones in float64.
        """
        raise NotImplementedError

    def learned_tables(self) -> Tables:
        return self.user_embedding.weight, self.item_embedding.weight

    def _check_layers(self, num_layers: int) -> None:
        if num_layers < 1:
            raise ValueError(
                f"'num_layers' needs to be positive in '{self.__class__.__name__}' "
                f'(got {num_layers})'
            )

    def _forget(self) -> None:
        self._adjs = None
        self._kept = None

    def _graphs(self) -> list[DirectedAdj]:
        weight = self.item_embedding.weight
        where = (weight.device, weight.dtype)
        adjs = self._adjs
        if adjs is None or (adjs[0].rows.device, adjs[0].rows.dtype) != where:
            if self.ties is None:
                raise ValueError(
                    f"'{self.__class__.__name__}' has no ties yet: build it with "
                    f"'from_data', or call 'fit_ties' first"
                )
            # From the history, as a cast of the graphs would keep lost digits lost.
            rows = self._known_history().to('cpu', torch.double)
            if self.temporal is not None:
                rows = self.temporal(rows)
            graphs = self.propagations(rows, self.ties.to(dtype=torch.double))
            adjs = [_directed(graph.to(*where)) for graph in graphs]
            self._adjs = adjs
        return adjs


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
        act: Any = 'tanh',
        **kwargs: Any,
    ) -> None:
        super().__init__(num_items, num_users, **kwargs)
        self._check_layers(num_layers)
        self.num_layers = num_layers
        self.layer_weight = layer_weight
        self.act = activation_resolver(act)
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

    def propagations(
        self, interactions: SparseRows, ties: SparseRows
    ) -> list[SparseRows]:
        return [row_mean(interactions), row_mean(ties)]

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
