"""What all diffusions share, and how little a further one needs."""

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


def test_timesteps_are_whole_numbers_of_a_positive_count():
    with pytest.raises(ValueError, match=r"'num_timesteps' needs to be.*'Fading'"):
        Fading(0)
    x = torch.rand(2, 3)
    for process in (Fading(2), GaussianDiffusion('linear', 2), GraphSmoothing(to_mean)):
        for call in (
            lambda p=process: p.q_sample(x, torch.rand(2)),
            lambda p=process: p.p_sample(torch.add, x, torch.rand(2)),
            lambda p=process: p.training_losses(torch.add, x, torch.rand(2)),
        ):
            with pytest.raises(TypeError, match="'t' needs to be a 'torch.long'"):
                call()
