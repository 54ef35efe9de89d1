import pytest
import torch
import torch.nn.functional as F

from pyg_diffrec.utils.precision import at_least_float, least_length, normalize

HALF = [torch.half, torch.bfloat16]


@pytest.mark.parametrize('dtype', [torch.float, torch.double])
def test_nothing_changes_where_there_are_digits(dtype):
    x = torch.randn(5, 3, dtype=dtype)
    x[1] = 0
    assert at_least_float(x) is x
    assert torch.equal(normalize(x), F.normalize(x))
    assert torch.equal(normalize(x, dim=0), F.normalize(x, dim=0))
    assert least_length(dtype) == 1e-12


@pytest.mark.parametrize('dtype', HALF)
def test_vectors_of_half_precision_get_unit_length_or_stay_zero(dtype):
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e-7, 4e-7], [3e4, 4e4]], dtype=dtype)
    out = normalize(x)
    assert out.dtype == dtype
    lengths = out.double().norm(dim=1)
    expected = torch.tensor([1.0, 0.0, 1.0, 1.0]).double()
    torch.testing.assert_close(lengths, expected, rtol=0, atol=1e-2)
    least = torch.tensor(least_length(dtype), dtype=dtype)
    assert bool(least > 0)
    assert bool((1 / least).isfinite())
