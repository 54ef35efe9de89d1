from contextlib import nullcontext
from functools import partial

import pytest
import torch

from pyg_diffrec import products
from pyg_diffrec.diffusion import GaussianDiffusion
from pyg_diffrec.nn import (
    AffineRows,
    LinearReadout,
    PooledNoise,
    RowMLPDenoiser,
    keep_products,
)
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


@pytest.fixture
def pooled():
    torch.manual_seed(1)
    pair = torch.randn(B, 2, dtype=torch.double), torch.randn(2, I, dtype=torch.double)
    return PooledNoise(*pair)


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
        dense = noise.mix @ noise.pool if isinstance(noise, PooledNoise) else noise
        expected = expected + r * dense
    return rows, expected


forms = pytest.mark.parametrize('form', ['p', 'ps', 'pn', 'psn'])
coefs = pytest.mark.parametrize('coefficients', ['scalar', 'per row'])


@forms
@coefs
@pytest.mark.parametrize('grad', [True, False])
@pytest.mark.parametrize('noise', ['dense', 'pooled'])
def test_every_view_equals_the_dense_rows(
    parts, pooled, form, coefficients, grad, noise
):
    with torch.set_grad_enabled(grad), keep_products():
        if noise == 'pooled':
            parts = *parts[:2], pooled
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


@torch.no_grad()
def test_kept_products_follow_the_weight(parts):
    rows, expected = build(parts, 'psn', 'scalar')
    weight = torch.randn(I, H, dtype=torch.double)
    with keep_products():
        rows.project(weight)
        weight.mul_(2)
        torch.testing.assert_close(rows.project(weight), expected @ weight)
    weight.data.mul_(2)  # Which PyTorch does not count.
    torch.testing.assert_close(rows.project(weight), expected @ weight)


@torch.no_grad()
@pytest.mark.parametrize('scope', [nullcontext, keep_products])
def test_products_are_those_of_the_noise_and_not_of_its_address(parts, scope):
    start = parts[0]
    rows, weight = AffineRows(start), torch.randn(I, H, dtype=torch.double)
    noises = torch.randn(50, B, I, dtype=torch.double)
    with scope():
        for noise in noises:  # Each temporary may take the place of the last.
            out = (rows + noise.clone()).project(weight)
            torch.testing.assert_close(out, (start.to_dense() + noise) @ weight)
        for noise in noises:
            pooled = PooledNoise(noise[:, :2].clone(), noise[:2].clone())
            out = (rows + pooled).project(weight)
            dense = start.to_dense() + noise[:, :2] @ noise[:2]
            torch.testing.assert_close(out, dense @ weight)


@torch.no_grad()
def test_a_chain_takes_each_product_once(parts, monkeypatch):
    start, _, noise = parts
    denoiser = RowMLPDenoiser(I, K, norm=True).double().eval()
    diffusion = GaussianDiffusion('linear', 6, noise_max=0.3)
    chain = partial(diffusion.p_sample_loop, denoiser, AffineRows(start), 6)
    expected = chain(noise=noise).to_dense()
    made = []

    class Kept(products._Kept):
        def __new__(cls, *args):
            made.append(args)
            return super().__new__(cls, *args)

    monkeypatch.setattr(products, '_Kept', Kept)
    for rounds in (1, 2):
        with keep_products():
            for _ in range(rounds):
                assert torch.equal(chain(noise=noise).to_dense(), expected)
        # Of the rows by the first and the last layer, of the noise by both, in every
        # chain; of both layers and of the last by itself, in every scope.
        assert len(made) == 4 * rounds + 2
        made.clear()


@torch.no_grad()
def test_products_in_inference_mode_and_under_autocast(parts):
    start = parts[0].to(dtype=torch.float)
    weight, dense = torch.randn(I, H), start.to_dense()
    noise = torch.randn(B, I)
    with keep_products(), torch.inference_mode():
        for _ in range(2):
            out = (AffineRows(start) + noise).project(weight)
            torch.testing.assert_close(out, (dense + noise) @ weight)
    rows = AffineRows(start, 0.0, noise=noise, r=1.0)
    with keep_products():
        with torch.autocast('cpu', torch.bfloat16):
            rough = rows.project(weight)
        assert not torch.allclose(rough, noise @ weight, rtol=1e-4)
        torch.testing.assert_close(rows.project(weight), noise @ weight)


def test_parts_that_do_not_fit_are_refused(parts):
    start, readout, noise = parts
    s = torch.ones(B, K, dtype=torch.double)
    for options, message in (
        ({'noise': noise[:, 1:]}, r"'noise' needs shape \[5, 11\].*got \[5, 10\]"),
        ({'noise': noise[0]}, r"'noise' needs shape \[5, 11\].*got \[11\]"),
        ({'s': s}, "'s' and 'readout' come together"),
        ({'readout': readout}, "'s' and 'readout' come together"),
        ({'s': s[1:], 'readout': readout}, r"'s' needs shape \[5, K\].*got \[4, 3\]"),
        ({'s': s, 'readout': LinearReadout(K, 4)}, r'11 outputs .*Readout\(3, 4\)'),
        ({'p': torch.ones(B)}, r"'p' needs .* shape \[5, 1\].*got \[5\]"),
        ({'r': torch.ones(2, 1)}, r"'r' needs .* shape \[5, 1\].*got \[2, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            AffineRows(start, **options)
    rows = AffineRows(start, 0.0)
    for weight in (torch.ones(4, H).double(), torch.ones(I).double()):
        with pytest.raises(ValueError, match=r"'weight' needs shape \[11, \*\]"):
            rows.project(weight)
    with pytest.raises(ValueError, match="'block_size' needs to be positive"):
        next(rows.blocks(0))
    with pytest.raises(ValueError, match=r"'mix' and 'pool' need shapes"):
        PooledNoise(torch.ones(2, 3), torch.ones(2, 3))


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


@torch.no_grad()
def test_a_denoiser_of_affine_rows_compiles_in_one_piece(parts):
    denoiser = RowMLPDenoiser(I, K).double().eval()
    start, t = parts[0], torch.arange(B)

    def denoise(t):
        return denoiser(denoiser(AffineRows(start), t), t).to_dense()

    torch._dynamo.reset()
    compiled = torch.compile(denoise, backend='eager', fullgraph=True)
    with keep_products():
        torch.testing.assert_close(compiled(t), denoise(t))
