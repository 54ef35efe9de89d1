import pytest
import torch
from limits import LimitedMemory
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.datasets import SyntheticInteractions

USER_USER = ('user', 'trusts', 'user')


def planted_matrix(data):
    return data['user'].planted.double() @ data['item'].planted.double().t()


def chi_square(observed, expected):
    """In standard deviations from its mean, about normal for many cells."""
    cells = observed.numel() - 1
    value = ((observed - expected) ** 2 / expected).sum()
    return float((value - cells) / (2 * cells) ** 0.5)


def recall(score, data, k=20):
    store = data[USER_ITEM]
    score = score.clone()
    score[tuple(store.edge_index[:, ~store.test_mask])] = -torch.inf
    relevant = torch.zeros_like(score)
    relevant[tuple(store.edge_index[:, store.test_mask])] = 1
    hits = relevant.gather(1, score.topk(k).indices).sum(1)
    return float((hits / relevant.sum(1)).mean())


def test_planted_probabilities_are_distributions():
    data = SyntheticInteractions(200, 100, 5)[0]
    assert data['user'].planted.shape == (200, 5)
    assert data['item'].planted.shape == (100, 5)
    assert data['user'].planted.dtype == data['item'].planted.dtype == torch.float
    torch.testing.assert_close(data['item'].planted.sum(0), torch.ones(5))
    total = planted_matrix(data).sum(1)
    torch.testing.assert_close(total, torch.ones(200).double())


def test_popularity_within_a_group_is_a_power_law():
    # So sharp that an item belongs to one group.
    data = SyntheticInteractions(
        20, 60, 2, popularity_skew=1.5, sharpness=1e6, interactions_per_user=2
    )[0]
    for column in data['item'].planted.t():
        column = column[column > 0].sort(descending=True).values
        rank = torch.arange(1.0, column.numel() + 1)
        torch.testing.assert_close(column / column[0], rank**-1.5)


# With 9 items a user may need all of them: the end of the sequence is drawn from
# dense rows.
@pytest.mark.parametrize(('num_items', 'skew'), [(50, 1.0), (9, 3.0)])
def test_interactions_follow_the_planted_distribution(num_items, skew):
    data = SyntheticInteractions(20_000, num_items, 4, 6, popularity_skew=skew)[0]
    rest, store = planted_matrix(data), data[USER_ITEM]
    user, item = store.edge_index
    for t in range(5):  # Given what came before, one draw from what is left.
        now = store.time == t
        expected = (rest / rest.sum(1, keepdim=True))[user[now]].sum(0)
        observed = torch.bincount(item[now], minlength=num_items)
        assert abs(chi_square(observed, expected)) < 4
        assert abs(chi_square(observed.roll(1), expected)) > 10
        rest[user[now], item[now]] = 0


def test_planted_ranking_beats_popularity_and_its_neighbours():
    data = SyntheticInteractions(500, 400, seed=1)[0]
    store, prob = data[USER_ITEM], planted_matrix(data)
    train = store.edge_index[1, store.train_mask]
    popular = torch.bincount(train, minlength=400).expand_as(prob).double()
    planted = recall(prob, data)
    assert planted > 1.5 * recall(popular, data)
    # Part of the answer alone is worse than all of it.
    group = data['user'].planted.argmax(1)
    assert planted > recall(data['item'].planted.t()[group], data)
    assert recall(prob.roll(1, 0), data) < recall(popular, data)


def test_number_of_interactions_varies_around_its_mean():
    data = SyntheticInteractions(2000, 100, interactions_per_user=9)[0]
    count = torch.bincount(data[USER_ITEM].edge_index[0])
    assert (int(count.min()), int(count.max())) == (5, 13)
    assert float(count.double().mean()) == pytest.approx(9, abs=0.3)


def test_split_follows_time():
    data = SyntheticInteractions(50, 200, val_ratio=0.2, test_ratio=0.3)[0]
    store = data[USER_ITEM]
    count = torch.bincount(store.edge_index[0])
    assert store.time.tolist() == [t for c in count.tolist() for t in range(c)]
    test = torch.bincount(store.edge_index[0, store.test_mask])
    assert test.tolist() == [int(0.3 * c + 0.5) for c in count.tolist()]
    assert data.split_order == ('train', 'val', 'test')
    assert (data.name, data.roles) == ('synthetic', 'synthetic')


