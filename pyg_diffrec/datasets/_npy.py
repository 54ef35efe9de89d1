r"""Reading one array of numbers out of a :obj:`.npy` file."""

import os
import warnings

import numpy as np
import torch
from torch import Tensor


def read_npy(path: str, expected: str) -> np.ndarray:
    r"""Maps the array of a :obj:`.npy` file into memory, so that none is reserved for
    what its header claims.

    Args:
        path (str): The path of the file.
        expected (str): What the file should hold, for messages.

    Raises:
        ValueError: If the file is no :obj:`.npy` file, holds Python objects, or is
            shorter or longer than its header claims.
    """

    def refused(got: str) -> ValueError:
        return ValueError(
            f"'{path}' is truncated or no '.npy' file of numbers: expected {expected} "
            f"(got '{got}')"
        )

    with open(path, 'rb') as f:
        if f.read(2) == b'PK':
            raise ValueError(f"'{path}': expected {expected} (got an '.npz' archive)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Of headers that old versions wrote.
            array = np.load(path, mmap_mode='r', allow_pickle=False)
    except Exception as error:  # A damaged header may raise anything.
        raise refused(str(error) or error.__class__.__name__) from error
    size = os.path.getsize(path)
    if array.offset + array.nbytes != size:
        raise refused(
            f'{size} bytes, where the header claims {array.offset + array.nbytes}'
        )
    return array


def read_item_rows(path: str, what: str, num_items: int, hint: str = '') -> Tensor:
    r"""Reads a table with one row of numbers per item as float32.

    Args:
        path (str): The path of a :obj:`.npy` file.
        what (str): What the table holds, for messages.
        num_items (int): The number of items :math:`I`.
        hint (str, optional): The next step where the table is of another shape.
            (default: :obj:`''`)

    Shapes:
        - **output:** the table :math:`(I, F)`, float32

    Raises:
        ValueError: If the file holds no such table, or a value that is not finite as
            float32.
    """
    expected = (
        f'{what}, a float array of shape [{num_items}, F] with F > 0, one row per item'
    )
    array = read_npy(path, expected)
    fits = array.ndim == 2 and array.shape[0] == num_items and array.shape[1] > 0
    if not fits or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"'{path}': expected {expected} (got {array.dtype} of shape "
            f'{list(array.shape)}){hint}'
        )
    with np.errstate(over='ignore'):  # What is too large becomes inf.
        x = np.array(array, dtype=np.float32, order='C')
    wrong = ~np.isfinite(x).all(1)
    if wrong.any():
        row = int(wrong.argmax())
        col = int(np.isfinite(x[row]).argmin())
        raise ValueError(
            f"'{path}': the {what} need to be finite as float32 (got {array[row, col]} "
            f'in row {row}, column {col}; {int(wrong.sum())} such rows): fill these '
            f'rows'
        )
    return torch.from_numpy(x)
