import pytest
import torch

from pyg_diffrec.diffusion.smoothing import GraphSmoothing

I = 7


def operator(seed=0):
    """A symmetric matrix with eigenvalues in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(I, I, dtype=torch.double, generator=generator)
    a = a @ a.t()
    return a / torch.linalg.eigvalsh(a).max()


S = operator()
W = operator(1)


def smooth(x):
    return x @ S.to(x.dtype)


def denoiser(x_t, t, cond=None):
    out = torch.tanh(x_t @ W) + 0.1 * t.view(-1, 1)
    return out if cond is None else out + cond


def sample(num_rows=3):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(num_rows, I, dtype=torch.double, generator=generator)


def test_forward_process_by_hand():
    def mean(x):
        return x.mean(1, keepdim=True).expand_as(x)

    diffusion = GraphSmoothing(mean, num_timesteps=4, alpha=2.0)
    x_start = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    out = diffusion.q_sample(x_start, torch.arange(4))
    # The mean is one half, and step t goes (t + 1) / 2 of the way there.
    expected = [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]]
    torch.testing.assert_close(out, torch.tensor(expected))


def test_noise_shrinks_by_the_decay_per_step():
    diffusion = GraphSmoothing(smooth, noise_scale=0.8, decay=0.5)
    x_start, noise, t = sample(), torch.ones(3, I).double(), torch.arange(3)
    out = diffusion.q_sample(x_start, t, noise)
    clean = GraphSmoothing(smooth).q_sample(x_start, t)
    expected = torch.tensor([0.2, 0.4, 0.8]).double().view(3, 1) * noise
    torch.testing.assert_close(out - clean, expected)
    drawn = [
        diffusion.q_sample(x_start, t, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize('num_timesteps', [1, 2, 5])
@pytest.mark.parametrize('decay', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('cond', [None, 0.3])
def test_chain_equals_the_formula_of_the_paper(num_timesteps, decay, cond):
    alpha = 1.5
    diffusion = GraphSmoothing(smooth, num_timesteps, alpha, decay=decay)
    x_start = sample()

    def blur(x, t):  # The paper's F_t, with t from 1 to T; F_0 is the identity.
        return x + alpha * t / num_timesteps * (x @ S - x)

    z = blur(x_start, num_timesteps)
    for t in range(num_timesteps, 0, -1):
        estimate = denoiser(z, torch.full((3,), t - 1), cond)
        z = blur(estimate, t - 1) + decay * (z - blur(estimate, t))
    out = diffusion.p_sample_loop(denoiser, x_start, cond=cond)
    torch.testing.assert_close(out, z, rtol=1e-12, atol=1e-12)


def test_perfect_denoiser_restores_the_row():
    x_start = sample()
    diffusion = GraphSmoothing(smooth, num_timesteps=4, decay=0.7)
    out = diffusion.p_sample_loop(lambda x_t, t: x_start, x_start)
    torch.testing.assert_close(out, x_start, rtol=1e-12, atol=1e-12)


def test_long_step_back_equals_single_steps():
    diffusion = GraphSmoothing(smooth, num_timesteps=4, decay=0.7)
    x_start, x_t = sample(), torch.rand(3, I, dtype=torch.double)
    t = torch.full((3,), 3)
    short, none = diffusion.q_posterior(x_start, x_t, t)
    short, _ = diffusion.q_posterior(x_start, short, t - 1)
    long, _ = diffusion.q_posterior(x_start, x_t, t, t - 2)
    torch.testing.assert_close(long, short, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(diffusion.q_posterior(x_start, x_t, t, t)[0], x_t)
    assert none is None


def test_loss_is_the_summed_squared_error_per_row():
    diffusion = GraphSmoothing(smooth)
    x_start, t = sample(), torch.tensor([0, 2, 1])
    terms = diffusion.training_losses(denoiser, x_start, t)
    for row in range(3):
        share = 1.5 * (int(t[row]) + 1) / 3
        z = x_start[row] + share * (S @ x_start[row] - x_start[row])
        estimate = torch.tanh(W @ z) + 0.1 * t[row]
        error = sum((estimate[i] - x_start[row, i]) ** 2 for i in range(I))
        torch.testing.assert_close(terms.loss[row], error)
        torch.testing.assert_close(terms.x_start[row], estimate)
    assert torch.equal(terms.t, t)


def test_all_timesteps_are_drawn_and_importance_weights_the_loss():
    diffusion = GraphSmoothing(smooth)
    terms = diffusion.training_losses(denoiser, sample(200))
    assert terms.t.unique().tolist() == [0, 1, 2]
    weighted = GraphSmoothing(smooth, timestep_sampler='importance')
    x_start, t = sample(), torch.arange(3)
    history = torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 10)
    weighted.timestep_sampler.load_history(history)
    share = 3 * weighted.timestep_sampler.probabilities()
    plain = diffusion.training_losses(denoiser, x_start, t).loss
    loss = weighted.training_losses(denoiser, x_start, t).loss
    torch.testing.assert_close(loss * share, plain)
    newest = weighted.timestep_sampler.ordered_history()[:, -1]
    torch.testing.assert_close(newest, plain)
    weighted.reset_parameters()
    assert weighted.timestep_sampler.count.sum() == 0


def test_rows_smoothed_before_are_taken_as_they_are():
    calls = []

    def counted(x):
        calls.append(len(x))
        return smooth(x)

    diffusion, x_start = GraphSmoothing(counted), sample()
    given, t = smooth(x_start), torch.arange(3)
    torch.manual_seed(0)
    expected = diffusion.training_losses(denoiser, x_start, t).loss
    chain = diffusion.p_sample_loop(denoiser, x_start)
    assert len(calls) == 1 + 4
    out = diffusion.training_losses(denoiser, x_start, t, smoothed=given).loss
    assert torch.equal(out, expected)
    out = diffusion.p_sample_loop(denoiser, x_start, smoothed=given)
    assert torch.equal(out, chain)
    assert len(calls) == 5 + 3


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="'smooth' needs to be callable.*got tensor"):
        GraphSmoothing(S)
    with pytest.raises(ValueError, match=r"'num_timesteps' needs to be positive"):
        GraphSmoothing(smooth, num_timesteps=0)
    for name in ('alpha', 'noise_scale'):
        with pytest.raises(ValueError, match=f"'{name}' .*negative"):
            GraphSmoothing(smooth, **{name: -0.1})
    for decay in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"'decay' needs to lie in \[0, 1\]"):
            GraphSmoothing(smooth, decay=decay)
    with pytest.raises(ValueError, match="Unknown timestep sampler 'some'"):
        GraphSmoothing(smooth, timestep_sampler='some')
    with pytest.raises(TypeError, match="'timestep_sampler' needs to be a string"):
        GraphSmoothing(smooth, timestep_sampler=3)
    diffusion, t = GraphSmoothing(smooth), torch.zeros(3)
    for call in (
        lambda: diffusion.q_sample(sample(), t),
        lambda: diffusion.q_posterior(sample(), sample(), t),
        lambda: diffusion.p_sample(denoiser, sample(), t),
    ):
        with pytest.raises(TypeError, match="'t' needs to be a 'torch.long' tensor"):
            call()
    text = 'GraphSmoothing(num_timesteps=3, alpha=1.5, noise_scale=0.0, decay=0.5)'
    assert str(diffusion) == text
