r"""Ties between users: reading them, and finding their opposites."""

import os
import warnings
from typing import Literal, Optional, Sequence, Union, get_args

import numpy as np
import torch
from numpy import loadtxt
from torch import Tensor
from torch_geometric.utils import to_undirected

from pyg_diffrec.utils.checks import check_whole

Unknown = Literal['error', 'drop']


def find_opposites(edge_index: Tensor, num_users: int) -> Tensor:
    r"""The position of the tie from :math:`v` to :math:`u` for each tie from
    :math:`u` to :math:`v`, or -1 where there is none :math:`(T)`."""
    row, col = edge_index
    key, perm = (row * num_users + col).sort()
    opposite = col * num_users + row
    place = torch.searchsorted(key, opposite).clamp(max=key.numel() - 1)
    return torch.where(key[place] == opposite, perm[place], -1)


def _read_columns(
    path: Union[str, os.PathLike], delimiter: Optional[str], skip_rows: int
) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # Of empty rows, which may be there, and empty files, which we refuse.
            warnings.simplefilter('ignore', UserWarning)
            table = loadtxt(
                path,
                dtype=str,
                comments=None,  # It would cut off an id that holds their mark.
                delimiter=delimiter,
                quotechar='"',
                skiprows=skip_rows,
                encoding='utf-8-sig',
                ndmin=2,
            )
    except ValueError as error:
        raise ValueError(
            f"'{path}' needs two columns of UTF-8 text in every row, user and user "
            f"(got: {str(error).split(';')[0]}): set 'delimiter', and 'skip_rows' for "
            f'a header'
        ) from error
    if table.shape[1] != 2 or table.shape[0] == 0:
        raise ValueError(
            f"'{path}' needs two columns, user and user, and at least one row (got "
            f'{table.shape[0]} rows of {table.shape[1]} columns with '
            f'delimiter={delimiter!r})'
        )
    return np.char.strip(table)


def read_ties(
    path: Union[str, os.PathLike],
    users: Sequence,
    undirected: bool = False,
    unknown: Unknown = 'error',
    delimiter: Optional[str] = None,
    skip_rows: int = 0,
) -> Tensor:
    r"""Reads ties between users from a text file with two columns of user ids, and
    numbers the users as in an interactions table.

    .. code-block:: python

        ids, user = np.unique(table['user'], return_inverse=True)
        data['user'].num_nodes = len(ids)
        data['user', 'trusts', 'user'].edge_index = read_ties('trust.txt', ids)

    A row is a tie from the first user to the second. Ids are compared as text:
    :obj:`'07'` is not :obj:`7`. Ties of a user to itself and duplicate ties are kept
    for :meth:`validate` to name and for
    :class:`~pyg_diffrec.transforms.CleanSocialEdges` to remove.

    Args:
        path (str or os.PathLike): The file, in UTF-8.
        users (sequence): The id of each user, in the order of their numbers
            :math:`(U)`.
        undirected (bool, optional): Whether a row stands for both directions. Each
            tie is then returned once in each, however often and in whichever
            direction the file names it. (default: :obj:`False`)
        unknown (str, optional): What to do with ties of users that are not in
            :obj:`users`: :obj:`'error'` or :obj:`'drop'`. (default: :obj:`'error'`)
        delimiter (str, optional): What separates the columns, e.g. :obj:`','`; any
            white space if :obj:`None`. (default: :obj:`None`)
        skip_rows (int, optional): The number of rows of a header.
            (default: :obj:`0`)

    Shapes:
        - **output:** edges :math:`(2, T)`, int64: in the order of the file, or, if
          :obj:`undirected`, in ascending order

    Raises:
        ValueError: If the file has not two columns, is empty, or names unknown
            users; if :obj:`users` is empty or holds an id twice; or if :obj:`unknown`
            is none of the choices.
        TypeError: If another argument is of a wrong type.
    """
    if unknown not in get_args(Unknown):
        raise ValueError(
            f"'unknown' needs to be one of {list(get_args(Unknown))} (got '{unknown}')"
        )
    check_whole('read_ties', minimum=0, skip_rows=skip_rows)
    if delimiter is not None and not (isinstance(delimiter, str) and delimiter):
        raise TypeError(
            f"'delimiter' needs to be a string in 'read_ties', or None for white space "
            f'(got {delimiter!r})'
        )
    if not isinstance(undirected, bool):
        raise TypeError(
            f"'undirected' needs to be a 'bool' in 'read_ties' (got {undirected!r})"
        )
    ids = np.asarray(users).astype(str)
    if ids.ndim != 1 or ids.size == 0:
        raise ValueError(
            f"'users' needs to hold one id per user (got shape {list(ids.shape)})"
        )
    perm = ids.argsort(kind='stable')
    ids = ids[perm]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice) > 0:
        raise ValueError(f"'users' needs each id once (got '{twice[0]}' twice)")

    table = _read_columns(path, delimiter, skip_rows)
    place = np.searchsorted(ids, table).clip(max=len(ids) - 1)
    known = ids[place] == table
    if not known.all() and unknown == 'error':
        names = np.unique(table[~known])
        raise ValueError(
            f"'{path}' names {len(names)} users that are not in 'users', in "
            f'{int((~known).any(1).sum())} of {len(table)} ties, e.g. '
            f"{names[:3].tolist()}: add them, or drop these ties with unknown='drop'"
        )
    edge_index = torch.from_numpy(perm[place[known.all(1)]].T.astype(np.int64))
    if undirected:
        edge_index = to_undirected(edge_index, num_nodes=len(ids))
    return edge_index.contiguous()
