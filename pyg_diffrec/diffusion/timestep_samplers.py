r"""How training draws its timesteps."""

import sys
from typing import Any, Mapping, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.diffusion.float64_module import Float64Module
from pyg_diffrec.diffusion.generator import drawn_by
from pyg_diffrec.resolver import build

__all__ = [
    'ImportanceTimestepSampler',
    'UniformTimestepSampler',
]


class TimestepSampler(Float64Module):
    r"""Draws timesteps and says how likely each draw was.

    Args:
        num_timesteps (int): The number of steps :math:`T`.
    """

    def __init__(self, num_timesteps: int) -> None:
        super().__init__()
        self.num_timesteps = num_timesteps

    def reset_parameters(self) -> None:
        r"""Forgets whatever was recorded."""

    def sample(
        self,
        batch_size: int,
        device: Optional[torch.device] = None,
        generator: Optional[torch.Generator] = None,
    ) -> Tensor:
        r"""Draws timesteps :math:`(B)`, int64 in :math:`[0, T)`."""
        raise NotImplementedError

    def scale(self, t: Tensor) -> Tensor:
        r"""The divisor :math:`T \, p_t` that makes the mean of
        :math:`\mathrm{loss} / (T p_t)` an unbiased estimate of the uniform mean,
        float64 :math:`(B)`."""
        raise NotImplementedError

    def record(self, t: Tensor, loss: Tensor) -> None:
        r"""Learns from the losses :math:`(B)` of the timesteps :obj:`t`."""

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_timesteps})'


class UniformTimestepSampler(TimestepSampler):
    r"""Draws every timestep with probability :math:`1 / T`."""

    def sample(
        self,
        batch_size: int,
        device: Optional[torch.device] = None,
        generator: Optional[torch.Generator] = None,
    ) -> Tensor:
        return torch.randint(
            self.num_timesteps, (batch_size,), device=device, **drawn_by(generator)
        )

    def scale(self, t: Tensor) -> Tensor:
        return torch.ones(t.shape, dtype=torch.double, device=t.device)


