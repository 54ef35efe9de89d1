from typing import Any

import torch
from torch.utils.data import DataLoader

from pyg_diffrec.typing import RowBatch
from pyg_diffrec.utils.arguments import Checked
from pyg_diffrec.utils.sparse import SparseRows


class RowLoader(Checked, DataLoader):
    r"""Loads batches of users with their interaction rows, which stay sparse.

    Args:
        rows (SparseRows): The interaction rows of all users :math:`(U, I)`.
        batch_size (int, optional): The number of users per batch.
            (default: :obj:`400`)
        shuffle (bool, optional): Whether to draw a new order every epoch.
            (default: :obj:`False`)
        **kwargs (optional): Further arguments of
            :class:`torch.utils.data.DataLoader`.

    Yields:
        :class:`~pyg_diffrec.typing.RowBatch`: users :math:`(B)` and rows
        :math:`(B, I)`, both where :obj:`rows` are

    Raises:
        ValueError: If :obj:`batch_size` is not positive.
        TypeError: If :obj:`rows` are no :class:`SparseRows`, or another argument is of
            a wrong type.
    """

    def __init__(
        self,
        rows: SparseRows,
        batch_size: int = 400,
        shuffle: bool = False,
        **kwargs: Any,
    ) -> None:
        self.rows = rows
        kwargs.pop('dataset', None)
        kwargs.pop('collate_fn', None)
        super().__init__(
            range(rows.num_rows),  # type: ignore[arg-type]
            batch_size,
            shuffle,
            collate_fn=self._collate,
            **kwargs,
        )

    def _collate(self, users: list[int]) -> RowBatch:
        user = torch.tensor(users, device=self.rows.device)
        return RowBatch(user, self.rows.index_select(user))
