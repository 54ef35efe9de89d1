import pytest
import torch
from toy import as_form

from pyg_diffrec.diffusion import GaussianDiffusion
from pyg_diffrec.nn import RowMLPDenoiser


def build(weights, params, dropout, **kwargs):
    first, last = weights['in_layers.0.weight'], weights['out_layers.0.weight']
    denoiser = RowMLPDenoiser(last.size(0), first.size(0), 10, dropout).double()
    denoiser.load_reference(weights)
    steps, scale, low, high = params.tolist()
    diffusion = GaussianDiffusion(
        'linear-var',
        int(steps),
        noise_scale=scale,
        noise_min=low,
        noise_max=high,
        first_beta=1e-5,
        weighting='snr',
        timestep_sampler='importance',
        **kwargs,
    )
    return denoiser, diffusion


@pytest.mark.parametrize('form', ['dense', 'affine'])
@pytest.mark.parametrize('case', ['c0', 'c1', 'c2'])
def test_importance_sampling_step(golden, case, form, assert_exact):
    values = golden('importance')
    weights, params = values.group(f'{case}_w_'), values[f'{case}_diff_params']
    denoiser, diffusion = build(weights, params, dropout=0.0)
    sampler, t = diffusion.timestep_sampler, values[f'{case}_in_t']
    sampler.load_history(values[f'{case}_in_Lt_history'])

    assert_exact(sampler.probabilities(), values[f'{case}_out_p_all'])
    assert_exact(sampler.scale(t), values[f'{case}_out_pt'])
    terms = diffusion.training_losses(
        denoiser,
        as_form(values[f'{case}_in_x0'], form),
        t,
        values[f'{case}_in_noise'],
    )
    assert_exact(terms.loss, values[f'{case}_out_loss'])
    assert_exact(sampler.ordered_history(), values[f'{case}_out_Lt_history'])


class GivenDropout(torch.nn.Module):
    mask = None

    def forward(self, x):
        return x * self.mask / 0.5


@pytest.mark.parametrize('form', ['dense', 'affine'])
def test_training_trajectory(golden, form, assert_exact):
    values = golden('traj_diffrec')
    weights = values.group('init_w_')
    denoiser, diffusion = build(weights, values['diff_params'], dropout=0.5)
    denoiser.dropout = GivenDropout()
    lr, weight_decay = values['hyper_lr_wd'].tolist()
    optimizer = torch.optim.AdamW(
        denoiser.parameters(), lr=lr, weight_decay=weight_decay, fused=True
    )
    losses, used = [], []
    for step in range(len(values['in_x0'])):
        denoiser.dropout.mask = values['in_dropout_keep_mask'][step]
        used.append(diffusion.timestep_sampler.ready)
        terms = diffusion.training_losses(
            denoiser,
            as_form(values['in_x0'][step], form),
            values['in_ts'][step],
            values['in_noise'][step],
        )
        loss = terms.loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        expected = values.group(f'step{step + 1}_w_')
        for name, weight in denoiser.reference_weights().items():
            assert_exact(weight, expected[name])
    assert_exact(torch.stack(losses), values['out_batch_loss'])
    assert torch.equal(torch.stack(used).long(), values['out_importance_used'])
    sampler = diffusion.timestep_sampler
    assert_exact(sampler.ordered_history(), values['out_Lt_history'])
    assert torch.equal(sampler.count.clamp(max=10), values['out_Lt_count'])
