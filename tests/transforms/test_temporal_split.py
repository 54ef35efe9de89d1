import numpy as np
import pytest
import scipy.sparse
import torch
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce
from toy import toy_data

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.transforms import RandomSplit, TemporalSplit


def make_data(user, item, time=None):
    data = HeteroData()
    data['user'].num_nodes = max(user) + 1
    data['item'].num_nodes = max(item) + 1
    data[USER_ITEM].edge_index = torch.tensor([user, item])
    if time is not None:
        data[USER_ITEM].time = torch.tensor(time)
    return data


def items(data, split, user):
    store = data[USER_ITEM]
    mask = store[f'{split}_mask'] & (store.edge_index[0] == user)
    return store.edge_index[1, mask].tolist()


def test_temporal_split_cuts_the_stored_order():
    # Ten items of user 1, in the order 9, 8, ..., around one item of user 0.
    data = make_data([1] * 4 + [0] + [1] * 6, [9, 8, 7, 6, 0, 5, 4, 3, 2, 1, 0])
    data = validate(TemporalSplit(val_ratio=0.1, test_ratio=0.2)(data))
    assert items(data, 'train', 1) == [9, 8, 7, 6, 5, 4, 3]
    assert items(data, 'val', 1) == [2]
    assert items(data, 'test', 1) == [1, 0]
    assert items(data, 'train', 0) == [0]
    assert data.split_order == ('train', 'val', 'test')


def test_temporal_split_follows_time_and_breaks_ties_by_stored_order():
    data = make_data([0] * 5, [0, 1, 2, 3, 4], time=[7, 9, 2, 7, 1])
    data = TemporalSplit(val_ratio=0.2, test_ratio=0.4)(data)
    assert items(data, 'train', 0) == [2, 4]  # times 2 and 1, in stored order
    assert items(data, 'val', 0) == [0]
    assert items(data, 'test', 0) == [1, 3]


def test_temporal_split_leaves_the_last_out():
    user = [0] * 2 + [1] * 3 + [2] * 4 + [3] * 5
    data = make_data(user, [0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4])
    one = validate(TemporalSplit(leave_last=1)(data))
    assert [items(one, 'train', u) for u in range(3)] == [[0, 1], [0], [0, 1]]
    assert [items(one, 'val', u) for u in range(3)] == [[], [1], [2]]
    assert [items(one, 'test', u) for u in range(3)] == [[], [2], [3]]
    two = validate(TemporalSplit(leave_last=2)(data))
    assert [len(items(two, 'train', u)) for u in range(4)] == [2, 3, 4, 1]
    assert items(two, 'val', 3) == [1, 2]
    assert items(two, 'test', 3) == [3, 4]


