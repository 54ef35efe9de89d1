import pytest
import torch

from pyg_diffrec.utils import counter_normal


def noise(seed=0, stream=0, rows=range(200), num_cols=500):
    return counter_normal(seed, stream, torch.tensor(rows), num_cols, torch.double)


def splitmix64(state):
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_mix_is_the_published_generator():
    from pyg_diffrec.utils import counter_noise

    # The first output of SplitMix64 for seed 0, a published test value.
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    mixed = counter_noise._mix(torch.tensor([counter_noise._GOLDEN]))
    assert mixed.item() % 2**64 == splitmix64(0)


def test_noise_depends_on_seed_stream_row_and_column_alone():
    full = noise()
    assert torch.equal(noise(rows=[17, 3]), full[[17, 3]])
    assert torch.equal(noise(num_cols=9), full[:, :9])
    for other in (noise(seed=1), noise(stream=1), noise(rows=range(200, 400))):
        assert (other - full).abs().min() > 0
        correlation = torch.corrcoef(torch.stack([other.flatten(), full.flatten()]))
        assert abs(correlation[0, 1]) < 0.02


def test_noise_is_standard_normal_and_uncorrelated():
    x = noise()
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert abs((x**3).mean()) < 0.03
    assert abs((x**4).mean() - 3) < 0.06
    # 200 samples per column: correlations of standard error 0.07.
    correlation = torch.corrcoef(x[:, :50].t()) - torch.eye(50)
    assert correlation.abs().max() < 0.35
    assert abs(torch.corrcoef(x[:50]) - torch.eye(50)).max() < 0.25


def test_bad_arguments_are_refused():
    row = torch.arange(3)
    for args, error, message in (
        ((row.float(), 4, torch.float), TypeError, "'row' needs .*got 'torch.float32'"),
        ((row, 4, torch.long), TypeError, "and 'dtype' a floating .*'torch.int64'"),
        ((row, 2.5, torch.float), TypeError, "'num_cols' needs to be a whole number"),
        ((row, -1, torch.float), ValueError, "'num_cols' needs to be at least 0"),
        ((row.view(1, -1), 4, torch.float), ValueError, r'one dimension .*\[1, 3\]'),
    ):
        with pytest.raises(error, match=message):
            counter_normal(0, 0, *args)
