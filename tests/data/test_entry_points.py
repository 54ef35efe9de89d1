"""Whatever takes a graph meets the same check, and says the same."""

import warnings

import numpy as np
import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import RandomLinkSplit, ToSparseTensor
from toy import toy_data

from pyg_diffrec.data import (
    USER_ITEM,
    USER_USER,
    history_mask,
    interaction_rows,
    split_mask,
    target_rows,
    validate,
)
from pyg_diffrec.models import ItemKNN
from pyg_diffrec.transforms import (
    AddRandomInteractions,
    CleanInteractions,
    CleanSocialEdges,
    KCore,
    RandomSplit,
    RewireSocialEdges,
    TemporalSplit,
)

DOORS = {
    'validate': validate,
    'interaction_rows': interaction_rows,
    'target_rows': lambda data: target_rows(data, 'test'),
    'split_mask': lambda data: split_mask(data, 'train'),
    'history_mask': lambda data: history_mask(data, 'train+val'),
    'AddRandomInteractions': AddRandomInteractions(0.5),
    'CleanInteractions': CleanInteractions(),
    'KCore': KCore(1, 1),
    'RandomSplit': RandomSplit(),
    'TemporalSplit': TemporalSplit(),
}


def graph():
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 3, 4
    store = data[USER_ITEM]
    store.edge_index = torch.tensor([[0, 0, 1, 2, 2], [3, 1, 2, 2, 0]])
    store.time = torch.tensor([1, 2, 3, 4, 5])
    store.edge_weight = torch.ones(5)
    split = torch.tensor([0, 1, 0, 0, 2])
    for index, name in enumerate(('train', 'val', 'test')):
        store[f'{name}_mask'] = split == index
    return data


def store_with(**values):
    def change(data):
        for key, value in values.items():
            data[USER_ITEM][key] = value

    return change


def no_count(node_type):
    return lambda data: data[node_type].pop('num_nodes')


EDGES = graph()[USER_ITEM].edge_index
MASK = torch.tensor([True, False, True, True, False])
NAN = torch.tensor([1.0, float('nan'), 1.0, 1.0, 1.0])

BAD = {
    'int32 ids': (
        store_with(edge_index=EDGES.int()),
        r"'edge_index' of .* 'torch.long' \(got 'torch.int32'\).*'.long\(\)'",
    ),
    'float ids': (store_with(edge_index=EDGES.float()), r"\(got 'torch.float32'\)"),
    'ids in an array': (
        store_with(edge_index=EDGES.numpy()),
        "'edge_index' of .*convert it with 'torch.as_tensor'",
    ),
    'three rows': (
        store_with(edge_index=torch.zeros(3, 5).long()),
        r'needs shape \[2, num_edges\] \(got \[3, 5\]\)',
    ),
    'more pairs than numbers': (
        lambda data: data['item'].update({'num_nodes': 2**62}),
        'whose pairs cannot be numbered',
    ),
    'an unknown item': (
        store_with(edge_index=EDGES + torch.tensor([[0], [1]])),
        r'item 4 at position 0, outside of \[0, 4\)',
    ),
    'a negative user': (
        store_with(edge_index=EDGES - torch.tensor([[1], [0]])),
        r'user -1 at position 0, outside of \[0, 3\)',
    ),
    'time of shape [E, 1]': (
        store_with(time=torch.arange(5).view(5, 1)),
        r"'time' needs shape \[5\].*\(got \[5, 1\]\)",
    ),
    'too few times': (store_with(time=torch.arange(3)), r"'time' needs shape \[5\]"),
    'times in a list': (store_with(time=[1, 2, 3, 4, 5]), "'time' of the interactions"),
    'times that are NaN': (store_with(time=NAN), "'time' is nan at position 1"),
    'Boolean times': (store_with(time=MASK), "'time' needs to hold numbers .*bool"),
    'weights that are NaN': (
        store_with(edge_weight=NAN),
        "'edge_weight' is nan at position 1",
    ),
    'no weight': (store_with(edge_weight=NAN.nan_to_num(0)), 'got 0.0 at position 1'),
    'too many weights': (store_with(edge_weight=torch.ones(6)), r'shape \[5\].*\[6\]'),
    'no number of users': (no_count('user'), r"set 'data\['user'\].num_nodes'"),
    'no number of items': (no_count('item'), r"set 'data\['item'\].num_nodes'"),
    'integer masks': (
        store_with(test_mask=MASK.long()),
        r"'test_mask' needs to be a 'torch.bool'.*\(got 'torch.int64'",
    ),
    'positions for a mask': (store_with(val_mask=torch.tensor([1])), r"'val_mask' n"),
    'a short mask': (store_with(train_mask=MASK[:4]), r"'train_mask' needs .*\[5\]"),
    'masks that overlap': (
        store_with(test_mask=MASK),
        r"overlap at 3 .* position 0 \(\['train_mask', 'test_mask'\]\)",
    ),
    'an interaction in all': (
        store_with(train_mask=MASK | True, val_mask=MASK | True, test_mask=MASK | True),
        r"overlap at 5 .*\['train_mask', 'val_mask', 'test_mask'\]",
    ),
    'an interaction in none': (
        store_with(test_mask=~MASK & False),
        'leave out 1 interactions, the first at position 4',
    ),
    'marks of noise as numbers': (store_with(noise_mask=MASK.int()), "'noise_mask' n"),
    'weights on another device': (
        store_with(edge_weight=torch.ones(5, device='meta')),
        "'edge_weight' is on device 'meta' and 'edge_index' on 'cpu'.*data.to",
    ),
    'a mask on another device': (
        store_with(val_mask=MASK.to('meta')),
        "'val_mask' is on device 'meta'",
    ),
}


