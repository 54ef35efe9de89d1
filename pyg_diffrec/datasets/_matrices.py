r"""From sparse matrices to edges."""

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

# All users and items get room, in the graph and in models, whether they occur or not.
_MOST_TIMES = 10
_MOST_AT_LEAST = 1000


def check_count(count: int, num_entries: int, where: str) -> None:
    r"""Raises an error if a file claims far more users, or items, than its matrices
    have entries.

    Args:
        count (int): The number of users or items.
        num_entries (int): The number of entries of all matrices.
        where (str): What to call the number in the message.
    """
    most = max(_MOST_TIMES * num_entries, _MOST_AT_LEAST)
    if count > most:
        raise ValueError(
            f'{where} is {count}, while all matrices together have {num_entries} '
            f'entries: expected at most {most}; leave out those without an entry'
        )


def nonzero_entries(
    matrix: scipy.sparse.coo_matrix,
    where: str,
    axes: tuple[str, str] = ('user', 'item'),
) -> Tensor:
    r"""The places of a matrix that hold something else than zero, each once, in the
    order in which the matrix first names them.

    A matrix in COO format may name a place several times: it then holds the sum, in
    SciPy and in all that computes with it.

    Args:
        matrix (scipy.sparse.coo_matrix): The matrix, with indices in range.
        where (str): What to call the matrix in messages.
        axes (tuple, optional): What its rows and its columns are.
            (default: :obj:`('user', 'item')`)

    Shapes:
        - **output:** row and column :math:`(2, N)`, int64

    Raises:
        ValueError: If a value is NaN or inf.
    """
    finite = np.isfinite(matrix.data)
    if not finite.all():
        pos = int(finite.argmin())
        raise ValueError(
            f'{where} holds {matrix.data[pos]} for {axes[0]} {matrix.row[pos]} and '
            f'{axes[1]} {matrix.col[pos]} ({int((~finite).sum())} such entries): store '
            f'1 where there is something, and nothing elsewhere'
        )
    index = np.stack([matrix.row, matrix.col]).astype(np.int64)
    key = index[0] * matrix.shape[1] + index[1]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    total = np.bincount(place, weights=matrix.data, minlength=len(first))
    return torch.from_numpy(index[:, np.sort(first[total != 0])])
