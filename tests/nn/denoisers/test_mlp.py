import numpy as np
import pytest
import torch

from pyg_diffrec.diffusion import GaussianDiffusion
from pyg_diffrec.nn import AffineRows, MLPDenoiser, RowMLPDenoiser
from pyg_diffrec.testing import check_denoiser
from pyg_diffrec.utils import SparseRows

I = 13
DEPTHS = [[4], [6, 3], [6, 5, 3]]


def build(hidden, norm=False, dropout=0.5, cls=RowMLPDenoiser, **kwargs):
    torch.manual_seed(len(hidden))
    denoiser = cls(I, hidden, dropout=dropout, norm=norm, **kwargs).double()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return denoiser


def sample_rows(seed=0, num_rows=8):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(num_rows, I, generator=generator) < 0.3
    mask[0] = False  # A user without interactions.
    row, col = mask.nonzero().t()
    value = torch.rand(len(row), dtype=torch.double, generator=generator)
    return SparseRows.from_coo(row, col, value, num_rows=num_rows, num_cols=I)


@pytest.mark.parametrize('hidden', DEPTHS)
@pytest.mark.parametrize('cls', [MLPDenoiser, RowMLPDenoiser])
def test_contract(cls, hidden):
    check_denoiser(build(hidden, cls=cls), I, affine=cls is RowMLPDenoiser)


@pytest.mark.parametrize('hidden', DEPTHS)
@pytest.mark.parametrize('cls', [MLPDenoiser, RowMLPDenoiser])
def test_contract_with_a_condition(cls, hidden):
    denoiser = build(hidden, cls=cls, cond_channels=2)
    cond = torch.rand(4, 2, dtype=torch.double)
    check_denoiser(denoiser, I, affine=cls is RowMLPDenoiser, cond=cond)


@torch.no_grad()
def test_condition_is_part_of_the_input():
    denoiser = build([4], cls=MLPDenoiser, cond_channels=2).eval()
    x_t, cond = (torch.rand(3, n, dtype=torch.double) for n in (I, 2))
    t = torch.arange(3)
    code = denoiser.lin_embedding(denoiser.time_embedding(t, torch.double))
    weight = denoiser.reference_weights()['in_layers.0.weight']
    assert weight.shape == (4, I + 10 + 2)
    x = torch.cat([x_t, code, cond], dim=1) @ weight.t() + denoiser.lin_time.bias
    expected = denoiser.readout(x.tanh())
    torch.testing.assert_close(denoiser(x_t, t, cond), expected)
    other = build([4], cls=MLPDenoiser, cond_channels=2).eval()
    torch.nn.init.zeros_(other.lin_cond.weight)
    other.load_reference(denoiser.reference_weights())
    torch.testing.assert_close(other(x_t, t, cond), expected)
    other.reset_parameters()
    assert other.lin_cond.weight.abs().max() > 0


@pytest.mark.parametrize('prediction', ['x_start', 'noise'])
def test_a_condition_reaches_loss_and_chain_or_is_refused(prediction):
    diffusion = GaussianDiffusion('linear', 3, prediction=prediction)
    rows, t = AffineRows(sample_rows()), torch.zeros(8, dtype=torch.long)
    noise, cond = torch.randn(8, I).double(), torch.rand(8, 2).double()
    plain, conditioned = build([4]).eval(), build([4], cond_channels=2).eval()
    losses = [
        diffusion.training_losses(conditioned, rows, t, noise, cond=c).loss
        for c in (cond, cond + 1)
    ]
    assert not torch.equal(*losses)
    chains = [diffusion.p_sample_loop(conditioned, rows, cond=c) for c in (cond, -cond)]
    assert not torch.equal(*(x.to_dense() for x in chains))
    for call in (
        lambda **kwargs: plain(rows, t, *kwargs.values()),
        lambda **kwargs: diffusion.training_losses(plain, rows, **kwargs),
        lambda **kwargs: diffusion.p_sample_loop(plain, rows, **kwargs),
        lambda **kwargs: diffusion.p_sample(plain, rows, t, **kwargs),
    ):
        with pytest.raises(ValueError, match="build it with 'cond_channels'"):
            call(cond=cond)
    with pytest.raises(ValueError, match="does not take 'cond'"):
        plain(rows, t, 'banana')
    for bad, error, message in (
        (None, ValueError, r"needs 'cond', conditions of shape \[8, 2\] \(got None\)"),
        ('banana', TypeError, r"'cond' needs to be a floating .*got 'str'"),
        (cond.long(), TypeError, r"'cond' needs to be a floating .*got 'torch.int64'"),
        (cond[:1], ValueError, r"'cond' needs shape \[8, 2\] .*got \[1, 2\]"),
    ):
        with pytest.raises(error, match=message):
            conditioned(rows, t, bad)
    with pytest.raises(ValueError, match="'cond_channels' needs to be positive"):
        build([4], cond_channels=0)


def test_inputs_of_another_shape_are_refused():
    denoiser, t = build([4]), torch.arange(8)
    for x_t in (torch.rand(8, I + 1), torch.rand(8, I, 1), torch.rand(I)):
        with pytest.raises(ValueError, match=r"'x_t' needs shape \[B, 13\]"):
            denoiser(x_t, t)
    for x_t in (torch.rand(7, I), AffineRows(sample_rows(num_rows=7))):
        with pytest.raises(ValueError, match=r"'t' needs shape \[7\].*got \[8\]"):
            denoiser(x_t, t)


