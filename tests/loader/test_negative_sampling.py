import pytest
import torch

from pyg_diffrec.loader.negative_sampling import NegativeSampler, sample_negatives
from pyg_diffrec.utils import SparseRows


def build(lists, num_items):
    user = [u for u, items in enumerate(lists) for _ in items]
    item = [i for items in lists for i in items]
    return SparseRows.from_coo(
        torch.tensor(user),
        torch.tensor(item),
        num_rows=len(lists),
        num_cols=num_items,
    )


# In time order, so unsorted; a user without items, and one with all but one.
LISTS = [[4, 0, 1], [], [5, 0, 3, 2, 1], [2]]


def probabilities(lists, num_items, method):
    """What each user's draws should follow, by loops."""
    out = []
    for items in lists:
        weight = [0.0] * num_items
        for item in range(num_items):
            if item not in items:
                count = sum(item in other for other in lists)
                weight[item] = 1.0 if method == 'uniform' else float(count)
        out.append([w / sum(weight) for w in weight])
    return torch.tensor(out)


@pytest.mark.parametrize('method', ['uniform', 'popularity'])
def test_draws_follow_the_distribution_over_what_is_left(method):
    n = 40_000
    user = torch.arange(4).repeat(n)
    generator = torch.Generator().manual_seed(0)
    item = sample_negatives(user, build(LISTS, 6), method, generator)
    share = torch.bincount(user * 6 + item, minlength=24).view(4, 6) / n
    expected = probabilities(LISTS, 6, method)
    # Five standard deviations of a share, and nothing at all where it is zero.
    bound = 5 * (expected * (1 - expected) / n).sqrt()
    assert bool(((share - expected).abs() <= bound).all())


@pytest.mark.parametrize('method', ['uniform', 'popularity'])
def test_never_a_positive_on_dense_rows(method):
    torch.manual_seed(1)
    dense = torch.rand(50, 30) < 0.9
    dense[:, 7] = False
    dense[0] = False
    dense[0, 7] = True
    row, col = dense.nonzero().t()
    history = SparseRows.from_coo(row, col, num_rows=50, num_cols=30)
    user = torch.arange(50).repeat_interleave(200)
    item = sample_negatives(user, history, method)
    assert not bool(dense[user, item].any())
    # Item 7 is rare: one draw in a few hundred where popularity counts.
    found = torch.zeros_like(dense).index_put((user, item), torch.tensor(True))
    assert torch.equal(found, ~dense) is (method == 'uniform')
    assert bool(found[1:, 7].any())


def test_follows_the_generator_and_leaves_the_global_one_alone():
    history = build(LISTS, 6)
    user = torch.zeros(100, dtype=torch.long)
    state = torch.get_rng_state()
    first, again, other = (
        sample_negatives(user, history, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_user_who_has_everything_is_named():
    history = build([[0], [2, 1, 0], []], 3)
    assert sample_negatives(torch.tensor([0, 2]), history).numel() == 2
    with pytest.raises(ValueError, match='User 1 has interacted with every item, so'):
        sample_negatives(torch.tensor([0, 1]), history)
    history = build([[0], [1, 0], []], 3)
    assert sample_negatives(torch.tensor([1]), history).tolist() == [2]
    with pytest.raises(ValueError, match='User 1 .* every item of non-zero popularity'):
        sample_negatives(torch.tensor([1]), history, 'popularity')


def test_refuses_what_it_does_not_know():
    history = build(LISTS, 6)
    with pytest.raises(ValueError, match=r"'method' needs.*'uniform', 'popularity'"):
        sample_negatives(torch.tensor([0]), history, 'hard')
    for user in (-1, 4):
        with pytest.raises(ValueError, match=rf'lie in \[0, 4\) .* \(got {user}\)'):
            sample_negatives(torch.tensor([0, user]), history)
    with pytest.raises(TypeError, match="'user' needs to be a 'torch.long'"):
        sample_negatives(torch.tensor([0.0]), history)


def test_repr_and_empty_batch():
    sampler = NegativeSampler(build(LISTS, 6), 'popularity')
    assert repr(sampler) == "NegativeSampler(4, method='popularity')"
    assert sampler(torch.empty(0, dtype=torch.long)).shape == (0,)


def test_refuses_users_and_generators_of_other_types():
    history = build(LISTS, 6)
    for user in ([0], 0, torch.tensor([0]).int(), torch.tensor([True])):
        with pytest.raises(TypeError, match="'user' needs to be a 'torch.long' tensor"):
            sample_negatives(user, history)
    with pytest.raises(TypeError, match="'generator' needs to be a 'torch.Generator'"):
        sample_negatives(torch.tensor([0]), history, generator=3)
    with pytest.raises(ValueError, match="'user' needs to be on device 'cpu' .*'meta'"):
        sample_negatives(torch.tensor([0], device='meta'), history)
    with pytest.raises(TypeError, match="'history' needs to be a 'SparseRows'"):
        sample_negatives(torch.tensor([0]), history.to_dense())


def test_a_history_with_repeats_is_refused():
    # Counted twice, item 1 would shift draws onto positives.
    with pytest.raises(ValueError, match='once in .*got item 1 of user 2 twice'):
        NegativeSampler(build([[0], [], [1, 3, 1]], 6))
