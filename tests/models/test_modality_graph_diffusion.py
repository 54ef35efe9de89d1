import pytest
import torch
from toy import as_form

from pyg_diffrec.models.modality_graph_diffusion import ModalityGraphDiffusion
from pyg_diffrec.nn import AffineRows
from pyg_diffrec.utils import SparseRows


def rows_of(x):
    return as_form(x, 'affine').start


def build(values, prefix):
    dims = values[f'{prefix}dims'].tolist()
    code, norm, num_items = values[f'{prefix}emb_norm_item'].tolist()
    steps, scale, low, high = values[f'{prefix}diff_params'].tolist()
    generator = ModalityGraphDiffusion(
        num_items,
        1,
        dims[::-1],
        code,
        dropout=0.0,
        num_timesteps=int(steps),
        noise_scale=scale,
        noise_min=low,
        noise_max=high,
    ).double()
    generator.denoisers[0].load_reference(values.group(f'{prefix}w_'))
    generator.denoisers[0].norm = bool(norm)
    return generator


@pytest.fixture
def values(golden):
    return golden('diffmm_diffusion')


cases = pytest.mark.parametrize('prefix', ['c0_', 'c1_'])


@cases
def test_schedule_and_denoiser_equal_reference_values(values, prefix, assert_exact):
    generator = build(values, prefix)
    for name in ('betas', 'alphas_cumprod', 'posterior_mean_coef1'):
        assert_exact(getattr(generator.diffusion, name), values[f'{prefix}out_{name}'])
    (denoiser,) = generator.denoisers
    out = denoiser(values[f'{prefix}in_noise'], values[f'{prefix}in_ts'])
    assert_exact(out, values[f'{prefix}out_denoise_noisy'])


@cases
def test_losses_and_gradients_equal_reference_values(values, prefix, assert_exact):
    generator = build(values, prefix)
    (losses,) = generator.losses(
        rows_of(values[f'{prefix}in_x0']),
        [values[f'{prefix}in_modal_feats']],
        values[f'{prefix}in_item_emb'],
        values[f'{prefix}in_ts'],
        values[f'{prefix}in_noise'],
    )
    assert_exact(losses.diffusion, values[f'{prefix}out_diff_loss'])
    assert_exact(losses.signal, values[f'{prefix}out_gc_loss'])
    weight = float(values[f'{prefix}in_e_loss'])
    loss = losses.diffusion.mean() + weight * losses.signal.mean()
    assert_exact(loss, values[f'{prefix}out_loss'])
    loss.backward()
    expected = values.group(f'{prefix}grad_')
    (denoiser,) = generator.denoisers
    first = torch.cat([denoiser.weight.grad.t(), denoiser.lin_time.weight.grad], dim=1)
    assert_exact(first, expected.pop('in_layers.0.weight'))
    actual = denoiser.reference_weights()
    assert len(expected) == len(actual) - 1
    for name, gradient in expected.items():
        assert_exact(actual[name].grad, gradient)


@torch.no_grad()
@cases
def test_reverse_chain_and_graphs_equal_reference_values(values, prefix, assert_exact):
    generator = build(values, prefix)
    rows = rows_of(values[f'{prefix}in_x0'])
    (denoiser,) = generator.denoisers
    for steps in (0, 3):
        out = generator.diffusion.p_sample_loop(
            denoiser, AffineRows(rows), steps, noise=values[f'{prefix}in_noise']
        )
        assert_exact(out.to_dense(), values[f'{prefix}out_psample{steps}'])
    ((key, top),) = values.group(f'{prefix}out_psample0_top').items()
    dense = values[f'{prefix}out_psample0']
    for batch_size in (1, 3, 100):
        score, item = generator.generate(rows, int(key), batch_size)
        assert torch.equal(item[0], top)
        assert_exact(score[0], dense.gather(1, top))


def random_rows(num_rows=40, num_items=30):
    torch.manual_seed(0)
    return rows_of((torch.rand(num_rows, num_items) < 0.2).float())


def test_modalities_learn_from_the_same_noise_and_dropout():
    rows = random_rows()
    generator = ModalityGraphDiffusion(30, 2, 8, noise_max=0.9)
    generator.denoisers[1].load_state_dict(generator.denoisers[0].state_dict())
    first, second = generator.losses(rows)
    assert torch.equal(first.diffusion, second.diffusion)
    assert bool((first.signal == 0).all())
    again, _ = generator.losses(rows)
    assert not torch.equal(first.diffusion, again.diffusion)


