import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.transforms import TemporalSplit


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
