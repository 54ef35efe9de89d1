"""What all diffusions share, and how little a further one needs."""

import copy
import inspect

import pytest
import torch

from pyg_diffrec.diffusion import (
    DiffusionProcess,
    GaussianDiffusion,
    GraphSmoothing,
)
from pyg_diffrec.testing import check_process


class Fading(DiffusionProcess):
    """Rows fade to zero, and need no noise for it."""

    def _left(self, t):
        return 1 - (t + 1) / self.num_timesteps

    def q_sample(self, x_start, t, noise=None, generator=None):
        self._check_timesteps(t)
        return x_start * self._per_row(self._left(t), x_start)

    def q_posterior(self, x_start, x_t, t):
        return x_t + x_start / self.num_timesteps, None

    def p_sample_loop(self, denoiser, x_start, *, cond=None):
        t = torch.zeros(len(x_start), dtype=torch.long)
        x_t = x_start * 0
        for step in reversed(range(self.num_timesteps)):
            x_t = self.p_sample(denoiser, x_t, t + step, cond=cond)
        return x_t

    def training_losses(
        self, denoiser, x_start, t=None, noise=None, cond=None, generator=None
    ):
        t = self._timesteps(x_start, t, generator)
        estimate = self._denoise(denoiser, self.q_sample(x_start, t), t, cond)
        return self._terms((estimate - x_start).square().sum(1), estimate, t)


def to_mean(x):
    return x.mean(1, keepdim=True).expand_as(x)


PROCESSES = [
    GaussianDiffusion('linear-var', 6, noise_scale=20.0),
    GaussianDiffusion('linear', 1),
    GaussianDiffusion('cosine', 8, weighting='snr', timestep_sampler='importance'),
    GraphSmoothing(to_mean),
    GraphSmoothing(to_mean, 5, decay=0.0, timestep_sampler='importance'),
    Fading(4, 'importance'),
]


@pytest.mark.parametrize('process', PROCESSES, ids=str)
def test_processes_do_what_models_ask_of_them(process):
    torch.manual_seed(0)
    check_process(process, 9)


@pytest.mark.parametrize('cls', [GaussianDiffusion, GraphSmoothing, Fading])
@pytest.mark.parametrize('name', ['q_sample', 'training_losses'])
def test_arguments_come_in_the_same_order(cls, name):
    asked = list(inspect.signature(getattr(DiffusionProcess, name)).parameters)
    found = list(inspect.signature(getattr(cls, name)).parameters)
    assert found[: len(asked)] == asked


def test_a_process_needs_its_own_formulas():
    process, x, t = DiffusionProcess(2), torch.rand(2, 3), torch.arange(2)
    for call in (
        lambda: process.q_sample(x, t),
        lambda: process.q_posterior(x, x, t),
        lambda: process.p_sample_loop(torch.add, x),
        lambda: process.training_losses(torch.add, x),
    ):
        with pytest.raises(NotImplementedError):
            call()


PLAIN = [GaussianDiffusion('linear', 2), GraphSmoothing(to_mean, 2), Fading(2)]
BAD_T = [
    (torch.zeros(3).long(), r"'t' needs shape \[2\], one timestep per row.*got \[3\]"),
    (torch.zeros(2, 1).long(), r"'t' needs shape \[2\].*got \[2, 1\]"),
    (torch.tensor([0, 2]), r"'t' needs to lie in \[0, 2\).*got 2"),
    (torch.tensor([-1, 0]), r"'t' needs to lie in \[0, 2\).*got -1"),
]


def calls_with_timesteps(process, x, t):
    yield lambda: process.q_sample(x, t)
    yield lambda: process.q_posterior(x, x, t)
    yield lambda: process.p_sample(lambda x_t, t: x_t, x, t)
    yield lambda: process.training_losses(lambda x_t, t: x_t, x, t)
    if isinstance(process, GaussianDiffusion):
        yield lambda: process.p_mean_variance(lambda x_t, t: x_t, x, t)
        yield lambda: process.predict_x_start_from_noise(x, t, x)


@pytest.mark.parametrize('process', PLAIN[:2], ids=str)
@pytest.mark.parametrize(('t', 'message'), BAD_T)
def test_timesteps_that_are_none_are_refused(process, t, message):
    for call in calls_with_timesteps(process, torch.rand(2, 3), t):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize('process', PLAIN[:2], ids=str)
