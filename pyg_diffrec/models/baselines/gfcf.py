from typing import Any, Optional

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.state import adopt_sizes


class GFCF(RowRecommender):
    r"""Graph filtering of interaction rows in closed form, from the `"How Powerful
    is Graph Convolution for Recommendation?" <https://arxiv.org/abs/2108.07567>`_
    paper.

    .. math::
        \tilde{\mathbf{R}} = \mathbf{D}_u^{-1/2} \mathbf{R} \mathbf{D}_i^{-1/2},
        \qquad \mathrm{score} = \mathbf{x} \left( \tilde{\mathbf{R}}^{\top}
        \tilde{\mathbf{R}} + \alpha \, \mathbf{D}_i^{-1/2} \mathbf{V}
        \mathbf{V}^{\top} \mathbf{D}_i^{1/2} \right)

    where :math:`\mathbf{V}` are the leading right singular vectors of
    :math:`\tilde{\mathbf{R}}`: a linear filter and an ideal low-pass filter. Items
    without training interactions get a score of zero.

    Args:
        num_items (int): The number of items :math:`I`.
        alpha (float, optional): The weight :math:`\alpha` of the ideal filter.
            (default: :obj:`0.3`)
        num_factors (int, optional): The number of singular vectors :math:`K`, at
            most one less than there are users or items; without any the linear filter
            is alone. (default: :obj:`256`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions in the rows that are scored; the filter is that of
            unweighted rows. (default: :obj:`None`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, no unit

    Raises:
        ValueError: If :obj:`alpha` is negative or :obj:`num_factors` not positive.

    .. note::
        The item-item filter is never a matrix: scoring is two sparse products and
        two of width :math:`K`, and needs :math:`O(B (U + I) + I K)` numbers.
    """

    deterministic = True
    low_in: Tensor
    low_out: Tensor
    user_rowptr: Tensor
    user_col: Tensor
    user_value: Tensor
    item_rowptr: Tensor
    item_col: Tensor
    item_value: Tensor

    def __init__(
        self,
        num_items: int,
        alpha: float = 0.3,
        num_factors: int = 256,
        temporal: Optional[Temporal] = None,
    ) -> None:
        super().__init__(num_items, temporal)
        if alpha < 0:
            raise ValueError(
                f"'alpha' needs to be non-negative in '{self.__class__.__name__}' "
                f'(got {alpha})'
            )
        self.alpha = alpha
        self.num_factors = num_factors
        self.register_buffer('low_in', torch.zeros(num_items, 0))
        self.register_buffer('low_out', torch.zeros(0, num_items))
        # The normalised interactions by user, and by item.
        for side, size in (('user', 0), ('item', num_items)):
            none = torch.zeros(size + 1, dtype=torch.long)
            self.register_buffer(f'{side}_rowptr', none)
            self.register_buffer(f'{side}_col', none[:0].clone())
            self.register_buffer(f'{side}_value', torch.zeros(0))

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        rows = history.to_scipy()
        degree_user, degree_item = rows.sum(axis=1), rows.sum(axis=0)
        with np.errstate(divide='ignore'):
            scale_user = np.where(degree_user > 0, degree_user**-0.5, 0)
            scale_item = np.where(degree_item > 0, degree_item**-0.5, 0)
        scaled = rows.multiply(scale_user[:, None]).multiply(scale_item).tocsr()
        for side, matrix in (('user', scaled), ('item', scaled.T.tocsr())):
            parts = (matrix.indptr, matrix.indices, matrix.data)
            for name, part in zip(('rowptr', 'col', 'value'), parts):
                buffer = getattr(self, f'{side}_{name}')
                setattr(self, f'{side}_{name}', torch.from_numpy(part).to(buffer))

        num_factors = min(self.num_factors, min(rows.shape) - 1)
        factors = np.zeros((0, self.num_items))
        if num_factors > 0 and rows.nnz > 0:
            # A fixed start makes the factors the same on every run.
            start = np.ones(min(rows.shape))
            _, _, factors = scipy.sparse.linalg.svds(scaled, num_factors, v0=start)
        low_in = scale_item[:, None] * factors.T
        low_out = factors * np.sqrt(degree_item)
        self.low_in = torch.from_numpy(low_in).to(self.low_in)
        self.low_out = torch.from_numpy(low_out).to(self.low_out)

    def score(self, users: Tensor, history: SparseRows) -> Any:
        if self.user_rowptr.numel() == 1:
            raise ValueError(
                f"'{self.__class__.__name__}' has no filter yet: build it with "
                f"'from_data', or load the state of a model that was"
            )
        rows, num_users = self.weigh(history), self.user_rowptr.numel() - 1
        by_user = SparseRows(
            self.user_rowptr, self.user_col, self.user_value, num_cols=self.num_items
        )
        by_item = SparseRows(
            self.item_rowptr, self.item_col, self.item_value, num_cols=num_users
        )
        signal = rows.to(dtype=self.low_in.dtype).to_dense().t()  # [I, B]
        linear = by_item.matmul(by_user.matmul(signal)).t()
        return linear + self.alpha * (rows.matmul(self.low_in) @ self.low_out)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        size = self.num_items
        adopt_sizes(
            self,
            state_dict,
            prefix,
            low_in=(size, None),
            low_out=(None, size),
            user_rowptr=(None,),
            user_col=(None,),
            user_value=(None,),
            item_col=(None,),
            item_value=(None,),
        )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, alpha={self.alpha}, '
            f'num_factors={self.num_factors})'
        )
