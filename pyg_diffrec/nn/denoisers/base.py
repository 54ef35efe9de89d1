from typing import Any, Optional

import torch
from torch import Tensor

from pyg_diffrec.config import Configured


class Denoiser(Configured, torch.nn.Module):
    r"""An abstract class for what estimates the clean rows, or the noise, in noised
    rows. A denoiser does not know the schedule, and refuses a condition that it does
    not use.

    Shapes:
        - **x_t:** noised rows :math:`(B, *)`
        - **t:** timesteps :math:`(B)`, int64 in :math:`[0, T)`
        - **cond:** whatever the denoiser is conditioned on, :obj:`None` if nothing
        - **output:** the estimate, of the shape and kind of :obj:`x_t`
    """

    def forward(self, x_t: Any, t: Tensor, cond: Optional[Any] = None) -> Any:
        raise NotImplementedError