@pytest.mark.parametrize('door', DOORS)
def test_a_good_graph_passes(door):
    assert DOORS[door](graph()) is not None


@pytest.mark.parametrize('case', BAD)
@pytest.mark.parametrize('door', DOORS)
def test_every_door_says_what_is_wrong(door, case):
    data, (change, match) = graph(), BAD[case]
    change(data)
    with pytest.raises((TypeError, ValueError), match=match):
        DOORS[door](data)


@pytest.mark.parametrize('door', DOORS)
def test_every_door_asks_for_hetero_data(door):
    with pytest.raises(TypeError, match="'data' needs to be a 'HeteroData'"):
        DOORS[door](Data(edge_index=EDGES))


@pytest.mark.parametrize('door', DOORS)
def test_every_door_knows_a_sparse_adjacency(door):
    match = r"has 'adj_t' and no 'edge_index': take the graph as it was before"
    with pytest.raises(ValueError, match=match):
        DOORS[door](ToSparseTensor()(graph()))


@pytest.mark.parametrize('door', DOORS)
def test_every_door_says_how_to_rename_types(door):
    data = HeteroData()
    data['user'].num_nodes = data['movie'].num_nodes = 2
    data['user', 'rates', 'movie'].edge_index = torch.tensor([[0], [1]])
    data['movie', 'rev_rates', 'user'].edge_index = torch.tensor([[1], [0]])
    match = r"ToUserItem\(user='user', item='movie', relation='rates'\)\(data\)'"
    with pytest.raises(ValueError, match=match):
        DOORS[door](data)
    assert USER_ITEM not in data.edge_types  # To look does not create it.


@pytest.mark.parametrize('door', DOORS)
def test_every_door_refuses_what_random_link_split_gives(door):
    data = graph()
    parts = RandomLinkSplit(0.2, 0.2, edge_types=USER_ITEM)(data)
    for part in parts:
        with pytest.raises(ValueError, match=r"an 'edge_label_index'.*RandomSplit\(\)"):
            DOORS[door](part)


@pytest.mark.parametrize('door', [door for door in DOORS if not door.endswith('_mask')])
def test_every_door_but_that_which_removes_them_names_duplicates(door):
    data = graph()
    data[USER_ITEM].edge_index[:, 3] = data[USER_ITEM].edge_index[:, 0]
    if door == 'CleanInteractions':
        assert CleanInteractions()(data)[USER_ITEM].edge_index.size(1) == 4
        return
    if door == 'target_rows':
        data[USER_ITEM].test_mask[[0, 3]] = True
        data[USER_ITEM].train_mask[[0, 3]] = False
    match = r'1 duplicates, the first is user 0, item 3 at position 3: .*CleanInterac'
    with pytest.raises(ValueError, match=match):
        DOORS[door](data)


