import math
from typing import Any, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.products import kept


class _Gram(torch.autograd.Function):
    r"""The product :math:`\mathbf{W}^{\top} \mathbf{W}`, whose gradient is one product
    too: the two that automatic differentiation takes have the same matrix."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight.t() @ weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        return weight @ (grad + grad.t())


class LinearReadout(Configured, torch.nn.Module):
    r"""The linear layer from a hidden state to all items, with the products that
    let a chain of denoising steps skip the items.

    .. math::
        \mathrm{readout}(\mathbf{h}) = \mathbf{h} \mathbf{W}^{\top} + \mathbf{b}

    Args:
        in_channels (int): The width :math:`K` of the hidden state.
        out_channels (int): The number of items :math:`I`.

    Shapes:
        - **h:** hidden states :math:`(B, K)`
        - **output:** one score per item :math:`(B, I)`

    Raises:
        ValueError: If a width is not positive, or an input of another width.

    .. note::
        Within :meth:`~pyg_diffrec.nn.keep_products` the products are computed once per
        version of the weights.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = torch.nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = torch.nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws Glorot-normal weights and biases of deviation 0.001."""
        std = math.sqrt(2 / (self.in_channels + self.out_channels))
        torch.nn.init.normal_(self.weight, std=std)
        torch.nn.init.normal_(self.bias, std=1e-3)

    def forward(
        self,
        h: Tensor,
        start: int = 0,
        stop: Optional[int] = None,
        bias_scale: Union[float, Tensor] = 1.0,
    ) -> Tensor:
        r"""Scores of the items from :obj:`start` up to :obj:`stop`, with the bias
        times :obj:`bias_scale`, a number or :math:`(B, 1)`."""
        if h.dim() != 2 or h.size(1) != self.in_channels:
            raise ValueError(
                f"'h' needs shape [B, {self.in_channels}] in "
                f"'{self.__class__.__name__}' (got {list(h.shape)})"
            )
        weight, bias = self.weight[start:stop], self.bias[start:stop]
        if isinstance(bias_scale, float) and bias_scale == 1.0:
            return torch.nn.functional.linear(h, weight, bias)
        if isinstance(bias_scale, Tensor):
            return torch.addcmul(h @ weight.t(), bias_scale, bias)
        return h @ weight.t() + bias_scale * bias

    def product(self, other: Tensor) -> tuple[Tensor, Tensor]:
        r"""The products :math:`\mathbf{W}^{\top} \mathbf{X}` :math:`(K, H)` and
        :math:`\mathbf{b}^{\top} \mathbf{X}` :math:`(H)` with a matrix
        :math:`(I, H)`."""
        if other.dim() != 2 or other.size(0) != self.out_channels:
            raise ValueError(
                f"'other' needs shape [{self.out_channels}, *] in "
                f"'{self.__class__.__name__}.product' (got {list(other.shape)})"
            )
        weight, bias = self.weight, self.bias
        return kept(
            ('product', id(weight)),
            [weight, bias, other],
            lambda: (weight.t() @ other, bias @ other),
            lasting=True,
        )

    def gram(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""The products :math:`\mathbf{W}^{\top} \mathbf{W}` :math:`(K, K)`,
        :math:`\mathbf{W}^{\top} \mathbf{b}` :math:`(K)` and
        :math:`\mathbf{b}^{\top} \mathbf{b}`."""
        weight, bias = self.weight, self.bias
        return kept(
            ('gram', id(weight)),
            [weight, bias],
            lambda: (_Gram.apply(weight), weight.t() @ bias, bias @ bias),
            lasting=True,
        )

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.in_channels}, {self.out_channels})'
