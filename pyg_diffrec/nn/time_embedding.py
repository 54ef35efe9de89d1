import math

import torch
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.utils.checks import check_whole


class SinusoidalTimeEmbedding(Configured, torch.nn.Module):
    r"""Sinusoidal codes of timesteps, cosine first, as in the `"Denoising Diffusion
    Probabilistic Models" <https://arxiv.org/abs/2006.11239>`_ code and the
    recommender systems built on it.

    .. math::
        \mathrm{emb}(t) = [\cos(t f_0), \ldots, \cos(t f_{h-1}),
        \sin(t f_0), \ldots, \sin(t f_{h-1})], \qquad f_j = 10000^{-j / h}

    with :math:`h = \lfloor d / 2 \rfloor`; an odd :math:`d` is filled with a zero.

    Args:
        embedding_dim (int): The length :math:`d` of a code.

    Shapes:
        - **t:** timesteps :math:`(B)`, whole steps
        - **output:** codes :math:`(B, d)`, in :math:`[-1, 1]`

    Raises:
        ValueError: If :obj:`embedding_dim` is smaller than 2, or :obj:`t` is not
            one-dimensional.

    .. note::
        This is not :class:`torch_geometric.nn.PositionalEncoding`, which puts the
        sine first and spaces its frequencies differently.
    """

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        check_whole(self.__class__.__name__, 2, embedding_dim=embedding_dim)
        self.embedding_dim = embedding_dim

    def forward(self, t: Tensor, dtype: torch.dtype = torch.float) -> Tensor:
        if t.dim() != 1:
            raise ValueError(
                f"'t' needs one dimension in '{self.__class__.__name__}' (got "
                f'{list(t.shape)})'
            )
        # An angle of many turns needs more digits than half precision has.
        precise = torch.promote_types(dtype, torch.float)
        angle = t.view(-1, 1) * self._frequency(t.device).to(precise)  # [B] -> [B, h]
        out = torch.cat([angle.cos(), angle.sin()], dim=-1).to(dtype)
        return torch.nn.functional.pad(out, (0, self.embedding_dim % 2))

    def _frequency(self, device: torch.device) -> Tensor:
        # Not a buffer, which would be rounded with the model around it.
        half = self.embedding_dim // 2
        exponent = torch.arange(half, dtype=torch.double, device=device) / half
        return (-math.log(10000) * exponent).exp()

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.embedding_dim})'
