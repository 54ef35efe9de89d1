import math

import pytest
import torch

from pyg_diffrec.nn import SinusoidalTimeEmbedding


def test_values_by_hand():
    out = SinusoidalTimeEmbedding(5)(torch.tensor([0, 3]), torch.double)
    angles = [3.0, 3.0 / 100]  # 10000^(-1/2) = 1/100.
    expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles] + [0]
    torch.testing.assert_close(out[1], torch.tensor(expected).double())
    assert out[0].tolist() == [1, 1, 0, 0, 0]


def test_bad_size_is_refused():
    with pytest.raises(ValueError, match=r"'embedding_dim' .* at least 2 .*\(got 1\)"):
        SinusoidalTimeEmbedding(1)
    with pytest.raises(ValueError, match=r"'t' needs one dimension .*got \[2, 1\]"):
        SinusoidalTimeEmbedding(4)(torch.zeros(2, 1).long())
    assert str(SinusoidalTimeEmbedding(4)) == 'SinusoidalTimeEmbedding(4)'


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_angles_of_many_turns_keep_their_digits_in_half_precision(dtype):
    t = torch.tensor([3, 500, 999])
    exact = SinusoidalTimeEmbedding(10)(t, torch.double)
    out = SinusoidalTimeEmbedding(10).to(dtype)(t, dtype)
    assert out.dtype == dtype
    error = (out.double() - exact).abs().max().item()
    assert error <= torch.finfo(dtype).eps
    again = SinusoidalTimeEmbedding(10).to(dtype).double()(t, torch.double)
    assert torch.equal(again, exact)