TIES = {
    'CleanSocialEdges': CleanSocialEdges(),
    'RewireSocialEdges': RewireSocialEdges(0.5),
    'validate': validate,
}


@pytest.mark.parametrize('door', TIES)
@pytest.mark.parametrize(
    ('edge_index', 'match'),
    [
        (torch.tensor([[0, 1], [1, 0]]).int(), "needs to be 'torch.long'"),
        (torch.tensor([0, 1]), r'needs shape \[2, num_edges\]'),
        (np.zeros((2, 1)), "convert it with 'torch.as_tensor'"),
    ],
)
def test_doors_for_ties_check_them(door, edge_index, match):
    data = graph()
    data[USER_USER].edge_index = edge_index
    with pytest.raises((TypeError, ValueError), match=match):
        TIES[door](data)


@pytest.mark.parametrize('door', TIES)
def test_doors_for_ties_ask_for_the_number_of_users(door):
    data = graph()
    data[USER_USER].edge_index = torch.tensor([[0, 1], [1, 0]])
    del data['user'].num_nodes
    with pytest.raises(ValueError, match=r"set 'data\['user'\].num_nodes'"):
        TIES[door](data)


def test_marks_of_fake_ties_are_checked():
    data = graph()
    data[USER_USER].edge_index = torch.tensor([[0, 1], [1, 0]])
    data[USER_USER].fake_mask = torch.tensor([1, 0])
    with pytest.raises(ValueError, match=r"'fake_mask' .*\[2\], one entry per tie"):
        RewireSocialEdges(0.5)(data)


@pytest.mark.parametrize('door', DOORS)
def test_the_number_of_nodes_may_come_from_features_or_numpy(door):
    data = graph()
    del data['user'].num_nodes
    data['user'].x = torch.rand(3, 2)
    data['item'].num_nodes = np.int64(4)
    assert DOORS[door](data) is not None
    rows = interaction_rows(data)
    assert rows.shape == (3, 4)
    assert all(type(size) is int for size in rows.shape)


@pytest.mark.parametrize('key', ['x', 'n_id', 'node_age'])
def test_nothing_but_features_is_needed_where_pyg_infers(key, recwarn):
    data = graph()
    del data['item'].num_nodes
    data['item'][key] = torch.arange(4)
    assert target_rows(validate(data), 'test').shape == (3, 4)
    assert not recwarn.list


def test_a_graph_of_unused_ids_is_worth_a_word():
    data = graph()
    data['user'].num_nodes = 10_001
    match = r'10,001 users, of which at most 5 have.*KCore\(1, 1\)'
    with pytest.warns(UserWarning, match=match) as record:
        validate(data)
    assert record[0].filename == __file__  # So that each caller hears it once.
    data['user'].num_nodes = 10_000
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        validate(data)
        validate(KCore(1, 1)(data))


@pytest.mark.parametrize('door', DOORS)
def test_every_door_takes_an_edge_index_of_pyg(door):
    data, plain = graph(), graph()
    data[USER_ITEM].edge_index = EdgeIndex(EDGES, sparse_size=(3, 4), sort_order='row')
    out, expected = DOORS[door](data), DOORS[door](plain)
    if isinstance(out, HeteroData):
        out, expected = out[USER_ITEM].edge_index, expected[USER_ITEM].edge_index
        assert out.tolist() == expected.tolist()
        if isinstance(out, EdgeIndex):
            out.validate()


def test_a_number_of_nodes_of_numpy_is_one_for_models_too():
    data = toy_data()
    expected = ItemKNN.from_data(data).recommend([0, 1], 5).item
    data['user'].num_nodes, data['item'].num_nodes = np.int64(60), np.int64(40)
    assert torch.equal(ItemKNN.from_data(data).recommend([0, 1], 5).item, expected)
