import pytest
import torch

from pyg_diffrec.diffusion import (
    GaussianDiffusion,
    UniformTimestepSampler,
    schedules,
    snr_weights,
)
from pyg_diffrec.resolver import names

SCHEDULES = names(schedules, suffix='_beta_schedule')


@pytest.mark.parametrize('name', SCHEDULES)
def test_posterior_of_noise_free_row_stays_noise_free(name):
    diffusion = GaussianDiffusion(name, num_timesteps=6)
    x_start = torch.rand(3, 5, dtype=torch.double)
    a = diffusion.alphas_cumprod
    for t in range(1, 6):
        index = torch.full((3,), t)
        mean, _ = diffusion.q_posterior(x_start, a[t].sqrt() * x_start, index)
        torch.testing.assert_close(mean, a[t - 1].sqrt() * x_start)


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('prediction', ['x_start', 'noise'])
def test_chain_with_a_perfect_denoiser_restores_the_rows(name, prediction):
    diffusion = GaussianDiffusion(name, num_timesteps=7, prediction=prediction)
    x_start = torch.rand(4, 9, dtype=torch.double)
    noise = torch.randn(4, 9, dtype=torch.double)

    def denoiser(x_t, t):
        a = diffusion.alphas_cumprod[t].view(-1, 1)
        if prediction == 'x_start':
            return x_start
        return (x_t - a.sqrt() * x_start) / (1 - a).sqrt()

    out = diffusion.p_sample_loop(denoiser, x_start, 7, noise=noise)
    torch.testing.assert_close(out, x_start)
    t = torch.tensor([0, 2, 4, 6])
    terms = diffusion.training_losses(denoiser, x_start, t, noise)
    torch.testing.assert_close(terms.x_start, x_start)
    assert terms.loss.abs().max() < 1e-20


def test_one_timestep_applies_the_denoiser_once():
    diffusion = GaussianDiffusion('linear', 1, noise_scale=0.1, weighting='snr')
    x, calls = torch.rand(2, 3), []

    def denoiser(x_t, t):
        calls.append(t.tolist())
        return 2 * x_t

    out = diffusion.p_sample_loop(denoiser, x, sampling_noise=True)
    torch.testing.assert_close(out, 2 * x)
    assert calls == [[0, 0]]
    assert diffusion.training_losses(denoiser, x).loss.isfinite().all()


def test_drawn_noise_follows_the_generator_and_has_the_stated_variance():
    diffusion = GaussianDiffusion('linear-var', 3, noise_max=0.5)
    t = torch.full((2000,), 2)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return diffusion.q_sample(torch.ones(2000, 50), t, generator=generator)

    assert torch.equal(draw(0), draw(0))
    a = diffusion.alphas_cumprod[2].item()
    assert draw(0).mean().item() == pytest.approx(a**0.5, abs=0.01)
    assert draw(0).var().item() == pytest.approx(1 - a, abs=0.01)

    def step(seed):
        generator = torch.Generator().manual_seed(seed)
        return diffusion.p_sample_loop(
            lambda x_t, t: x_t,
            torch.ones(9, 4),
            sampling_noise=True,
            generator=generator,
        )

    assert torch.equal(step(1), step(1))
    assert not torch.equal(step(1), step(2))


def test_step_noise_has_the_posterior_variance_and_none_at_the_last_step():
    diffusion = GaussianDiffusion('linear', 4)
    x, noise = torch.zeros(1, 2).double(), torch.ones(1, 2).double()
    for t in range(4):
        out = diffusion.p_sample(lambda x_t, t: x_t, x, torch.tensor([t]), noise)
        expected = diffusion.posterior_variance[t].sqrt().expand(1, 2)
        torch.testing.assert_close(out, expected)
    assert out[0, 0] > 0
    assert diffusion.posterior_variance[0] == 0


