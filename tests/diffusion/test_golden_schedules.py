import pytest
import torch

from pyg_diffrec.diffusion import GaussianDiffusion

NAMES = [
    'betas',
    'alphas_cumprod',
    'alphas_cumprod_prev',
    'posterior_mean_coef1',
    'posterior_mean_coef2',
    'posterior_variance',
    'posterior_log_variance_clipped',
    'sqrt_recip_alphas_cumprod',
    'sqrt_recipm1_alphas_cumprod',
    'snr',
]


@pytest.mark.parametrize('kind', ['linear', 'linear-var', 'cosine', 'binomial'])
@pytest.mark.parametrize('fixed', [0, 1])
@pytest.mark.parametrize('case', range(3))
def test_constants_equal_the_reference(golden, kind, fixed, case):
    values = golden('schedules').group(f'{kind}_{case}_fixed{fixed}_')
    steps, scale, low, high = values['params'].tolist()
    bounds = {}
    if kind.startswith('linear'):
        bounds = {'noise_scale': scale, 'noise_min': low, 'noise_max': high}
    diffusion = GaussianDiffusion(
        kind, int(steps), first_beta=1e-5 if fixed else None, **bounds
    )
    for name in NAMES:
        actual = getattr(diffusion, name)
        assert actual.dtype == torch.double
        torch.testing.assert_close(actual, values[name], rtol=1e-10, atol=1e-13)
