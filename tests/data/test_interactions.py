import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import (
    USER_ITEM,
    history_mask,
    interaction_rows,
    split_mask,
    target_rows,
    validate,
)
from pyg_diffrec.data.interactions import rows_of_valid


@pytest.fixture
def data():
    data = HeteroData()
    data['user'].num_nodes = 4
    data['item'].num_nodes = 5
    store = data[USER_ITEM]
    # User 3 comes before user 0, and user 1 has nothing.
    store.edge_index = torch.tensor([[3, 0, 0, 3, 2, 0], [4, 3, 1, 0, 2, 0]])
    store.train_mask = torch.tensor([True, True, True, False, True, False])
    store.val_mask = torch.tensor([False, False, False, True, False, False])
    store.test_mask = torch.tensor([False, False, False, False, False, True])
    return data


def test_interaction_rows_hold_training_interactions_in_stored_order(data):
    rows = interaction_rows(data)
    assert rows.shape == (4, 5)
    assert rows.rowptr.tolist() == [0, 2, 2, 3, 4]
    assert rows.col.tolist() == [3, 1, 2, 4]
    assert rows.value.tolist() == [1, 1, 1, 1]


def test_interaction_rows_of_longer_history(data):
    rows = interaction_rows(data, 'train+val')
    assert rows.rowptr.tolist() == [0, 2, 2, 3, 5]
    assert rows.col.tolist() == [3, 1, 2, 4, 0]


def test_interaction_rows_carry_their_weights(data):
    data[USER_ITEM].edge_weight = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert interaction_rows(data).value.tolist() == [5, 4, 2, 6]


@pytest.mark.parametrize(('split', 'expected'), [('val', [[3, 0]]), ('test', [[0, 0]])])
def test_target_rows_hold_one_split(data, split, expected):
    rows = target_rows(data, split)
    assert rows.shape == (4, 5)
    assert rows.to_dense().nonzero().tolist() == expected


def test_histories_and_targets_divide_the_interactions(data):
    rows = [interaction_rows(data), target_rows(data, 'val'), target_rows(data, 'test')]
    total = torch.zeros(4, 5)
    total[tuple(data[USER_ITEM].edge_index)] = 1
    assert torch.equal(sum(part.to_dense() for part in rows), total)


def test_split_mask_asks_for_a_split(data):
    assert split_mask(data, 'val') is data[USER_ITEM].val_mask
    del data[USER_ITEM].val_mask
    with pytest.raises(ValueError, match="no 'val_mask': apply a split first"):
        split_mask(data, 'val')


def test_history_mask_lists_the_histories(data):
    with pytest.raises(ValueError, match=r"\['train', 'train\+val'\] \(got 'all'\)"):
        history_mask(data, 'all')


@pytest.mark.parametrize('split', ['tset', 'train_mask', 3, None])
def test_other_splits_are_refused(data, split):
    for read in (split_mask, target_rows):
        with pytest.raises(ValueError, match=r"'split' needs to be one of \['train', "):
            read(data, split)


def test_rows_of_a_valid_graph_are_those_that_are_checked(data):
    data[USER_ITEM].edge_weight = torch.rand(6) + 0.5
    validate(data)
    for splits in ('train', 'train+val', 'val', 'test'):
        checked = interaction_rows if splits.startswith('train') else target_rows
        rows, expected = rows_of_valid(data, splits), checked(data, splits)
        assert rows.shape == expected.shape == (4, 5)
        for key in ('rowptr', 'col', 'value'):
            assert torch.equal(getattr(rows, key), getattr(expected, key))