def test_condition_reaches_the_denoiser():
    diffusion = GaussianDiffusion('linear', 2)
    cond = torch.full((2, 3), 7.0)
    out = diffusion.p_sample_loop(lambda x_t, t, c: c, torch.rand(2, 3), cond=cond)
    torch.testing.assert_close(out, cond)


def test_constants_stay_float64_when_the_model_is_cast():
    diffusion = GaussianDiffusion('linear', 3)
    before = diffusion.betas.clone()
    diffusion.half()
    assert torch.equal(diffusion.betas, before)
    assert diffusion.state_dict() == {}
    x = torch.rand(2, 3, dtype=torch.half)
    assert diffusion.q_sample(x, torch.tensor([0, 2])).dtype == torch.half


def test_given_betas_sampler_and_repr():
    betas = torch.tensor([0.1, 0.2])
    diffusion = GaussianDiffusion(betas, timestep_sampler=UniformTimestepSampler(2))
    torch.testing.assert_close(diffusion.betas, betas.double())
    assert str(GaussianDiffusion('cosine', 3)) == (
        'GaussianDiffusion(cosine, num_timesteps=3, prediction=x_start, '
        'weighting=uniform)'
    )


def test_functions_as_schedule_and_weighting():
    def rising(num_timesteps, top=0.5):
        return torch.linspace(0.1, top, num_timesteps)

    def late(betas, prediction):
        return torch.arange(len(betas)) + (prediction == 'noise') + betas

    diffusion = GaussianDiffusion(rising, 3, weighting=late, prediction='noise')
    expected = torch.tensor([0.1, 0.3, 0.5]).double()
    torch.testing.assert_close(diffusion.betas, expected)
    torch.testing.assert_close(diffusion.weights, expected + torch.tensor([1, 2, 3]))
    assert GaussianDiffusion(rising, 2, top=0.9).betas[1].item() == pytest.approx(0.9)
    assert 'rising, num_timesteps=3, ' in str(diffusion)
    assert 'weighting=late' in str(diffusion)
    same = GaussianDiffusion(schedules.cosine_beta_schedule, 5)
    assert torch.equal(same.betas, GaussianDiffusion('cosine', 5).betas)


@pytest.mark.parametrize('weighting', ['SNR', 'snr_weights', snr_weights])
def test_a_weighting_is_the_same_under_all_its_names(weighting):
    # The weight of the first step is special where the noise is predicted.
    x, t = torch.rand(2, 3).double(), torch.tensor([0, 1])
    noise = torch.randn(2, 3).double()
    first, second = (
        GaussianDiffusion('linear', 2, weighting=name, prediction='noise')
        for name in ('snr', weighting)
    )
    assert str(first) == str(second)
    losses = [
        process.training_losses(lambda x_t, t: x_t, x, t, noise).loss
        for process in (first, second)
    ]
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ('args', 'options', 'error', 'message'),
    [
        ((torch.rand,), {}, ValueError, "'num_timesteps' is required"),
        ((lambda n: torch.rand(n + 1), 3), {}, ValueError, r'each of 3 .*got \[4\]'),
        ((lambda n: [0.1] * n, 3), {}, TypeError, r"'schedule' needs .*got 'list'"),
        ((lambda n: torch.ones(n).long(), 3), {}, TypeError, "got 'torch.int64'"),
        ((lambda n: torch.ones(n), 3), {}, ValueError, r'need to lie in \(0, 1\)'),
        (
            (3, 3),
            {},
            TypeError,
            r"'schedule' needs to be a string or .*callable .*got 3",
        ),
        ((torch.rand, 2.0), {}, TypeError, "'num_timesteps' needs to be a whole"),
        ((torch.full((3,), 0.1), 4), {}, ValueError, r'each of 4 .*got \[3\]'),
        ((torch.full((3,), 0.1),), {'noise_scale': 2.0}, ValueError, 'noise_scale'),
        (
            ('linear', 3),
            {'weighting': 3},
            TypeError,
            "'weighting' needs to be a string or callable .*got 3",
        ),
        (
            ('linear', 3),
            {'weighting': lambda betas, prediction: betas[1:]},
            ValueError,
            r"'weighting' needs shape \[T\], .*each of 3 .*got \[2\]",
        ),
        (
            ('linear', 3),
            {'timestep_sampler': UniformTimestepSampler},
            TypeError,
            r"'timestep_sampler' needs to be a string or .*got <class",
        ),
        (
            ('linear', 3),
            {'timestep_sampler': UniformTimestepSampler(4)},
            ValueError,
            r"'timestep_sampler' needs to be one of 3 timesteps \(got one of 4\)",
        ),
    ],
)
def test_parts_of_another_kind_or_size_are_refused(args, options, error, message):
    with pytest.raises(error, match=message):
        GaussianDiffusion(*args, **options)


