import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.transforms import CleanInteractions


@pytest.fixture
def data():
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 3, 4
    store = data[USER_ITEM]
    store.edge_index = torch.tensor([[2, 0, 2, 0, 1, 2], [3, 1, 3, 0, 2, 3]])
    store.edge_weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    store.note = ['a', 'b', 'c', 'd', 'e', 'f']
    return data


@pytest.mark.parametrize(('keep', 'notes'), [('first', 'a b d e'), ('last', 'b d e f')])
def test_each_pair_stays_once_in_stored_order(data, keep, notes):
    before = repr(data.to_dict())
    store = validate(CleanInteractions(keep)(data))[USER_ITEM]
    assert store.note == notes.split()
    place = ['abcdef'.index(note) for note in store.note]
    assert torch.equal(store.edge_index, data[USER_ITEM].edge_index[:, place])
    assert torch.equal(store.edge_weight, data[USER_ITEM].edge_weight[place])
    assert repr(data.to_dict()) == before


@pytest.mark.parametrize(('keep', 'notes'), [('first', 'f b d e'), ('last', 'b d e c')])
def test_interactions_follow_their_time(data, keep, notes):
    data[USER_ITEM].time = torch.tensor([5, 2, 9, 2, 3, 1])
    store = validate(CleanInteractions(keep)(data))[USER_ITEM]
    assert store.note == notes.split()
    assert store.time.tolist() == sorted(store.time.tolist())


def test_bad_arguments_are_refused(data):
    with pytest.raises(ValueError, match=r"'keep' needs .*\['first', 'last'\].*'all'"):
        CleanInteractions('all')
    assert str(CleanInteractions('last')) == "CleanInteractions(keep='last')"
    data[USER_ITEM].edge_index = data[USER_ITEM].edge_index + 1
    with pytest.raises(ValueError, match='names user 3 at position 0'):
        CleanInteractions()(data)
