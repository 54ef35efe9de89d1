from typing import Any, Union

import torch
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import Adj
from torch_geometric.utils import is_sparse, to_edge_index

from pyg_diffrec.config import Configured
from pyg_diffrec.typing import OptTensor


class BipartiteLGConv(Configured, MessagePassing):
    r"""The graph convolution without weights from the `"LightGCN: Simplifying and
    Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ paper, from one side of a bipartite graph to
    the other.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{u \in \mathcal{N}(i)}
        \frac{e_{u,i}}{\sqrt{\deg(u) \deg(i)}} \, \mathbf{x}_u

    As every bipartite convolution of PyG it returns what the destinations receive, so
    that :class:`torch_geometric.nn.HeteroConv` can hold one for each direction:

    .. code-block:: python

        conv = HeteroConv({
            ('user', 'interacts', 'item'): BipartiteLGConv(),
            ('item', 'rev_interacts', 'user'): BipartiteLGConv(),
        })

    Both together are :class:`torch_geometric.nn.LGConv` on the graph of all nodes with
    edges both ways. For composing own layers: it normalises the graph in every
    pass, where :class:`~pyg_diffrec.nn.encoders.LightGCNEncoder` does so once.

    Args:
        normalize (bool, optional): Whether to divide by the degrees; otherwise
            weights are taken as given. (default: :obj:`True`)
        **kwargs (optional): Further arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **x:** a pair of sources :math:`(N, C)` and destinations :math:`(M, C)`, of
          which only the number is used; or one tensor that is both
        - **edge_index:** from sources to destinations :math:`(2, E)`, or a sparse
          matrix :math:`(M, N)`, transposed as everywhere in PyG
        - **edge_weight:** :math:`(E)`, ones if :obj:`None`, not negative
        - **output:** destinations :math:`(M, C)`, zero for those without edges
    """

    def __init__(self, normalize: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault('aggr', 'add')
        super().__init__(**kwargs)
        self.normalize = normalize

    def forward(
        self,
        x: Union[Tensor, tuple[Tensor, Tensor]],
        edge_index: Adj,
        edge_weight: OptTensor = None,
    ) -> Tensor:
        x_source, x_target = (x, x) if isinstance(x, Tensor) else x
        size = x_source.size(0), x_target.size(0)
        if is_sparse(edge_index):
            (target, source), edge_weight = to_edge_index(edge_index)
            edge_index = torch.stack([source, target])
        if self.normalize:
            edge_weight = self._norm(edge_index, edge_weight, size, x_source)
        return self.propagate(
            edge_index, x=(x_source, x_target), edge_weight=edge_weight, size=size
        )

    def message(self, x_j: Tensor, edge_weight: OptTensor) -> Tensor:
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j

    @staticmethod
    def _norm(
        edge_index: Tensor,
        edge_weight: OptTensor,
        size: tuple[int, int],
        x: Tensor,
    ) -> Tensor:
        # Destinations are numbered after sources, and edges go both ways. [2, 2 E]
        shift = edge_index.new_tensor([[0], [size[0]]])
        both = torch.cat([edge_index + shift, (edge_index + shift).flip(0)], dim=1)
        if edge_weight is not None:
            edge_weight = edge_weight.to(x.dtype).repeat(2)
        _, weight = gcn_norm(
            both,
            edge_weight,
            num_nodes=sum(size),
            add_self_loops=False,
            dtype=x.dtype,
        )
        # Both directions of an edge have the same weight.
        return weight[: edge_index.size(1)]
