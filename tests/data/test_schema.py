import copy

import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.data.schema import has_repeats


@pytest.fixture
def data():
    data = HeteroData()
    data['user'].num_nodes = 3
    data['item'].num_nodes = 4
    store = data[USER_ITEM]
    store.edge_index = torch.tensor([[0, 0, 1, 0, 2], [2, 1, 3, 0, 1]])
    store.time = torch.tensor([5, 6, 1, 6, 2])
    store.edge_weight = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0])
    store.train_mask = torch.tensor([True, False, True, False, True])
    store.val_mask = torch.tensor([False, True, False, False, False])
    store.test_mask = torch.tensor([False, False, False, True, False])
    data['item'].x_image = torch.rand(4, 2)
    data['user', 'trusts', 'user'].edge_index = torch.tensor([[0, 1], [1, 0]])
    return data


def test_validate_returns_a_good_graph_unchanged(data):
    before = copy.deepcopy(data.to_dict())
    assert validate(data) is data
    assert repr(data.to_dict()) == repr(before)


def test_validate_asks_for_no_optional_part(data):
    minimal = HeteroData()
    minimal['user'].num_nodes = 3
    minimal['item'].num_nodes = 4
    minimal[USER_ITEM].edge_index = data[USER_ITEM].edge_index
    assert validate(minimal) is minimal


def test_validate_refuses_what_is_no_hetero_data():
    with pytest.raises(TypeError, match="'data' needs to be a 'HeteroData'"):
        validate(Data())


@pytest.mark.parametrize('node_type', ['user', 'item'])
def test_validate_asks_for_node_counts(data, node_type):
    del data[node_type].num_nodes
    with pytest.raises(ValueError, match=f"set 'data\\['{node_type}'\\].num_nodes"):
        validate(data)


@pytest.mark.parametrize(
    ('num_nodes', 'error'), [(3.0, TypeError), (True, TypeError), (0, ValueError)]
)
def test_validate_refuses_other_node_counts(data, num_nodes, error):
    data['user'].num_nodes = num_nodes
    with pytest.raises(error, match=r"'data\['user'\].num_nodes' needs to be"):
        validate(data)


def test_validate_asks_for_interactions(data):
    del data[USER_ITEM]
    with pytest.raises(ValueError, match=r"no \('user', 'interacts', 'item'\) rel"):
        validate(data)


@pytest.mark.parametrize(
    ('edge_index', 'error', 'match'),
    [
        (np.zeros((2, 1), dtype=np.int64), TypeError, "needs to be a 'torch.Tensor'"),
        (torch.zeros(2, 1, dtype=torch.int), ValueError, "'torch.int32'.*'.long"),
        (torch.zeros(3, 1, dtype=torch.long), ValueError, r'got \[3, 1\]'),
        (torch.zeros(2, dtype=torch.long), ValueError, r'got \[2\]'),
        (
            torch.tensor([[0, 3, 4], [0, 1, 2]]),
            ValueError,
            r'user 3 at position 1.*2 s',
        ),
        (torch.tensor([[0, 1], [0, -1]]), ValueError, 'item -1 at position 1'),
        (torch.tensor([[0, 1], [4, 1]]), ValueError, r'item 4 at .* 0, outside .* 4\)'),
    ],
)
def test_validate_refuses_bad_interactions(data, edge_index, error, match):
    data[USER_ITEM].edge_index = edge_index
    with pytest.raises(error, match=match):
        validate(data)


def test_validate_names_the_first_duplicate_and_how_to_remove_it(data):
    # (2, 1) comes first in the file, (0, 0) first in sorted order.
    edge_index = torch.tensor([[2, 2, 0, 0, 1], [1, 1, 0, 0, 3]])
    data[USER_ITEM].edge_index = edge_index
    match = 'hold 2 duplicates.* user 2, item 1 at position 1: .*coalesce'
    with pytest.raises(ValueError, match=match):
        validate(data)

    first = np.sort(np.unique(edge_index, axis=1, return_index=True)[1])
    assert edge_index[:, first].tolist() == [[2, 0, 1], [1, 0, 3]]


def test_validate_refuses_a_part_of_the_masks(data):
    del data[USER_ITEM].val_mask
    with pytest.raises(ValueError, match=r"split without \['val_mask'\]"):
        validate(data)


@pytest.mark.parametrize('mask', [torch.zeros(5), torch.zeros(4, dtype=torch.bool)])
def test_validate_refuses_masks_of_wrong_type_or_length(data, mask):
    data[USER_ITEM].test_mask = mask
    with pytest.raises(ValueError, match=r"'test_mask' needs .*'torch.bool'.*\[5\]"):
        validate(data)


def test_validate_names_overlapping_masks(data):
    data[USER_ITEM].val_mask[2] = True
    match = r"overlap at 1 interac.* position 2 \(\['train_mask', 'val_mask'\]\)"
    with pytest.raises(ValueError, match=match):
        validate(data)


def test_validate_names_interactions_without_split(data):
    data[USER_ITEM].test_mask[3] = False
    with pytest.raises(ValueError, match=r'leave out 1 interactions.* position 3'):
        validate(data)


