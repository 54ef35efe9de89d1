from typing import Union

import torch
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.utils.sparse import SparseRows


class SparseLinear(Configured, torch.nn.Module):
    r"""A linear layer on sparse rows, whose cost follows the stored entries.

    .. math::
        \mathrm{out} = \mathbf{x} \mathbf{W} + \mathbf{b}

    Args:
        in_channels (int): The length :math:`I` of a row.
        out_channels (int): The number of outputs :math:`H`.

    Shapes:
        - **x:** rows :math:`(B, I)`, sparse or dense
        - **output:** :math:`(B, H)`

    Raises:
        ValueError: If a width is not positive, or rows are of another length.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = torch.nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = torch.nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws Glorot-normal weights; biases are zero."""
        torch.nn.init.xavier_normal_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, x: Union[SparseRows, Tensor]) -> Tensor:
        if len(x.shape) != 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"'x' needs shape [B, {self.in_channels}] in "
                f"'{self.__class__.__name__}' (got {list(x.shape)})"
            )
        product = (
            x.matmul(self.weight) if isinstance(x, SparseRows) else x @ self.weight
        )
        return product + self.bias

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.in_channels}, {self.out_channels})'
