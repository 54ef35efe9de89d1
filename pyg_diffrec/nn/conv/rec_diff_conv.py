from typing import Any, Union

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.typing import Adj
from torch_geometric.utils import is_sparse, to_edge_index

from pyg_diffrec.config import Configured
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.directed_adj import DirectedAdj


class RecDiffConv(Configured, MessagePassing):
    r"""The graph convolution along directed edges from the `"RecDiff: Diffusion Model
    for Social Recommendation" <https://arxiv.org/abs/2406.01629>`_ paper.

    .. math::
        \mathbf{x}^{\prime}_v = \mathrm{LeakyReLU} \left( \sum_{u \to v}
        \frac{e_{u,v}}{\sqrt{\deg^{\mathrm{in}}(v) \, \deg^{\mathrm{out}}(u)}} \,
        \mathbf{W} \mathbf{x}_u \right)

    with degrees that sum the weights :math:`e`. There are no self loops: a node
    without incoming edges becomes zero. The product is associative, so
    :math:`\mathbf{W}` is applied on the side that has fewer nodes.

    Args:
        in_channels (int): The width :math:`C` of the input.
        out_channels (int): The width :math:`C^{\prime}` of the output.
        weight (bool, optional): Whether there is a matrix :math:`\mathbf{W}`.
            (default: :obj:`True`)
        negative_slope (float, optional): The slope of LeakyReLU.
            (default: :obj:`0.5`)
        **kwargs (optional): Further arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **x:** nodes :math:`(N, C)`, or sources :math:`(M, C)` and destinations
          :math:`(N, *)`, which are only counted and not needed if the graph knows
          their number
        - **edge_index:** from sources to destinations :math:`(2, E)`; a sparse matrix
          :math:`(N, M)`, transposed as everywhere in PyG; or, which saves
          normalising in every pass and transposing in the backward pass, a
          :class:`~pyg_diffrec.utils.directed_adj.DirectedAdj` of normalised weights
        - **edge_weight:** :math:`(E)`, ones if :obj:`None`, not negative
        - **output:** :math:`(N, C^{\prime})`

    Raises:
        ValueError: If there is no matrix and the widths differ.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weight: bool = True,
        negative_slope: float = 0.5,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault('aggr', 'add')
        super().__init__(**kwargs)
        if not weight and in_channels != out_channels:
            raise ValueError(
                f"'out_channels' needs to be {in_channels}, the width of the input, in "
                f"'{self.__class__.__name__}' without weight (got {out_channels})"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.negative_slope = negative_slope
        self.lin: torch.nn.Module = torch.nn.Identity()
        if weight:
            self.lin = Linear(
                in_channels, out_channels, bias=False, weight_initializer='glorot'
            )

    def reset_parameters(self) -> None:
        r"""Draws a Glorot-uniform matrix."""
        super().reset_parameters()
        if isinstance(self.lin, Linear):
            self.lin.reset_parameters()

    def forward(
        self,
        x: Union[Tensor, tuple[Tensor, Tensor]],
        edge_index: Union[Adj, DirectedAdj],
        edge_weight: OptTensor = None,
    ) -> Tensor:
        source, target = (x, x) if isinstance(x, Tensor) else x
        if isinstance(edge_index, DirectedAdj):
            size = source.size(0), edge_index.rows.num_rows
        else:
            size = source.size(0), target.size(0)
            edge_index, edge_weight = self._norm(
                edge_index, edge_weight, size, source.dtype
            )
        if size[0] <= size[1]:
            out = self._send(self.lin(source), edge_index, edge_weight, size)
        else:
            out = self.lin(self._send(source, edge_index, edge_weight, size))
        return F.leaky_relu(out, self.negative_slope)

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.view(-1, 1) * x_j

    def _send(
        self,
        x: Tensor,
        edge_index: Union[Tensor, DirectedAdj],
        edge_weight: OptTensor,
        size: tuple[int, int],
    ) -> Tensor:
        if isinstance(edge_index, DirectedAdj):
            return edge_index.propagate(x)
        return self.propagate(
            edge_index, x=(x, None), edge_weight=edge_weight, size=size
        )

    @staticmethod
    def _norm(
        edge_index: Adj,
        edge_weight: OptTensor,
        size: tuple[int, int],
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        if is_sparse(edge_index):
            edge_index, edge_weight = to_edge_index(edge_index)
            edge_index = edge_index.flip(0)
        if edge_weight is None:
            edge_weight = torch.ones(edge_index.size(1), device=edge_index.device)
        edge_weight = edge_weight.to(dtype)
        norm = edge_weight
        for node, num_nodes in zip(edge_index, size):
            degree = edge_weight.new_zeros(num_nodes).index_add_(0, node, edge_weight)
            scale = degree.rsqrt().masked_fill(degree == 0, 0.0)
            norm = norm * scale[node]
        return edge_index, norm

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.in_channels}, {self.out_channels})'