class Spy(torch.nn.Module):
    """A denoiser that notes what it would see of noised rows."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.seen = denoiser, []

    def forward(self, x_t, t):
        self.seen.append(x_t.project(torch.eye(x_t.shape[1])))
        return self.denoiser(x_t, t)


@pytest.mark.parametrize('noise', ['dense', 'pooled'])
def test_noised_rows_have_the_moments_of_the_forward_process(noise):
    rows = random_rows(300, 20)
    generator = ModalityGraphDiffusion(
        20, 1, 4, noise_scale=1.0, noise_max=0.6, noise=noise, pool_size=16
    )
    diffusion = generator.diffusion
    spy = generator.denoisers[0] = Spy(generator.denoisers[0])
    t = torch.full((300,), 3)
    for _ in range(150):
        generator.losses(rows, t=t)
    seen, x = torch.stack(spy.seen), rows.to_dense()
    level = diffusion.alphas_cumprod[3].float()
    # Dropout of one half keeps the mean and doubles the second moment.
    error = seen.mean(0) - level.sqrt() * x
    assert error.mean().abs() < 0.01
    assert error.std() < 2 * (2 / 150) ** 0.5
    square = seen.square().mean((0, 1))
    expected = 2 * (level * x.square().mean(0) + 1 - level)
    torch.testing.assert_close(square, expected, rtol=0.15, atol=0)
    torch.testing.assert_close(square.mean(), expected.mean(), rtol=0.03, atol=0)
    generator.eval()
    spy.seen.clear()
    generator.losses(rows, t=t)
    square = (spy.seen[0] - level.sqrt() * x).square().mean()
    assert square.item() == pytest.approx(1 - level.item(), rel=0.2)


@pytest.mark.parametrize('noise', ['dense', 'pooled'])
@pytest.mark.parametrize('norm', [False, True])
def test_rows_after_dropout_are_what_they_say(noise, norm):
    rows = random_rows(12, 20).to(dtype=torch.double)
    generator = ModalityGraphDiffusion(20, 1, 4, noise_max=0.9, noise=noise).double()
    (denoiser,) = generator.denoisers
    denoiser.norm = norm
    seen = []

    class Dense(Spy):
        def forward(self, x_t, t):
            seen.append(x_t)
            out = self.denoiser(x_t, t)
            expected = self.denoiser(x_t.to_dense(), t)
            torch.testing.assert_close(out.to_dense(), expected)
            return out

    generator.denoisers[0] = Dense(denoiser)
    generator.losses(rows)
    (x_t,), identity = seen, torch.eye(20, dtype=torch.double)
    dense = x_t.project(identity)
    assert not x_t.is_sparse
    torch.testing.assert_close(x_t.to_dense(), dense)
    torch.testing.assert_close(x_t.square_norm(), dense.square().sum(1))
    torch.testing.assert_close(torch.cat([x for _, x in x_t.blocks(7)], 1), dense)


def test_noise_can_be_switched_off():
    options = {'noise_scale': 0.0, 'hidden_channels': 4}
    with pytest.raises(ValueError, match="use weighting='uniform' without noise"):
        ModalityGraphDiffusion(30, 1, **options)
    generator = ModalityGraphDiffusion(30, 1, weighting='uniform', **options)
    rows = random_rows()
    generator.losses(rows)[0].diffusion.mean().backward()
    assert generator.generate(rows, 3)[1].shape == (1, 40, 3)


def test_memory_does_not_follow_users_times_items(monkeypatch):
    num_users = num_items = 100_000
    user = torch.arange(num_users).repeat_interleave(2)
    item = (user * 7919 + torch.arange(len(user)) * 104729) % num_items
    rows = SparseRows.from_coo(user, item, num_rows=num_users, num_cols=num_items)
    few = rows.index_select(torch.arange(20))
    monkeypatch.setattr(SparseRows, 'to_dense', None)
    generator = ModalityGraphDiffusion(num_items, 1, 4, noise='pooled', pool_size=2)
    monkeypatch.setattr(AffineRows, 'to_dense', None)
    feature = torch.rand(num_items, 3)
    (losses,) = generator.losses(few, [feature], feature)
    (losses.diffusion.mean() + losses.signal.mean()).backward()
    _, item = generator.generate(few, 2, batch_size=8)
    assert item.shape == (1, 20, 2)


def test_repr_reset_and_bad_arguments():
    torch.manual_seed(0)
    generator = ModalityGraphDiffusion(6, 2, [4, 3])
    text = 'ModalityGraphDiffusion(6, num_modalities=2, hidden_channels=[4, 3], '
    assert str(generator) == text + 'num_timesteps=5)'
    before = generator.denoisers[1].weight.clone()
    generator.reset_parameters()
    assert not torch.equal(generator.denoisers[1].weight, before)
    for options, message in (
        ({'num_modalities': 0}, "'num_modalities' needs to be positive"),
        ({'num_modalities': 1, 'pool_size': 0}, "'pool_size' needs to be positive"),
        ({'num_modalities': 1, 'noise': 'pink'}, "'noise' needs .*'pooled'.*'pink'"),
        ({'num_modalities': 1, 'dropout': 1.0}, r"'dropout' needs to lie in \[0, 1\)"),
        (
            {'num_modalities': 1, 'num_noising_steps': 6},
            r"'num_noising_steps' needs to lie in \[0, 5\]",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            ModalityGraphDiffusion(6, **options)
    with pytest.raises(ValueError, match=r"'k' needs to lie in \[1, 6\]"):
        generator.generate(random_rows(3, 6), 7)
