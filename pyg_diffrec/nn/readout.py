import math
from typing import Any, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.utils.arguments import Checked


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


class LinearReadout(Checked, torch.nn.Module):
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

    .. note::
        Under :meth:`torch.no_grad` the products are kept until a weight changes, a
        pass with gradients comes through, or :meth:`train` or :meth:`eval` is
        called. PyTorch does not count writes through :obj:`.data` and steps of fused
        optimizers as changes: after one of these without a pass with gradients
        before it, call :meth:`eval`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = torch.nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = torch.nn.Parameter(torch.empty(out_channels))
        self._kept: dict[str, tuple[tuple, tuple[Tensor, ...]]] = {}
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
        if torch.is_grad_enabled():
            self._kept.clear()
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
        found = self._find('product', other)
        if found is None:
            found = (self.weight.t() @ other, self.bias @ other)
            self._keep('product', found, other)
        return found[0], found[1]

    def gram(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""The products :math:`\mathbf{W}^{\top} \mathbf{W}` :math:`(K, K)`,
        :math:`\mathbf{W}^{\top} \mathbf{b}` :math:`(K)` and
        :math:`\mathbf{b}^{\top} \mathbf{b}`."""
        found = self._find('gram')
        if found is None:
            weight, bias = self.weight, self.bias
            found = (_Gram.apply(weight), weight.t() @ bias, bias @ bias)
            self._keep('gram', found)
        return found[0], found[1], found[2]

    def train(self, mode: bool = True) -> 'LinearReadout':
        self._kept.clear()
        return super().train(mode)

    def _key(self, *others: Tensor) -> tuple:
        tensors = (self.weight, self.bias, *others)
        return tuple((x.data_ptr(), x.dtype, x._version) for x in tensors)

    def _find(self, name: str, *others: Tensor) -> Optional[tuple[Tensor, ...]]:
        if torch.is_grad_enabled():
            self._kept.clear()
        if name not in self._kept:
            return None
        key, value = self._kept[name]
        return value if key == self._key(*others) else None

    def _keep(self, name: str, value: tuple[Tensor, ...], *others: Tensor) -> None:
        if not torch.is_grad_enabled():
            self._kept[name] = (self._key(*others), value)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.in_channels}, {self.out_channels})'
