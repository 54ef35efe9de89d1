from typing import Any

import torch
from torch import Tensor

from pyg_diffrec.nn.denoisers.mlp import MLPDenoiser
from pyg_diffrec.nn.rows import AffineRows
from pyg_diffrec.utils.precision import least_length


class RowMLPDenoiser(MLPDenoiser):
    r"""The :class:`MLPDenoiser` for interaction rows, exact and without touching all
    items at every step.

    It computes what :class:`MLPDenoiser` computes, and given dense rows it is that
    network. Given :class:`~pyg_diffrec.nn.AffineRows` it returns
    :class:`~pyg_diffrec.nn.AffineRows`: the first layer is a sparse product plus a
    :math:`(K, H)` product, the last layer is left unevaluated, and a reverse chain
    of :math:`T` steps over :math:`B` rows costs :math:`T \cdot B \cdot K \cdot H`
    operations instead of :math:`2 T \cdot B \cdot I \cdot H`.

    Dropout acts on the entries of the noised row. If these are all non-zero (with
    noise, or in the middle of a chain) the row is made dense for it, which needs
    :math:`B \cdot I` numbers.

    Args:
        in_channels (int): The number of items :math:`I`.
        hidden_channels (int or list): The hidden widths on the way in.
        **kwargs (optional): Arguments of :class:`MLPDenoiser`.

    Shapes:
        - **x_t:** noised rows :math:`(B, I)`, dense or
          :class:`~pyg_diffrec.nn.AffineRows`
        - **t:** timesteps :math:`(B)`, whole steps in :math:`[0, T)`
        - **cond:** conditions :math:`(B, C)`, if there are :obj:`cond_channels`
        - **output:** estimate :math:`(B, I)`, of the kind of :obj:`x_t`
    """

    def _project(self, x_t: Any) -> Tensor:
        if not isinstance(x_t, AffineRows):
            return super()._project(x_t)
        drops = self.training and not self._keeps_all()
        if drops and not x_t.is_sparse:
            return super()._project(x_t.to_dense())
        if self.norm:
            norm = x_t.square_norm().sqrt().clamp(min=least_length(x_t.dtype))
            x_t = x_t * (1 / norm).view(-1, 1)
        if drops:
            start = x_t.start
            dropped = start.with_value(self.dropout(start.value))
            return dropped.matmul(self.weight) * x_t.p
        return x_t.project(self.weight)

    def _read(self, x_t: Any, h: Tensor) -> Any:
        if isinstance(x_t, AffineRows):
            return x_t.with_state(self.readout, h)
        return super()._read(x_t, h)

    def _keeps_all(self) -> bool:
        return isinstance(self.dropout, torch.nn.Dropout) and self.dropout.p == 0
