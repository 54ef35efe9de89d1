import math
from itertools import pairwise
from typing import Any, Optional, Sequence, Union

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.resolver import activation_resolver

from pyg_diffrec.nn.denoisers.base import Denoiser
from pyg_diffrec.nn.readout import LinearReadout
from pyg_diffrec.nn.time_embedding import SinusoidalTimeEmbedding
from pyg_diffrec.typing import Activation
from pyg_diffrec.utils.checks import check_dropout


class MLPDenoiser(Denoiser):
    r"""A multi-layer perceptron that estimates a clean row from a noised one, as
    used in the `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_
    paper.

    .. math::
        \hat{\mathbf{x}}_0 = \mathrm{MLP}(\mathrm{dropout}(\mathbf{x}_t) \, \Vert \,
        \mathbf{A} \, \mathrm{emb}(t) + \mathbf{a})

    The hidden widths are passed through and back: :obj:`hidden_channels=[600, 200]`
    is :math:`I \to 600 \to 200 \to 600 \to I`, with an activation after every layer
    but the last.

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

    Shapes:
        - **x_t:** noised rows :math:`(B, I)`, interaction strength (no unit)
        - **t:** timesteps :math:`(B)`, whole steps in :math:`[0, T)`
        - **output:** estimate :math:`(B, I)`, unbounded scores: **not**
          probabilities

    Raises:
        ValueError: If a width is not positive or :obj:`dropout` lies outside
            :math:`[0, 1)`.

    .. note::
        As in the authors' code the timestep code is added after dropout, weights
        are Glorot-normal and biases of deviation 0.001.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Union[int, Sequence[int]],
        time_embedding_dim: int = 10,
        dropout: float = 0.5,
        norm: bool = False,
        act: Activation = 'tanh',
    ) -> None:
        super().__init__()
        if isinstance(hidden_channels, int):
            hidden_channels = [hidden_channels]
        if in_channels < 1 or not hidden_channels or min(hidden_channels) < 1:
            raise ValueError(
                f"'in_channels' and all 'hidden_channels' need to be positive in "
                f"'{self.__class__.__name__}' (got {in_channels} and "
                f'{list(hidden_channels)})'
            )
        check_dropout(self.__class__.__name__, dropout=dropout)
        self.in_channels = in_channels
        self.hidden_channels = list(hidden_channels)
        self.norm = norm

        self.time_embedding = SinusoidalTimeEmbedding(time_embedding_dim)
        self.lin_embedding = torch.nn.Linear(time_embedding_dim, time_embedding_dim)
        self.dropout = torch.nn.Dropout(dropout)
        linear = act == 'identity'
        self.act = torch.nn.Identity() if linear else activation_resolver(act)
        # The first layer, split into its row part [I, H] and its time part.
        self.weight = torch.nn.Parameter(
            torch.empty(in_channels, self.hidden_channels[0])
        )
        self.lin_time = torch.nn.Linear(time_embedding_dim, self.hidden_channels[0])
        widths = self.hidden_channels + self.hidden_channels[-2::-1]
        self.lins = torch.nn.ModuleList(
            torch.nn.Linear(a, b) for a, b in pairwise(widths)
        )
        self.readout = LinearReadout(widths[-1], in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws Glorot-normal weights and biases of deviation 0.001."""
        num_inputs = self.in_channels + self.time_embedding.embedding_dim
        std = math.sqrt(2 / (num_inputs + self.hidden_channels[0]))
        torch.nn.init.normal_(self.weight, std=std)
        torch.nn.init.normal_(self.lin_time.weight, std=std)
        torch.nn.init.normal_(self.lin_time.bias, std=1e-3)
        for lin in [self.lin_embedding, *self.lins]:
            torch.nn.init.xavier_normal_(lin.weight)
            torch.nn.init.normal_(lin.bias, std=1e-3)
        self.readout.reset_parameters()

    def forward(self, x_t: Any, t: Tensor, cond: Optional[Any] = None) -> Any:
        code = self.lin_embedding(self.time_embedding(t, self.weight.dtype))
        h = self.act(self._project(x_t) + self.lin_time(code))  # [B, I] -> [B, H]
        for lin in self.lins:
            h = self.act(lin(h))
        return self._read(x_t, h)  # [B, K] -> [B, I]

    def _project(self, x_t: Any) -> Tensor:
        if self.norm:
            x_t = F.normalize(x_t)
        return self.dropout(x_t) @ self.weight

    def _read(self, x_t: Any, h: Tensor) -> Any:
        return self.readout(h)

    def load_reference(self, weights: dict[str, Tensor]) -> None:
        r"""Copies weights named and shaped as in the authors' code
        (:obj:`emb_layer`, :obj:`in_layers.0`, ..., :obj:`out_layers.0`, ...), where
        the first layer holds row and timestep part in one matrix.

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
            self.lin_time.weight.copy_(first[:, self.in_channels :])

    def reference_weights(self) -> dict[str, Tensor]:
        r"""The weights under the names of the authors' code."""
        first = torch.cat([self.weight.t(), self.lin_time.weight], dim=1)
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
