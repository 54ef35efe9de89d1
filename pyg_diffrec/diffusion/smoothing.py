r"""Diffusion that smooths rows over a graph instead of adding noise.

Timesteps :obj:`t` are int64 in :math:`[0, T)` and :math:`t = 0` is the *least*
smoothed step, as in :mod:`pyg_diffrec.diffusion.gaussian`. The paper counts from 1
and calls the clean row step 0: its :math:`t` is ours plus one.
"""

from typing import Any, Callable, Mapping, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.diffusion.process import DiffusionProcess, TrainingTerms
from pyg_diffrec.diffusion.timestep_samplers import TimestepSampler
from pyg_diffrec.typing import OptTensor


class GraphSmoothing(DiffusionProcess):
    r"""Graph signal diffusion: a forward process that smooths rows over a graph and
    a reverse process that refines and sharpens them, from the `"Graph Signal
    Diffusion Model for Collaborative Filtering"
    <https://arxiv.org/abs/2311.08744>`_ paper.

    .. math::
        F_t(x) &= x + \alpha \tfrac{t + 1}{T} (S x - x)

        z_t &= F_t(x_0) \; (+ \; \sigma \, d^{T - 1 - t} \epsilon)
        && \text{(forward)}

        z_s &= F_s(\hat x_0) + d^{t - s} (z_t - F_t(\hat x_0)), \qquad
        \hat x_0 = \mathrm{denoiser}(z_t, t)
        && \text{(reverse)}

    Step :math:`-1` is the clean row, :math:`F_{-1}(x) = x`, and the reverse chain ends
    there. Without noise (:math:`\sigma = 0`) both processes are deterministic.

    Args:
        smooth (Callable): Maps rows :math:`x` to :math:`S x`, both :math:`(B, *)`;
            it has to be linear.
        num_timesteps (int, optional): The number of steps :math:`T`.
            (default: :obj:`3`)
        alpha (float, optional): The smoothing strength :math:`\alpha` at the last
            step. (default: :obj:`1.5`)
        noise_scale (float, optional): The deviation :math:`\sigma` of the noise at
            the last step. (default: :obj:`0.0`)
        decay (float, optional): The factor :math:`d` per step, in :math:`[0, 1]`, by
            which what the denoiser did not explain, and the noise, shrink on the way
            back. (default: :obj:`0.5`)
        timestep_sampler (str or torch.nn.Module, optional): How training draws
            timesteps, :obj:`'uniform'` or :obj:`'importance'`.
            (default: :obj:`'uniform'`)

    Shapes:
        - **x_start, x_t, noise:** rows :math:`(B, *)`, no unit
        - **t:** timesteps :math:`(B)`, int64 in :math:`[0, T)`

    Raises:
        ValueError: If a number is out of range, or a name is unknown.
        TypeError: If :obj:`smooth` is not callable.

    .. note::
        As in the authors' code one factor :math:`d` sets both the noise and the
        update, since the paper's update has :math:`\sigma_s / \sigma_t`; scoring
        adds no noise. Their code may also skip steps on the way back;
        :meth:`p_sample_loop` takes all of them, :meth:`q_posterior` any.
    """

    def __init__(
        self,
        smooth: Callable[[Tensor], Tensor],
        num_timesteps: int = 3,
        alpha: float = 1.5,
        noise_scale: float = 0.0,
        decay: float = 0.5,
        timestep_sampler: Union[str, Mapping[str, Any], TimestepSampler] = 'uniform',
    ) -> None:
        super().__init__(num_timesteps, timestep_sampler)
        if alpha < 0:
            raise ValueError(
                f"'alpha' needs to be non-negative in '{self.__class__.__name__}' "
                f'(got {alpha})'
            )
        self.smooth = smooth
        self.alpha = alpha
        self.noise_scale = noise_scale
        self.decay = decay

    @property
    def noise_free(self) -> bool:
        return self.noise_scale == 0

    def _smooth(self, x: Tensor) -> Tensor:
        out = self.smooth(x)
        if not isinstance(out, Tensor) or out.shape != x.shape:
            got = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(
                f"'smooth' needs to keep the shape {list(x.shape)} of rows in "
                f"'{self.__class__.__name__}' (got {got})"
            )
        return out

    def _share(self, t: Tensor) -> Tensor:
        # How far step t moves a row towards its smoothed self.
        return self.alpha * (t + 1).double() / self.num_timesteps

    def _decay_over(self, steps: Tensor) -> Tensor:
        return torch.full_like(steps, self.decay, dtype=torch.double).pow(steps)

    def q_sample(
        self,
        x_start: Tensor,
        t: Tensor,
        noise: OptTensor = None,
        generator: Optional[torch.Generator] = None,
        *,
        smoothed: OptTensor = None,
    ) -> Tensor:
        r"""Smooths clean rows up to timestep :obj:`t`:
        :math:`x_0 + \alpha \tfrac{t + 1}{T} (S x_0 - x_0) + \sigma d^{T - 1 - t}
        \epsilon`.

        Args:
            x_start (torch.Tensor): The clean rows :math:`(B, *)`.
            t (torch.Tensor): The timesteps :math:`(B)`.
            noise (torch.Tensor, optional): The noise :math:`\epsilon`
                :math:`(B, *)`, drawn if :obj:`None` and needed.
                (default: :obj:`None`)
            generator (torch.Generator, optional): The source of drawn noise.
                (default: :obj:`None`)
            smoothed (torch.Tensor, optional): :math:`S x_0`, where it is known
                already. (default: :obj:`None`)

        Raises:
            TypeError: If :obj:`t` is not int64, or rows or noise are not floating
                point.
            ValueError: If a shape does not fit, or, on a CPU, a timestep lies outside
                of :math:`[0, T)`.
        """
        self._check_rows(x_start=x_start, noise=noise, smoothed=smoothed)
        self._check_timesteps(t, x_start)
        smoothed = self._smooth(x_start) if smoothed is None else smoothed
        x_t = torch.lerp(x_start, smoothed, self._per_row(self._share(t), x_start))
        if self.noise_free:
            return x_t
        if noise is None:
            noise = self._randn(x_start, generator)
        sigma = self.noise_scale * self._decay_over(self.num_timesteps - 1 - t)
        return x_t + noise * self._per_row(sigma, x_start)

    def q_posterior(
        self, x_start: Tensor, x_t: Tensor, t: Tensor, s: OptTensor = None
    ) -> tuple[Tensor, None]:
        r"""The rows at step :obj:`s` that fit :obj:`x_t` and the clean rows:
        :math:`F_s(x_0) + d^{t - s} (x_t - F_t(x_0))`.

        Args:
            x_start (torch.Tensor): The clean rows :math:`(B, *)`.
            x_t (torch.Tensor): The rows at step :obj:`t` :math:`(B, *)`.
            t (torch.Tensor): The timesteps :math:`(B)`.
            s (torch.Tensor, optional): The earlier timesteps :math:`(B)`, from -1 up
                to :obj:`t`; one step back if :obj:`None`. (default: :obj:`None`)

        Raises:
            TypeError: If :obj:`t` or :obj:`s` is not int64, or rows are not floating
                point.
            ValueError: If a shape does not fit, or, on a CPU, a timestep is out of
                range.
        """
        self._check_rows(x_start=x_start, x_t=x_t)
        self._check_timesteps(t, x_t)
        if s is None:
            s = t - 1
        else:
            self._check_timesteps(s, x_t, 's', least=-1)
            if s.device.type == 'cpu' and bool((s > t).any()):
                raise ValueError(
                    f"'s' must not lie after 't' in '{self.__class__.__name__}' (got "
                    f'{int(s[s > t][0])} for {int(t[s > t][0])})'
                )
        keep = self._decay_over(t - s)
        share = self._share(s) - keep * self._share(t)
        # One application of S: with u = S x - x, both F are x plus a multiple of u.
        sharp = torch.lerp(x_start, x_t, self._per_row(keep, x_t))
        step = self._smooth(x_start) - x_start
        return sharp + step * self._per_row(share, x_t), None

    def p_sample_loop(
        self,
        denoiser: Callable,
        x_start: Tensor,
        *,
        cond: Optional[Any] = None,
        smoothed: OptTensor = None,
    ) -> Tensor:
        r"""Smooths rows up to the last step, without noise, and runs the whole
        reverse chain, :math:`t = T - 1, \ldots, 0`.

        Args:
            denoiser (Callable): The denoiser.
            x_start (torch.Tensor): The rows :math:`(B, *)` to start from.
            cond (Any, optional): Passed to the denoiser. (default: :obj:`None`)
            smoothed (torch.Tensor, optional): :math:`S x`, where it is known already.
                (default: :obj:`None`)
        """
        self._check_rows(x_start=x_start, smoothed=smoothed)
        t = torch.zeros(x_start.shape[0], dtype=torch.long, device=x_start.device)
        smoothed = self._smooth(x_start) if smoothed is None else smoothed
        x_t = torch.lerp(x_start, smoothed, self.alpha)
        for step in reversed(range(self.num_timesteps)):
            x_t = self.p_sample(denoiser, x_t, t + step, cond=cond)
        return x_t

    def training_losses(
        self,
        denoiser: Callable,
        x_start: Tensor,
        t: OptTensor = None,
        noise: OptTensor = None,
        cond: Optional[Any] = None,
        generator: Optional[torch.Generator] = None,
        *,
        smoothed: OptTensor = None,
    ) -> TrainingTerms:
        r"""The loss per row for one timestep each.

        .. math::
            \ell_b = \frac{1}{T \, p_t}
            {\lVert x_0 - \mathrm{denoiser}(z_t, t) \rVert}^2

        where :math:`p_t` is the probability of the timestep. As in the authors' code
        it is a sum over the entries of a row, where
        :class:`~pyg_diffrec.diffusion.GaussianDiffusion` takes their mean.

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
            smoothed (torch.Tensor, optional): :math:`S x_0`, where it is known
                already. (default: :obj:`None`)
        """
        self._check_rows(x_start=x_start, noise=noise, smoothed=smoothed)
        t = self._timesteps(x_start, t, generator)
        x_t = self.q_sample(x_start, t, noise, generator, smoothed=smoothed)
        estimate = self._denoise(denoiser, x_t, t, cond)
        loss = self._square(estimate - x_start).sum(1)
        return self._terms(loss, estimate, t)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(num_timesteps={self.num_timesteps}, '
            f'alpha={self.alpha}, noise_scale={self.noise_scale}, '
            f'decay={self.decay})'
        )
