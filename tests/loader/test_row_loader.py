import pytest
import torch

from pyg_diffrec.loader import RowLoader
from pyg_diffrec.typing import RowBatch
from pyg_diffrec.utils import SparseRows


def build(num_rows=7, num_cols=5):
    torch.manual_seed(0)
    row, col = (torch.rand(num_rows, num_cols) < 0.5).nonzero().t()
    return SparseRows.from_coo(row, col, num_rows=num_rows, num_cols=num_cols)


def test_batches_hold_the_rows_of_their_users():
    rows = build()
    loader = RowLoader(rows, batch_size=3, shuffle=True)
    assert len(loader) == 3
    batches = list(loader)
    users = torch.cat([batch.user for batch in batches])
    assert sorted(users.tolist()) == list(range(7))
    for batch in batches:
        assert torch.equal(batch.rows.to_dense(), rows.to_dense()[batch.user])


def test_order_follows_the_seed():
    def order(seed):
        torch.manual_seed(seed)
        loader = RowLoader(build(), batch_size=2, shuffle=True)
        torch.manual_seed(seed)
        return torch.cat([batch.user for batch in loader]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    plain = RowLoader(build(), batch_size=2)
    assert torch.cat([batch.user for batch in plain]).tolist() == list(range(7))


def test_fabric_moves_a_batch_with_its_sparse_rows():
    from lightning_fabric.utilities.apply_func import move_data_to_device

    batch = next(iter(RowLoader(build(), batch_size=3)))
    moved = move_data_to_device(batch, torch.device('meta'))
    assert type(moved) is type(batch)
    assert {moved.user.device.type, moved.rows.device.type} == {'meta'}
    assert moved.rows.value.device.type == moved.rows.rowptr.device.type == 'meta'


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        ({'batch_size': 0}, ValueError, r"'batch_size' needs to be .*\(got 0\)"),
        ({'batch_size': 2.0}, TypeError, "'batch_size' needs to be a whole number"),
        ({'shuffle': 1}, TypeError, "'shuffle' needs to be true or false in"),
    ],
)
def test_bad_arguments_are_refused(kwargs, error, match):
    with pytest.raises(error, match=match):
        RowLoader(build(), **kwargs)


def test_batches_move_with_all_their_parts():
    batch = next(iter(RowLoader(build(), batch_size=3)))
    moved = batch.to('meta', non_blocking=True)
    assert isinstance(moved, RowBatch)
    parts = (moved.user, moved.rows.rowptr, moved.rows.col, moved.rows.value)
    assert {part.device.type for part in parts} == {'meta'}
    assert moved.rows.shape == batch.rows.shape
    assert torch.equal(batch.to('cpu').rows.to_dense(), batch.rows.to_dense())