def test_q_sample_refuses_float_timesteps():
    diffusion = GaussianDiffusion('linear', num_timesteps=2)
    with pytest.raises(TypeError, match="'t' needs to be"):
        diffusion.q_sample(torch.rand(1, 3), t=torch.zeros(1))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'linear_var'"):
        GaussianDiffusion('linear-vra', 3)
    with pytest.raises(ValueError, match="'num_timesteps' is required"):
        GaussianDiffusion('linear')
    with pytest.raises(ValueError, match="'prediction' needs to be"):
        GaussianDiffusion('linear', 3, prediction='velocity')
    with pytest.raises(ValueError, match="Unknown weighting 'cubic'"):
        GaussianDiffusion('linear', 3, weighting='cubic')
    with pytest.raises(ValueError, match="Unknown timestep sampler 'lucky'"):
        GaussianDiffusion('linear', 3, timestep_sampler='lucky')
    with pytest.raises(ValueError, match=r'need to lie in \(0, 1\)'):
        GaussianDiffusion('linear', 3, first_beta=1.5)
    with pytest.raises(ValueError, match=r"'schedule' needs shape \[T\]"):
        GaussianDiffusion(torch.rand(2, 2))
    with pytest.raises(ValueError, match="prediction='noise' needs noise"):
        GaussianDiffusion('linear', 3, noise_scale=0.0, prediction='noise')
    with pytest.raises(ValueError, match="'snr' weights need a positive"):
        GaussianDiffusion('linear', 3, noise_scale=0.0, weighting='snr')
    with pytest.raises(TypeError, match="'timestep_sampler' needs to be"):
        GaussianDiffusion('linear', 3, timestep_sampler=3)
    with pytest.raises(TypeError, match='noise_scale'):
        GaussianDiffusion('cosine', 3, noise_scale=0.1)
    diffusion = GaussianDiffusion('linear', 3)
    with pytest.raises(ValueError, match=r"'num_noising_steps' .* \[0, 3\] .*got 4"):
        diffusion.p_sample_loop(lambda x, t: x, torch.rand(1, 2), 4)


@pytest.mark.parametrize('steps', [1.5, True, 'a'])
def test_numbers_of_noising_steps_are_whole(steps):
    diffusion = GaussianDiffusion('linear', num_timesteps=3)
    with pytest.raises(TypeError, match="'num_noising_steps' needs to be a whole numb"):
        diffusion.p_sample_loop(lambda x, t: x, torch.rand(2, 3), steps)


@pytest.mark.parametrize('call', ['q_sample', 'training_losses', 'p_sample_loop'])
def test_lists_are_no_rows(call):
    diffusion = GaussianDiffusion('linear', num_timesteps=3)
    t = torch.zeros(1, dtype=torch.long)
    args = {
        'q_sample': ([[0.5]], t),
        'training_losses': (lambda x, t: x, [[0.5]]),
        'p_sample_loop': (lambda x, t: x, [[0.5]]),
    }
    with pytest.raises(TypeError, match="'x_start' needs to be a floating .*'list'"):
        getattr(diffusion, call)(*args[call])
