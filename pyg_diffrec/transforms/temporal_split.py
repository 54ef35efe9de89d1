from typing import Optional

import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import USER_ITEM, check_interactions
from pyg_diffrec.data.temporal import check_stored_order
from pyg_diffrec.transforms._user_split import (
    check_ratios,
    num_interactions,
    position_in_row,
    set_masks,
    split_by_ratio,
)


@functional_transform('temporal_interaction_split')
class TemporalSplit(Configured, BaseTransform):
    r"""Splits the interactions of each user along time: the first are for
    training, the next for validation, the last for test (functional name:
    :obj:`temporal_interaction_split`).

    Time order is that of :obj:`time` where the interactions have it, ties in
    stored order, and the stored order otherwise. It is an order within a user:
    a test interaction of one user may be older than a training interaction of
    another.

    Without :obj:`time`, interactions that are stored by item number are refused, as
    :obj:`coalesce`, :obj:`unique` and sparse matrices leave them: their last would be
    those with the highest numbers. Set :obj:`data.time_ordered = True` where the
    stored order is that of time all the same.

    - **By ratio:** a user with :math:`n` interactions gives the last
      :math:`\lfloor n r + 1/2 \rfloor` of them to test, those before, by the same
      rule, to validation, and the rest to training. Every user keeps at least one
      in training: where the sum is too large, validation gives way first.
    - **By** :obj:`leave_last` **:** the last :obj:`leave_last` interactions go to
      test and as many before them to validation. A user with fewer than
      :obj:`2 * leave_last + 1` interactions keeps them all in training.

    Sets :obj:`train_mask`, :obj:`val_mask` and :obj:`test_mask`, and
    :obj:`split_order` of the graph to :obj:`('train', 'val', 'test')`.

    Args:
        val_ratio (float, optional): The share of a user's interactions for
            validation. (default: :obj:`0.1`)
        test_ratio (float, optional): The share of a user's interactions for test.
            (default: :obj:`0.2`)
        leave_last (int, optional): The number of interactions of a user for test,
            and for validation. If given, the ratios play no part.
            (default: :obj:`None`)

    Raises:
        ValueError: If a ratio is negative, their sum is not below one,
            :obj:`leave_last` is not positive, the interactions break the schema, or
            they have no :obj:`time` and are stored by item number.
        TypeError: If an argument is of another type.
    """

    def __init__(
        self,
        val_ratio: float = 0.1,
        test_ratio: float = 0.2,
        leave_last: Optional[int] = None,
    ) -> None:
        check_ratios(val_ratio, test_ratio, self.__class__.__name__)
        self.val_ratio = val_ratio
        self.test_ratio = test_ratio
        self.leave_last = leave_last

    def forward(self, data: HeteroData) -> HeteroData:
        user, store = check_interactions(data)[0], data[USER_ITEM]
        if 'time' in store:
            order = store.time.argsort(stable=True)
        else:
            check_stored_order(data, self.__class__.__name__)
            order = torch.arange(user.numel(), device=user.device)

        count = num_interactions(data)
        if self.leave_last is None:
            num_val, num_test = split_by_ratio(count, self.val_ratio, self.test_ratio)
        else:
            num_val = num_test = self.leave_last * (count > 2 * self.leave_last).long()
        set_masks(data, position_in_row(user, count, order), count, num_val, num_test)
        data.split_order = ('train', 'val', 'test')
        return data

    def __repr__(self) -> str:
        if self.leave_last is not None:
            return f'{self.__class__.__name__}(leave_last={self.leave_last})'
        return (
            f'{self.__class__.__name__}(val_ratio={self.val_ratio}, '
            f'test_ratio={self.test_ratio})'
        )
