import pytest
import torch
from toy import given_data

from pyg_diffrec.loader import EdgeBatch, EdgeLoader, NegativeSampler, RowLoader
from pyg_diffrec.models import LightGCN
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows


def build(num_rows=9, num_cols=12, share=0.4):
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(num_rows, num_cols, generator=generator) < share
    row, col = dense.nonzero().t()
    return SparseRows.from_coo(row, col, num_rows=num_rows, num_cols=num_cols)


def epoch(loader):
    return EdgeBatch(*(torch.cat(parts) for parts in list(zip(*loader))[:3]))


@pytest.mark.parametrize('shuffle', [False, True])
def test_an_epoch_holds_each_interaction_once_with_a_negative(shuffle):
    rows = build()
    loader = EdgeLoader(rows, batch_size=10, shuffle=shuffle)
    assert len(loader) == -(-rows.nnz // 10)
    assert isinstance(next(iter(loader)), EdgeBatch)
    batch = epoch(loader)
    pairs = list(zip(batch.user.tolist(), batch.positive.tolist()))
    expected = list(zip(rows.row.tolist(), rows.col.tolist()))
    assert sorted(pairs) == sorted(expected)
    assert (pairs == expected) is not shuffle
    assert not bool(rows.to_dense()[batch.user, batch.negative].any())


def test_epochs_draw_fresh_negatives_and_follow_the_seed():
    def epochs(seed):
        torch.manual_seed(seed)
        loader = EdgeLoader(build(), batch_size=10)
        return epoch(loader).negative, epoch(loader).negative

    first, second = epochs(1)
    assert not torch.equal(first, second)
    assert torch.equal(first, epochs(1)[0])
    assert torch.equal(second, epochs(1)[1])
    assert not torch.equal(first, epochs(2)[0])


def test_a_generator_draws_order_and_negatives():
    def draw(seed):
        generator = torch.Generator().manual_seed(3)
        torch.manual_seed(seed)
        return epoch(EdgeLoader(build(), 10, shuffle=True, generator=generator))

    first, second = draw(1), draw(2)
    assert all(torch.equal(a, b) for a, b in zip(first[:3], second[:3]))


@pytest.mark.parametrize('workers', [0, 2])
def test_weights_follow_their_interactions(workers):
    rows = build()
    weight = torch.rand(rows.nnz)
    loader = EdgeLoader(
        rows, 10, shuffle=True, weight=weight, num_workers=workers, drop_last=True
    )
    assert len(loader) == len(list(loader)) == rows.nnz // 10
    expected = rows.with_value(weight).to_dense()
    for batch in loader:
        assert len(batch.weight) == 10
        assert torch.equal(batch.weight, expected[batch.user, batch.positive])
    assert next(iter(EdgeLoader(rows))).weight is None


def test_no_interactions_are_no_batches():
    rows = SparseRows(torch.zeros(3).long(), torch.empty(0).long(), num_cols=4)
    loader = EdgeLoader(rows, shuffle=True)
    assert len(loader) == len(list(loader)) == 0


def test_workers_draw_their_own_negatives():
    generator = torch.Generator().manual_seed(0)
    # The same two users in both batches: equal negatives would be a copy.
    rows = SparseRows(torch.tensor([0, 200]), torch.arange(200), num_cols=100_000)
    loader = EdgeLoader(rows, 100, num_workers=2, generator=generator)
    one, two = loader
    assert not torch.equal(one.negative, two.negative)
    assert not torch.equal(one.negative, next(iter(loader)).negative)


def test_popularity_reaches_the_sampler():
    rows = SparseRows.from_coo(
        torch.tensor([0, 1]), torch.tensor([0, 1]), num_rows=2, num_cols=50
    )
    batch = epoch(EdgeLoader(rows, method='popularity'))
    assert batch.negative.tolist() == [1, 0]


def test_users_without_a_negative_are_left_out_with_a_word():
    # Users 1 and 3 have all three items; all pairs of the others remain.
    lists = [[0], [2, 0, 1], [1, 2], [0, 1, 2]]
    user = torch.tensor([u for u, items in enumerate(lists) for _ in items])
    item = torch.tensor([i for items in lists for i in items])
    rows = SparseRows.from_coo(user, item, num_rows=4, num_cols=3)
    match = (
        r"'EdgeLoader' leaves out the 6 interactions of 2 users, the first is 1, who "
        r'have interacted with every item: there is no negative'
    )
    with pytest.warns(UserWarning, match=match):
        loader = EdgeLoader(rows, 2, weight=torch.arange(9.0))
    assert len(loader) == 2
    batches = list(loader)
    assert torch.cat([batch.user for batch in batches]).tolist() == [0, 2, 2]
    assert torch.cat([batch.positive for batch in batches]).tolist() == [0, 1, 2]
    assert torch.cat([batch.weight for batch in batches]).tolist() == [0, 4, 5]
    assert all(int(b.negative[b.user == 2].sum()) == 0 for b in batches)


def test_a_user_may_have_all_items_that_count():
    rows = SparseRows.from_coo(
        torch.tensor([0, 0, 1]), torch.tensor([4, 2, 2]), num_rows=2, num_cols=9
    )
    with pytest.warns(UserWarning, match='1 users, the first is 0, .*non-zero popular'):
        loader = EdgeLoader(rows, method='popularity')
    assert [x.tolist() for x in epoch(loader)[:3]] == [[1], [2], [4]]
    assert len(next(iter(EdgeLoader(rows))).user) == 3


def test_nobody_with_a_negative_is_an_error():
    rows = SparseRows(torch.tensor([0, 2]), torch.tensor([0, 1]), num_cols=2)
    with pytest.raises(ValueError, match="no negative to draw in 'EdgeLoader': give"):
        EdgeLoader(rows)


def test_a_pairwise_model_trains_beside_a_user_who_has_everything():
    data = given_data([[0, 1, 2], [1]], [[], []], [[], []], 3)
    model = LightGCN.from_data(data, embedding_dim=4)
    with pytest.warns(UserWarning, match='leaves out the 3 interactions of 1 users'):
        out = fit(model, epochs=2, progress=False)
    assert out.num_epochs == 2


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        ({'batch_size': 0}, ValueError, r"'batch_size' needs to be .*\(got 0\)"),
        ({'batch_size': 2.5}, TypeError, "'batch_size' needs to be a whole number"),
        ({'batch_size': True}, TypeError, "'batch_size' needs to be a whole number"),
        ({'shuffle': 'no'}, TypeError, "'shuffle' needs to be true .*'no'"),
        ({'drop_last': 1}, TypeError, "'drop_last' needs to be true or false"),
        ({'method': 'hard'}, ValueError, "'method' needs to be one of"),
        ({'weight': torch.ones(3)}, ValueError, r"'weight' needs shape .*got \[3\]"),
        ({'weight': [1.0]}, TypeError, "'weight' needs to be a .*ensor' in"),
        ({'weight': torch.ones(40).long()}, TypeError, "'weight' .*'torch.int64'"),
    ],
)
def test_bad_arguments_are_refused(kwargs, error, match):
    with pytest.raises(error, match=match):
        EdgeLoader(build(), **kwargs)


