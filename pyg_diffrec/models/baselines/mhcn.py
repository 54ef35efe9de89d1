from typing import Any, Sequence

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.models.baselines.social import SocialRecommender, row_mean
from pyg_diffrec.nn.losses import bpr_loss
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.directed_adj import DirectedAdj
from pyg_diffrec.utils.precision import normalize
from pyg_diffrec.utils.propagation import BipartiteAdj
from pyg_diffrec.utils.sparse import SparseRows

# Products of sparse matrices are formed for so many users at once: most of what they
# hold is left out again.
_BLOCK = 256


def _gate(lin: torch.nn.Module, x: Tensor) -> Tensor:
    return x * torch.sigmoid(lin(x))


def _directions(layers: Sequence[Tensor]) -> Tensor:
    r"""The sum of layers whose rows have length one."""
    return torch.stack([normalize(x) for x in layers]).sum(0)


def _mix(channels: Sequence[Tensor], weights: Tensor) -> Tensor:
    return torch.stack([w * x for w, x in zip(weights, channels)]).sum(0)


def _from_scipy(matrix: scipy.sparse.csr_array) -> SparseRows:
    rowptr, col, value = (
        torch.from_numpy(x.astype(dtype))
        for x, dtype in (
            (matrix.indptr, np.int64),
            (matrix.indices, np.int64),
            (matrix.data, np.float64),
        )
    )
    return SparseRows(rowptr, col, value, num_cols=matrix.shape[1])


def motif_adjacencies(
    interactions: SparseRows, ties: SparseRows, min_common: int = 1
) -> tuple[SparseRows, SparseRows, SparseRows]:
    r"""In how many triangles two users occur together, from the `"Self-Supervised
    Multi-Channel Hypergraph Convolutional Network for Social Recommendation"
    <https://arxiv.org/abs/2101.06448>`_ paper.

    .. math::
        \mathbf{A}_s = \mathbf{G} \mathbf{G} \odot \mathbf{G}, \qquad
        \mathbf{A}_j = \mathbf{R} \mathbf{R}^{\top} \odot \mathbf{G}, \qquad
        \mathbf{A}_p = \mathbf{R} \mathbf{R}^{\top} - \mathbf{A}_j

    with :math:`g_{u,v} = 1` for a tie between two users in either direction or both,
    and the interactions :math:`\mathbf{R}`, each as a one. The paper sums over
    motifs, one for each way in which a triangle's ties can be directed. A triangle is
    directed in exactly one way, so the seven social motifs together are
    :math:`\mathbf{A}_s`, and the two joint ones :math:`\mathbf{A}_j`.

    Args:
        interactions (SparseRows): The interactions :math:`(U, I)`.
        ties (SparseRows): The ties :math:`(U, U)`, none of a user to itself.
        min_common (int, optional): The entries of :math:`\mathbf{A}_p` that are
            smaller are left out. (default: :obj:`1`)

    Returns:
        :math:`\mathbf{A}_s`, three users with a tie between each two;
        :math:`\mathbf{A}_j`, two users with a tie and an item in common; and
        :math:`\mathbf{A}_p`, two users without a tie with an item in common, and on
        its diagonal the number of a user's items. Each :math:`(U, U)`, in float64.
    """
    one_way = ties.to_scipy()
    graph = ((one_way + one_way.T) > 0).astype(np.float64).tocsr()
    items = (interactions.to_scipy() > 0).astype(np.float64).tocsr()
    users = items.T.tocsr()
    blocks = []
    for start in range(0, ties.num_rows, _BLOCK):
        tied = graph[start : start + _BLOCK]
        common = items[start : start + _BLOCK] @ users
        joint = common.multiply(tied)
        purchase = (common - joint).tocsr()
        purchase.data[purchase.data < min_common] = 0
        purchase.eliminate_zeros()
        blocks.append(((tied @ graph).multiply(tied), joint, purchase))
    social, joint, purchase = (
        _from_scipy(scipy.sparse.vstack(parts, format='csr')) for parts in zip(*blocks)
    )
    return social, joint, purchase


