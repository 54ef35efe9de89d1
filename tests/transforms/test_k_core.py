import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.transforms import KCore, TemporalSplit


@pytest.fixture
def data():
    # Items 1 and 3 with users 0, 2 and 3 form the 2-core. Item 0 falls at once
    # (only user 1), which leaves user 1 with item 1 alone, who falls after it.
    pairs = [(0, 1), (1, 0), (1, 1), (2, 3), (0, 3), (2, 1), (3, 3), (3, 1)]
    data = HeteroData()
    data['user'].num_nodes = 5
    data['item'].num_nodes = 4
    store = data[USER_ITEM]
    store.edge_index = torch.tensor(pairs).t()
    store.time = torch.arange(10, 18)
    store.edge_weight = torch.arange(1.0, 9.0)
    store.train_mask = torch.arange(8) % 2 == 0
    store.val_mask = torch.arange(8) % 4 == 1
    store.test_mask = torch.arange(8) % 4 == 3
    data['user'].x_age = torch.arange(5.0).view(-1, 1)
    data['item'].x_image = torch.arange(8.0).view(4, 2)
    data['item'].category = torch.tensor([7, 8, 9, 10])
    data['user', 'trusts', 'user'].edge_index = torch.tensor([[0, 1, 3], [1, 2, 2]])
    data['user', 'trusts', 'user'].fake_mask = torch.tensor([True, False, True])
    data['item', 'has', 'tag'].edge_index = torch.tensor([[3, 0], [4, 5]])
    data['tag'].num_nodes = 6
    data['tag', 'is', 'tag'].edge_index = torch.tensor([[0], [5]])
    return data


def test_k_core_by_hand(data):
    out = validate(KCore(k_user=2, k_item=2)(data))
    assert out['user'].n_id.tolist() == [0, 2, 3]
    assert out['item'].n_id.tolist() == [1, 3]
    assert (out['user'].num_nodes, out['item'].num_nodes) == (3, 2)
    store = out[USER_ITEM]
    assert store.edge_index.tolist() == [[0, 1, 0, 1, 2, 2], [0, 1, 1, 0, 1, 0]]
    assert store.time.tolist() == [10, 13, 14, 15, 16, 17]
    assert store.edge_weight.tolist() == [1, 4, 5, 6, 7, 8]
    assert store.train_mask.tolist() == [True, False, True, False, True, False]
    assert out['user'].x_age.view(-1).tolist() == [0, 2, 3]
    assert out['item'].x_image.tolist() == [[2, 3], [6, 7]]
    assert out['item'].category.tolist() == [8, 10]


def test_k_core_relabels_other_relations(data):
    out = KCore(k_user=2, k_item=2)(data)
    # Ties with user 1 are gone, and users 3 and 2 are now 2 and 1.
    assert out['user', 'trusts', 'user'].edge_index.tolist() == [[2], [1]]
    assert out['user', 'trusts', 'user'].fake_mask.tolist() == [True]
    assert out['item', 'has', 'tag'].edge_index.tolist() == [[1], [4]]
    assert out['tag', 'is', 'tag'].edge_index.tolist() == [[0], [5]]
    assert out['tag'].num_nodes == 6


def test_k_core_leaves_its_input_alone(data):
    before = repr(data.to_dict())
    KCore(k_user=2, k_item=2)(data)
    assert repr(data.to_dict()) == before


def test_k_core_of_one_drops_nodes_without_interactions(data):
    out = KCore(k_user=1, k_item=1)(data)
    assert out['user'].n_id.tolist() == [0, 1, 2, 3]
    assert out['item'].n_id.tolist() == [0, 1, 3]


def test_k_core_again_changes_nothing_and_keeps_the_original_numbers(data):
    once = KCore(k_user=2, k_item=2)(data)
    assert repr(KCore(k_user=2, k_item=2)(once).to_dict()) == repr(once.to_dict())
    larger = KCore(k_user=2, k_item=3)(data)
    twice = KCore(k_user=2, k_item=3)(KCore(k_user=1, k_item=1)(data))
    assert torch.equal(twice['item'].n_id, larger['item'].n_id)


@pytest.mark.parametrize('seed', range(3))
def test_k_core_agrees_with_peeling_one_node_at_a_time(seed):
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randperm(60 * 40, generator=generator)[:260]
    data = HeteroData()
    data['user'].num_nodes = 60
    data['item'].num_nodes = 40
    data[USER_ITEM].edge_index = torch.stack([pair // 40, pair % 40])
    left = {(int(p) // 40, int(p) % 40) for p in pair}
    bounds = (3, 4)
    while True:
        for side, k in enumerate(bounds):
            ends = [edge[side] for edge in left]
            low = next((node for node in ends if ends.count(node) < k), None)
            if low is not None:
                left = {edge for edge in left if edge[side] != low}
                break
        else:
            break
    assert 0 < len(left) < 260
    out = KCore(*bounds)(data)
    row, col = out[USER_ITEM].edge_index
    kept = torch.stack([out['user'].n_id[row], out['item'].n_id[col]])
    assert set(map(tuple, kept.t().tolist())) == left


def test_k_core_refuses_an_empty_result(data):
    with pytest.raises(ValueError, match=r'No interaction is left .*k_user=3 and k_i'):
        KCore(k_user=3, k_item=2)(data)


@pytest.mark.parametrize(('name', 'bounds'), [('k_user', (0, 1)), ('k_item', (1, 0))])
def test_k_core_refuses_bounds_below_one(name, bounds):
    with pytest.raises(ValueError, match=f"'{name}' needs to be positive in 'KCore'"):
        KCore(*bounds)


def test_k_core_then_split(data):
    data = validate(TemporalSplit(leave_last=1)(KCore(1, 1)(data)))
    assert repr(KCore(1, 2)) == 'KCore(k_user=1, k_item=2)'
    assert int(data[USER_ITEM].train_mask.sum()) == 8


def test_k_core_checks_the_relations_it_selects_from(data):
    del data['tag'].num_nodes  # Which nobody needs.
    expected = KCore(2, 2)(data)['item', 'has', 'tag'].edge_index
    assert expected.tolist() == [[1], [4]]
    data['item', 'has', 'tag'].edge_index[0, 0] = 4
    with pytest.raises(ValueError, match=r"'has', 'tag'\) names item 4 at position 0"):
        KCore(2, 2)(data)
    data['item', 'has', 'tag'].edge_index = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"'has', 'tag'\) needs to be 'torch.long'"):
        KCore(2, 2)(data)


@pytest.mark.parametrize('k', [1.5, True, '2'])
def test_k_core_refuses_bounds_that_are_no_whole_numbers(k):
    with pytest.raises(TypeError, match="'k_item' needs to be a whole number in 'KCo"):
        KCore(2, k)
