from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.utils.propagation import BipartiteAdj
from pyg_diffrec.utils.sparse import SparseRows


class LightGCNEncoder(Configured, torch.nn.Module):
    r"""The encoder of users and items by propagation over their interactions, from
    the `"LightGCN: Simplifying and Powering Graph Convolution Network for
    Recommendation" <https://arxiv.org/abs/2002.02126>`_ paper.

    .. math::
        \mathbf{E}^{(l+1)} = \hat{\mathbf{A}} \, \mathbf{E}^{(l)}, \qquad
        \mathbf{E} = \sum_{l=0}^{L} \alpha_l \, \mathbf{E}^{(l)}

    with :math:`\hat{\mathbf{A}}` as in
    :class:`~pyg_diffrec.utils.propagation.BipartiteAdj`. A layer costs one sparse
    product per direction, forward and backward. Layers are
    :class:`~pyg_diffrec.nn.conv.BipartiteLGConv`, computed from a graph that is
    normalised once; the whole equals :class:`torch_geometric.nn.models.LightGCN`.

    Args:
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.
        embedding_dim (int): The length :math:`C` of an embedding.
        num_layers (int): The number of layers :math:`L`; zero propagates nothing.
        alpha (list, optional): The layer weights
            :math:`\alpha_0, \ldots, \alpha_L`; :math:`1 / (L + 1)` each if
            :obj:`None`. (default: :obj:`None`)
        edge_dropout (float, optional): The share of interactions dropped per
            training pass, in both directions and all layers alike; the others are
            scaled by one over the share that is kept. (default: :obj:`0.0`)

    Shapes:
        - **rows_or_adj:** interactions :math:`(U, I)`
        - **output:** users :math:`(U, C)` and items :math:`(I, C)`, no unit; nodes
          without interactions keep :math:`\alpha_0 \mathbf{e}^{(0)}`

    Raises:
        ValueError: If a size is out of range, :obj:`alpha` does not hold one weight
            per layer and one for the embeddings, or the interactions are of
            another size.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int,
        num_layers: int,
        alpha: Optional[Sequence[float]] = None,
        edge_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if alpha is None:
            alpha = [1.0 / (num_layers + 1)] * (num_layers + 1)
        if len(alpha) != num_layers + 1:
            raise ValueError(
                f"'alpha' needs {num_layers + 1} weights in "
                f"'{self.__class__.__name__}', one for the embeddings and one per "
                f'layer (got {len(alpha)})'
            )
        self.num_users = num_users
        self.num_items = num_items
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.alpha = tuple(float(a) for a in alpha)
        self.edge_dropout = edge_dropout
        self.user_embedding = torch.nn.Embedding(num_users, embedding_dim)
        self.item_embedding = torch.nn.Embedding(num_items, embedding_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws embeddings of deviation 0.1, as the authors' code does."""
        torch.nn.init.normal_(self.user_embedding.weight, std=0.1)
        torch.nn.init.normal_(self.item_embedding.weight, std=0.1)

    def forward(
        self,
        rows_or_adj: Union[SparseRows, BipartiteAdj],
        generator: Optional[torch.Generator] = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Embeddings of all users and items.

        Args:
            rows_or_adj (SparseRows or BipartiteAdj): The interactions, or better
                the graph made of them, which saves normalising them every pass.
            generator (torch.Generator, optional): Draws the dropout.
                (default: :obj:`None`)
        """
        if rows_or_adj.shape != (self.num_users, self.num_items):
            raise ValueError(
                f"'rows_or_adj' needs shape [{self.num_users}, {self.num_items}] in "
                f"'{self.__class__.__name__}' (got {list(rows_or_adj.shape)})"
            )
        user, item = self.user_embedding.weight, self.item_embedding.weight
        out_user, out_item = self.alpha[0] * user, self.alpha[0] * item
        if self.num_layers == 0:
            return out_user, out_item
        adj = rows_or_adj
        if isinstance(adj, SparseRows):
            adj = BipartiteAdj(adj, user.dtype)
        if self.training and self.edge_dropout > 0.0:
            adj = adj.dropout(self.edge_dropout, generator)
        for alpha in self.alpha[1:]:
            user, item = adj.propagate(user, item)
            out_user, out_item = out_user + alpha * user, out_item + alpha * item
        return out_user, out_item

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'{self.embedding_dim}, num_layers={self.num_layers})'
        )
