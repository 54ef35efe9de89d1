import pytest
import torch

from pyg_diffrec.diffusion import ImportanceTimestepSampler, UniformTimestepSampler


def naive_record(history, t, loss):
    """Appends losses one by one, dropping the oldest beyond ten."""
    for step, value in zip(t.tolist(), loss.tolist()):
        history[step] = [*history[step], value][-10:]


def test_ring_buffer_equals_appending_one_by_one():
    generator = torch.Generator().manual_seed(0)
    sampler, history = ImportanceTimestepSampler(4), [[] for _ in range(4)]
    for size in (3, 50, 1, 7, 12, 40):
        t = torch.randint(4, (size,), generator=generator)
        loss = torch.rand(size, generator=generator, dtype=torch.double)
        sampler.record(t, loss)
        naive_record(history, t, loss)
        padded = torch.tensor([x + [0.0] * (10 - len(x)) for x in history])
        torch.testing.assert_close(sampler.ordered_history().float(), padded)
        assert sampler.count.clamp(max=10).tolist() == [len(x) for x in history]
        assert bool(sampler.ready) == all(len(x) == 10 for x in history)


def test_probabilities_by_hand():
    sampler = ImportanceTimestepSampler(2, history_size=2, uniform_share=0.5)
    assert sampler.probabilities().tolist() == [0.5, 0.5]
    sampler.load_history(torch.tensor([[3.0, 3.0], [1.0, 1.0]]))
    assert sampler.probabilities().tolist() == [0.625, 0.375]
    assert sampler.scale(torch.tensor([1, 0])).tolist() == [0.75, 1.25]
    # All losses zero: nothing tells the timesteps apart.
    sampler.load_history(torch.zeros(2, 2))
    assert sampler.probabilities().tolist() == [0.5, 0.5]
    sampler.reset_parameters()
    assert not bool(sampler.ready)


def test_draws_follow_the_probabilities():
    sampler = ImportanceTimestepSampler(3)
    sampler.load_history(torch.tensor([[1.0], [0.0], [3.0]]).expand(3, 10))
    generator = torch.Generator().manual_seed(0)
    t = sampler.sample(200_000, generator=generator)
    share = torch.bincount(t, minlength=3) / t.numel()
    torch.testing.assert_close(
        share.double(), sampler.probabilities(), rtol=0, atol=0.004
    )
    uniform = UniformTimestepSampler(3).sample(200_000, generator=generator)
    assert (torch.bincount(uniform) / 200_000 - 1 / 3).abs().max() < 0.004


def test_importance_sampling_is_unbiased():
    sampler = ImportanceTimestepSampler(5)
    sampler.load_history(torch.rand(5, 10) + 0.1)
    value = torch.rand(5, dtype=torch.double)
    estimate = (sampler.probabilities() * value / sampler.scale(torch.arange(5))).sum()
    torch.testing.assert_close(estimate, value.mean())


def test_history_stays_float64_when_the_model_is_cast():
    sampler = ImportanceTimestepSampler(2).half()
    assert sampler.history.dtype == torch.double
    assert UniformTimestepSampler(2).scale(torch.tensor([0, 1])).tolist() == [1, 1]
    assert str(sampler) == 'ImportanceTimestepSampler(2)'


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'history_size' needs to be positive"):
        ImportanceTimestepSampler(2, history_size=0)
    with pytest.raises(ValueError, match="'uniform_share' needs to lie"):
        ImportanceTimestepSampler(2, uniform_share=1.5)
    sampler = ImportanceTimestepSampler(2, history_size=3)
    with pytest.raises(ValueError, match=r"'history' needs shape \[2, 3\].*got \[3\]"):
        sampler.load_history(torch.ones(3))
    with pytest.raises(ValueError, match=r"'count' needs shape \[2\].*got \[1\]"):
        sampler.load_history(torch.ones(2, 3), torch.ones(1).long())
