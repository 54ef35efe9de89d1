r"""What follows from a schedule: the constants of the forward and reverse process."""

import inspect
from typing import Any, Callable, Optional, Sequence, Union

import torch
from torch import Tensor

from pyg_diffrec.diffusion import schedules
from pyg_diffrec.diffusion import weighting as weightings
from pyg_diffrec.resolver import resolve
from pyg_diffrec.typing import PredictionType

#: A name or path, betas :math:`(T)`, or a function of the number of steps that gives
#: them.
Schedule = Union[str, Tensor, Sequence[float], Callable[..., Tensor]]


def resolve_betas(
    schedule: Schedule, num_timesteps: Optional[int] = None, **kwargs: float
) -> Tensor:
    r"""The float64 betas :math:`(T)` of a named schedule, those that a function
    :obj:`schedule(num_timesteps, **kwargs)` gives, or those that are given.

    Raises:
        ValueError: If the name is unknown, a name or function has no
            :obj:`num_timesteps`, or betas do not have shape :math:`(T)` or come with
            arguments that only a name or function can take.
        TypeError: If the schedule is nothing of these.
    """
    if isinstance(schedule, Sequence) and not isinstance(schedule, str):
        schedule = torch.tensor(schedule, dtype=torch.double)
    if isinstance(schedule, Tensor):
        if kwargs:
            raise ValueError(
                f'Betas that are given take no further arguments (got '
                f'{sorted(kwargs)}): name a schedule, or leave them out'
            )
        size = schedule.numel() if num_timesteps is None else num_timesteps
        return _checked(schedule, size, "'schedule'")
    if not isinstance(schedule, str) and not callable(schedule):
        raise TypeError(
            f"'schedule' needs to be a name, a tensor of betas or a function of "
            f"'num_timesteps' (got '{type(schedule).__name__}')"
        )
    if num_timesteps is None:
        raise ValueError("'num_timesteps' is required with a named schedule")
    if isinstance(schedule, str):
        named = resolve(schedule, schedules, kind='schedule', suffix='_beta_schedule')
        return named(num_timesteps, **kwargs)
    return _checked(schedule(num_timesteps, **kwargs), num_timesteps, "'schedule'")


#: A name, or a function of the betas and of what is predicted.
Weighting = Union[str, Callable[[Tensor, PredictionType], Tensor]]


def resolve_weights(
    weighting: Weighting, betas: Tensor, prediction: PredictionType
) -> tuple[str, Tensor]:
    r"""The name, and the float64 loss weights :math:`(T)`, of a named weighting or of a
    function :obj:`weighting(betas, prediction)`.

    Raises:
        ValueError: If the name is unknown, or the function does not give :math:`(T)`
            weights.
        TypeError: If the weighting is neither.
    """
    if isinstance(weighting, str):
        weighting = resolve(weighting, weightings, kind='weighting', suffix='_weights')
    if not callable(weighting):
        raise TypeError(
            f"'weighting' needs to be a name or a function of betas and prediction "
            f"(got '{type(weighting).__name__}')"
        )
    weights = _checked(weighting(betas, prediction), betas.numel(), "'weighting'")
    return _name_of(weighting).removesuffix('_weights'), weights


def schedule_name(schedule: Schedule) -> str:
    r"""How a schedule is called in what is printed."""
    return schedule if isinstance(schedule, str) else _name_of(schedule)


def takes_noise_bounds(schedule: Schedule) -> bool:
    r"""Whether a schedule has a :obj:`noise_scale` and bounds that it scales."""
    if isinstance(schedule, str):
        schedule = resolve(
            schedule, schedules, kind='schedule', suffix='_beta_schedule'
        )
    if not callable(schedule) or isinstance(schedule, Tensor):
        return False
    return 'noise_scale' in inspect.signature(schedule).parameters


def _name_of(given: Any) -> str:
    return getattr(given, '__name__', 'custom')


def _checked(values: Any, size: int, key: str) -> Tensor:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(
            f"{key} needs to give a floating point tensor of shape [T] (got '{got}')"
        )
    if values.dim() != 1 or values.numel() != size or size < 1:
        raise ValueError(
            f'{key} needs shape [T], one number for each of {size} timesteps (got '
            f'{list(values.shape)})'
        )
    return values.to(torch.double)


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