def test_graph_depends_on_its_seed_alone():
    kwargs = {'num_social': 4, 'modalities': {'image': (2, 2)}, 'noise_share': 0.2}
    state = torch.get_rng_state()
    a, b, c = (
        SyntheticInteractions(50, 100, **kwargs, seed=seed)[0] for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    for store, other in zip(a.stores, b.stores, strict=True):
        for key, value in store.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other[key]), key
    assert not torch.equal(a['user'].planted, c['user'].planted)


def test_noise_replaces_a_share_of_each_users_training_interactions():
    clean = SyntheticInteractions(400, 300, noise_share=0.0)[0]
    noisy = SyntheticInteractions(400, 300, noise_share=0.25)[0]
    a, b = clean[USER_ITEM], noisy[USER_ITEM]
    mask = b.noise_mask
    assert not a.noise_mask.any()
    assert torch.equal(a.edge_index[:, ~mask], b.edge_index[:, ~mask])
    assert torch.equal(a.edge_index[0], b.edge_index[0])
    assert not (mask & ~b.train_mask).any()

    user = b.edge_index[0]
    num_train = torch.bincount(user[b.train_mask]).tolist()
    num_noise = torch.bincount(user[mask]).tolist()
    assert num_noise == [int(0.25 * n + 0.5) for n in num_train]
    known = torch.zeros(400, 300, dtype=torch.bool)
    known[tuple(a.edge_index)] = True
    assert not known[tuple(b.edge_index[:, mask])].any()


def test_noise_is_uniform_over_what_a_user_never_had():
    clean = SyntheticInteractions(3000, 60, interactions_per_user=20)[0]
    data = SyntheticInteractions(3000, 60, interactions_per_user=20, noise_share=0.1)[0]
    store = data[USER_ITEM]
    unknown = torch.ones(3000, 60, dtype=torch.double)
    unknown[tuple(clean[USER_ITEM].edge_index)] = 0
    num_noise = torch.bincount(store.edge_index[0, store.noise_mask], minlength=3000)
    expected = (unknown / unknown.sum(1, keepdim=True) * num_noise.view(-1, 1)).sum(0)
    observed = torch.bincount(store.edge_index[1, store.noise_mask], minlength=60)
    # At most two of about forty per user: nearly independent draws.
    assert abs(chi_square(observed, expected)) < 4


def test_ties_are_symmetric_and_fake_ones_leave_the_group():
    data = SyntheticInteractions(500, 100, num_social=6, fake_social_share=0.25)[0]
    left, right = data[USER_USER].edge_index
    fake = data[USER_USER].fake_mask
    key, back = left * 500 + right, right * 500 + left
    assert left.numel() == 500 * 6
    assert key.unique().numel() == key.numel()
    assert not (left == right).any()
    order = back.argsort()
    assert torch.equal(back[order], key)
    assert torch.equal(fake[order], fake)
    group = data['user'].planted.argmax(1)
    assert torch.equal(group[left] != group[right], fake)
    assert int(fake.sum()) == 500 * 6 // 4
    # A user has six ties on average, nobody hoards them.
    assert int(torch.bincount(left, minlength=500).max()) < 25


def test_informative_columns_hold_the_groups_and_noisy_ones_do_not():
    data = SyntheticInteractions(
        50, 600, modalities={'image': (3, 2), 'text': (0, 4)}, num_groups=6
    )[0]
    assert list(data.informative) == ['image', 'text']
    group = data['item'].planted.double()
    group = group / group.sum(1, keepdim=True)
    for name, mask in data.informative.items():
        x = data['item'][f'x_{name}']
        assert x.dtype == torch.float
        assert x.size(1) == mask.numel()
        x = x.double() - x.double().mean(0)
        fit = group @ torch.linalg.lstsq(group, x).solution
        share = 1 - (x - fit).var(0) / x.var(0)
        # Noise of deviation 0.1 leaves 1 / 1.01 of the variance explained.
        assert bool((share[mask] > 0.98).all())
        assert bool((share[~mask] < 0.05).all())
    assert data.informative['image'].tolist() == [True] * 3 + [False] * 2
    assert data.informative['text'].tolist() == [False] * 4