@pytest.mark.parametrize(
    ('x', 'error', 'message'),
    [
        (torch.ones(2, 3).long(), TypeError, "'x_.*' needs to be a floating.*int64"),
        (torch.ones(2, 3).bool(), TypeError, "'x_.*' needs to be a floating.*bool"),
        (torch.ones(2), ValueError, r"'x_.*' needs shape \[B, \*\].*got \[2\]"),
    ],
)
def test_rows_that_are_none_are_refused(process, x, error, message):
    t = torch.zeros(2).long()
    calls = list(calls_with_timesteps(process, x, t))
    for call in [*calls, lambda: process.p_sample_loop(lambda x_t, t: x_t, x)]:
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize('process', PLAIN[:2], ids=str)
def test_noise_and_estimates_have_the_shape_of_the_rows(process):
    x, t = torch.rand(2, 3), torch.zeros(2).long()

    def keep(x_t, t):
        return x_t

    for noise in (torch.rand(3), torch.rand(1, 3), torch.rand(2, 4)):
        message = rf"'noise' needs shape \[2, 3\].*got \{list(noise.shape)}"
        for call in (
            lambda noise=noise: process.q_sample(x, t, noise),
            lambda noise=noise: process.training_losses(keep, x, t, noise),
        ):
            with pytest.raises(ValueError, match=message):
                call()
    with pytest.raises(TypeError, match="'noise' needs to be a floating point"):
        process.q_sample(x, t, torch.ones(2, 3).long())
    with pytest.raises(ValueError, match=r"'x_t' needs shape \[2, 3\], that of 'x_s"):
        process.q_posterior(x, x[:1], t)
    for bad in (lambda x_t, t: x_t.mean(1, keepdim=True), lambda x_t, t: (x_t, t)):
        for call in (
            lambda bad=bad: process.training_losses(bad, x),
            lambda bad=bad: process.p_sample_loop(bad, x),
        ):
            with pytest.raises(ValueError, match=r'denoiser needs to return .*3\]'):
                call()


def test_graph_smoothing_checks_what_is_its_own():
    x, t = torch.rand(2, 3), torch.zeros(2).long()
    process = GraphSmoothing(to_mean, 2)
    for call, message in (
        (lambda: process.q_sample(x, t, smoothed=x[:1]), "'smoothed' needs shape"),
        (lambda: process.q_posterior(x, x, t, t - 2), r"'s' needs to lie in \[-1, 2\)"),
        (lambda: process.q_posterior(x, x, t, t[:1]), r"'s' needs shape \[2\]"),
        (lambda: process.q_posterior(x, x, t, t + 1), "'s' must not lie after 't'"),
        (lambda: GraphSmoothing(lambda x: x[:1]).q_sample(x, t), 'keep the shape'),
        (lambda: GraphSmoothing(to_mean, alpha=float('nan')), "'alpha' needs to be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_noise_of_a_step_has_the_shape_of_the_rows():
    process, x = GaussianDiffusion('linear', 3), torch.rand(2, 3)
    with pytest.raises(ValueError, match=r"'noise' needs shape \[2, 3\]"):
        process.p_sample_loop(
            lambda x_t, t: x_t, x, sampling_noise=lambda step: torch.rand(3)
        )
    with pytest.raises(ValueError, match=r"'noise' needs shape \[2, 3\]"):
        process.p_sample_loop(lambda x_t, t: x_t, x, 2, noise=torch.rand(3))


def test_timesteps_are_whole_numbers_of_a_positive_count():
    with pytest.raises(ValueError, match=r"'num_timesteps' needs to be.*'Fading'"):
        Fading(0)
    for steps in (2.0, True, '2'):
        with pytest.raises(TypeError, match=r"'num_timesteps' .* whole .*'Fading'"):
            Fading(steps)
    x = torch.rand(2, 3)
    for process in (Fading(2), GaussianDiffusion('linear', 2), GraphSmoothing(to_mean)):
        for call in (
            lambda p=process: p.q_sample(x, torch.rand(2)),
            lambda p=process: p.p_sample(torch.add, x, torch.rand(2)),
            lambda p=process: p.training_losses(torch.add, x, torch.rand(2)),
        ):
            with pytest.raises(TypeError, match="'t' needs to be a 'torch.long'"):
                call()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('prediction', ['x_start', 'noise'])
def test_losses_in_half_precision_are_finite_and_right(dtype, prediction):
    # The weights of first steps go beyond the range of half precision.
    gaussian = GaussianDiffusion(
        'linear', 40, noise_scale=0.01, prediction=prediction, weighting='snr'
    )
    assert gaussian.weights.max() > torch.finfo(torch.half).max
    for process in (gaussian, GraphSmoothing(to_mean, 40)):
        torch.manual_seed(0)
        x, noise = torch.rand(4, 3000).to(dtype) * 16, torch.randn(4, 3000).to(dtype)
        t = torch.tensor([1, 2, 20, 39])
        losses = [
            process.training_losses(
                lambda x_t, t: x_t * 0, x.to(d), t, noise.to(d)
            ).loss
            for d in (dtype, torch.double)
        ]
        assert losses[0].dtype == torch.float
        torch.testing.assert_close(losses[0].double(), losses[1], rtol=0.02, atol=0)


@pytest.mark.parametrize('process', PROCESSES[:5], ids=str)
def test_no_step_looks_at_values_on_a_device(process):
    # Tensors on the device `meta` have no values: a look at one is an error.
    process = copy.deepcopy(process).to('meta')
    x = torch.rand(4, 9, device='meta', requires_grad=True)
    t = torch.zeros(4, dtype=torch.long, device='meta')
    noise = torch.rand(4, 9, device='meta')
    for options in ({}, {'t': t, 'noise': noise}):
        process.training_losses(lambda x_t, t: x_t, x, **options).loss.sum().backward()
    assert process.q_sample(x, t, noise).shape == (4, 9)
    assert process.p_sample_loop(lambda x_t, t: x_t, x).shape == (4, 9)
    with pytest.raises(ValueError, match="'t' needs shape"):
        process.q_sample(x, t[:1])
