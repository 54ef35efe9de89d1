import math

import pytest
import torch

from pyg_diffrec import diffusion
from pyg_diffrec.diffusion import schedules
from pyg_diffrec.testing import check_schedule


@pytest.mark.parametrize('name', schedules.__all__)
def test_contract(name):
    check_schedule(getattr(schedules, name))


def test_values_by_hand():
    linear = diffusion.linear_beta_schedule(3, 0.5, 0.1, 0.3)
    torch.testing.assert_close(linear, torch.tensor([0.05, 0.1, 0.15]).double())
    variance = diffusion.linear_var_beta_schedule(2, 1.0, 0.1, 0.3)
    torch.testing.assert_close(variance, torch.tensor([0.1, 1 - 0.7 / 0.9]).double())
    assert diffusion.binomial_beta_schedule(3).tolist() == [1 / 4, 1 / 3, 1 / 2]
    first = diffusion.cosine_beta_schedule(10)[0].item()
    low, high = (math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2 for u in (0, 0.1))
    assert first == pytest.approx(1 - high / low)


def test_no_noise_is_a_schedule_of_zeros():
    for name in ('linear', 'linear_var'):
        schedule = getattr(schedules, f'{name}_beta_schedule')
        assert schedule(4, noise_scale=0.0).tolist() == [0] * 4


@pytest.mark.parametrize('name', schedules.__all__)
def test_bad_arguments_are_refused(name):
    schedule = getattr(schedules, name)
    with pytest.raises(ValueError, match=r"'num_timesteps' needs .* \(got 0\)"):
        schedule(0)
    if name.startswith('linear'):
        with pytest.raises(ValueError, match="'noise_scale' must not be negative"):
            schedule(3, noise_scale=-1.0)
        with pytest.raises(ValueError, match="'noise_min' and 'noise_max' need"):
            schedule(3, noise_min=0.2, noise_max=0.1)
        with pytest.raises(ValueError, match='needs to be below 1'):
            schedule(3, noise_scale=10.0, noise_max=0.1)