def test_temporal_split_agrees_with_a_loop_over_users():
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randperm(40 * 30, generator=generator)[:700]
    time = torch.randint(50, (700,), generator=generator).tolist()
    data = make_data((pairs // 30).tolist(), (pairs % 30).tolist(), time)
    data = TemporalSplit(0.15, 0.25)(data)
    store = data[USER_ITEM]
    for u in range(data['user'].num_nodes):
        edges = [e for e in range(700) if store.edge_index[0, e] == u]
        edges.sort(key=lambda e: time[e])
        num_test = int(len(edges) * 0.25 + 0.5)
        num_val = int(len(edges) * 0.15 + 0.5)
        end = len(edges) - num_test
        assert store.test_mask[edges].nonzero().view(-1).tolist() == list(
            range(end, len(edges))
        )
        assert store.val_mask[edges].nonzero().view(-1).tolist() == list(
            range(end - num_val, end)
        )


def test_temporal_split_leaves_its_input_alone():
    data = make_data([0, 0, 0], [0, 1, 2])
    TemporalSplit()(data)
    assert 'train_mask' not in data[USER_ITEM]


@pytest.mark.parametrize('ratios', [(-0.1, 0.2), (0.1, -0.2), (0.5, 0.5)])
def test_temporal_split_refuses_bad_ratios(ratios):
    with pytest.raises(ValueError, match="sum below one in 'TemporalSplit'"):
        TemporalSplit(*ratios)


def test_temporal_split_refuses_to_leave_out_nothing():
    with pytest.raises(ValueError, match="'leave_last' needs to be positive"):
        TemporalSplit(leave_last=0)


def test_temporal_split_repr():
    assert repr(TemporalSplit(leave_last=2)) == 'TemporalSplit(leave_last=2)'
    assert repr(TemporalSplit()) == 'TemporalSplit(val_ratio=0.1, test_ratio=0.2)'


def toy_pairs():
    store = toy_data(300, 120, interactions_per_user=30)[USER_ITEM]
    return store.edge_index, store.time


def graph(edge_index):
    data = make_data([299], [119])
    data[USER_ITEM].edge_index = edge_index
    return data


def by_item(edge_index):
    return coalesce(edge_index, sort_by_row=False)


def from_a_matrix(edge_index):
    ones = np.ones(edge_index.size(1))
    matrix = scipy.sparse.coo_array((ones, tuple(edge_index.numpy()))).tocsr().tocoo()
    return torch.from_numpy(np.stack([matrix.row, matrix.col])).long()


@pytest.mark.parametrize(
    'sort',
    [
        lambda edge_index: edge_index.unique(dim=1),
        coalesce,
        by_item,
        from_a_matrix,
        lambda edge_index: coalesce(edge_index).flip(1),  # Highest numbers first.
    ],
)
def test_an_order_by_item_number_is_not_taken_for_time(sort):
    data = graph(sort(toy_pairs()[0]))
    match = "have no 'time' for 'TemporalSplit' and are stored by item number"
    with pytest.raises(ValueError, match=match):
        TemporalSplit()(data)
    data.time_ordered = True  # Whoever says so is believed.
    assert TemporalSplit()(data).split_order == ('train', 'val', 'test')
    store = RandomSplit()(graph(data[USER_ITEM].edge_index))[USER_ITEM]
    items = store.edge_index[1]
    means = [items[store[f'{k}_mask']].float().mean() for k in ('train', 'test')]
    assert abs(float(means[0] - means[1])) < 5  # And not 60.


def test_with_time_any_stored_order_gives_the_same_split():
    edge_index, time = toy_pairs()
    data = graph(edge_index)
    data[USER_ITEM].time = time
    perm = (edge_index[0] * 120 + edge_index[1]).argsort()
    other = graph(edge_index[:, perm])
    other[USER_ITEM].time = time[perm]
    one, two = (TemporalSplit()(x)[USER_ITEM] for x in (data, other))
    for split in ('train', 'val', 'test'):
        assert torch.equal(one[f'{split}_mask'][perm], two[f'{split}_mask'])


def test_the_stored_order_of_time_is_accepted():
    edge_index, time = toy_pairs()
    for order in (torch.arange(time.numel()), time.argsort(stable=True)):
        TemporalSplit()(graph(edge_index[:, order]))
    # Items numbered as they come along: those of the first user ascend.
    items = edge_index[1].tolist()
    number = {item: i for i, item in enumerate(dict.fromkeys(items))}
    item = torch.tensor([number[i] for i in items])
    TemporalSplit()(graph(torch.stack([edge_index[0], item])))


def test_users_with_one_interaction_prove_nothing():
    user = torch.arange(300)
    TemporalSplit()(graph(torch.stack([user, user % 120])))
    # Ten with two: one graph in a thousand is like that.
    user, item = user[:10].repeat_interleave(2), torch.arange(20)
    TemporalSplit()(graph(torch.stack([user, item])))


def test_a_matrix_per_split_is_no_order_in_time_either():
    # Each user's items ascend within each split, and not across them.
    data = RandomSplit(0.1, 0.2)(graph(toy_pairs()[0].unique(dim=1)))
    store = data[USER_ITEM]
    code = store.val_mask.int() + 2 * store.test_mask.int()
    perm = code.argsort(stable=True)
    for name in ('edge_index', 'train_mask', 'val_mask', 'test_mask'):
        store[name] = store[name][..., perm]
    with pytest.raises(ValueError, match='are stored by item number'):
        TemporalSplit()(data)


def test_a_source_may_say_that_its_order_is_none_of_time():
    data = graph(toy_pairs()[0])
    TemporalSplit()(data)
    data.time_ordered = False
    with pytest.raises(ValueError, match=r'in no order of time \(time_ordered=False\)'):
        TemporalSplit()(data)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        ({'val_ratio': '0.1'}, TypeError, "'val_ratio' needs to be a number in"),
        ({'test_ratio': True}, TypeError, "'test_ratio' needs to be a number in"),
        ({'test_ratio': float('nan')}, ValueError, "'test_ratio' need.* nan"),
        ({'leave_last': 1.5}, TypeError, "'leave_last' needs to be a whole number"),
        ({'leave_last': True}, TypeError, "'leave_last' needs to be a whole number"),
    ],
)
def test_temporal_split_refuses_arguments_of_other_types(kwargs, error, match):
    with pytest.raises(error, match=match):
        TemporalSplit(**kwargs)
