from contextlib import nullcontext

import pytest
import torch

from pyg_diffrec.nn import LinearReadout, keep_products


def build():
    torch.manual_seed(0)
    return LinearReadout(3, 7).double()


def assert_products(readout, other):
    weight, bias = readout.weight, readout.bias
    product, bias_product = readout.product(other)
    torch.testing.assert_close(product, weight.t() @ other)
    torch.testing.assert_close(bias_product, bias @ other)
    gram, cross, norm = readout.gram()
    torch.testing.assert_close(gram, weight.t() @ weight)
    torch.testing.assert_close(cross, weight.t() @ bias)
    torch.testing.assert_close(norm, bias @ bias)


def test_forward_of_a_range_of_items():
    readout, h = build(), torch.rand(2, 3, dtype=torch.double)
    out = readout(h)
    torch.testing.assert_close(out, h @ readout.weight.t() + readout.bias)
    torch.testing.assert_close(readout(h, 2, 5), out[:, 2:5])


@torch.no_grad()
def test_kept_products_follow_every_change_that_pytorch_counts():
    readout, other = build(), torch.rand(7, 4, dtype=torch.double)
    with keep_products():
        assert_products(readout, other)
        kept = readout.product(other)[0]
        assert readout.product(other)[0] is kept
        readout.weight.add_(1)
        assert_products(readout, other)
        readout.bias.mul_(2)
        assert_products(readout, other)
        other.sub_(3)
        assert_products(readout, other)
        readout.load_state_dict(build().state_dict())
        assert_products(readout, other)
        readout.weight.data = torch.rand(7, 3, dtype=torch.double)
        assert_products(readout, other)
    assert readout.product(other)[0] is not readout.product(other)[0]


@torch.no_grad()
def test_outside_of_a_scope_products_follow_uncounted_writes():
    readout, other = build(), torch.rand(7, 4, dtype=torch.double)
    for _ in range(2):
        assert_products(readout, other)
        readout.weight.data.mul_(2)
        readout.bias.data.add_(1)


@torch.no_grad()
@pytest.mark.parametrize('scope', [nullcontext, keep_products])
def test_products_are_those_of_the_matrix_and_not_of_its_address(scope):
    readout = build()
    others = torch.rand(50, 7, 4, dtype=torch.double)
    with scope():
        for expected in others:  # Each temporary may take the place of the last.
            product, _ = readout.product(expected.clone())
            torch.testing.assert_close(product, readout.weight.t() @ expected)


def test_products_follow_an_optimizer():
    readout, other = build(), torch.rand(7, 4, dtype=torch.double)
    for fused in (False, True):
        optimizer = torch.optim.AdamW(readout.parameters(), lr=0.1, fused=fused)
        with torch.no_grad():
            assert_products(readout, other)
        readout(torch.rand(2, 3, dtype=torch.double)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            assert_products(readout, other)


def test_products_carry_gradients():
    readout, other = build(), torch.rand(7, 4, dtype=torch.double)
    with torch.no_grad():
        readout.product(other)
    readout.product(other)[0].sum().backward()
    assert readout.weight.grad.abs().sum() > 0
    assert str(readout) == 'LinearReadout(3, 7)'


def test_bad_arguments_are_refused():
    readout = build()
    for h in (torch.rand(2, 4).double(), torch.rand(3).double()):
        with pytest.raises(ValueError, match=r"'h' needs shape \[B, 3\] in 'LinearR"):
            readout(h)
    for other in (torch.rand(6, 4).double(), torch.rand(7).double()):
        with pytest.raises(ValueError, match=r"'other' needs shape \[7, \*\]"):
            readout.product(other)
    with pytest.raises(ValueError, match="'in_channels' needs to be positive"):
        LinearReadout(0, 3)
