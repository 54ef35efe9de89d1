r"""Reading lists of users and items, and finding the row that is to blame."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyg_diffrec.datasets._npy import read_npy

_COLUMNS = ('user', 'item')

# A list in time order has this many ascending steps on end once in a million times.
_MANY_STEPS = 20


def read_pairs(path: str) -> Tensor:
    r"""Reads a list of users and items.

    Shapes:
        - **output:** user and item of each row :math:`(N, 2)`, int64

    Raises:
        ValueError: If the file is no such list, is empty, or holds a negative number.
    """
    expected = 'an int64 array of shape [n, 2] with n > 0, user and item'
    array = read_npy(path, expected)
    if array.dtype != np.int64 or array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            f"'{path}': expected {expected} (got {array.dtype} of shape "
            f'{list(array.shape)})'
        )
    if array.shape[0] == 0:
        raise ValueError(f"'{path}': expected {expected} (got no row)")
    pairs = np.array(array)
    if pairs.min() < 0:
        row = int((pairs < 0).any(1).argmax())
        raise ValueError(
            f"'{path}': expected ids from zero (got {pairs[row].tolist()} in row {row})"
        )
    return torch.from_numpy(pairs)


class PairLists:
    r"""Several lists of users and items that share their numbers.

    Args:
        paths (sequence): The paths of the files.

    Raises:
        ValueError: If one is no list; if the numbers of users or of items have wide
            gaps; or if a pair comes twice. The message names the file and the row.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        parts = [read_pairs(path) for path in self.paths]
        self.parts = list(torch.cat(parts).split([len(part) for part in parts]))
        self._user, self._item = torch.cat(parts).numpy().T
        for name, ids in zip(_COLUMNS, (self._user, self._item), strict=True):
            self._check_gaps(name, ids)
        self.num_users = int(self._user.max()) + 1
        self.num_items = int(self._item.max()) + 1
        self._check_repeats()

    def check_items(self, table: np.ndarray, path: str) -> None:
        r"""Raises an error if a number of an item lies beyond a table with one row per
        item, and not all before it occur: then the list is damaged, and not the table.

        Args:
            table (numpy.ndarray): The table.
            path (str): The path of the table, for the message.
        """
        num_rows = table.shape[0] if table.ndim > 0 else 0
        beyond = np.unique(self._item[self._item >= num_rows])
        if len(beyond) < self.num_items - num_rows:
            source, row = self._locate(int(self._item.argmax()))
            raise ValueError(
                f"'{source}' names item {self.num_items - 1} in row {row}, but only "
                f'{len(beyond)} of the items from {num_rows} on occur, and '
                f"'{path}' has {num_rows} rows: repair that row of the list, or remove "
                f'the table to do without it'
            )

    def where_largest(self) -> str:
        r"""Where the largest number of an item stands, for messages."""
        path, row = self._locate(int(self._item.argmax()))
        return f"the largest item is {self.num_items - 1}, in row {row} of '{path}'"

    def are_sorted_by_item(self) -> bool:
        r"""Whether the items of every user rise in one of the files, which the order
        of time does not bring about."""
        for part in self.parts:
            user, item = part[part[:, 0].argsort(stable=True)].t()
            rises = (item[1:] > item[:-1])[user[1:] == user[:-1]]
            if rises.numel() >= _MANY_STEPS and bool(rises.all()):
                return True
        return False

    def _locate(self, row: int) -> tuple[str, int]:
        for path, part in zip(self.paths, self.parts, strict=True):
            if row < len(part):
                return path, row
            row -= len(part)
        raise IndexError(row)

    def _check_gaps(self, name: str, ids: np.ndarray) -> None:
        # Whatever is counted per user or item has room for all numbers up to the
        # largest: a damaged one would cost memory, and pass for users without a row.
        used = np.unique(ids)
        unused = np.diff(used, prepend=0)
        unused[1:] -= 1
        place = int(unused.argmax())
        gap = int(unused[place])
        is_sparse = int(used[-1]) + 1 - len(used) > max(1000, 9 * len(used))
        if gap <= max(100, len(used) // 10) and not is_sparse:
            return
        path, row = self._locate(int((ids == used[place]).argmax()))
        beyond = int((ids >= used[place]).sum())
        raise ValueError(
            f"'{path}' names {name} {used[place]} in row {row}, but none of the {gap} "
            f'{name}s before it occurs in {[os.path.basename(x) for x in self.paths]} '
            f'({len(used)} different {name}s do, and {beyond} rows name this one or a '
            f'larger one): repair that row, or number the {name}s from zero without '
            f"gaps, with 'numpy.unique(ids, return_inverse=True)[1]'"
        )

    def _check_repeats(self) -> None:
        key = self._user * self.num_items + self._item
        perm = key.argsort(kind='stable')
        again = perm[1:][key[perm[1:]] == key[perm[:-1]]]
        if len(again) == 0:
            return
        place = int(again.min())
        path, row = self._locate(place)
        other, first = self._locate(int((key == key[place]).argmax()))
        raise ValueError(
            f"'{path}' names user {self._user[place]} and item {self._item[place]} in "
            f"row {row}, as does row {first} of '{other}' ({len(again)} duplicates): "
            f'keep each pair once, where it comes first'
        )