def hierarchy_loss(node: Tensor, ego: Tensor, corrupted: Tensor) -> Tensor:
    r"""The hierarchical mutual information objective of the `"Self-Supervised
    Multi-Channel Hypergraph Convolutional Network for Social Recommendation"
    <https://arxiv.org/abs/2101.06448>`_ paper: a user fits its neighbourhood, and
    that the whole graph, better than another one.

    .. math::
        - \sum_u \log \sigma (\mathbf{p}_u^{\top} \mathbf{z}_u - \mathbf{p}_u^{\top}
        \tilde{\mathbf{z}}_u) + \log \sigma (\mathbf{z}_u^{\top} \mathbf{h} -
        \tilde{\mathbf{z}}_u^{\top} \mathbf{h}), \qquad \mathbf{h} = \tfrac{1}{U}
        \sum_u \mathbf{z}_u

    Args:
        node (torch.Tensor): The users :math:`\mathbf{P}` :math:`(U, C)`.
        ego (torch.Tensor): Their neighbourhoods :math:`\mathbf{Z}` :math:`(U, C)`.
        corrupted (torch.Tensor): Other ones :math:`\tilde{\mathbf{Z}}`
            :math:`(U, C)`.

    Shapes:
        - **output:** a scalar, in nats
    """
    wrong = corrupted - ego
    local, whole = (node * wrong).sum(1), wrong @ ego.mean(0)
    return F.softplus(local).sum() + F.softplus(whole).sum()


