import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import check_interactions
from pyg_diffrec.transforms._user_split import (
    check_ratios,
    num_interactions,
    position_in_row,
    set_masks,
    split_by_ratio,
)


@functional_transform('random_interaction_split')
class RandomSplit(Configured, BaseTransform):
    r"""Splits the interactions of each user at random into training, validation
    and test (functional name: :obj:`random_interaction_split`).

    A user with :math:`n` interactions gives :math:`\lfloor n r + 1/2 \rfloor` of
    them to test, the same with its ratio to validation, and the rest to training.
    Every user keeps at least one in training: where the sum is too large,
    validation gives way first.

    Sets :obj:`train_mask`, :obj:`val_mask` and :obj:`test_mask` and removes
    :obj:`split_order` from the graph, since the splits do not follow each other
    in time.

    Args:
        val_ratio (float, optional): The share of a user's interactions for
            validation. (default: :obj:`0.1`)
        test_ratio (float, optional): The share of a user's interactions for test.
            (default: :obj:`0.2`)
        seed (int, optional): The seed of the split; the global random state is
            neither read nor changed. (default: :obj:`0`)

    Raises:
        ValueError: If a ratio is negative, their sum is not below one, or the
            interactions break the schema.
        TypeError: If an argument is of another type.
    """

    def __init__(
        self, val_ratio: float = 0.1, test_ratio: float = 0.2, seed: int = 0
    ) -> None:
        check_ratios(val_ratio, test_ratio, self.__class__.__name__)
        self.val_ratio = val_ratio
        self.test_ratio = test_ratio
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        user = check_interactions(data)[0]
        generator = torch.Generator().manual_seed(self.seed)
        # Drawn on the CPU, so that a seed means the same split on every device.
        order = torch.randperm(user.numel(), generator=generator).to(user.device)

        count = num_interactions(data)
        num_val, num_test = split_by_ratio(count, self.val_ratio, self.test_ratio)
        set_masks(data, position_in_row(user, count, order), count, num_val, num_test)
        data.split_order = None  # PyG stores no None: this removes it.
        return data

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(val_ratio={self.val_ratio}, '
            f'test_ratio={self.test_ratio}, seed={self.seed})'
        )
