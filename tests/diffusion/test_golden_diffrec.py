"""The whole of one DiffRec step against reference values, on dense rows and on
affine rows, which never become dense."""

import pytest
import torch
from toy import as_form

from pyg_diffrec.diffusion import GaussianDiffusion
from pyg_diffrec.nn import AffineRows, RowMLPDenoiser

PREDICTION = {'x0': 'x_start', 'eps': 'noise'}

grid = pytest.mark.parametrize(
    ('case', 'kind', 'fixed', 'form'),
    [
        (f'c{case}', kind, fixed, form)
        for case in range(3)
        for kind in PREDICTION
        for fixed in (0, 1)
        for form in ('dense', 'affine')
    ],
)


def build_denoiser(values):
    dims, norm = values['dims'].tolist(), bool(values['norm'])
    denoiser = RowMLPDenoiser(
        int(values['n_item']),
        dims[::-1],
        time_embedding_dim=int(values['emb_size']),
        dropout=0.0,
        norm=norm,
    ).double()
    denoiser.load_reference(values.group('w_'))
    return denoiser


def build_diffusion(values, kind='x0', fixed=1, weighting='snr', **kwargs):
    steps, scale, low, high = values['diff_params'].tolist()
    return GaussianDiffusion(
        'linear-var',
        int(steps),
        noise_scale=scale,
        noise_min=low,
        noise_max=high,
        first_beta=1e-5 if fixed else None,
        prediction=PREDICTION[kind],
        weighting=weighting,
        **kwargs,
    )


def dense(x):
    return x.to_dense() if isinstance(x, AffineRows) else x


class Case:
    def __init__(self, golden, prefix):
        self.all, self.prefix = golden, f'{prefix}_'

    def __getitem__(self, key):
        return self.all[self.prefix + key]

    def group(self, prefix):
        return self.all.group(self.prefix + prefix)


@pytest.fixture
def values(golden, case):
    return Case(golden('diffrec'), case)


@pytest.mark.parametrize('case', ['c0', 'c1', 'c2'])
def test_time_embedding_and_denoiser(values, case, assert_exact):
    denoiser = build_denoiser(values)
    t, x = values['in_ts'], values['in_dnn_x']
    code = denoiser.time_embedding(t, torch.double)
    assert_exact(code, values['out_time_emb'])
    assert_exact(denoiser(x, t), values['out_dnn'])
    assert_exact(dense(denoiser(as_form(x, 'affine'), t)), values['out_dnn'])


@grid
def test_noised_rows_losses_and_gradients(
    values, case, kind, fixed, form, assert_exact
):
    denoiser = build_denoiser(values)
    diffusion = build_diffusion(values, kind, fixed, timestep_sampler='importance')
    x_start = as_form(values['in_x0'], form)
    t, noise = values['in_ts'], values['in_noise']
    prefix = f'{kind}_fixed{fixed}_'

    assert_exact(
        dense(diffusion.q_sample(x_start, t, noise)), values[prefix + 'out_xt']
    )
    terms = diffusion.training_losses(denoiser, x_start, t, noise)
    assert_exact(terms.loss, values[prefix + 'out_loss_reweight1'])

    terms.loss.mean().backward()
    expected = values.group(prefix + 'rw1_grad_')
    first = expected.pop('in_layers.0.weight')
    num_items = denoiser.in_channels
    assert_exact(denoiser.weight.grad.t(), first[:, :num_items])
    assert_exact(denoiser.lin_time.weight.grad, first[:, num_items:])
    actual = denoiser.reference_weights()
    assert len(expected) == len(actual) - 1
    for name, gradient in expected.items():
        assert_exact(actual[name].grad, gradient)

    sampler = diffusion.timestep_sampler
    assert_exact(sampler.ordered_history(), values[prefix + 'out_Lt_history'])
    assert torch.equal(sampler.count.clamp(max=10), values[prefix + 'out_Lt_count'])


@grid
def test_uniform_weights_are_the_plain_squared_error(
    values, case, kind, fixed, form, assert_exact
):
    diffusion = build_diffusion(values, kind, fixed, weighting='uniform')
    terms = diffusion.training_losses(
        build_denoiser(values),
        as_form(values['in_x0'], form),
        values['in_ts'],
        values['in_noise'],
    )
    assert_exact(terms.loss, values[f'{kind}_fixed{fixed}_intended_loss_reweight0'])


@torch.no_grad()
@grid
def test_reverse_chain(values, case, kind, fixed, form, assert_exact):
    denoiser = build_denoiser(values)
    diffusion = build_diffusion(values, kind, fixed)
    x_start, prefix = as_form(values['in_x0'], form), f'{kind}_fixed{fixed}_'

    out = diffusion.p_sample_loop(denoiser, x_start)
    assert isinstance(out, AffineRows) == (form == 'affine')
    assert_exact(dense(out), values[prefix + 'out_psample_steps0'])
    out = diffusion.p_sample_loop(denoiser, x_start, 3, noise=values['in_noise'])
    assert_exact(dense(out), values[prefix + 'out_psample_steps3'])

    name = prefix + 'in_sampling_noise'
    if form == 'dense' and values.prefix + name in values.all.arrays:
        noise = values[name]  # The row of step t is T - 1 - t.
        out = diffusion.p_sample_loop(
            denoiser, x_start, sampling_noise=lambda t: noise[len(noise) - 1 - t]
        )
        assert_exact(out, values[prefix + 'out_psample_steps0_noisy'])


@torch.no_grad()
@pytest.mark.parametrize('form', ['dense', 'affine'])
@pytest.mark.parametrize('case', ['c0', 'c1', 'c2'])
def test_reverse_chain_without_noise(values, case, form, assert_exact):
    diffusion = GaussianDiffusion(
        'linear-var', int(values['diff_params'][0]), noise_scale=0.0, first_beta=1e-5
    )
    out = diffusion.p_sample_loop(
        build_denoiser(values), as_form(values['in_x0'], form)
    )
    assert_exact(dense(out), values['out_psample_noise_scale0'])