class MHCN(SocialRecommender):
    r"""Matrix factorisation over user embeddings that are propagated along three
    kinds of triangles, with a self-supervision by mutual information, from the
    `"Self-Supervised Multi-Channel Hypergraph Convolutional Network for Social
    Recommendation" <https://arxiv.org/abs/2101.06448>`_ paper.

    .. math::
        \mathrm{score}_{u,i} = \mathbf{p}_u^{\top} \mathbf{q}_i, \qquad
        \mathbf{P} = \sum_{c \in \{s, j, p\}} \boldsymbol{\alpha}_c \odot \mathbf{P}_c
        + \tfrac{1}{2} \mathbf{P}_r, \qquad \boldsymbol{\alpha} =
        \mathrm{softmax}_c(\mathbf{P}_c \mathbf{W}^{\top} \mathbf{a})

        \mathbf{P}_c^{(l)} = \mathbf{D}_c^{-1} \mathbf{A}_c \mathbf{P}_c^{(l-1)},
        \quad \mathbf{P}_r^{(l)} = \hat{\mathbf{R}} \mathbf{Q}^{(l-1)}, \quad
        \mathbf{Q}^{(l)} = \hat{\mathbf{R}}^{\top} \Big( \sum_c \boldsymbol{\alpha}_c
        \odot \mathbf{P}_c^{(l-1)} + \tfrac{1}{2} \mathbf{P}_r^{(l-1)} \Big)

    where a table without a layer is its first layer plus the others at length one,
    :math:`\mathbf{X} = \mathbf{X}^{(0)} + \sum_{l=1}^{L} \mathbf{x}_n^{(l)} /
    \lVert \mathbf{x}_n^{(l)} \rVert`; the first layers are :math:`\mathbf{Q}^{(0)} =
    \mathbf{E}_I`, and for each of the four kinds of users an own gate
    :math:`\mathbf{E}_U \odot \sigma(\mathbf{E}_U \mathbf{W}^{\top} + \mathbf{b})`.
    :math:`\mathbf{A}_c` are those of :meth:`motif_adjacencies`, and
    :math:`\hat{\mathbf{R}}` the interactions of
    :class:`~pyg_diffrec.utils.propagation.BipartiteAdj`. In training,

    .. math::
        \mathcal{L} = \mathcal{L}_{\mathrm{BPR}} + \frac{\beta}{B} \sum_c
        \mathcal{L}_{\mathrm{MI}} (\mathbf{P}^{\prime}_c, \, \mathbf{D}_c^{-1}
        \mathbf{A}_c \mathbf{P}^{\prime}_c)

    with :meth:`hierarchy_loss` of all users, another gate on :math:`\mathbf{P}` for
    each :math:`\mathbf{P}^{\prime}_c`, and the rows and columns shuffled for what is
    corrupted.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`2`)
        self_supervision (float, optional): The weight :math:`\beta`.
            (default: :obj:`0.01`)
        min_common (int, optional): How many items two users without a tie need in
            common to be propagated between. (default: :obj:`2`)
        **kwargs (optional): :obj:`embedding_dim`, :obj:`lr`, :obj:`l2`,
            :obj:`batch_size` and :obj:`negatives` of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: users are known by
          their embeddings
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, or there are no ties.

    .. note::
        Paper and authors' code differ. We follow the code in the lengths of layers
        (the paper takes their mean as they are), in :math:`\hat{\mathbf{R}}` (the
        paper divides by the receiver's degree alone), in half of
        :math:`\mathbf{P}_r` (the paper takes all of it), in :obj:`min_common` and in
        the diagonal of :math:`\mathbf{A}_p`; the paper in one
        :math:`\boldsymbol{\alpha}` for all layers (the code takes each layer's own)
        and in the self-supervision (the code ranks shuffled users between the two).
        The penalty is on the embeddings of a batch alone. Weighted interactions enter
        :math:`\hat{\mathbf{R}}` with their weights.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        num_layers: int = 2,
        self_supervision: float = 0.01,
        min_common: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_items, num_users, **kwargs)
        check_whole(self.__class__.__name__, num_layers=num_layers)
        if self_supervision < 0 or min_common < 1:
            raise ValueError(
                f"'self_supervision' must not be negative and 'min_common' needs to be "
                f"positive in '{self.__class__.__name__}' (got {self_supervision} and "
                f'{min_common})'
            )
        self.num_layers = num_layers
        self.self_supervision = self_supervision
        self.min_common = min_common
        channels = self.embedding_dim
        # Of the three channels, and of the interactions.
        self.gates = self._gates(4)
        self.supervision_gates = self._gates(3)
        self.lin_attention = torch.nn.Linear(channels, channels, bias=False)
        self.attention = torch.nn.Linear(channels, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new embeddings and weights."""
        for param in self.parameters():
            if param.dim() == 1:
                torch.nn.init.zeros_(param)
            else:
                torch.nn.init.xavier_uniform_(param)

    def graphs(self, interactions: SparseRows, ties: SparseRows) -> list[DirectedAdj]:
        channels = motif_adjacencies(interactions, ties, self.min_common)
        graphs = [DirectedAdj.from_rows(row_mean(x)) for x in channels]
        return [*graphs, DirectedAdj.of(BipartiteAdj(interactions))]

    def tables(self) -> Tables:
        user, item = self._encode()
        return user, self.item_embedding.weight + item

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The pairwise loss of a batch, the penalty on what it touches, and the
        self-supervision of all users."""
        both = torch.cat([batch.positive, batch.negative])
        items, item_at = both.unique(return_inverse=True)
        learned = self.item_embedding.weight.index_select(0, items)
        user, item = self._encode(items)
        out_user = user.index_select(0, batch.user)  # [B, C]
        positive, negative = (learned + item).index_select(0, item_at).chunk(2)
        bpr = bpr_loss(
            (out_user * positive).sum(1), (out_user * negative).sum(1), batch.weight
        )
        size = len(batch.user)
        square = self.user_embedding.weight.index_select(0, batch.user).square().sum()
        square = square + learned.index_select(0, item_at).square().sum()
        losses = {'bpr': bpr, 'l2': self.l2 * 0.5 * square / size}
        if self.self_supervision > 0:
            supervision = self._supervision(user) / size
            losses['self_supervision'] = self.self_supervision * supervision
        return {'total': torch.stack(list(losses.values())).sum(), **losses}

    def _encode(self, items: OptTensor = None) -> Tables:
        r"""The embeddings of all users, and what layers add to those of all items, or
        of those asked for."""
        user, item = self.learned_tables()
        *channels, interactions = self._graphs()
        to_item = interactions.t()
        # For a batch, to propagate to its items once more is faster than to pick them
        # from the table of all items, whose gradient then has to be filled in.
        to_asked = to_item if items is None else to_item.index_select(items)

        *gated, first = [_gate(lin, user) for lin in self.gates]
        layers = [self._propagate(adj, x) for adj, x in zip(channels, gated)]
        mixed = [xs[0] + _directions(xs[1:]) for xs in layers]
        direction = self.lin_attention.weight.t() @ self.attention.weight.view(-1)
        scores = torch.stack([x @ direction for x in mixed])
        weights = scores.softmax(0).unsqueeze(-1)  # [3, U, 1]

        from_items, from_users = [first], []
        for depth in range(self.num_layers):
            x = _mix([xs[depth] for xs in layers], weights) + from_items[-1] / 2
            from_items.append(interactions.propagate(item))
            from_users.append(to_asked.propagate(x))
            if depth + 1 < self.num_layers:
                item = from_users[-1] if items is None else to_item.propagate(x)
        out_user = first + _directions(from_items[1:])
        return _mix(mixed, weights) + out_user / 2, _directions(from_users)

    def _propagate(self, adj: DirectedAdj, x: Tensor) -> list[Tensor]:
        layers = [x]
        for _ in range(self.num_layers):
            layers.append(adj.propagate(layers[-1]))
        return layers

    def _supervision(self, user: Tensor) -> Tensor:
        losses = []
        for adj, lin in zip(self._graphs()[:3], self.supervision_gates):
            node = _gate(lin, user)
            ego = adj.propagate(node)
            row, column = (torch.randperm(n, device=ego.device) for n in ego.shape)
            corrupted = ego.index_select(0, row).index_select(1, column)
            losses.append(hierarchy_loss(node, ego, corrupted))
        return torch.stack(losses).sum()

    def _gates(self, size: int) -> torch.nn.ModuleList:
        channels = self.embedding_dim
        return torch.nn.ModuleList(
            torch.nn.Linear(channels, channels) for _ in range(size)
        )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_users={self.num_users}, embedding_dim={self.embedding_dim}, '
            f'num_layers={self.num_layers})'
        )
