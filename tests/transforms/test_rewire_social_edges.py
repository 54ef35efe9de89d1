import pytest
import torch
from torch_geometric import EdgeIndex
from toy import given_data, toy_data

from pyg_diffrec.data.schema import USER_USER, validate
from pyg_diffrec.transforms.rewire_social_edges import RewireSocialEdges


def graph(edge_index, num_users):
    data = given_data([[0]] * num_users, [[1]], [[2]], 3)
    data[USER_USER].edge_index = torch.tensor(edge_index)
    return data


def random_graph(num_users, num_ties, undirected):
    generator = torch.Generator().manual_seed(1)
    left, right = torch.triu_indices(num_users, num_users, 1)
    perm = torch.randperm(left.numel(), generator=generator)[:num_ties]
    edge_index = torch.stack([left, right])[:, perm]
    edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    if not undirected:
        edge_index = edge_index[:, torch.randperm(2 * num_ties, generator=generator)]
        edge_index = edge_index[:, :num_ties]
    data = graph(edge_index.tolist(), num_users)
    data[USER_USER].weight = torch.arange(edge_index.size(1))
    return data


def pairs(edge_index):
    return set(map(tuple, edge_index.t().tolist()))


@pytest.mark.parametrize('ratio', [0.0, 0.1, 0.25, 1.0])
@pytest.mark.parametrize('undirected', [False, True])
def test_a_share_of_ties_becomes_fake_ones(ratio, undirected):
    data = random_graph(40, 90, undirected)
    before = data[USER_USER].edge_index.clone()
    rewired = validate(RewireSocialEdges(ratio, seed=2)(data), undirected)
    store = rewired[USER_USER]
    fake = store.fake_mask
    assert int(fake.sum()) == (2 if undirected else 1) * int(90 * ratio + 0.5)
    assert torch.equal(store.edge_index[:, ~fake], before[:, ~fake])
    assert not pairs(store.edge_index[:, fake]) & pairs(before)
    assert torch.equal(store.weight, data[USER_USER].weight)
    if undirected:
        # Both directions of a pair are true, or both are fake.
        assert pairs(store.edge_index[:, fake]) == pairs(
            store.edge_index[:, fake].flip(0)
        )
    assert torch.equal(data[USER_USER].edge_index, before)
    assert 'fake_mask' not in data[USER_USER]


def test_the_seed_decides_and_the_global_state_is_left_alone():
    data = random_graph(40, 90, True)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = RewireSocialEdges(0.5, seed=0)(data)[USER_USER]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    again = RewireSocialEdges(0.5, seed=0)(data)[USER_USER]
    other = RewireSocialEdges(0.5, seed=1)(data)[USER_USER]
    assert torch.equal(first.edge_index, again.edge_index)
    assert torch.equal(first.fake_mask, again.fake_mask)
    assert not torch.equal(first.fake_mask, other.fake_mask)


@pytest.mark.parametrize('undirected', [False, True])
def test_ties_and_fake_ties_are_drawn_uniformly(undirected):
    edge_index = [[0, 1, 2, 3], [1, 0, 3, 2]] if undirected else [[0, 2], [1, 3]]
    data = graph(edge_index, 4)
    kept, drawn = torch.zeros(4, 4), torch.zeros(4, 4)
    num_draws = 800
    for seed in range(num_draws):
        store = RewireSocialEdges(0.5, seed=seed)(data)[USER_USER]
        drawn[tuple(store.edge_index[:, store.fake_mask])] += 1
        kept[tuple(store.edge_index[:, ~store.fake_mask])] += 1
    # One of two ties goes, one of 4 undirected or 10 directed pairs comes.
    expected = torch.ones(4, 4).fill_diagonal_(0)
    expected[tuple(torch.tensor(edge_index))] = 0
    share = 0.25 if undirected else 0.1
    assert (drawn / num_draws - share * expected).abs().max() < 4 * 0.5 / num_draws**0.5
    assert abs(float(kept[0, 1]) / num_draws - 0.5) < 4 * 0.5 / num_draws**0.5


@pytest.mark.parametrize('undirected', [False, True])
def test_the_last_pairs_of_a_dense_graph_are_found(undirected):
    num_users = 30
    every = torch.ones(num_users, num_users).fill_diagonal_(0)
    free = [(3, 7), (7, 3), (20, 9), (9, 20)]
    every[tuple(torch.tensor(free).t())] = 0
    data = graph(every.nonzero().t().tolist(), num_users)
    if not undirected:
        data[USER_USER].edge_index = data[USER_USER].edge_index[:, 1:]
        free.append((0, 1))
    num_ties = data[USER_USER].edge_index.size(1)
    store = RewireSocialEdges(len(free) / num_ties)(data)[USER_USER]
    assert pairs(store.edge_index[:, store.fake_mask]) == set(free)
    few = r'Only {} pairs .*for {} fake ones in .RewireSocialEdges.*smaller .ratio'
    counts = (2, 3) if undirected else (5, 6)
    with pytest.raises(ValueError, match=few.format(*counts)):
        RewireSocialEdges((len(free) + 1) / num_ties)(data)


def test_fake_ties_that_are_marked_stay_and_do_not_count():
    data = toy_data(num_social=6, fake_social_share=0.5)
    before = data[USER_USER]
    old = before.fake_mask
    store = RewireSocialEdges(0.5)(data)[USER_USER]
    assert torch.equal(store.edge_index[:, old], before.edge_index[:, old])
    num_true = int((~old).sum()) // 2
    new = store.fake_mask & ~old
    assert int(new.sum()) == 2 * int(num_true * 0.5 + 0.5)
    assert (store.fake_mask | ~old).all()
    assert not pairs(store.edge_index[:, new]) & pairs(before.edge_index)


def test_no_tie_at_all():
    data = graph([[], []], 3)
    data[USER_USER].edge_index = torch.empty(2, 0, dtype=torch.long)
    store = RewireSocialEdges(1.0)(data)[USER_USER]
    assert store.edge_index.shape == (2, 0)
    assert store.fake_mask.shape == (0,)


def test_bad_arguments_are_refused():
    for ratio in (-0.1, 1.1, float('nan')):
        with pytest.raises(ValueError, match=rf"'ratio' needs .*\[0, 1\].*got {ratio}"):
            RewireSocialEdges(ratio)
    data = graph([[0, 1], [1, 1]], 3)
    with pytest.raises(ValueError, match='1 ties that join a user to itself'):
        RewireSocialEdges(0.5)(data)
    del data[USER_USER]
    with pytest.raises(ValueError, match=r"no \('user', 'trusts', 'user'\) relation"):
        RewireSocialEdges(0.5)(data)
    assert str(RewireSocialEdges(0.5)) == 'RewireSocialEdges(0.5, seed=0)'


def test_arguments_of_other_types_are_refused():
    with pytest.raises(TypeError, match="'ratio' needs to be a number in 'RewireSoc"):
        RewireSocialEdges('0.5')
    with pytest.raises(TypeError, match="'seed' needs to be a whole number in 'Rewire"):
        RewireSocialEdges(0.5, seed=True)


def test_an_edge_index_of_pyg_does_not_claim_an_order_that_is_gone():
    data = toy_data(num_social=6)
    expected = RewireSocialEdges(0.5)(data)[USER_USER].edge_index
    old = data[USER_USER].edge_index
    old = EdgeIndex(old, sparse_size=(60, 60)).sort_by('row')[0]
    data[USER_USER].edge_index = old
    store = RewireSocialEdges(0.5)(data)[USER_USER]
    assert type(store.edge_index) is torch.Tensor
    assert store.edge_index.shape == expected.shape
