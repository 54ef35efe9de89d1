import numpy as np
import pytest
import torch

from pyg_diffrec.utils.checks import (
    check_dropout,
    check_ids,
    check_positive,
    check_whole,
)


@pytest.mark.parametrize('value', [True, 'abc', None, [1]])
def test_numbers_are_numbers(value):
    for check in (check_positive, check_whole, check_dropout):
        with pytest.raises(TypeError, match="'lr' needs to be a .*number in 'Model'"):
            check('Model', lr=value)


@pytest.mark.parametrize('value', [0, -1, float('nan'), float('inf')])
def test_positive_numbers_are_positive_and_finite(value):
    with pytest.raises(ValueError, match="'lr' needs to be positive in 'Model'"):
        check_positive('Model', lr=value)


def test_whole_numbers_are_whole():
    check_whole('Model', epochs=np.int64(3))
    check_whole('Model', 0, epochs=0)
    with pytest.raises(TypeError, match=r"'epochs' .* 'Model' \(got 2.5\)"):
        check_whole('Model', epochs=2.5)
    with pytest.raises(ValueError, match=r"'epochs' needs to be positive .*got 0"):
        check_whole('Model', epochs=0)
    with pytest.raises(ValueError, match='at least 2 in'):
        check_whole('Model', 2, epochs=1)


@pytest.mark.parametrize(
    'ids',
    [
        [2, 0],
        (np.int32(2), torch.tensor(0)),
        torch.tensor([2, 0], dtype=torch.int32),
        np.array([2, 0], dtype=np.uint8),
    ],
)
def test_ids_of_any_integer_kind_are_taken(ids):
    out = check_ids('users', ids, 3, 'Model')
    assert (out.dtype, out.tolist()) == (torch.long, [2, 0])
    assert check_ids('users', 1, 3, 'Model').tolist() == [1]
    assert check_ids('users', [], 3, 'Model').shape == (0,)


@pytest.mark.parametrize(
    ('ids', 'error', 'match'),
    [
        ([1, True], TypeError, r"'users' needs whole numbers .*got True at position 1"),
        ([1.0], TypeError, 'got 1.0 at position 0'),
        (['a'], TypeError, "got 'a' at position 0"),
        (torch.tensor([1.0]), TypeError, 'torch.float32'),
        (np.array([True, False]), TypeError, 'mask.nonzero'),
        ([0, 3], ValueError, r'lie in \[0, 3\) in .*got 3 at position 1\); ask'),
        ([0, 10**30], ValueError, 'at position 1'),
        (torch.tensor([0, 1, -1]), ValueError, 'got -1 at position 2'),
        (torch.zeros(2, 2).long(), ValueError, r'needs shape \[num_users\]'),
        ([2, 0, 2, 0], ValueError, 'each id once in .*got 2 again at position 2'),
    ],
)
def test_other_ids_are_refused_by_name_and_position(ids, error, match):
    with pytest.raises(error, match=match):
        check_ids('users', ids, 3, 'Model', unique=True, hint='ask')
