from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.config import Configured

Projection = Literal['linear', 'matrix']


class ModalityEncoder(Configured, torch.nn.Module):
    r"""The projection of the features of one modality to the width of embeddings,
    from the `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper.

    .. math::
        \mathbf{f} = \mathbf{x} \mathbf{W} + \mathbf{b} \;\; (\text{linear}), \qquad
        \mathbf{f} = \mathrm{LeakyReLU}_{0.2}(\mathbf{x} \mathbf{W}) \;\;
        (\text{matrix})

    Args:
        in_channels (int): The number :math:`F` of features.
        out_channels (int): The width :math:`C`.
        projection (str, optional): :obj:`'linear'` or :obj:`'matrix'`; the authors
            take either for all modalities, depending on the dataset.
            (default: :obj:`'linear'`)

    Shapes:
        - **x:** features :math:`(I, F)`
        - **output:** :math:`(I, C)`, of any length

    Raises:
        ValueError: If a width is not positive, :obj:`projection` unknown, or :obj:`x`
            of another width.
    """

    def __init__(
        self, in_channels: int, out_channels: int, projection: Projection = 'linear'
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.projection = projection
        self.lin = torch.nn.Linear(
            in_channels, out_channels, bias=projection == 'linear'
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws the weights of PyTorch's linear layer, or a Glorot-uniform
        matrix."""
        self.lin.reset_parameters()
        if self.projection == 'matrix':
            torch.nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.size(1) != self.in_channels:
            raise ValueError(
                f"'x' needs shape [I, {self.in_channels}] in "
                f"'{self.__class__.__name__}' (got {list(x.shape)})"
            )
        out = self.lin(x)
        return out if self.projection == 'linear' else F.leaky_relu(out, 0.2)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.in_channels}, {self.out_channels}, '
            f"projection='{self.projection}')"
        )
