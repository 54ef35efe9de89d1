import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import ToUndirected

from pyg_diffrec.data import USER_ITEM, USER_USER, interaction_rows, validate
from pyg_diffrec.transforms import CleanInteractions, TemporalSplit, ToUserItem


def movies():
    """As PyG's MovieLens: types, names, features of movies, no number of them."""
    data = HeteroData()
    data['movie'].x = torch.rand(4, 2)
    data['movie'].title = ['A', 'B', 'C', 'D']
    data['user'].num_nodes = np.int64(3)
    store = data['user', 'rates', 'movie']
    store.edge_index = torch.tensor([[0, 0, 1, 2, 2, 2], [1, 3, 0, 2, 1, 0]])
    store.rating = torch.tensor([5, 3, 4, 1, 2, 5])
    store.time = torch.tensor([30, 10, 20, 50, 60, 40])
    store.edge_label = store.rating
    data['user', 'follows', 'user'].edge_index = torch.tensor([[0], [2]])
    data.name = 'movies'
    return ToUndirected(merge=False)(data)


def test_everything_comes_along_under_the_names_of_the_schema():
    data = movies()
    before = repr(data.to_dict())
    out = ToUserItem(item='movie', relation='rates', ties='follows')(data)
    assert repr(data.to_dict()) == before
    assert set(out.node_types) == {'user', 'item'}
    assert set(out.edge_types) == {
        USER_ITEM,
        ('item', 'rev_rates', 'user'),
        USER_USER,
        ('user', 'rev_follows', 'user'),
    }
    old, new = data['user', 'rates', 'movie'], out[USER_ITEM]
    assert set(new.keys()) == set(old.keys())
    assert all(torch.equal(new[key], old[key]) for key in new.keys())  # noqa: SIM118
    assert out['item'].title == ['A', 'B', 'C', 'D']
    assert torch.equal(out['item'].x, data['movie'].x)
    assert out[USER_USER].edge_index.tolist() == [[0], [2]]
    assert out.name == 'movies'
    assert (out['user'].num_nodes, out['item'].num_nodes) == (3, 4)
    assert new._key == USER_ITEM
    assert out['item']._key == 'item'

    out = validate(TemporalSplit(leave_last=1)(CleanInteractions()(out)))
    assert interaction_rows(out).to_dense().nonzero().tolist() == [
        [0, 1],
        [0, 3],
        [1, 0],
        [2, 0],
    ]


def test_users_and_items_may_have_changed_places():
    data = HeteroData()
    data['item'].num_nodes, data['user'].num_nodes = 2, 5
    data['item', 'interacts', 'user'].edge_index = torch.tensor([[0, 1], [4, 2]])
    out = ToUserItem(user='item', item='user')(data)
    assert (out['user'].num_nodes, out['item'].num_nodes) == (2, 5)
    assert out.edge_types == [USER_ITEM]
    assert validate(out)[USER_ITEM].edge_index.tolist() == [[0, 1], [4, 2]]
    assert repr(ToUserItem()(out).to_dict()) == repr(out.to_dict())


def test_what_is_not_there_or_in_the_way_is_named():
    data = movies()
    match = r"no \('user', 'rates', 'film'\) relation for 'ToUserItem' \(it has \[.*mov"
    with pytest.raises(ValueError, match=match):
        ToUserItem(item='film', relation='rates')(data)
    with pytest.raises(ValueError, match=r"no \('user', 'likes', 'user'\) relation"):
        ToUserItem(item='movie', relation='rates', ties='likes')(data)
    data['item'].num_nodes = 7
    with pytest.raises(ValueError, match="a node type 'item' that is neither user='us"):
        ToUserItem(item='movie', relation='rates')(data)
    data = ToUserItem(item='movie', relation='rates')(movies())
    data['user', 'saw', 'item'].edge_index = torch.tensor([[0], [0]])
    with pytest.raises(ValueError, match=r"has \('user', 'interacts', 'item'\) beside"):
        ToUserItem(relation='saw')(data)
    with pytest.raises(TypeError, match="'data' needs to be a 'HeteroData'"):
        ToUserItem()(Data())


def test_names_are_checked():
    with pytest.raises(ValueError, match="'user' and 'item' need to be two node types"):
        ToUserItem(user='node', item='node')
    with pytest.raises(TypeError, match="'relation' needs to be a string"):
        ToUserItem(relation=('user', 'rates', 'movie'))
    with pytest.raises(TypeError, match="'ties' needs to be a string"):
        ToUserItem(ties=True)
    assert str(ToUserItem(item='book', ties='follows')) == (
        "ToUserItem(user='user', item='book', relation='interacts', ties='follows')"
    )