def test_graph_survives_safe_saving(tmp_path):
    data = SyntheticInteractions(
        30, 100, num_social=2, modalities={'image': (1, 1)}, noise_share=0.1
    )[0]
    torch.save(data.to_dict(), tmp_path / 'data.pt')
    mapping = torch.load(tmp_path / 'data.pt', weights_only=True)
    out = validate(HeteroData.from_dict(mapping))
    assert repr(out.to_dict()) == repr(data.to_dict())
    assert out.split_order == ('train', 'val', 'test')


class LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return out


def test_no_dense_user_item_matrix_is_built():
    with LargestTensor() as largest:
        data = SyntheticInteractions(
            3000, 20_000, interactions_per_user=10, noise_share=0.5, num_social=10
        )[0]
    assert data[USER_ITEM].edge_index.size(1) == pytest.approx(30_000, rel=0.05)
    assert data['item'].planted.numel() <= largest.numel < 3000 * 20_000 / 100


def test_transform_is_applied_on_access():
    def rename(data):
        data.name = 'renamed'
        return data

    dataset = SyntheticInteractions(20, 60, transform=rename)
    assert len(dataset) == 1
    assert dataset[0].name == 'renamed'
    assert repr(dataset) == (
        'SyntheticInteractions(num_users=20, num_items=60, num_groups=8, '
        'interactions_per_user=30, seed=0)'
    )


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'num_users': 0}, "'num_users' needs to be positive .* .got 0"),
        ({'num_items': -1}, "'num_items' needs to be positive"),
        ({'num_groups': 0}, "'num_groups' needs to be positive"),
        ({'interactions_per_user': 0}, "'interactions_per_user' needs to be positive"),
        ({'popularity_skew': -1.0}, "'popularity_skew' needs to be finite and non-neg"),
        ({'sharpness': -1.0}, "'sharpness' needs to be finite and non-negative"),
        ({'num_social': -1}, "'num_social' needs to be finite and non-negative"),
        ({'noise_share': 1.5}, r"'noise_share' needs to lie in \[0, 1\]"),
        ({'fake_social_share': -0.5}, r"'fake_social_share' needs to lie in \[0, 1\]"),
        ({'modalities': {'a': (1,)}}, "'modalities' needs to be of the form"),
        ({'modalities': {'a': (0, 0)}}, "'modalities' needs to be of the form"),
        ({'modalities': {'a': (-1, 2)}}, "'modalities' needs to be of the form"),
        ({'modalities': {'a': (1, 0)}, 'num_groups': 1}, 'need at least two groups'),
        ({'modalities': {'a': (1, 0)}, 'sharpness': 0}, "'sharpness' .* positive for"),
        ({'val_ratio': 0.8}, "'val_ratio' and 'test_ratio' .* sum below one"),
        ({'num_items': 44}, 'may need 45 different items .*num_items=44.: raise'),
        ({'num_items': 53, 'noise_share': 0.2}, 'may need 54 different items'),
        ({'num_users': 6, 'num_social': 9}, 'Found only .* ties inside of groups: low'),
        (
            {'num_groups': 1, 'num_social': 1, 'fake_social_share': 1.0},
            'Found only 0 of 500 ties across groups',
        ),
    ],
)
def test_bad_arguments_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        SyntheticInteractions(**kwargs)


WHOLE = ['num_users', 'num_items', 'num_groups', 'interactions_per_user', 'seed']
NUMBERS = ['popularity_skew', 'sharpness', 'noise_share', 'num_social']
NUMBERS += ['fake_social_share', 'val_ratio', 'test_ratio']


