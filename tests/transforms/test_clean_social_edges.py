import pytest
import torch
from toy import given_data

from pyg_diffrec.data.schema import USER_USER, validate
from pyg_diffrec.transforms.clean_social_edges import CleanSocialEdges


@pytest.fixture
def data():
    data = given_data([[0]] * 4, [[1]], [[2]], 3)
    # A tie, one to itself, the tie again, its opposite, two of unknown users.
    edge_index = torch.tensor([[2, 1, 2, 0, 4, 1, 3], [0, 1, 0, 2, 0, -1, 1]])
    data[USER_USER].edge_index = edge_index
    data[USER_USER].weight = torch.arange(7)
    return data


def test_cleaned_ties_follow_the_schema_and_keep_their_order(data):
    before = data[USER_USER].edge_index.clone()
    store = validate(CleanSocialEdges()(data))[USER_USER]
    assert store.edge_index.tolist() == [[2, 0, 3], [0, 2, 1]]
    assert store.weight.tolist() == [0, 3, 6]
    assert torch.equal(data[USER_USER].edge_index, before)


def test_missing_opposites_are_added(data):
    transform = CleanSocialEdges(undirected=True)
    cleaned = validate(transform(data), undirected_ties=True)
    store = cleaned[USER_USER]
    assert store.edge_index.tolist() == [[2, 0, 3, 1], [0, 2, 1, 3]]
    assert store.weight.tolist() == [0, 3, 6, 6]
    again = transform(cleaned)[USER_USER]
    assert torch.equal(again.edge_index, store.edge_index)
    assert torch.equal(again.weight, store.weight)


def test_two_ties_and_their_entries_are_told_apart(data):
    data[USER_USER].edge_index = torch.tensor([[1, 1], [1, 0]])
    data[USER_USER].weight = torch.tensor([5, 6])
    store = CleanSocialEdges()(data)[USER_USER]
    assert store.edge_index.tolist() == [[1], [0]]
    assert store.weight.tolist() == [6]


def test_a_graph_without_ties_is_refused(data):
    del data[USER_USER]
    with pytest.raises(
        ValueError, match=r"no \('user', 'trusts', 'user'\) relation for"
    ):
        CleanSocialEdges()(data)
    assert str(CleanSocialEdges()) == 'CleanSocialEdges(undirected=False)'
