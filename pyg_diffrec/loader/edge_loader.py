import warnings
from typing import Any, Iterator, NamedTuple, Optional

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, get_worker_info

from pyg_diffrec.loader.negative_sampling import NegativeMethod, NegativeSampler
from pyg_diffrec.typing import Device, OptTensor
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

    def to(self, device: Device, non_blocking: bool = False) -> 'EdgeBatch':
        r"""Returns the batch on :obj:`device`."""

        def move(part: Tensor) -> Tensor:
            return part.to(device, non_blocking=non_blocking)

        weight = None if self.weight is None else move(self.weight)
        return EdgeBatch(
            move(self.user), move(self.positive), move(self.negative), weight
        )


def _check_weight(weight: Tensor, rows: SparseRows, name: str) -> None:
    if not weight.is_floating_point():
        raise TypeError(
            f"'weight' needs to be a floating point 'Tensor' in '{name}' (got "
            f"'{weight.dtype}')"
        )
    if weight.shape != (rows.nnz,):
        raise ValueError(
            f"'weight' needs shape [{rows.nnz}] in '{name}', one per interaction "
            f'(got {list(weight.shape)})'
        )
    if weight.device != rows.device:
        raise ValueError(
            f"'weight' needs to be on device '{rows.device}' in '{name}', as the rows "
            f"(got '{weight.device}')"
        )
    bad = (~weight.isfinite()).nonzero().view(-1)
    if bad.numel() > 0:
        raise ValueError(
            f"'weight' needs to be finite in '{name}' (got {float(weight[bad[0]])} at "
            f'position {int(bad[0])})'
        )


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

    Users who have interacted with every item (that can be drawn) tell a pairwise loss
    nothing: there is no item to rank below the others. Their interactions are left out,
    with a warning.

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
        ValueError: If all users have interacted with every item, :obj:`method` is
            unknown, :obj:`batch_size` is not positive, or there is not one finite
            weight per interaction.
        TypeError: If :obj:`rows` are no :class:`SparseRows`, or another argument is of
            a wrong type.

    Warns:
        UserWarning: If interactions are left out.
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
        if weight is not None:
            _check_weight(weight, rows, self.__class__.__name__)
        self.sampler_of_negatives = NegativeSampler(rows, method)
        self.user = rows.row
        self.item = rows.col
        self.weight = weight
        self._leave_out(self.sampler_of_negatives.free[self.user] == 0)
        kwargs.pop('dataset', None)
        kwargs.pop('collate_fn', None)
        num_edges, generator = self.user.numel(), kwargs.get('generator')
        super().__init__(
            torch.arange(num_edges),  # type: ignore[arg-type]
            batch_size=None,
            sampler=_Batches(num_edges, batch_size, shuffle, drop_last, generator),
            collate_fn=self._collate,  # type: ignore[arg-type]
            **kwargs,
        )

    def _leave_out(self, full: Tensor) -> None:
        if not bool(full.any()):
            return
        keep = (~full).nonzero().view(-1)
        users, what = self.user[full].unique(), self.sampler_of_negatives.what
        name = self.__class__.__name__
        if keep.numel() == 0:
            raise ValueError(
                f'All users have interacted with {what}, so there is no negative to '
                f"draw in '{name}': give it a graph with more items"
            )
        warnings.warn(
            f"'{name}' leaves out the {int(full.sum())} interactions of "
            f'{users.numel()} users, the first is {int(users[0])}, who have interacted '
            f'with {what}: there is no negative to draw for them',
            stacklevel=3,
        )
        self.user, self.item = self.user[keep], self.item[keep]
        self.weight = None if self.weight is None else self.weight[keep]

    def _collate(self, index: Tensor) -> EdgeBatch:
        index = index.to(self.user.device)
        user = self.user[index]
        # All workers hold the same copy of the loader's generator: with it they
        # would draw the same numbers, every epoch again.
        generator = self.generator if get_worker_info() is None else None
        # All users were looked at once: no check has to wait for the device here.
        negative = self.sampler_of_negatives.draw(user, generator)
        weight = None if self.weight is None else self.weight[index]
        return EdgeBatch(user, self.item[index], negative, weight)
