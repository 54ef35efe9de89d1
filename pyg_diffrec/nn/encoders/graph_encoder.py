from typing import Optional

import torch
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.nn.conv.rec_diff_conv import RecDiffConv
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.propagation import BipartiteAdj


class GraphEncoder(Configured, torch.nn.Module):
    r"""An abstract class for encoders whose embeddings are the input plus what each
    layer makes of it, as in the `"RecDiff: Diffusion Model for Social
    Recommendation" <https://arxiv.org/abs/2406.01629>`_ paper.

    .. math::
        \mathbf{z} = \mathbf{h}^{(0)} + \sum_{l=1}^{L} \frac{\mathbf{h}^{(l)}}
        {\lVert \mathbf{h}^{(l)} \rVert}, \qquad
        \mathbf{h}^{(l)} = \mathrm{conv}_l (\mathbf{h}^{(l-1)})

    Only the sum takes lengths off; the next layer does not. :math:`\mathrm{conv}` is
    :class:`~pyg_diffrec.nn.conv.RecDiffConv`.

    Args:
        channels (int): The width :math:`C` of an embedding.
        num_layers (int): The number of layers :math:`L`; zero passes the input on.
        weight (bool, optional): Whether layers have matrices.
            (default: :obj:`True`)
        dropout (float, optional): Dropout on the input. (default: :obj:`0.0`)
        edge_dropout (float, optional): The share of edges dropped per training pass,
            in all layers alike; the others are scaled by one over the share that is
            kept. (default: :obj:`0.0`)

    Raises:
        ValueError: If a hyper-parameter is out of range, or a graph does not have as
            many nodes as there are embeddings.
    """

    def __init__(
        self,
        channels: int,
        num_layers: int,
        weight: bool = True,
        dropout: float = 0.0,
        edge_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.num_layers = num_layers
        self.weight = weight
        self.dropout = torch.nn.Dropout(dropout)
        self.edge_dropout = edge_dropout

    def reset_parameters(self) -> None:
        r"""Draws new weights."""
        for module in self.modules():
            if isinstance(module, RecDiffConv):
                module.reset_parameters()

    def _convs(self) -> torch.nn.ModuleList:
        return torch.nn.ModuleList(
            RecDiffConv(self.channels, self.channels, self.weight)
            for _ in range(self.num_layers)
        )

    def _dropped(
        self,
        adj: BipartiteAdj,
        shape: tuple[int, int],
        generator: Optional[torch.Generator],
    ) -> BipartiteAdj:
        if adj.shape != shape:
            raise ValueError(
                f"'adj' needs shape {list(shape)} in '{self.__class__.__name__}' "
                f'(got {list(adj.shape)})'
            )
        if self.training and self.edge_dropout > 0.0:
            return adj.dropout(self.edge_dropout, generator)
        return adj

    @staticmethod
    def _pick(x: Tensor, index: OptTensor) -> Tensor:
        return x if index is None else x.index_select(0, index)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.channels}, num_layers={self.num_layers})'
        )
