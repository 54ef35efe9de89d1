"""What has one entry per user, item or edge comes along, whatever holds it."""

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM, USER_USER
from pyg_diffrec.transforms import (
    AddRandomInteractions,
    CleanInteractions,
    CleanSocialEdges,
    KCore,
)
from pyg_diffrec.transforms import _select as module
from pyg_diffrec.transforms._select import entry_dims, take


def graph():
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 3, 4
    data['item'].title = ['A', 'B', 'C', 'D']
    data['item'].raw_id = np.array(['a', 'b', 'c', 'd'])
    data['item'].pair = ('one', 'for all')
    data['user'].born = (1960, 1970, 1980)
    data[USER_ITEM].edge_index = torch.tensor([[0, 0, 1, 1, 2], [1, 3, 1, 3, 0]])
    data[USER_ITEM].review = ['v', 'w', 'x', 'y', 'z']
    data[USER_ITEM].stars = np.arange(5.0).reshape(5, 1)
    # PyG counts along the last dimension where a name of edges holds 'index'.
    data[USER_ITEM].shelf_index = torch.arange(10).view(2, 5)
    return data


def test_k_core_selects_lists_and_arrays():
    data = graph()
    out = KCore(2, 2)(data)
    assert out['item'].n_id.tolist() == [1, 3]
    assert out['item'].title == ['B', 'D']
    assert out['item'].raw_id.tolist() == ['b', 'd']
    assert out['item'].pair == ('one', 'for all')
    assert out['user'].born == (1960, 1970)
    store = out[USER_ITEM]
    assert store.review == ['v', 'w', 'x', 'y']
    assert store.stars.tolist() == [[0], [1], [2], [3]]
    assert store.shelf_index.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert data['item'].title == ['A', 'B', 'C', 'D']


class Columns(HeteroData):
    """One that keeps the nodes of one attribute in its columns."""

    def __cat_dim__(self, key, value, store=None, *args, **kwargs):
        return 1 if key == 'wide' else super().__cat_dim__(key, value, store)


def test_k_core_selects_along_the_dimension_of_the_graph():
    data = Columns()
    for key, value in graph().to_dict().items():
        if isinstance(value, dict):
            data[key].update(value)
    data['item'].wide = torch.arange(8).view(2, 4)
    data['item'].square = torch.arange(16).view(4, 4)
    out = KCore(2, 2)(data)
    assert out['item'].wide.tolist() == [[1, 3], [5, 7]]
    assert out['item'].square.tolist() == [[4, 5, 6, 7], [12, 13, 14, 15]]


def test_added_interactions_take_over_lists_and_arrays():
    data = graph()
    for split in ('train', 'val', 'test'):
        data[USER_ITEM][f'{split}_mask'] = torch.full((5,), split == 'train')
    store = AddRandomInteractions(1.0)(data)[USER_ITEM]
    assert store.edge_index.size(1) == len(store.review) == len(store.stars) == 10
    old = ~store.noise_mask
    assert [r for r, is_old in zip(store.review, old) if is_old] == list('vwxyz')
    assert store.stars.shape == (10, 1)
    # Each new one stands right behind the one that it takes over from.
    place = torch.tensor([ord(r) - ord('v') for r in store.review])
    assert torch.equal(place, place.sort().values)
    assert store.stars[:, 0].tolist() == place.tolist()
    assert store.shelf_index.tolist() == [place.tolist(), (place + 5).tolist()]


def test_cleaned_edges_take_along_lists_and_arrays():
    data = graph()
    data[USER_ITEM].edge_index[:, 2] = torch.tensor([0, 3])
    store = CleanInteractions()(data)[USER_ITEM]
    assert store.review == ['v', 'w', 'y', 'z']
    assert store.shelf_index.tolist() == [[0, 1, 3, 4], [5, 6, 8, 9]]

    data[USER_USER].edge_index = torch.tensor([[0, 1, 2], [1, 1, 0]])
    data[USER_USER].since = ['x', 'y', 'z']
    data[USER_USER].trust = np.array([0.1, 0.2, 0.3])
    store = CleanSocialEdges(undirected=True)(data)[USER_USER]
    assert store.edge_index.tolist() == [[0, 2, 1, 0], [1, 0, 0, 2]]
    assert store.since == ['x', 'z', 'x', 'z']
    assert store.trust.tolist() == [0.1, 0.3, 0.1, 0.3]


@pytest.mark.parametrize('count', [2, 3, 4])
def test_entries_are_the_node_attributes_of_pyg(count):
    data = HeteroData()
    data['item'].num_nodes = count
    data['item'].update(
        {
            'list': [1, 2, 3],
            'tuple': (1, 2, 3, 4),
            'text': 'abcd',
            'number': 3,
            'scalar': torch.tensor(3),
            'wide': torch.rand(2, 3),
            'array': np.ones((3, 2)),
            'some_index': torch.rand(2, 4),
            'table': {'a': 1, 'b': 2, 'c': 3},
        }
    )
    store = data['item']
    assert set(entry_dims(data, store, count)) == set(store.node_attrs())


@pytest.mark.parametrize('count', [2, 5])
def test_entries_are_the_edge_attributes_of_pyg(count):
    data = graph()
    store = data[USER_ITEM]
    store.edge_index = torch.zeros(2, count).long()
    store.two = [1, 2]
    expected = set(store.edge_attrs()) - {'edge_index'}
    assert set(entry_dims(data, store, count)) == expected
    assert len(expected) == {2: 1, 5: 3}[count]


class Frame(module.TensorFrame):
    """Stands for a frame of PyTorch Frame, which PyG counts among the attributes."""

    device = torch.device('cpu')

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return Frame(self.values[index])


def test_frames_are_selected_by_row():
    data = HeteroData()
    data['item'].num_nodes = 3
    data['item'].tf = Frame(torch.tensor([5, 6, 7]))
    assert entry_dims(data, data['item'], 3) == {'tf': 0}
    assert take(data['item'].tf, torch.tensor([2, 0]), 0).values.tolist() == [7, 5]