def test_weights_are_finite_and_where_the_rows_are():
    rows = build()
    weight = torch.ones(rows.nnz)
    weight[4] = float('inf')
    with pytest.raises(ValueError, match=r'finite .*\(got inf at position 4\)'):
        EdgeLoader(rows, weight=weight)
    with pytest.raises(ValueError, match="'weight' needs to be on device 'cpu' .*meta"):
        EdgeLoader(rows, weight=weight.to('meta'))


@pytest.mark.parametrize('loader', [EdgeLoader, RowLoader, NegativeSampler])
def test_a_graph_is_no_rows(loader):
    match = "needs to be a 'SparseRows' in .*HeteroData"
    with pytest.raises(TypeError, match=match):
        loader(given_data([[0]], [[1]], [[2]], 3))


def test_batches_move_with_all_their_parts():
    rows = build()
    batch = next(iter(EdgeLoader(rows, 5, weight=torch.rand(rows.nnz))))
    moved = batch.to('meta')
    assert isinstance(moved, EdgeBatch)
    assert {part.device.type for part in moved} == {'meta'}
    assert [part.shape for part in moved] == [part.shape for part in batch]
    assert batch._replace(weight=None).to(torch.device('meta')).weight is None
    same = batch.to('cpu', non_blocking=True)
    assert all(a is b for a, b in zip(same, batch))