@pytest.mark.parametrize('name', ['time', 'edge_weight'])
def test_validate_refuses_edge_values_of_wrong_length_or_nan(data, name):
    data[USER_ITEM][name] = torch.ones(4)
    with pytest.raises(ValueError, match=rf"'{name}' needs shape \[5\].*\[4\]"):
        validate(data)
    data[USER_ITEM][name] = torch.tensor([1.0, 1.0, float('nan'), 1.0, 1.0])
    with pytest.raises(ValueError, match=f"'{name}' is nan at position 2"):
        validate(data)
    data[USER_ITEM][name] = [1.0, 1.0, 1.0, 1.0, 1.0]
    with pytest.raises(TypeError, match=f"'{name}' of the interactions needs to be"):
        validate(data)


def test_validate_refuses_interactions_that_are_not_stored_along_time(data):
    data[USER_ITEM].time[3] = 5
    match = 'user 0 are not stored .*position 3 is earlier than position 1'
    with pytest.raises(ValueError, match=match):
        validate(data)


@pytest.mark.parametrize('weight', [0.0, -2.0])
def test_validate_refuses_weights_that_are_not_positive(data, weight):
    data[USER_ITEM].edge_weight[1] = weight
    with pytest.raises(ValueError, match=f'positive .got {weight} at position 1'):
        validate(data)


def test_validate_refuses_whole_number_weights(data):
    data[USER_ITEM].edge_weight = torch.ones(5, dtype=torch.long)
    with pytest.raises(ValueError, match="'edge_weight' needs to be floating point"):
        validate(data)


@pytest.mark.parametrize('node_type', ['user', 'item'])
def test_validate_refuses_features_of_wrong_shape(data, node_type):
    num_nodes = data[node_type].num_nodes
    match = rf"'x_text' of modality 'text' need shape \[{num_nodes}, \*\], one row per"
    for shape in [(num_nodes + 1, 2), (num_nodes,)]:
        data[node_type].x_text = torch.rand(shape)
        with pytest.raises(ValueError, match=match):
            validate(data)


@pytest.mark.parametrize('value', [float('nan'), float('-inf')])
def test_validate_names_the_first_bad_row_of_features(data, value):
    data['item'].x_image[3, 0] = data['item'].x_image[2, 1] = value
    match = "modality 'image' hold NaN or inf in 2 rows, the first is item 2"
    with pytest.raises(ValueError, match=match):
        validate(data)


@pytest.mark.parametrize(
    'has',
    [
        torch.ones(4),
        torch.ones(4, dtype=torch.long),
        torch.ones(3, dtype=torch.bool),
        torch.ones(4, 1, dtype=torch.bool),
    ],
)
def test_validate_refuses_other_masks_of_items_that_have_a_modality(data, has):
    data['item'].has_image = torch.tensor([True, False, False, True])
    assert validate(data) is data
    data['item'].has_image = has
    match = (
        rf"'has_image' needs .*'torch.bool'.*\[4\], one entry per item \(got "
        rf"'{has.dtype}' of shape \[{str(list(has.shape))[1:-1]}\]\)"
    )
    with pytest.raises(ValueError, match=match):
        validate(data)


def test_validate_refuses_what_tells_of_a_modality_without_features(data):
    data['item'].has_text = torch.ones(4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"no features 'x_text': set .*'has_text'"):
        validate(data)
    data['item'].has_text = [True] * 4
    with pytest.raises(TypeError, match="'has_text' of 'item' needs to be"):
        validate(data)


TRUSTS = ('user', 'trusts', 'user')


@pytest.mark.parametrize(
    ('edge_index', 'match'),
    [
        (torch.tensor([[0, 1], [1, 3]]), r"'trusts', 'user'. names user 3 at pos.* 1"),
        (torch.tensor([[0], [1]]).int(), r"'trusts', 'user'. needs .*'torch.int32'"),
        (
            torch.tensor([[0, 1, 2], [1, 1, 2]]),
            r'2 ties that join .* user 1 to user 1 at position 1: .*SocialEdges\(\)',
        ),
        (
            torch.tensor([[2, 0, 1, 2, 0], [1, 1, 0, 1, 1]]),
            r'2 ties twice, the first is from user 2 to user 1 at position 3: .*Clean',
        ),
    ],
)
def test_validate_names_ties_that_break_the_schema(data, edge_index, match):
    data[TRUSTS].edge_index = edge_index
    with pytest.raises(ValueError, match=match):
        validate(data)


def test_validate_asks_for_opposites_of_ties_if_told_to(data):
    assert validate(data, undirected_ties=True) is data
    data[TRUSTS].edge_index = torch.tensor([[0, 2, 1], [1, 0, 0]])
    assert validate(data) is data
    match = r'1 ties in one .* user 2 to user 0 at position 1: .*\(undirected=True\)'
    with pytest.raises(ValueError, match=match):
        validate(data, undirected_ties=True)


@pytest.mark.parametrize('shift', [0, 2**31 - 5, 2**31 - 1, 2**40])
def test_repeats_are_found_whatever_the_size_of_keys(shift):
    key = torch.tensor([4, 1, 3, 0, 2]) + shift
    assert not has_repeats(key)
    assert not has_repeats(key.sort().values)
    assert not has_repeats(key[:0])
    assert has_repeats(torch.cat([key, key[2:3]]))
    # Equal in their last 32 bits only.
    assert not has_repeats(torch.cat([key + 2**32, key]))
