import pytest
import torch

from pyg_diffrec.diffusion import snr_weights, uniform_weights

BETAS = torch.tensor([0.1, 0.2], dtype=torch.double)


def test_values_by_hand():
    # alphas_cumprod = [0.9, 0.72]: SNR = [9, 0.72 / 0.28].
    assert uniform_weights(BETAS).tolist() == [1, 1]
    torch.testing.assert_close(
        snr_weights(BETAS), torch.tensor([1, 9 - 0.72 / 0.28]).double()
    )
    torch.testing.assert_close(
        snr_weights(BETAS, 'noise'), torch.tensor([1, 0.28 / (0.01 * 0.8)]).double()
    )


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'snr' weights need a positive 'beta'"):
        snr_weights(torch.zeros(2))
    with pytest.raises(ValueError, match="'prediction' needs to be"):
        snr_weights(BETAS, 'velocity')