@pytest.mark.parametrize('value', [True, '5', None, [5], {}, torch.tensor([5, 6])])
@pytest.mark.parametrize('key', WHOLE + NUMBERS)
def test_arguments_of_other_types_are_refused(key, value):
    needed = 'a whole number' if key in WHOLE else 'a number'
    with pytest.raises(TypeError, match=f"'{key}' needs to be {needed} in 'Synthetic"):
        SyntheticInteractions(**{key: value})


@pytest.mark.parametrize('key', WHOLE)
def test_fractions_are_no_whole_numbers(key):
    with pytest.raises(TypeError, match=f"'{key}' needs .* whole .*got 5.5"):
        SyntheticInteractions(**{key: 5.5})


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('key', NUMBERS)
def test_numbers_need_to_be_finite(key, value):
    with pytest.raises(ValueError, match=f"'{key}' needs to .*got {value}"):
        SyntheticInteractions(**{key: value})


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'num_users': 10**8}, r"'num_users' \(100000000\) times 'num_groups' \(8\)"),
        ({'num_items': 10**8}, r"'num_items' .* times 'num_groups'"),
        ({'num_groups': 10**7}, r"'num_groups' needs to be at most 10000"),
        ({'num_users': 10**6, 'num_social': 1e5}, r"'num_users' .* times 'num_social'"),
        (
            {'num_users': 10**7, 'num_groups': 1, 'num_items': 10**5}
            | {'interactions_per_user': 1000},
            "'num_users' .* times 'interactions_per_user'",
        ),
        (
            {'modalities': {'a': (1, 1), 'b': (0, 10**9)}},
            r"'num_items' \(500\) times all columns of 'modalities' \(1000000002\)",
        ),
        ({'seed': 2**64}, r"'seed' needs to lie in .*got 18446744073709551616"),
        ({'seed': -(2**63) - 1}, "'seed' needs to lie in"),
        ({'num_users': 10**400}, "'num_users' needs to be at most"),
    ],
)
def test_absurd_sizes_are_refused_at_once(kwargs, match):
    with LimitedMemory(), pytest.raises(ValueError, match=match):
        SyntheticInteractions(**kwargs)


@pytest.mark.parametrize(
    'modalities',
    [
        3,
        ['image'],
        {'image': 3},
        {'image': '16'},
        {'image': (1.5, 2)},
        {'image': (True, 2)},
        {'image': (1, 2, 3)},
        {3: (1, 2)},
        {'a b': (1, 2)},
    ],
)
def test_modalities_of_another_form_are_refused(modalities):
    match = r"'modalities' needs to be (a dictionary of|of the form {'name': \(inf)"
    with pytest.raises((TypeError, ValueError), match=match):
        SyntheticInteractions(20, 60, modalities=modalities)


def test_transform_needs_to_be_callable():
    with pytest.raises(TypeError, match="'transform' needs to be callable .*got 3"):
        SyntheticInteractions(20, 60, transform=3)


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'sharpness': 1e6, 'num_groups': 300}, r"groups without .* lower 'sharpness'"),
        (
            {'sharpness': 1e-300, 'modalities': {'a': (1, 0)}},
            r'all items are alike .* informative',
        ),
    ],
)
def test_extremes_that_leave_nothing_to_draw_are_named(kwargs, match):
    with pytest.raises(ValueError, match=match):
        SyntheticInteractions(**{'num_users': 50, 'num_items': 100, **kwargs})


@pytest.mark.parametrize('key', ['popularity_skew', 'sharpness'])
@pytest.mark.parametrize('value', [0, 1e3, 1e38])
def test_extremes_that_can_be_drawn_are_drawn(key, value):
    data = SyntheticInteractions(100, 200, 2, **{key: value})[0]
    assert bool(data['item'].planted.isfinite().all())
    assert bool(data['user'].planted.isfinite().all())


def test_arguments_are_checked_without_a_graph(monkeypatch):
    monkeypatch.setattr(SyntheticInteractions, '_build', None)
    SyntheticInteractions.check(num_users=10**6, modalities={'a': [1, 1]})
    with pytest.raises(ValueError, match="'num_users' needs to be positive"):
        SyntheticInteractions.check(num_users=0)
