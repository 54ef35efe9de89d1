r"""What follows from a schedule: the constants of the forward and reverse process."""

from typing import Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.diffusion import schedules
from pyg_diffrec.resolver import resolve


def resolve_betas(
    schedule: Union[str, Tensor], num_timesteps: Optional[int] = None, **kwargs: float
) -> Tensor:
    r"""The float64 betas :math:`(T)` of a named schedule, or those that are given.

    Raises:
        ValueError: If the name is unknown or has no :obj:`num_timesteps`, or given
            betas do not have shape :math:`(T)`.
    """
    if isinstance(schedule, Tensor):
        if schedule.dim() != 1 or schedule.numel() < 1:
            raise ValueError(
                f"'schedule' needs shape [T] when it holds betas "
                f'(got {list(schedule.shape)})'
            )
        return schedule.to(torch.double)
    if num_timesteps is None:
        raise ValueError("'num_timesteps' is required with a named schedule")
    function = resolve(schedule, schedules, kind='schedule', suffix='_beta_schedule')
    return function(num_timesteps, **kwargs)


def diffusion_constants(betas: Tensor) -> dict[str, Tensor]:
    r"""All constants of a Gaussian diffusion, by name, each :math:`(T)`.

    The names and formulas are those of the `"Denoising Diffusion Probabilistic
    Models" <https://arxiv.org/abs/2006.11239>`_ paper, Eqs. (4), (7) and (15), with
    :math:`\mathrm{snr}_t = \bar\alpha_t / (1 - \bar\alpha_t)`.

    .. note::
        The posterior variance at :math:`t = 0` is zero. Its clipped logarithm is
        that of :math:`t = 1` there, or of :math:`\beta_0` if :math:`T = 1`; no
        reverse step uses it.
    """
    alphas_cumprod = (1 - betas).cumprod(0)
    previous = torch.cat([betas.new_ones(1), alphas_cumprod[:-1]])
    rest = 1 - alphas_cumprod
    variance = betas * (1 - previous) / rest
    positive = variance[1:2] if betas.numel() > 1 else betas
    return {
        'betas': betas,
        'alphas_cumprod': alphas_cumprod,
        'alphas_cumprod_prev': previous,
        'posterior_mean_coef1': betas * previous.sqrt() / rest,
        'posterior_mean_coef2': (1 - previous) * (1 - betas).sqrt() / rest,
        'posterior_variance': variance,
        'posterior_log_variance_clipped': torch.cat([positive, variance[1:]]).log(),
        'sqrt_recip_alphas_cumprod': (1 / alphas_cumprod).sqrt(),
        'sqrt_recipm1_alphas_cumprod': (1 / alphas_cumprod - 1).sqrt(),
        'snr': alphas_cumprod / rest,
    }
