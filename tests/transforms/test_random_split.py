import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.transforms import RandomSplit


def make_data(counts):
    data = HeteroData()
    data['user'].num_nodes = len(counts)
    data['item'].num_nodes = max(counts)
    user = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    item = torch.cat([torch.arange(count) for count in counts])
    # Users are not stored one after the other.
    perm = torch.randperm(len(user), generator=torch.Generator().manual_seed(1))
    data[USER_ITEM].edge_index = torch.stack([user, item])[:, perm]
    return data


def num_per_user(data, split):
    user = data[USER_ITEM].edge_index[0, data[USER_ITEM][f'{split}_mask']]
    return torch.bincount(user, minlength=data['user'].num_nodes).tolist()


@pytest.mark.parametrize(
    ('ratios', 'num_val', 'num_test'),
    [
        # floor(n / 10 + 1/2) and floor(n / 5 + 1/2) for n = 1, 2, 3, 5, 8, 20
        ((0.1, 0.2), [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 4]),
        # One is left for training, validation gives way first.
        ((0.49, 0.5), [0, 0, 0, 1, 3, 9], [0, 1, 2, 3, 4, 10]),
        ((0.0, 0.29), [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 2, 6]),
    ],
)
def test_random_split_sizes_by_hand(ratios, num_val, num_test):
    data = validate(RandomSplit(*ratios, seed=3)(make_data([1, 2, 3, 5, 8, 20])))
    assert num_per_user(data, 'val') == num_val
    assert num_per_user(data, 'test') == num_test
    assert min(num_per_user(data, 'train')) >= 1


def test_random_split_is_uniform_over_places():
    data = make_data([10] * 2000)
    data = RandomSplit(0.1, 0.2)(data)
    item = data[USER_ITEM].edge_index[1]
    # Each of 10 items is in test with probability 0.2: a deviation is 9 of 400.
    count = torch.bincount(item[data[USER_ITEM].test_mask], minlength=10)
    assert int((count - 400).abs().max()) < 60


def test_random_split_depends_on_its_seed_alone():
    data = make_data([20, 30])
    state = torch.get_rng_state()
    masks = [RandomSplit(seed=s)(data)[USER_ITEM].test_mask for s in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_random_split_leaves_its_input_alone_and_forgets_the_split_order():
    data = make_data([5])
    data.split_order = ('train', 'val', 'test')
    out = RandomSplit()(data)
    assert 'train_mask' not in data[USER_ITEM]
    assert data.split_order == ('train', 'val', 'test')
    assert getattr(out, 'split_order', None) is None


@pytest.mark.parametrize('ratios', [(-0.1, 0.2), (0.1, -0.2), (0.5, 0.5)])
def test_random_split_refuses_bad_ratios(ratios):
    with pytest.raises(ValueError, match="sum below one in 'RandomSplit'"):
        RandomSplit(*ratios)


def test_random_split_repr():
    assert repr(RandomSplit(seed=2)) == (
        'RandomSplit(val_ratio=0.1, test_ratio=0.2, seed=2)'
    )


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        ({'val_ratio': '0.1'}, TypeError, "'val_ratio' needs to be a number in"),
        (
            {'test_ratio': float('nan')},
            ValueError,
            "'test_ratio' need.* in 'RandomSplit'",
        ),
        ({'seed': 1.0}, TypeError, "'seed' needs to be a whole number in"),
        ({'seed': None}, TypeError, "'seed' needs to be a whole number in"),
        ({'seed': 2**64}, ValueError, r"'seed' needs to lie in \[-2"),
    ],
)
def test_random_split_refuses_arguments_of_other_types(kwargs, error, match):
    with pytest.raises(error, match=match):
        RandomSplit(**kwargs)
