r"""Noise schedules: each returns the float64 :obj:`betas` of all timesteps,
:math:`\beta_t` being the share of variance that step :math:`t` replaces by noise.

The two linear schedules are parametrised as in the `"Diffusion Recommender Model"
<https://arxiv.org/abs/2304.04971>`_ paper, by bounds that a common
:obj:`noise_scale` shrinks.
"""

import math

import torch
from torch import Tensor

from pyg_diffrec.utils.arguments import checked

__all__ = [
    'binomial_beta_schedule',
    'cosine_beta_schedule',
    'linear_beta_schedule',
    'linear_var_beta_schedule',
]


def _scaled_bounds(
    num_timesteps: int, noise_scale: float, noise_min: float, noise_max: float
) -> Tensor:
    if not 0 < noise_min <= noise_max:
        raise ValueError(
            f"'noise_min' and 'noise_max' need 0 < noise_min <= noise_max "
            f'(got {noise_min} and {noise_max})'
        )
    if noise_scale * noise_max >= 1:
        raise ValueError(
            f"'noise_scale' times 'noise_max' is a variance share and needs to be "
            f'below 1 (got {noise_scale * noise_max})'
        )
    return torch.linspace(
        noise_scale * noise_min,
        noise_scale * noise_max,
        num_timesteps,
        dtype=torch.double,
    )


def _betas_from_alphas_cumprod(alphas_cumprod: Tensor, max_beta: float) -> Tensor:
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    return (1 - alphas_cumprod / previous).clamp(max=max_beta)


@checked
def linear_beta_schedule(
    num_timesteps: int,
    noise_scale: float = 1.0,
    noise_min: float = 1e-4,
    noise_max: float = 0.02,
) -> Tensor:
    r"""Betas on a line from :math:`s \cdot \mathrm{min}` to
    :math:`s \cdot \mathrm{max}`.

    Args:
        num_timesteps (int): The number of steps :math:`T`.
        noise_scale (float, optional): The factor :math:`s`; 0 switches noise off.
            (default: :obj:`1.0`)
        noise_min (float, optional): The lower bound. (default: :obj:`1e-4`)
        noise_max (float, optional): The upper bound. (default: :obj:`0.02`)

    Raises:
        ValueError: If a bound is out of range.
    """
    return _scaled_bounds(num_timesteps, noise_scale, noise_min, noise_max)


@checked
def linear_var_beta_schedule(
    num_timesteps: int,
    noise_scale: float = 1.0,
    noise_min: float = 1e-4,
    noise_max: float = 0.02,
) -> Tensor:
    r"""The schedule under which the *variance of the noise in* :math:`x_t` grows on
    a line, Eq. (4) of the `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_ paper.

    .. math::
        1 - \bar\alpha_t = s \left( \mathrm{min} + \tfrac{t}{T - 1}
        (\mathrm{max} - \mathrm{min}) \right), \qquad
        \beta_t = \min \left( 1 - \bar\alpha_t / \bar\alpha_{t-1}, 0.999 \right)

    Args:
        num_timesteps (int): The number of steps :math:`T`.
        noise_scale (float, optional): The factor :math:`s`; 0 switches noise off.
            (default: :obj:`1.0`)
        noise_min (float, optional): The lower bound. (default: :obj:`1e-4`)
        noise_max (float, optional): The upper bound. (default: :obj:`0.02`)

    Raises:
        ValueError: If a bound is out of range.
    """
    variance = _scaled_bounds(num_timesteps, noise_scale, noise_min, noise_max)
    return _betas_from_alphas_cumprod(1 - variance, max_beta=0.999)


@checked
def cosine_beta_schedule(num_timesteps: int) -> Tensor:
    r"""The schedule of the `"Improved Denoising Diffusion Probabilistic Models"
    <https://arxiv.org/abs/2102.09672>`_ paper.

    .. math::
        f(u) = \cos^2 \left( \frac{u + 0.008}{1.008} \frac{\pi}{2} \right), \qquad
        \beta_t = \min \left( 1 - \frac{f((t + 1) / T)}{f(t / T)}, 0.999 \right)

    Args:
        num_timesteps (int): The number of steps :math:`T`.

    Raises:
        ValueError: If :obj:`num_timesteps` is not positive.
    """
    u = torch.arange(num_timesteps + 1, dtype=torch.double) / num_timesteps
    f = ((u + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


@checked
def binomial_beta_schedule(num_timesteps: int) -> Tensor:
    r"""Betas :math:`\beta_t = 1 / (T - t + 1)`, as offered by the code of the
    `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_ paper.

    Args:
        num_timesteps (int): The number of steps :math:`T`.

    Raises:
        ValueError: If :obj:`num_timesteps` is not positive.
    """
    t = torch.arange(num_timesteps, dtype=torch.double)
    return 1 / (num_timesteps - t + 1)
