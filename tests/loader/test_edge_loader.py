import pytest
import torch

from pyg_diffrec.loader.edge_loader import EdgeBatch, EdgeLoader
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


def test_a_user_who_has_everything_is_refused_before_training():
    rows = SparseRows.from_coo(
        torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), num_rows=2, num_cols=2
    )
    with pytest.raises(ValueError, match='User 1 has interacted with every item'):
        EdgeLoader(rows)
    with pytest.raises(ValueError, match="'method' needs to be one of"):
        EdgeLoader(build(), method='hard')


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match=r"'batch_size' needs to be .*\(got 0\)"):
        EdgeLoader(build(), 0)
    with pytest.raises(ValueError, match=r"'weight' needs shape .*\(got \[3\]\)"):
        EdgeLoader(build(), weight=torch.ones(3))
