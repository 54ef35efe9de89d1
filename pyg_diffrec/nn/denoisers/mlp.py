import math
from itertools import pairwise
from numbers import Integral
from typing import Any, Optional, Sequence, Union

import torch
from torch import Tensor

from pyg_diffrec.nn.denoisers.base import Denoiser
from pyg_diffrec.nn.readout import LinearReadout
from pyg_diffrec.nn.time_embedding import SinusoidalTimeEmbedding
from pyg_diffrec.typing import Activation
from pyg_diffrec.utils.activation import resolve_activation
from pyg_diffrec.utils.precision import normalize


class MLPDenoiser(Denoiser):
    r"""A multi-layer perceptron that estimates a clean row from a noised one, as
    used in the `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_
    paper.

    .. math::
        \hat{\mathbf{x}}_0 = \mathrm{MLP}(\mathrm{dropout}(\mathbf{x}_t) \, \Vert \,
        \mathbf{A} \, \mathrm{emb}(t) + \mathbf{a} \, [\, \Vert \, \mathbf{c}])

    with the condition :math:`\mathbf{c}` if there is one. The hidden widths are passed
    through and back: :obj:`hidden_channels=[600, 200]` is
    :math:`I \to 600 \to 200 \to 600 \to I`, with an activation after every layer but
    the last.

    Args:
        in_channels (int): The length :math:`I` of a row.
        hidden_channels (int or list): The hidden widths on the way in.
        time_embedding_dim (int, optional): The length of the timestep code.
            (default: :obj:`10`)
        dropout (float, optional): The probability of zeroing an entry of the noised
            row. (default: :obj:`0.5`)
        norm (bool, optional): Whether to scale noised rows to unit length first.
            (default: :obj:`False`)
        act (str or Callable, optional): The activation; :obj:`'identity'` makes the
            network linear in the row. (default: :obj:`'tanh'`)
        cond_channels (int, optional): The length :math:`C` of the condition of a row,
            *e.g.* features of a user; :obj:`None` for a denoiser without one.
            (default: :obj:`None`)

    Shapes:
        - **x_t:** noised rows :math:`(B, I)`, interaction strength (no unit)
        - **t:** timesteps :math:`(B)`, whole steps in :math:`[0, T)`
        - **cond:** conditions :math:`\mathbf{c}` :math:`(B, C)`, if and only if there
          are :obj:`cond_channels`
        - **output:** estimate :math:`(B, I)`, unbounded scores: **not**
          probabilities

    Raises:
        ValueError: If a width is not positive, :obj:`dropout` lies outside
            :math:`[0, 1)`, an input is of another shape, or :obj:`cond` is missing or
            given to a denoiser without one.
        TypeError: If :obj:`cond` is no floating point tensor.

    .. note::
        As in the authors' code the timestep code is added after dropout, weights
        are Glorot-normal and biases of deviation 0.001. Dropout leaves the condition
        whole, too.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Union[int, Sequence[int]],
        time_embedding_dim: int = 10,
        dropout: float = 0.5,
        norm: bool = False,
        act: Activation = 'tanh',
        cond_channels: Optional[int] = None,
    ) -> None:
        super().__init__()
        if isinstance(hidden_channels, (int, Integral)):
            hidden_channels = [hidden_channels]
        if not hidden_channels:
            raise ValueError(
                f"'in_channels' and all 'hidden_channels' need to be positive, and at "
                f"least one, in '{self.__class__.__name__}' (got {in_channels} and [])"
            )
        self.in_channels = in_channels
        self.hidden_channels = list(hidden_channels)
        self.norm = norm
        self.cond_channels = cond_channels

        self.time_embedding = SinusoidalTimeEmbedding(time_embedding_dim)
        self.lin_embedding = torch.nn.Linear(time_embedding_dim, time_embedding_dim)
        self.dropout = torch.nn.Dropout(dropout)
        linear = act == 'identity'
        self.act = torch.nn.Identity() if linear else resolve_activation(act)
        # The first layer, split into its row part [I, H], its time part and the part
        # of the condition.
        self.weight = torch.nn.Parameter(
            torch.empty(in_channels, self.hidden_channels[0])
        )
        self.lin_time = torch.nn.Linear(time_embedding_dim, self.hidden_channels[0])
        self.lin_cond = None
        if cond_channels is not None:
            self.lin_cond = torch.nn.Linear(
                cond_channels, self.hidden_channels[0], bias=False
            )
        widths = self.hidden_channels + self.hidden_channels[-2::-1]
        self.lins = torch.nn.ModuleList(
            torch.nn.Linear(a, b) for a, b in pairwise(widths)
        )
        self.readout = LinearReadout(widths[-1], in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws Glorot-normal weights and biases of deviation 0.001."""
        num_inputs = self.in_channels + self.time_embedding.embedding_dim
        num_inputs += self.cond_channels or 0
        std = math.sqrt(2 / (num_inputs + self.hidden_channels[0]))
        torch.nn.init.normal_(self.weight, std=std)
        torch.nn.init.normal_(self.lin_time.weight, std=std)
        torch.nn.init.normal_(self.lin_time.bias, std=1e-3)
        for lin in [self.lin_embedding, *self.lins]:
            torch.nn.init.xavier_normal_(lin.weight)
            torch.nn.init.normal_(lin.bias, std=1e-3)
        self.readout.reset_parameters()
        if self.lin_cond is not None:
            torch.nn.init.normal_(self.lin_cond.weight, std=std)

    def forward(self, x_t: Any, t: Tensor, cond: Optional[Any] = None) -> Any:
        self._check(x_t, t, cond)
        code = self.lin_embedding(self.time_embedding(t, self.weight.dtype))
        h = self._project(x_t) + self.lin_time(code)  # [B, I] -> [B, H]
        if self.lin_cond is not None:
            h = h + self.lin_cond(cond)
        h = self.act(h)
        for lin in self.lins:
            h = self.act(lin(h))
        return self._read(x_t, h)  # [B, K] -> [B, I]

    def _check(self, x_t: Any, t: Tensor, cond: Optional[Any]) -> None:
        name = self.__class__.__name__
        if x_t.dim() != 2 or x_t.shape[1] != self.in_channels:
            raise ValueError(
                f"'x_t' needs shape [B, {self.in_channels}] in '{name}' (got "
                f'{list(x_t.shape)})'
            )
        if t.shape != (x_t.shape[0],):
            raise ValueError(
                f"'t' needs shape [{x_t.shape[0]}], one timestep per row, in '{name}' "
                f'(got {list(t.shape)})'
            )
        if self.cond_channels is None:
            if cond is not None:
                raise ValueError(
                    f"'{name}' was built without a condition and does not take 'cond': "
                    f"leave it out, or build it with 'cond_channels'"
                )
            return
        shape = x_t.shape[0], self.cond_channels
        if cond is None:
            raise ValueError(
                f"'{name}' needs 'cond', conditions of shape {list(shape)} (got None)"
            )
        if not isinstance(cond, Tensor) or not cond.is_floating_point():
            got = cond.dtype if isinstance(cond, Tensor) else type(cond).__name__
            raise TypeError(
                f"'cond' needs to be a floating point tensor in '{name}' (got '{got}')"
            )
        if cond.shape != shape:
            raise ValueError(
                f"'cond' needs shape {list(shape)} in '{name}' (got {list(cond.shape)})"
            )

    def _project(self, x_t: Any) -> Tensor:
        if self.norm:
            x_t = normalize(x_t)
        return self.dropout(x_t) @ self.weight

    def _read(self, x_t: Any, h: Tensor) -> Any:
        return self.readout(h)

    def load_reference(self, weights: dict[str, Tensor]) -> None:
        r"""Copies weights named and shaped as in the authors' code
        (:obj:`emb_layer`, :obj:`in_layers.0`, ..., :obj:`out_layers.0`, ...), where
        the first layer holds row and timestep part, and after them the condition, in
        one matrix.

        Raises:
            ValueError: If the names do not match this network.
        """
        expected = self.reference_weights()
        if weights.keys() != expected.keys():
            raise ValueError(
                f"'weights' needs the keys {sorted(expected)} in "
                f"'{self.__class__.__name__}' (got {sorted(weights)})"
            )
        for name, value in weights.items():
            if value.shape != expected[name].shape:
                raise ValueError(
                    f"'{name}' needs shape {list(expected[name].shape)} in "
                    f"'{self.__class__.__name__}' (got {list(value.shape)})"
                )
        with torch.no_grad():
            for name, target in expected.items():
                if name != 'in_layers.0.weight':
                    target.copy_(weights[name])
            first = weights['in_layers.0.weight']  # [H, I + d]
            self.weight.copy_(first[:, : self.in_channels].t())
            stop = self.in_channels + self.time_embedding.embedding_dim
            self.lin_time.weight.copy_(first[:, self.in_channels : stop])
            if self.lin_cond is not None:
                self.lin_cond.weight.copy_(first[:, stop:])

    def reference_weights(self) -> dict[str, Tensor]:
        r"""The weights under the names of the authors' code."""
        parts = [self.weight.t(), self.lin_time.weight]
        if self.lin_cond is not None:
            parts.append(self.lin_cond.weight)
        first = torch.cat(parts, dim=1)
        ins = len(self.hidden_channels) - 1
        out = {
            'emb_layer.weight': self.lin_embedding.weight,
            'emb_layer.bias': self.lin_embedding.bias,
            'in_layers.0.weight': first,
            'in_layers.0.bias': self.lin_time.bias,
        }
        lins = [*self.lins, self.readout]
        for i, lin in enumerate(lins):
            name = f'in_layers.{i + 1}' if i < ins else f'out_layers.{i - ins}'
            out[f'{name}.weight'] = lin.weight
            out[f'{name}.bias'] = lin.bias
        return out

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.in_channels}, {self.hidden_channels})'