class ImportanceTimestepSampler(TimestepSampler):
    r"""Draws timesteps in proportion to the root mean square of their recent
    losses, from the `"Improved Denoising Diffusion Probabilistic Models"
    <https://arxiv.org/abs/2102.09672>`_ paper as used by the `"Diffusion
    Recommender Model" <https://arxiv.org/abs/2304.04971>`_ paper.

    .. math::
        p_t = (1 - \epsilon) \frac{r_t}{\sum_s r_s} + \frac{\epsilon}{T}, \qquad
        r_t = \sqrt{ \tfrac{1}{n} \sum_{j=1}^n \ell_{t,j}^2 }

    The last :math:`n` losses of every timestep sit in a ring buffer. Until all
    buffers are full, timesteps are drawn uniformly. Losses are recorded in batch
    order, weighted, and *before* their division by :math:`T p_t`. Neither drawing
    nor recording waits for the device.

    Args:
        num_timesteps (int): The number of steps :math:`T`.
        history_size (int, optional): The number :math:`n` of remembered losses per
            timestep. (default: :obj:`10`)
        uniform_share (float, optional): The share :math:`\epsilon` of uniform
            draws. (default: :obj:`0.001`)

    Raises:
        ValueError: If :obj:`history_size` is not positive or
            :obj:`uniform_share` lies outside :math:`[0, 1]`.
    """

    history: Tensor
    count: Tensor

    def __init__(
        self, num_timesteps: int, history_size: int = 10, uniform_share: float = 0.001
    ) -> None:
        super().__init__(num_timesteps)
        self.history_size = history_size
        self.uniform_share = uniform_share
        history = torch.zeros(num_timesteps, history_size, dtype=torch.double)
        self.register_buffer('history', history)
        self.register_buffer('count', torch.zeros(num_timesteps, dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Forgets all losses."""
        self.history.zero_()
        self.count.zero_()

    @property
    def ready(self) -> Tensor:
        r"""Whether every timestep has a full history: a boolean scalar tensor."""
        return (self.count >= self.history_size).all()

    def probabilities(self) -> Tensor:
        r"""The probability :math:`p_t` of every timestep, float64 :math:`(T)`."""
        rms = self.history.square().mean(1).sqrt()
        uniform = 1 / self.num_timesteps
        share = rms / rms.sum()
        mixed = (1 - self.uniform_share) * share + self.uniform_share * uniform
        # All losses zero: nothing tells the timesteps apart.
        mixed = torch.where(rms.sum() > 0, mixed, uniform)
        return torch.where(self.ready, mixed, uniform)

    def sample(
        self,
        batch_size: int,
        device: Optional[torch.device] = None,
        generator: Optional[torch.Generator] = None,
    ) -> Tensor:
        cumulative = self.probabilities().cumsum(0)
        u = torch.rand(
            batch_size, dtype=torch.double, device=device, **drawn_by(generator)
        )
        t = torch.searchsorted(cumulative, u * cumulative[-1], right=True)
        return t.clamp(max=self.num_timesteps - 1)

    def scale(self, t: Tensor) -> Tensor:
        return self.num_timesteps * self.probabilities()[t]

    def record(self, t: Tensor, loss: Tensor) -> None:
        # Rank each loss within its timestep, in batch order.
        _, perm = t.sort(stable=True)
        t, loss = t[perm], loss.detach()[perm].to(self.history.dtype)
        added = torch.zeros_like(self.count).scatter_add_(0, t, torch.ones_like(t))
        first = added.cumsum(0) - added
        rank = torch.arange(t.numel(), device=t.device) - first[t]
        # Of more than n new losses only the last n survive; the others go to one
        # spare entry behind the buffer, so that no position is written twice.
        slot = t * self.history_size + (self.count[t] + rank) % self.history_size
        survives = rank >= added[t] - self.history_size
        slot = torch.where(survives, slot, self.history.numel())
        flat = torch.cat([self.history.view(-1), loss.new_zeros(1)])
        flat[slot] = loss
        self.history.copy_(flat[:-1].view_as(self.history))
        self.count.add_(added)

    def ordered_history(self) -> Tensor:
        r"""The remembered losses, oldest first, float64 :math:`(T, n)`; unused
        entries are zero and come last."""
        start = torch.where(self.count > self.history_size, self.count, 0)
        offset = torch.arange(self.history_size, device=start.device)
        index = (start.view(-1, 1) + offset) % self.history_size
        return self.history.gather(1, index)

    def load_history(self, history: Tensor, count: Optional[Tensor] = None) -> None:
        r"""Sets the remembered losses, oldest first.

        Args:
            history (torch.Tensor): The losses :math:`(T, n)`.
            count (torch.Tensor, optional): How many of each row are valid
                :math:`(T)`; all of them if :obj:`None`. (default: :obj:`None`)

        Raises:
            ValueError: If a shape does not fit.
        """
        for key, x, own in (
            ('history', history, self.history),
            ('count', count, self.count),
        ):
            if x is not None and x.shape != own.shape:
                raise ValueError(
                    f"'{key}' needs shape {list(own.shape)} in "
                    f"'{self.__class__.__name__}' (got {list(x.shape)})"
                )
        self.history.copy_(history)
        if count is None:
            self.count.fill_(self.history_size)
        else:
            self.count.copy_(count)


def resolve_timestep_sampler(
    timestep_sampler: Union[str, Mapping[str, Any], TimestepSampler], num_timesteps: int
) -> TimestepSampler:
    r"""Builds a timestep sampler from its name (:obj:`'uniform'`,
    :obj:`'importance'`), or a dictionary of it and its arguments, or returns the one
    that is given.

    Raises:
        ValueError: If the name is unknown, where the error lists the choices, or the
            given one is for another number of steps.
        TypeError: If it is neither a name nor a :class:`TimestepSampler`.
    """
    if isinstance(timestep_sampler, (str, Mapping)):
        timestep_sampler = build(
            timestep_sampler,
            sys.modules[__name__],
            kind='timestep sampler',
            suffix='TimestepSampler',
            filled={'num_timesteps': num_timesteps},
        )
    if not isinstance(timestep_sampler, TimestepSampler):
        raise TypeError(
            f"'timestep_sampler' needs to be a name or a 'TimestepSampler' "
            f"(got '{type(timestep_sampler).__name__}')"
        )
    if timestep_sampler.num_timesteps != num_timesteps:
        raise ValueError(
            f"'timestep_sampler' needs to be one of {num_timesteps} timesteps (got one "
            f'of {timestep_sampler.num_timesteps})'
        )
    return timestep_sampler