@pytest.mark.parametrize('hidden', DEPTHS)
@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('steps', [0, 4])
@pytest.mark.parametrize('prediction', ['x_start', 'noise'])
@torch.no_grad()
def test_hidden_chain_equals_the_dense_chain(hidden, norm, steps, prediction):
    denoiser, rows = build(hidden, norm).eval(), sample_rows()
    diffusion = GaussianDiffusion('linear', 6, noise_max=0.3, prediction=prediction)
    noise = torch.randn(8, I, dtype=torch.double)
    dense = diffusion.p_sample_loop(denoiser, rows.to_dense(), steps, noise=noise)
    affine = diffusion.p_sample_loop(denoiser, AffineRows(rows), steps, noise=noise)
    assert isinstance(affine, AffineRows)
    torch.testing.assert_close(affine.to_dense(), dense, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_identity_makes_the_network_linear_in_the_row():
    x, t = torch.randn(4, I), torch.arange(4)
    for act, linear in (('identity', True), ('tanh', False)):
        denoiser = RowMLPDenoiser(I, [6, 3], dropout=0.0, act=act).eval()
        for parameter in denoiser.parameters():
            torch.nn.init.normal_(parameter)
        zero = denoiser(torch.zeros_like(x), t)
        change = denoiser(x, t) - zero
        same = torch.allclose(denoiser(2 * x, t) - zero, 2 * change, rtol=1e-4)
        assert same == linear


def test_dropout_zeroes_entries_of_sparse_and_of_noised_rows():
    denoiser, rows = build([4], dropout=0.5), sample_rows()
    t = torch.zeros(8, dtype=torch.long)
    code = denoiser.lin_time(
        denoiser.lin_embedding(denoiser.time_embedding(t).double())
    )
    kept = []

    class Spy(torch.nn.Module):
        def forward(self, x):
            mask = torch.rand_like(x) < 0.5
            kept.append(mask)
            return x * mask * 2

    denoiser.dropout = Spy()
    denoiser.train()
    out = denoiser(AffineRows(rows), t).to_dense()
    x = rows.with_value(rows.value * kept.pop() * 2).to_dense()
    expected = denoiser.readout((x @ denoiser.weight + code).tanh())
    torch.testing.assert_close(out, expected)

    noise = torch.randn(8, I, dtype=torch.double)
    out = denoiser(AffineRows(rows) + noise, t).to_dense()
    x = (rows.to_dense() + noise) * kept.pop() * 2
    expected = denoiser.readout((x @ denoiser.weight + code).tanh())
    torch.testing.assert_close(out, expected)


def test_first_layer_is_a_sparse_product(monkeypatch):
    denoiser, rows = build([4], dropout=0.0).eval(), sample_rows()
    monkeypatch.setattr(SparseRows, 'to_dense', None)
    monkeypatch.setattr(AffineRows, 'to_dense', None)
    denoiser(AffineRows(rows), torch.zeros(8, dtype=torch.long))


def test_widths_go_in_and_back():
    denoiser = MLPDenoiser(20, [6, 4], time_embedding_dim=5)
    shapes = {k: list(v.shape) for k, v in denoiser.reference_weights().items()}
    assert shapes['in_layers.0.weight'] == [6, 25]
    assert shapes['in_layers.1.weight'] == [4, 6]
    assert shapes['out_layers.0.weight'] == [6, 4]
    assert shapes['out_layers.1.weight'] == [20, 6]
    assert str(denoiser) == 'MLPDenoiser(20, [6, 4])'
    assert str(MLPDenoiser(20, 6)) == 'MLPDenoiser(20, [6])'


def test_reference_weights_make_the_round_trip():
    denoiser, other = build([6, 3]), build([6, 3])
    weights = {k: v + 1 for k, v in denoiser.reference_weights().items()}
    other.load_reference(weights)
    for name, weight in other.reference_weights().items():
        torch.testing.assert_close(weight, weights[name])


def test_initial_weights_have_the_stated_deviation():
    torch.manual_seed(0)
    denoiser = MLPDenoiser(2000, 300, time_embedding_dim=10)
    assert denoiser.weight.std().item() == pytest.approx((2 / 2310) ** 0.5, rel=0.02)
    weight = denoiser.readout.weight
    assert weight.std().item() == pytest.approx((2 / 2300) ** 0.5, rel=0.02)
    assert denoiser.readout.bias.std().item() == pytest.approx(1e-3, rel=0.1)


def test_bad_arguments_are_refused():
    for args, message in (
        ((0, [3]), "'in_channels' needs to be positive in 'MLPDenoiser'"),
        ((5, []), "'in_channels' and all 'hidden_channels'"),
        ((5, [3, 0]), "'hidden_channels' needs to be positive in 'MLPDenoiser'"),
    ):
        with pytest.raises(ValueError, match=message):
            MLPDenoiser(*args)
    with pytest.raises(ValueError, match=r"'dropout' needs to lie in \[0, 1\)"):
        MLPDenoiser(5, 3, dropout=1.0)
    denoiser = build([4])
    weights = denoiser.reference_weights()
    with pytest.raises(ValueError, match="'weights' needs the keys"):
        denoiser.load_reference({})
    weights['emb_layer.bias'] = torch.zeros(3)
    with pytest.raises(ValueError, match="'emb_layer.bias' needs shape"):
        denoiser.load_reference(weights)


def test_a_width_may_be_a_number_of_numpy():
    model = MLPDenoiser(5, np.int64(3))
    assert model(torch.rand(2, 5), torch.zeros(2, dtype=torch.long)).shape == (2, 5)
