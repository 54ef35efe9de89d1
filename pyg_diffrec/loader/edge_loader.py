from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from pyg_diffrec.loader.negative_sampling import NegativeMethod, NegativeSampler
from pyg_diffrec.utils.sparse import SparseRows


class EdgeBatch(NamedTuple):
    r"""Interactions, each with an item that its user has not interacted with.

    Args:
        user (torch.Tensor): The users :math:`(B)`, int64.
        positive (torch.Tensor): An item of each user's row :math:`(B)`, int64.
        negative (torch.Tensor): An item outside of it :math:`(B)`, int64.
    """

    user: Tensor
    positive: Tensor
    negative: Tensor


class EdgeLoader(DataLoader):
    r"""Loads batches of interactions with one negative item each, drawn anew
    whenever a batch is loaded.

    Args:
        rows (SparseRows): The interaction rows of all users :math:`(U, I)`.
        batch_size (int, optional): The number of interactions per batch.
            (default: :obj:`2048`)
        shuffle (bool, optional): Whether to draw a new order every epoch.
            (default: :obj:`False`)
        method (str, optional): How negatives are drawn, :obj:`'uniform'` or
            :obj:`'popularity'`, see
            :class:`~pyg_diffrec.loader.negative_sampling.NegativeSampler`.
            (default: :obj:`'uniform'`)
        **kwargs (optional): Further arguments of
            :class:`torch.utils.data.DataLoader`; a :obj:`generator` also draws
            the negatives, unless there are workers, which have their own.

    Yields:
        :class:`EdgeBatch`: users, positives and negatives, each :math:`(B)`

    Raises:
        ValueError: If a user has interacted with every item, or :obj:`method` is
            unknown.
    """

    def __init__(
        self,
        rows: SparseRows,
        batch_size: int = 2048,
        shuffle: bool = False,
        method: NegativeMethod = 'uniform',
        **kwargs: Any,
    ) -> None:
        self.user = rows.row
        self.item = rows.col
        self.sampler_of_negatives = NegativeSampler(rows, method)
        self.sampler_of_negatives.check(self.user)
        kwargs.pop('dataset', None)
        kwargs.pop('collate_fn', None)
        super().__init__(
            range(rows.nnz),  # type: ignore[arg-type]
            batch_size,
            shuffle,
            collate_fn=self._collate,
            **kwargs,
        )

    def _collate(self, positions: list[int]) -> EdgeBatch:
        index = torch.tensor(positions)
        user = self.user[index]
        # All workers hold the same copy of the loader's generator: with it they
        # would draw the same numbers, every epoch again.
        generator = self.generator if get_worker_info() is None else None
        negative = self.sampler_of_negatives(user, generator)
        return EdgeBatch(user, self.item[index], negative)
