from typing import Any, Optional, Sequence

import torch
from torch import Tensor

from pyg_diffrec.nn.denoisers.base import Denoiser
from pyg_diffrec.nn.time_embedding import SinusoidalTimeEmbedding
from pyg_diffrec.typing import Activation
from pyg_diffrec.utils.activation import resolve_activation


class _Mixer(torch.nn.Module):
    r"""One small MLP for all entries: mixes tensors of one shape :math:`(B, N)`, and
    a number per row, entry by entry."""

    def __init__(self, in_channels: int, hidden_channels: int, act: Activation) -> None:
        super().__init__()
        # The last input is the number per row.
        self.lin = torch.nn.Linear(in_channels, hidden_channels)
        self.act = resolve_activation(act)
        self.lin_out = torch.nn.Linear(hidden_channels, 1)

    def forward(self, inputs: Sequence[Tensor], row_input: Tensor) -> Tensor:
        weight, size = self.lin.weight, inputs[0].size()
        shift = row_input * weight[:, -1] + self.lin.bias  # [B, 1] -> [B, H]
        # Channels first, so that both layers are one wide product over all entries.
        x = torch.stack([x.flatten() for x in inputs])  # [C, B * N]
        h = (weight[:, :-1] @ x).view(len(weight), *size) + shift.t().unsqueeze(-1)
        h = self.act(h).flatten(1)  # [H, B * N]
        return (self.lin_out.weight @ h).view(size) + self.lin_out.bias


class GiffCFDenoiser(Denoiser):
    r"""The denoiser of the `"Graph Signal Diffusion Model for Collaborative
    Filtering" <https://arxiv.org/abs/2311.08744>`_ paper: one item embedding table
    and two small MLPs that mix, entry by entry, the smoothed row with the
    interactions it is conditioned on.

    .. math::
        \mathbf{h} &= \mathrm{mix}_1 \left( \tfrac{1}{I} \mathbf{z}_t \mathbf{E}, \;
        \tfrac{\mathbf{c}}{\max(1, {\lVert \mathbf{c} \rVert}_1)} \mathbf{E}, \;
        \tau_1(t) \right)

        \hat{\mathbf{x}}_0 &= \mathrm{mix}_2 \left( \mathbf{h} \mathbf{E}^{\top}, \;
        \mathbf{c}, \; \mathbf{S} \mathbf{c}, \; \tau_2(t) \right)

    Both :math:`\mathrm{mix}` are MLPs with one hidden layer from the listed numbers
    to one, shared by all latent dimensions, or by all items. Both :math:`\tau` are
    MLPs with one hidden layer from a sinusoidal code of the timestep to one number.

    Args:
        num_items (int): The number of items :math:`I`.
        embedding_dim (int, optional): The width :math:`H` of the item embeddings
            :math:`\mathbf{E}`. (default: :obj:`200`)
        mixer_channels (int, optional): The hidden width of the mixers.
            (default: :obj:`2`)
        time_embedding_dim (int, optional): The length of the timestep code and the
            hidden width behind it. (default: :obj:`20`)
        act (str or Callable, optional): The activation. (default: :obj:`'silu'`)

    Shapes:
        - **x_t:** smoothed rows :math:`(B, I)`, interaction strength (no unit)
        - **t:** timesteps :math:`(B)`, whole steps in :math:`[0, T)`
        - **cond:** a pair of rows :math:`(B, I)`: the interactions
          :math:`\mathbf{c}` and their smoothed form :math:`\mathbf{S} \mathbf{c}`
        - **output:** estimate :math:`(B, I)`, unbounded scores: **not**
          probabilities

    Raises:
        ValueError: If a size is not positive, an input of another shape, or
            :obj:`cond` missing.
        TypeError: If :obj:`cond` is not a pair.

    .. note::
        As in the authors' code weights are Glorot-uniform, biases start at zero, and
        the timestep is counted from 1 in its code. Their code puts the sines first,
        ours the cosines, which a permutation of the weights makes up for.
        Unlike there, the mixers start without negative weights on their data inputs,
        so that items with similar embeddings support each other from the first step.
        The mixers are so small that the signs of their draw matter: with the authors'
        draw some seeds stood still on ml-1m for 35 epochs, others for more than 100.
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 200,
        mixer_channels: int = 2,
        time_embedding_dim: int = 20,
        act: Activation = 'silu',
    ) -> None:
        super().__init__()
        self.num_items = num_items
        self.embedding_dim = embedding_dim

        self.weight = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.time_embedding = SinusoidalTimeEmbedding(time_embedding_dim)
        self.time_mlps = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(time_embedding_dim, time_embedding_dim),
                resolve_activation(act),
                torch.nn.Linear(time_embedding_dim, 1),
            )
            for _ in range(2)
        )
        self.latent_mixer = _Mixer(3, mixer_channels, act)
        self.score_mixer = _Mixer(4, mixer_channels, act)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws Glorot-uniform weights, those that mix data without their sign, and
        sets biases to zero."""
        torch.nn.init.xavier_uniform_(self.weight)
        for module in self.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
                torch.nn.init.zeros_(module.bias)
        with torch.no_grad():
            for mixer in (self.latent_mixer, self.score_mixer):
                mixer.lin.weight[:, :-1].abs_()
                mixer.lin_out.weight.abs_()

    def forward(self, x_t: Tensor, t: Tensor, cond: Optional[Any] = None) -> Tensor:
        if cond is None:
            raise ValueError(
                f"'{self.__class__.__name__}' needs 'cond', the interactions and "
                f'their smoothed form as a pair of rows (got None)'
            )
        c, smoothed = self._check(x_t, t, cond)
        code = self.time_embedding(t + 1, self.weight.dtype)
        tau_1, tau_2 = (mlp(code) for mlp in self.time_mlps)  # [B, 1]
        c_mean = c / c.abs().sum(1, keepdim=True).clamp(min=1)
        latent = [x_t @ self.weight / self.num_items, c_mean @ self.weight]
        h = self.latent_mixer(latent, tau_1)  # [B, I] -> [B, H]
        # [B, H] -> [B, I]
        return self.score_mixer([h @ self.weight.t(), c, smoothed], tau_2)

    def _check(self, x_t: Tensor, t: Tensor, cond: Any) -> tuple[Tensor, Tensor]:
        name = self.__class__.__name__
        if x_t.dim() != 2 or x_t.size(1) != self.num_items or t.shape != x_t.shape[:1]:
            raise ValueError(
                f"'x_t' needs shape [B, {self.num_items}] and 't' shape [B] in "
                f"'{name}' (got {list(x_t.shape)} and {list(t.shape)})"
            )
        if not isinstance(cond, (tuple, list)) or len(cond) != 2:
            raise TypeError(
                f"'cond' needs to be a pair of rows in '{name}', the interactions and "
                f"their smoothed form (got '{type(cond).__name__}')"
            )
        c, smoothed = cond
        if c.shape != x_t.shape or smoothed.shape != x_t.shape:
            raise ValueError(
                f"Both rows of 'cond' need shape {list(x_t.shape)} in '{name}' (got "
                f'{list(c.shape)} and {list(smoothed.shape)})'
            )
        return c, smoothed

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items}, {self.embedding_dim})'
