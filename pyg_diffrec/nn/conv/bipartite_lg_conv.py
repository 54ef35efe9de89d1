from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import Adj
from torch_geometric.utils import is_sparse, to_edge_index

from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.arguments import Checked


class BipartiteLGConv(Checked, MessagePassing):
    r"""The graph convolution without weights from the `"LightGCN: Simplifying and
    Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ paper, on both sides of a bipartite graph.

    .. math::
        \mathbf{x}^{\prime}_u = \sum_{i \in \mathcal{N}(u)}
        \frac{e_{u,i}}{\sqrt{\deg(u) \deg(i)}} \, \mathbf{x}_i, \qquad
        \mathbf{x}^{\prime}_i = \sum_{u \in \mathcal{N}(i)}
        \frac{e_{u,i}}{\sqrt{\deg(u) \deg(i)}} \, \mathbf{x}_u

    The same as :class:`torch_geometric.nn.LGConv` on the graph of all nodes with
    edges both ways. For composing own layers: it normalises the graph in every
    pass, where :class:`~pyg_diffrec.nn.encoders.LightGCNEncoder` does so once.

    Args:
        normalize (bool, optional): Whether to divide by the degrees; otherwise
            weights are taken as given. (default: :obj:`True`)
        **kwargs (optional): Further arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **x:** users :math:`(U, C)` and items :math:`(I, C)`
        - **edge_index:** from users to items :math:`(2, E)`, or a sparse matrix
          :math:`(I, U)`, transposed as everywhere in PyG
        - **edge_weight:** :math:`(E)`, ones if :obj:`None`, not negative
        - **output:** users :math:`(U, C)` and items :math:`(I, C)`, zero for nodes
          without edges
    """

    def __init__(self, normalize: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault('aggr', 'add')
        super().__init__(**kwargs)
        self.normalize = normalize

    def forward(
        self,
        x: tuple[Tensor, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
    ) -> tuple[Tensor, Tensor]:
        x_user, x_item = x
        num_users, num_items = x_user.size(0), x_item.size(0)
        if is_sparse(edge_index):
            (item, user), edge_weight = to_edge_index(edge_index)
        else:
            user, item = edge_index[0], edge_index[1]
        forth, back = torch.stack([user, item]), torch.stack([item, user])
        if self.normalize:
            edge_weight = self._norm(forth, edge_weight, num_users, num_items, x_user)
        return (
            self.propagate(
                back,
                x=(x_item, x_user),
                edge_weight=edge_weight,
                size=(num_items, num_users),
            ),
            self.propagate(
                forth,
                x=(x_user, x_item),
                edge_weight=edge_weight,
                size=(num_users, num_items),
            ),
        )

    def message(self, x_j: Tensor, edge_weight: OptTensor) -> Tensor:
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j

    @staticmethod
    def _norm(
        edge_index: Tensor,
        edge_weight: OptTensor,
        num_users: int,
        num_items: int,
        x: Tensor,
    ) -> Tensor:
        # Items are numbered after the users, and edges go both ways. [2, 2 E]
        shift = edge_index.new_tensor([[0], [num_users]])
        both = torch.cat([edge_index + shift, (edge_index + shift).flip(0)], dim=1)
        if edge_weight is not None:
            edge_weight = edge_weight.to(x.dtype).repeat(2)
        _, weight = gcn_norm(
            both,
            edge_weight,
            num_nodes=num_users + num_items,
            add_self_loops=False,
            dtype=x.dtype,
        )
        # Both directions of an edge have the same weight.
        return weight[: edge_index.size(1)]
