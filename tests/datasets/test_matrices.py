import numpy as np
import pytest
import scipy.sparse
import torch

from pyg_diffrec.datasets._matrices import nonzero_entries


def coo(value, row, col, shape=(5, 7)):
    return scipy.sparse.coo_matrix((value, (row, col)), shape=shape)


@pytest.mark.parametrize('dtype', ['bool', 'i1', 'u2', 'i8', 'f4', 'f8'])
def test_entries_are_what_scipy_sees(dtype):
    generator = np.random.default_rng(0)
    row, col = generator.integers(5, size=60), generator.integers(7, size=60)
    value = generator.integers(-1, 2, size=60)
    if dtype in ('bool', 'u2'):
        value = abs(value)
    matrix = coo(value.astype(dtype), row, col)
    edge_index = nonzero_entries(matrix, "'a'")
    assert edge_index.dtype == torch.long
    seen = np.stack((matrix.tocsr() != 0).nonzero())
    order = np.lexsort(edge_index.flip(0).numpy())
    assert np.array_equal(edge_index.numpy()[:, order], seen)
    assert 10 < seen.shape[1] < 35  # Some cancel, and none is there twice.


def test_entries_keep_their_order():
    matrix = coo([1, 1, 0, 1, 2], [4, 0, 1, 4, 2], [1, 6, 1, 1, 0])
    assert nonzero_entries(matrix, "'a'").tolist() == [[4, 0, 2], [1, 6, 0]]
    assert nonzero_entries(coo([], [], []), "'a'").shape == (2, 0)


def test_values_that_are_no_numbers_are_named():
    matrix = coo([1, np.nan, np.inf], [0, 3, 0], [0, 2, 0])
    match = r"^'a' holds nan for user 3 and item 2 \(2 such entries\): store 1"
    with pytest.raises(ValueError, match=match):
        nonzero_entries(matrix, "'a'")
