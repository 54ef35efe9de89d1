r"""What models ask of any diffusion.

Timesteps :obj:`t` are int64 in :math:`[0, T)` and :math:`t = 0` is the step nearest to
the clean rows. The papers count from 1: their :math:`t` is ours plus one.
"""

from typing import Any, Callable, Mapping, NamedTuple, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.diffusion.float64_module import Float64Module
from pyg_diffrec.diffusion.generator import drawn_by
from pyg_diffrec.diffusion.timestep_samplers import (
    TimestepSampler,
    resolve_timestep_sampler,
)

# What is diffused: a tensor [B, *], or a value that stands for one (it adds,
# subtracts and scales by tensors, knows `shape`, `dtype`, `device` and `dim()`,
# and reduces itself by `mean_square()`), such as `pyg_diffrec.nn.AffineRows`.
Rows = Any


class TrainingTerms(NamedTuple):
    r"""What one training step yields.

    Args:
        loss (torch.Tensor): The loss per row :math:`(B)`, float32 for rows in half
            precision.
        x_start (torch.Tensor): The estimate of the clean rows :math:`(B, *)`.
        t (torch.Tensor): The timesteps :math:`(B)`.
    """

    loss: Tensor
    x_start: Rows
    t: Tensor


class DiffusionProcess(Float64Module):
    r"""An abstract class for a forward process, which wears rows away step by step, and
    the reverse process, which restores them with a denoiser. A model that asks for no
    more than this takes any of them.

    A subclass defines :meth:`q_sample`, :meth:`q_posterior`, :meth:`p_sample_loop` and
    :meth:`training_losses`. A denoiser is any callable :obj:`denoiser(x_t, t)` (or
    :obj:`denoiser(x_t, t, cond)`) that knows nothing of the process. What else a
    process needs, such as an operator on rows, it is given when it is built.

    Args:
        num_timesteps (int): The number of steps :math:`T`.
        timestep_sampler (str or torch.nn.Module, optional): How training draws
            timesteps, :obj:`'uniform'` or :obj:`'importance'`.
            (default: :obj:`'uniform'`)

    Shapes:
        - **x_start, x_t, noise:** rows :math:`(B, *)`, no unit
        - **t:** timesteps :math:`(B)`, int64 in :math:`[0, T)`

    All methods check types and shapes of what they are given, and on a CPU the range of
    timesteps; elsewhere that would have to wait for the device.

    Raises:
        ValueError: If :obj:`num_timesteps` is not positive, the name of the sampler is
            unknown, or it was built for another number of steps.
        TypeError: If :obj:`num_timesteps` is not a whole number.
    """

    def __init__(
        self,
        num_timesteps: int,
        timestep_sampler: Union[str, Mapping[str, Any], TimestepSampler] = 'uniform',
    ) -> None:
        super().__init__()
        self.num_timesteps = num_timesteps
        self.timestep_sampler = resolve_timestep_sampler(
            timestep_sampler, num_timesteps
        )

    def reset_parameters(self) -> None:
        r"""Forgets the recorded losses."""
        self.timestep_sampler.reset_parameters()

    def q_sample(
        self,
        x_start: Rows,
        t: Tensor,
        noise: Optional[Tensor] = None,
        generator: Optional[torch.Generator] = None,
    ) -> Rows:
        r"""The rows at step :obj:`t`.

        Args:
            x_start (torch.Tensor): The clean rows :math:`(B, *)`.
            t (torch.Tensor): The timesteps :math:`(B)`.
            noise (torch.Tensor, optional): The noise :math:`(B, *)`, drawn if
                :obj:`None` and needed. (default: :obj:`None`)
            generator (torch.Generator, optional): The source of drawn noise.
                (default: :obj:`None`)

        Raises:
            TypeError: If :obj:`t` is not int64, or rows or noise are not floating
                point.
            ValueError: If a shape does not fit, or, on a CPU, a timestep lies outside
                of :math:`[0, T)`.
        """
        raise NotImplementedError

    def q_posterior(
        self, x_start: Rows, x_t: Rows, t: Tensor
    ) -> tuple[Rows, Optional[Tensor]]:
        r"""The mean of the rows one step before :obj:`x_t`, given the clean rows, and
        the log variance, :obj:`None` if there is none."""
        raise NotImplementedError

    def p_sample(
        self, denoiser: Callable, x_t: Rows, t: Tensor, *, cond: Optional[Any] = None
    ) -> Rows:
        r"""One reverse step, from :math:`x_t` to the mean of :math:`x_{t-1}`."""
        self._check_rows(x_t=x_t)
        self._check_timesteps(t, x_t)
        x_start = self._estimate(denoiser, x_t, t, cond)
        return self.q_posterior(x_start, x_t, t)[0]

    def p_sample_loop(
        self, denoiser: Callable, x_start: Rows, *, cond: Optional[Any] = None
    ) -> Rows:
        r"""From given rows forward, as far as the process goes when it scores, and back
        through the whole reverse chain, :math:`t = T - 1, \ldots, 0`.

        Args:
            denoiser (Callable): The denoiser.
            x_start (torch.Tensor): The rows :math:`(B, *)` to start from.
            cond (Any, optional): Passed to the denoiser. (default: :obj:`None`)
        """
        raise NotImplementedError

    def training_losses(
        self,
        denoiser: Callable,
        x_start: Rows,
        t: Optional[Tensor] = None,
        noise: Optional[Tensor] = None,
        cond: Optional[Any] = None,
        generator: Optional[torch.Generator] = None,
    ) -> TrainingTerms:
        r"""The loss per row for one timestep each.

        Args:
            denoiser (Callable): The denoiser.
            x_start (torch.Tensor): The clean rows :math:`(B, *)`.
            t (torch.Tensor, optional): The timesteps :math:`(B)`, drawn if
                :obj:`None`. (default: :obj:`None`)
            noise (torch.Tensor, optional): The noise :math:`(B, *)`, drawn if
                :obj:`None` and needed. (default: :obj:`None`)
            cond (Any, optional): Passed to the denoiser. (default: :obj:`None`)
            generator (torch.Generator, optional): The source of what is drawn.
                (default: :obj:`None`)
        """
        raise NotImplementedError

    def _check_rows(self, **rows: Optional[Rows]) -> None:
        r"""Checks that all :obj:`rows` are floating point and of one shape
        :math:`(B, *)`, that of the first; those that are :obj:`None` are left out."""
        name, first = self.__class__.__name__, ''
        shape: tuple[int, ...] = ()
        for key, x in rows.items():
            if x is None:
                continue
            dtype = getattr(x, 'dtype', None)
            if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
                raise TypeError(
                    f"'{key}' needs to be a floating point tensor in '{name}' (got "
                    f"'{dtype or type(x)}')"
                )
            if not first:
                first, shape = key, tuple(x.shape)
                if len(shape) < 2:
                    raise ValueError(
                        f"'{key}' needs shape [B, *], one row per user, in '{name}' "
                        f'(got {list(shape)})'
                    )
            elif tuple(x.shape) != shape:
                raise ValueError(
                    f"'{key}' needs shape {list(shape)}, that of '{first}', in "
                    f"'{name}' (got {list(x.shape)})"
                )

    def _check_timesteps(
        self, t: Tensor, x: Optional[Rows] = None, key: str = 't', least: int = 0
    ) -> None:
        r"""Checks that :obj:`t` are timesteps, one for each row of :obj:`x`."""
        name = self.__class__.__name__
        if not isinstance(t, Tensor) or t.dtype != torch.long:
            got = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(
                f"'{key}' needs to be a 'torch.long' tensor in '{name}' (got '{got}')"
            )
        if x is not None and tuple(t.shape) != (x.shape[0],):
            raise ValueError(
                f"'{key}' needs shape [{x.shape[0]}], one timestep per row, in "
                f"'{name}' (got {list(t.shape)})"
            )
        # Elsewhere than on a CPU a look at the values would wait for the device.
        if t.device.type == 'cpu' and t.numel() > 0:
            low, high = (int(value) for value in t.aminmax())
            if low < least or high >= self.num_timesteps:
                raise ValueError(
                    f"'{key}' needs to lie in [{least}, {self.num_timesteps}) in "
                    f"'{name}' (got {low if low < least else high})"
                )

    def _timesteps(
        self, x: Rows, t: Optional[Tensor], generator: Optional[torch.Generator]
    ) -> Tensor:
        r"""The timesteps :obj:`t`, drawn for each row if :obj:`None`."""
        if t is None:
            return self.timestep_sampler.sample(x.shape[0], x.device, generator)
        self._check_timesteps(t, x)
        return t

    def _terms(self, loss: Tensor, x_start: Rows, t: Tensor) -> TrainingTerms:
        r"""The loss per row as an unbiased share of the sum over all timesteps."""
        scale = self.timestep_sampler.scale(t).to(loss.dtype)
        if self.training:  # To look at a loss is no step of training.
            self.timestep_sampler.record(t, loss)
        return TrainingTerms(loss / scale, x_start, t)

    def _estimate(
        self, denoiser: Callable, x_t: Rows, t: Tensor, cond: Optional[Any]
    ) -> Rows:
        r"""The estimate of the clean rows, which is what the denoiser gives."""
        return self._denoise(denoiser, x_t, t, cond)

    def _denoise(
        self, denoiser: Callable, x_t: Rows, t: Tensor, cond: Optional[Any]
    ) -> Rows:
        out = denoiser(x_t, t) if cond is None else denoiser(x_t, t, cond)
        shape = getattr(out, 'shape', None)
        if shape is None or tuple(shape) != tuple(x_t.shape):
            got = type(out).__name__ if shape is None else list(shape)
            raise ValueError(
                f'The denoiser needs to return rows of shape {list(x_t.shape)} in '
                f"'{self.__class__.__name__}' (got {got})"
            )
        return out

    @staticmethod
    def _square(x: Tensor) -> Tensor:
        r"""The squares of all entries of a row :math:`(B, -1)`; their sums and weights
        leave the range of half precision, so that these are float32 at least."""
        return x.to(torch.promote_types(x.dtype, torch.float)).square().flatten(1)

    @staticmethod
    def _per_row(value: Tensor, x: Rows) -> Tensor:
        r"""One number per row, to multiply :obj:`x` by."""
        return value.to(x.dtype).view(-1, *[1] * (x.dim() - 1))

    @staticmethod
    def _randn(x: Rows, generator: Optional[torch.Generator]) -> Tensor:
        options = drawn_by(generator)
        return torch.randn(x.shape, dtype=x.dtype, device=x.device, **options)
