import math

import pytest
import torch

from pyg_diffrec.nn.denoisers.giffcf import GiffCFDenoiser
from pyg_diffrec.testing import check_denoiser

I, B = 9, 4


def build(**kwargs):
    torch.manual_seed(0)
    denoiser = GiffCFDenoiser(I, 5, time_embedding_dim=6, **kwargs).double()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return denoiser


def sample_cond():
    generator = torch.Generator().manual_seed(1)
    c = (torch.rand(B, I, generator=generator) < 0.4).double()
    c[0] = 0.0  # A user without interactions.
    return c, torch.rand(B, I, dtype=torch.double, generator=generator)


def test_contract():
    check_denoiser(build(), I, affine=False, cond=sample_cond())


def silu(x):
    return x / (1 + math.exp(-x))


def mix(mixer, values):
    out = float(mixer.lin_out.bias)
    for k, bias in enumerate(mixer.lin.bias.tolist()):
        weights = mixer.lin.weight[k].tolist()
        total = bias + sum(w * v for w, v in zip(weights, values))
        out += float(mixer.lin_out.weight[0, k]) * silu(total)
    return out


@pytest.mark.parametrize('mixer_channels', [1, 2, 3])
@torch.no_grad()
def test_equals_the_formula_number_by_number(mixer_channels):
    denoiser, (c, smoothed) = build(mixer_channels=mixer_channels), sample_cond()
    x_t, t = torch.rand(B, I, dtype=torch.double), torch.tensor([0, 1, 2, 2])
    out = denoiser(x_t, t, (c, smoothed))
    for b in range(B):
        # Timesteps count from 1 in the code of the timestep.
        step = float(t[b] + 1)
        angles = [step * 10000 ** (-j / 3) for j in range(3)]
        code = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        code = torch.tensor(code, dtype=torch.double)
        tau = []
        for first, _, second in denoiser.time_mlps:
            hidden = [silu(float(v)) for v in first.weight @ code + first.bias]
            hidden = torch.tensor(hidden, dtype=torch.double)
            tau.append(float(second.weight[0] @ hidden + second.bias))
        norm = max(1.0, float(c[b].sum()))
        h = []
        for d in range(5):
            z = sum(float(x_t[b, i] * denoiser.weight[i, d]) for i in range(I)) / I
            p = sum(float(c[b, i] * denoiser.weight[i, d]) for i in range(I)) / norm
            h.append(mix(denoiser.latent_mixer, [z, p, tau[0]]))
        for i in range(I):
            score = sum(h[d] * float(denoiser.weight[i, d]) for d in range(5))
            values = [score, float(c[b, i]), float(smoothed[b, i]), tau[1]]
            expected = mix(denoiser.score_mixer, values)
            assert float(out[b, i]) == pytest.approx(expected, rel=1e-11, abs=1e-11)


@torch.no_grad()
def test_items_in_another_order_score_the_same():
    denoiser, (c, smoothed) = build(), sample_cond()
    x_t, t = torch.rand(B, I, dtype=torch.double), torch.arange(B)
    out, perm = denoiser(x_t, t, (c, smoothed)), torch.randperm(I)
    denoiser.weight.copy_(denoiser.weight[perm])
    other = denoiser(x_t[:, perm], t, (c[:, perm], smoothed[:, perm]))
    torch.testing.assert_close(other, out[:, perm], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_condition_counts_as_a_mean_over_interactions():
    denoiser, (c, smoothed) = build(), sample_cond()
    # Only the latent part sees the length of the condition: cut the other paths.
    denoiser.score_mixer.lin.weight[:, 1:3] = 0.0
    x_t, t = torch.rand(B, I, dtype=torch.double), torch.arange(B)
    once = denoiser(x_t, t, (c, smoothed))
    assert int(c[1:].sum(1).min()) >= 1
    torch.testing.assert_close(denoiser(x_t, t, (3 * c, smoothed)), once)
    assert not torch.allclose(denoiser(x_t, t, (0 * c, smoothed))[1:], once[1:])


def test_initial_weights_are_glorot_uniform_without_biases():
    torch.manual_seed(0)
    denoiser = GiffCFDenoiser(300, 100)
    bound, before = math.sqrt(6 / 400), denoiser.weight.detach().clone()
    assert 0.99 * bound < float(before.abs().max()) <= bound
    assert float(before.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    denoiser.score_mixer.lin.bias.data.fill_(1.0)
    denoiser.reset_parameters()
    assert not torch.equal(before, denoiser.weight)
    biases = [p for name, p in denoiser.named_parameters() if name.endswith('bias')]
    assert len(biases) == 8
    assert all(float(p.detach().abs().max()) == 0 for p in biases)
    for mixer in (denoiser.latent_mixer, denoiser.score_mixer):
        assert bool((mixer.lin.weight[:, :-1] >= 0).all())
        assert bool((mixer.lin_out.weight >= 0).all())
        assert float(mixer.lin_out.weight.abs().max()) > 0
    # 2 -> 1 mixers and 20 -> 20 -> 1 time codes beside the embeddings.
    small = sum(p.numel() for p in denoiser.parameters()) - denoiser.weight.numel()
    assert small == (3 + 1) * 2 + 3 + (4 + 1) * 2 + 3 + 2 * (21 * 20 + 21)


def test_bad_arguments_are_refused():
    for name in ('num_items', 'embedding_dim', 'mixer_channels'):
        with pytest.raises(ValueError, match=f"'{name}' needs to be positive"):
            GiffCFDenoiser(**{'num_items': 3, name: 0})
    with pytest.raises(ValueError, match="'embedding_dim' needs to be at least 2"):
        GiffCFDenoiser(3, time_embedding_dim=1)
    with pytest.raises(ValueError, match="'GiffCFDenoiser' needs 'cond'"):
        build()(torch.rand(B, I).double(), torch.arange(B))
    x_t, t, pair = torch.rand(B, I).double(), torch.arange(B), sample_cond()
    with pytest.raises(TypeError, match="'cond' needs to be a pair .*got 'Tensor'"):
        build()(x_t, t, pair[0])
    with pytest.raises(ValueError, match=r"Both rows of 'cond' need shape \[4, 9\]"):
        build()(x_t, t, (pair[0], pair[1][:, :1]))
    with pytest.raises(ValueError, match=r"'x_t' needs shape \[B, 9\] and 't' shape"):
        build()(x_t, t[:2], pair)
    assert str(GiffCFDenoiser(3)) == 'GiffCFDenoiser(3, 200)'
