r"""Loss weights: each returns one float64 weight per timestep."""

import torch
from torch import Tensor

from pyg_diffrec.typing import PredictionType

__all__ = [
    'snr_weights',
    'uniform_weights',
]


def uniform_weights(betas: Tensor, prediction: PredictionType = 'x_start') -> Tensor:
    r"""Weight one at every timestep: the plain squared error."""
    return torch.ones_like(betas)


def snr_weights(betas: Tensor, prediction: PredictionType = 'x_start') -> Tensor:
    r"""The weights of the variational bound, Eq. (10) of the `"Diffusion Recommender
    Model" <https://arxiv.org/abs/2304.04971>`_ paper, without its factor one half
    at :math:`t > 0`.

    .. math::
        w_t &= \mathrm{SNR}(t - 1) - \mathrm{SNR}(t), \qquad
        \mathrm{SNR}(t) = \bar\alpha_t / (1 - \bar\alpha_t)
        && \text{(predicting } x_0 \text{)}

        w_t &= \frac{1 - \bar\alpha_t}{(1 - \bar\alpha_{t-1})^2 (1 - \beta_t)}
        && \text{(predicting the noise)}

    and :math:`w_0 = 1` in both cases.

    Args:
        betas (torch.Tensor): The schedule :math:`(T)`, in :math:`(0, 1)`.
        prediction (str, optional): :obj:`'x_start'` or :obj:`'noise'`.
            (default: :obj:`'x_start'`)

    Raises:
        ValueError: If the schedule is free of noise, since then the signal-to-noise
            ratio is infinite, or if :obj:`prediction` is unknown.
    """
    if bool((betas == 0).any()):
        raise ValueError(
            "'snr' weights need a positive 'beta' at every timestep; use "
            "weighting='uniform' without noise"
        )
    alphas_cumprod = (1 - betas).cumprod(0)
    current, previous = alphas_cumprod[1:], alphas_cumprod[:-1]
    if prediction == 'x_start':
        # SNR(t - 1) is infinite at t = 0, so the first step keeps weight 1.
        weight = previous / (1 - previous) - current / (1 - current)
    elif prediction == 'noise':
        weight = (1 - current) / ((1 - previous).square() * (1 - betas[1:]))
    else:
        raise ValueError(
            f"'prediction' needs to be 'x_start' or 'noise' (got '{prediction}')"
        )
    return torch.cat([betas.new_ones(1), weight])
