r"""Gaussian diffusion over rows of any kind.

Timesteps :obj:`t` are int64 in :math:`[0, T)` and :math:`t = 0` is the *least*
noisy step. The papers count from 1: their :math:`t` is ours plus one.
"""

from numbers import Integral
from typing import Any, Callable, Mapping, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.diffusion.constants import (
    Schedule,
    Weighting,
    diffusion_constants,
    resolve_betas,
    resolve_weights,
    schedule_name,
)
from pyg_diffrec.diffusion.process import DiffusionProcess, Rows, TrainingTerms
from pyg_diffrec.diffusion.timestep_samplers import TimestepSampler
from pyg_diffrec.products import keep_products
from pyg_diffrec.typing import PredictionType


class GaussianDiffusion(DiffusionProcess):
    r"""Gaussian diffusion with a learned reverse process, from the `"Denoising
    Diffusion Probabilistic Models" <https://arxiv.org/abs/2006.11239>`_ paper in the
    form the `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_
    paper gives it.

    .. math::
        x_t &= \sqrt{\bar\alpha_t} \, x_0 + \sqrt{1 - \bar\alpha_t} \, \epsilon
        && \text{(forward)}

        x_{t-1} &= \frac{\beta_t \sqrt{\bar\alpha_{t-1}}}{1 - \bar\alpha_t}
        \hat x_0(x_t, t) + \frac{(1 - \bar\alpha_{t-1}) \sqrt{1 - \beta_t}}
        {1 - \bar\alpha_t} x_t \; (+ \; \sigma_t \epsilon \text{ if } t > 0)
        && \text{(reverse)}

    The diffusion knows neither items nor networks: a denoiser is any callable
    :obj:`denoiser(x_t, t)` (or :obj:`denoiser(x_t, t, cond)`).

    Args:
        schedule (str or torch.Tensor or Callable, optional): The name of a schedule
            (:obj:`'linear'`, :obj:`'linear-var'`, :obj:`'cosine'`,
            :obj:`'binomial'`), the betas themselves :math:`(T)`, or a function
            :obj:`schedule(num_timesteps, **kwargs)` that gives them.
            (default: :obj:`'linear-var'`)
        num_timesteps (int, optional): The number of steps :math:`T`; required unless
            the betas are given. (default: :obj:`None`)
        first_beta (float, optional): Overwrites :math:`\beta_0`: :obj:`1e-5` in
            DiffRec, :obj:`1e-4` in DiffMM, not in RecDiff. (default: :obj:`None`)
        prediction (str, optional): What the denoiser estimates, :obj:`'x_start'` or
            :obj:`'noise'`. (default: :obj:`'x_start'`)
        weighting (str or Callable, optional): The loss weight of a timestep,
            :obj:`'uniform'` or :obj:`'snr'`, or a function
            :obj:`weighting(betas, prediction)` that gives the weights :math:`(T)`.
            (default: :obj:`'uniform'`)
        timestep_sampler (str or torch.nn.Module, optional): How training draws
            timesteps, :obj:`'uniform'` or :obj:`'importance'`.
            (default: :obj:`'uniform'`)
        **kwargs (optional): Arguments of the schedule, *e.g.* :obj:`noise_scale`.

    Shapes:
        - **x_start, x_t, noise:** rows :math:`(B, *)`, no unit
        - **t:** timesteps :math:`(B)`, int64 in :math:`[0, T)`

    Raises:
        ValueError: If a beta lies outside :math:`(0, 1)`, a name is unknown, or betas,
            weights or sampler are not for :math:`T` timesteps.
        TypeError: If an argument is of another type.

    .. note::
        A schedule of zeros (:obj:`noise_scale=0`) means no noise at all: then
        :math:`x_t = x_0`, :obj:`first_beta` is ignored, and the reverse chain
        applies the denoiser :math:`T` times.
        The authors' code crashes on unit weights (:obj:`reweight=False`) and on
        :math:`T = 1`; here the former is the plain squared error, and the latter
        one application of the denoiser.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    posterior_variance: Tensor
    posterior_log_variance_clipped: Tensor
    sqrt_recip_alphas_cumprod: Tensor
    sqrt_recipm1_alphas_cumprod: Tensor
    snr: Tensor
    weights: Tensor

    def __init__(
        self,
        schedule: Schedule = 'linear-var',
        num_timesteps: Optional[int] = None,
        *,
        first_beta: Optional[float] = None,
        prediction: PredictionType = 'x_start',
        weighting: Weighting = 'uniform',
        timestep_sampler: Union[str, Mapping[str, Any], TimestepSampler] = 'uniform',
        **kwargs: float,
    ) -> None:
        betas = resolve_betas(schedule, num_timesteps, **kwargs)
        super().__init__(betas.numel(), timestep_sampler)
        self.noise_free = bool((betas == 0).all())
        if self.noise_free and prediction == 'noise':
            raise ValueError(
                f"prediction='noise' needs noise in '{self.__class__.__name__}' "
                f'(got a schedule of zeros)'
            )
        if not self.noise_free:
            if first_beta is not None:
                betas = torch.cat([betas.new_tensor([first_beta]), betas[1:]])
            if not bool(((betas > 0) & (betas < 1)).all()):
                raise ValueError(
                    f'All betas need to lie in (0, 1) in '
                    f"'{self.__class__.__name__}' (got {betas.tolist()}); "
                    f'check the noise bounds of the schedule'
                )
        self.schedule = schedule_name(schedule)
        self.prediction = prediction
        for name, value in diffusion_constants(betas).items():
            self.register_buffer(name, value, persistent=False)
        self.weighting, weights = resolve_weights(weighting, betas, prediction)
        self.register_buffer('weights', weights, persistent=False)

    def _at(self, table: Tensor, t: Tensor, x: Rows) -> Tensor:
        return self._per_row(table[t], x)

    def q_sample(
        self,
        x_start: Rows,
        t: Tensor,
        noise: Optional[Tensor] = None,
        generator: Optional[torch.Generator] = None,
    ) -> Rows:
        r"""Noises clean rows up to timestep :obj:`t`:
        :math:`\sqrt{\bar\alpha_t} \, x_0 + \sqrt{1 - \bar\alpha_t} \, \epsilon`.

        Raises:
            TypeError: If :obj:`t` is not int64, or rows or noise are not floating
                point.
            ValueError: If a shape does not fit, or, on a CPU, a timestep lies outside
                of :math:`[0, T)`.
        """
        self._check_rows(x_start=x_start, noise=noise)
        self._check_timesteps(t, x_start)
        return self._q_sample(x_start, t, noise, generator)

    def _q_sample(
        self,
        x_start: Rows,
        t: Tensor,
        noise: Optional[Tensor],
        generator: Optional[torch.Generator] = None,
    ) -> Rows:
        if self.noise_free:
            return x_start
        if noise is None:
            noise = self._randn(x_start, generator)
        signal = self._at(self.alphas_cumprod.sqrt(), t, x_start)
        sigma = self._at((1 - self.alphas_cumprod).sqrt(), t, x_start)
        return x_start * signal + noise * sigma

    def q_posterior(self, x_start: Rows, x_t: Rows, t: Tensor) -> tuple[Rows, Tensor]:
        r"""Mean and log variance of :math:`q(x_{t-1} | x_t, x_0)`."""
        self._check_rows(x_start=x_start, x_t=x_t)
        self._check_timesteps(t, x_t)
        mean = x_start * self._at(self.posterior_mean_coef1, t, x_t) + x_t * self._at(
            self.posterior_mean_coef2, t, x_t
        )
        return mean, self._at(self.posterior_log_variance_clipped, t, x_t)

    def predict_x_start_from_noise(self, x_t: Rows, t: Tensor, noise: Rows) -> Rows:
        r"""The clean rows if :obj:`noise` was all the noise in :obj:`x_t`:
        :math:`x_t / \sqrt{\bar\alpha_t} - \sqrt{1 / \bar\alpha_t - 1} \, \epsilon`.
        """
        self._check_rows(x_t=x_t, noise=noise)
        self._check_timesteps(t, x_t)
        return x_t * self._at(self.sqrt_recip_alphas_cumprod, t, x_t) - noise * (
            self._at(self.sqrt_recipm1_alphas_cumprod, t, x_t)
        )

    def p_mean_variance(
        self, denoiser: Callable, x_t: Rows, t: Tensor, cond: Optional[Any] = None
    ) -> tuple[Rows, Tensor, Rows]:
        r"""Mean and log variance of :math:`p(x_{t-1} | x_t)`, and the estimate of
        the clean rows."""
        self._check_rows(x_t=x_t)
        self._check_timesteps(t, x_t)
        x_start = self._estimate(denoiser, x_t, t, cond)
        return *self.q_posterior(x_start, x_t, t), x_start

    def _estimate(
        self, denoiser: Callable, x_t: Rows, t: Tensor, cond: Optional[Any]
    ) -> Rows:
        r"""The estimate of the clean rows."""
        out = super()._estimate(denoiser, x_t, t, cond)
        if self.prediction == 'noise':
            return self.predict_x_start_from_noise(x_t, t, out)
        return out

    def p_sample(
        self,
        denoiser: Callable,
        x_t: Rows,
        t: Tensor,
        noise: Optional[Tensor] = None,
        cond: Optional[Any] = None,
    ) -> Rows:
        r"""One reverse step, from :math:`x_t` to :math:`x_{t-1}`. With :obj:`noise`
        it is a draw, without it the mean; at :math:`t = 0` it is always the mean.
        """
        self._check_rows(x_t=x_t, noise=noise)
        self._check_timesteps(t, x_t)
        if self.noise_free:
            return self._estimate(denoiser, x_t, t, cond)
        mean, _, _ = self.p_mean_variance(denoiser, x_t, t, cond)
        if noise is None:
            return mean
        # The variance is zero at t = 0: the last step never draws.
        return mean + noise * self._at(self.posterior_variance.sqrt(), t, x_t)

    @keep_products()
    def p_sample_loop(
        self,
        denoiser: Callable,
        x_start: Rows,
        num_noising_steps: int = 0,
        *,
        noise: Optional[Tensor] = None,
        sampling_noise: Union[bool, Callable[[int], Tensor]] = False,
        cond: Optional[Any] = None,
        generator: Optional[torch.Generator] = None,
    ) -> Rows:
        r"""Runs the whole reverse chain, :math:`t = T - 1, \ldots, 0`.

        Args:
            denoiser (Callable): The denoiser.
            x_start (torch.Tensor): The rows :math:`(B, *)` to start from.
            num_noising_steps (int, optional): The number :math:`T'` of forward
                steps applied to :obj:`x_start` first. As in the authors' code the
                reverse chain runs over all :math:`T` steps whatever :math:`T'` is.
                (default: :obj:`0`)
            noise (torch.Tensor, optional): The noise of these forward steps, drawn
                if :obj:`None`. (default: :obj:`None`)
            sampling_noise (bool or Callable, optional): Whether reverse steps draw
                noise; a function gives the noise :math:`(B, *)` of timestep
                :obj:`t`. (default: :obj:`False`)
            cond (Any, optional): Passed to the denoiser. (default: :obj:`None`)
            generator (torch.Generator, optional): The source of drawn noise.
                (default: :obj:`None`)

        Raises:
            ValueError: If :obj:`num_noising_steps` lies outside :math:`[0, T]`, or a
                shape does not fit.
            TypeError: If rows or noise are not floating point.
        """
        self.check_noising_steps(num_noising_steps, self.__class__.__name__)
        self._check_rows(x_start=x_start, noise=noise)
        t = torch.zeros(x_start.shape[0], dtype=torch.long, device=x_start.device)
        x_t = x_start
        if num_noising_steps > 0:
            x_t = self.q_sample(x_start, t + num_noising_steps - 1, noise, generator)
        for step in reversed(range(1, self.num_timesteps)):
            step_noise = None
            if callable(sampling_noise):
                step_noise = sampling_noise(step)
            elif sampling_noise:
                step_noise = self._randn(x_start, generator)
            x_t = self.p_sample(denoiser, x_t, t + step, step_noise, cond)
        # At t = 0 the mean is the estimate itself: its coefficients are 1 and 0.
        return self._estimate(denoiser, x_t, t, cond)

    def check_noising_steps(self, num_noising_steps: int, name: str) -> None:
        r"""Raises an error unless :obj:`name` can start its reverse chain with so many
        forward steps.

        Raises:
            ValueError: If :obj:`num_noising_steps` lies outside :math:`[0, T]`.
            TypeError: If it is no whole number.
        """
        if isinstance(num_noising_steps, bool) or not isinstance(
            num_noising_steps, Integral
        ):
            raise TypeError(
                f"'num_noising_steps' needs to be a whole number in '{name}' (got "
                f'{num_noising_steps!r})'
            )
        if not 0 <= num_noising_steps <= self.num_timesteps:
            raise ValueError(
                f"'num_noising_steps' needs to lie in [0, {self.num_timesteps}] in "
                f"'{name}' (got {num_noising_steps})"
            )

    def training_losses(
        self,
        denoiser: Callable,
        x_start: Rows,
        t: Optional[Tensor] = None,
        noise: Optional[Tensor] = None,
        cond: Optional[Any] = None,
        generator: Optional[torch.Generator] = None,
    ) -> TrainingTerms:
        r"""The loss per row for one noise level each.

        .. math::
            \ell_b = \frac{w_t}{T \, p_t} \, \tfrac{1}{I}
            {\lVert \mathrm{target} - \mathrm{denoiser}(x_t, t) \rVert}^2

        where :math:`w_t` is the weight and :math:`p_t` the probability of the
        timestep, and the target is :math:`x_0` or the noise. When the noise is
        predicted with :obj:`'snr'` weights, the first step measures
        :math:`\tfrac{1}{2I} {\lVert x_0 - \hat x_0 \rVert}^2` instead, since the
        weight diverges there.

        Args:
            denoiser (Callable): The denoiser.
            x_start (torch.Tensor): The clean rows :math:`(B, *)`.
            t (torch.Tensor, optional): The timesteps :math:`(B)`, drawn if
                :obj:`None`. (default: :obj:`None`)
            noise (torch.Tensor, optional): The noise :math:`(B, *)`, drawn if
                :obj:`None`. (default: :obj:`None`)
            cond (Any, optional): Passed to the denoiser. (default: :obj:`None`)
            generator (torch.Generator, optional): The source of what is drawn.
                (default: :obj:`None`)

        Raises:
            TypeError: If :obj:`t` is not int64, or rows or noise are not floating
                point.
            ValueError: If a shape does not fit, that of the denoiser's output
                included, or, on a CPU, a timestep lies outside of :math:`[0, T)`.
        """
        self._check_rows(x_start=x_start, noise=noise)
        t = self._timesteps(x_start, t, generator)
        if noise is None and not self.noise_free:
            noise = self._randn(x_start, generator)
        x_t = self._q_sample(x_start, t, noise)
        output = self._denoise(denoiser, x_t, t, cond)
        if self.prediction == 'x_start':
            estimate = output
            loss = self._mean_square(output - x_start)
        else:
            estimate = self.predict_x_start_from_noise(x_t, t, output)
            loss = self._mean_square(output - noise)
            if self.weighting == 'snr':
                first = self._mean_square(estimate - x_start) / 2
                loss = torch.where(t == 0, first, loss)
        loss = loss * self.weights[t].to(loss.dtype)
        return self._terms(loss, estimate, t)

    def _mean_square(self, x: Rows) -> Tensor:
        if isinstance(x, Tensor):
            return self._square(x).mean(1)
        loss = x.mean_square()
        return loss.to(torch.promote_types(loss.dtype, torch.float))

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.schedule}, '
            f'num_timesteps={self.num_timesteps}, prediction={self.prediction}, '
            f'weighting={self.weighting})'
        )
