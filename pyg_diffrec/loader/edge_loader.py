from typing import Any, Iterator, NamedTuple, Optional

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, get_worker_info

from pyg_diffrec.loader.negative_sampling import NegativeMethod, NegativeSampler
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.arguments import Checked
from pyg_diffrec.utils.sparse import SparseRows


class EdgeBatch(NamedTuple):
    r"""Interactions, each with an item that its user has not interacted with.

    Args:
        user (torch.Tensor): The users :math:`(B)`, int64.
        positive (torch.Tensor): An item of each user's row :math:`(B)`, int64.
        negative (torch.Tensor): An item outside of it :math:`(B)`, int64.
        weight (torch.Tensor, optional): How much each counts in a loss
            :math:`(B)`; all the same if :obj:`None`. (default: :obj:`None`)
    """

    user: Tensor
    positive: Tensor
    negative: Tensor
    weight: OptTensor = None


class _Batches(Sampler):
    r"""Batches of positions as tensors: a list of numbers costs more than all else
    that loading does."""

    def __init__(
        self,
        num_positions: int,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        generator: Optional[torch.Generator],
    ) -> None:
        last = num_positions % batch_size if drop_last else 0
        self.starts = range(0, num_positions - last, batch_size)
        self.num_positions = num_positions
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator

    def __iter__(self) -> Iterator[Tensor]:
        if self.shuffle:
            order = torch.randperm(self.num_positions, generator=self.generator)
        else:
            order = torch.arange(self.num_positions)
        for start in self.starts:
            yield order[start : start + self.batch_size]

    def __len__(self) -> int:
        return len(self.starts)


class EdgeLoader(Checked, DataLoader):
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
        weight (torch.Tensor, optional): The weight of each interaction in the order
            of :obj:`rows` :math:`(\mathrm{nnz})`, which its batch gets along; the
            values of :obj:`rows` are not looked at. (default: :obj:`None`)
        drop_last (bool, optional): Whether to leave out the last batch if it is
            smaller than the others. (default: :obj:`False`)
        **kwargs (optional): Further arguments of
            :class:`torch.utils.data.DataLoader`; a :obj:`generator` also draws
            the order, and the negatives unless there are workers, which have their
            own.

    Yields:
        :class:`EdgeBatch`: users, positives and negatives, each :math:`(B)`, and
        their weights, if there are any

    Raises:
        ValueError: If a user has interacted with every item, :obj:`method` is
            unknown, :obj:`batch_size` is not positive, or there is not one weight
            per interaction.
    """

    def __init__(
        self,
        rows: SparseRows,
        batch_size: int = 2048,
        shuffle: bool = False,
        method: NegativeMethod = 'uniform',
        weight: OptTensor = None,
        drop_last: bool = False,
        **kwargs: Any,
    ) -> None:
        name = self.__class__.__name__
        if batch_size < 1:
            raise ValueError(
                f"'batch_size' needs to be positive in '{name}' (got {batch_size})"
            )
        if weight is not None and weight.shape != (rows.nnz,):
            raise ValueError(
                f"'weight' needs shape [{rows.nnz}] in '{name}', one per interaction "
                f'(got {list(weight.shape)})'
            )
        self.user = rows.row
        self.item = rows.col
        self.weight = weight
        self.sampler_of_negatives = NegativeSampler(rows, method)
        self.sampler_of_negatives.check(self.user)
        kwargs.pop('dataset', None)
        kwargs.pop('collate_fn', None)
        generator = kwargs.get('generator')
        super().__init__(
            torch.arange(rows.nnz),  # type: ignore[arg-type]
            batch_size=None,
            sampler=_Batches(rows.nnz, batch_size, shuffle, drop_last, generator),
            collate_fn=self._collate,  # type: ignore[arg-type]
            **kwargs,
        )

    def _collate(self, index: Tensor) -> EdgeBatch:
        user = self.user[index]
        # All workers hold the same copy of the loader's generator: with it they
        # would draw the same numbers, every epoch again.
        generator = self.generator if get_worker_info() is None else None
        negative = self.sampler_of_negatives(user, generator)
        weight = None if self.weight is None else self.weight[index]
        return EdgeBatch(user, self.item[index], negative, weight)
