import pytest
import torch

from pyg_diffrec.nn import AffineRows, LinearReadout
from pyg_diffrec.utils import SparseRows

B, I, K, H = 5, 11, 3, 4


@pytest.fixture
def parts():
    torch.manual_seed(0)
    mask = torch.rand(B, I) < 0.4
    mask[0] = False
    row, col = mask.nonzero().t()
    value = torch.rand(len(row), dtype=torch.double)
    start = SparseRows.from_coo(row, col, value, num_rows=B, num_cols=I)
    readout = LinearReadout(K, I).double()
    torch.nn.init.normal_(readout.bias)
    noise = torch.randn(B, I, dtype=torch.double)
    return start, readout, noise


def build(parts, form, coefficients):
    """The affine rows of a form, and the dense tensor they stand for."""
    start, readout, noise = parts
    p, q, r = (
        torch.randn(B, 1, dtype=torch.double) if coefficients == 'per row' else x
        for x in (0.5, -1.5, 2.0)
    )
    s = torch.randn(B, K, dtype=torch.double)
    rows, expected = AffineRows(start, p), start.to_dense() * p
    if 's' in form:
        state = AffineRows(start, 0.0, readout=readout, s=s, q=q)
        rows = rows + state
        expected = expected + s @ readout.weight.t() + q * readout.bias
    if 'n' in form:
        rows = rows + AffineRows(start, 0.0, noise=noise, r=r)
        expected = expected + r * noise
    return rows, expected


forms = pytest.mark.parametrize('form', ['p', 'ps', 'pn', 'psn'])
coefs = pytest.mark.parametrize('coefficients', ['scalar', 'per row'])


@forms
@coefs
@pytest.mark.parametrize('grad', [True, False])
def test_every_view_equals_the_dense_rows(parts, form, coefficients, grad):
    with torch.set_grad_enabled(grad):
        rows, expected = build(parts, form, coefficients)
        weight = torch.randn(I, H, dtype=torch.double)
        torch.testing.assert_close(rows.to_dense(), expected)
        for _ in range(2):  # Computed, then kept.
            torch.testing.assert_close(rows.project(weight), expected @ weight)
        torch.testing.assert_close(rows.square_norm(), expected.square().sum(1))
        torch.testing.assert_close(rows.mean_square(), expected.square().mean(1))
        for size in (1, 4, 100):
            blocks = list(rows.blocks(size))
            assert [first for first, _ in blocks] == list(range(0, I, size))
            torch.testing.assert_close(torch.cat([x for _, x in blocks], 1), expected)


@coefs
def test_arithmetic_is_that_of_the_dense_rows(parts, coefficients):
    x, dense_x = build(parts, 'ps', coefficients)
    y, dense_y = build(parts, 'psn', coefficients)
    c = torch.randn(B, 1, dtype=torch.double)
    noise = parts[2]
    for actual, expected in [
        (x + y, dense_x + dense_y),
        (x - y, dense_x - dense_y),
        (y * c, dense_y * c),
        (c * y, dense_y * c),
        (2.0 * x, 2 * dense_x),
        (-x, -dense_x),
        (x + noise, dense_x + noise),
        (noise + x, dense_x + noise),
        (x - noise * c, dense_x - noise * c),
    ]:
        torch.testing.assert_close(actual.to_dense(), expected)


def test_mean_square_in_hidden_space_has_the_dense_gradient(parts):
    start, readout, _ = parts
    s = torch.randn(B, K, dtype=torch.double, requires_grad=True)
    rows = AffineRows(start, -1.0, readout=readout, s=s, q=1.0)
    assert s.size(1) < len(s)  # Mean_square chooses the hidden form.
    leaves = [s, readout.weight, readout.bias]
    weight = torch.rand(B, dtype=torch.double)
    hidden = torch.autograd.grad((rows.mean_square() * weight).sum(), leaves)
    dense = rows.to_dense().square().mean(1)
    dense = torch.autograd.grad((dense * weight).sum(), leaves)
    for actual, expected in zip(hidden, dense):
        torch.testing.assert_close(actual, expected)


def test_kept_products_follow_the_weight(parts):
    rows, expected = build(parts, 'psn', 'scalar')
    weight = torch.randn(I, H, dtype=torch.double)
    with torch.no_grad():
        rows.project(weight)
        weight.mul_(2)
        torch.testing.assert_close(rows.project(weight), expected @ weight)


def test_rows_of_different_origin_do_not_combine(parts):
    start, readout, noise = parts
    x = AffineRows(start)
    with pytest.raises(ValueError, match='come from the same interaction rows'):
        x + AffineRows(start.to(dtype=torch.double))
    with pytest.raises(ValueError, match='different noises cannot be combined'):
        (x + noise) + noise.clone()
    s = torch.ones(B, K, dtype=torch.double)
    with pytest.raises(ValueError, match='different readouts cannot be combined'):
        x.with_state(readout, s) + x.with_state(LinearReadout(K, I).double(), s)
    with pytest.raises(TypeError):
        x + 'a'
    assert str(x) == 'AffineRows([5, 11])'
