from typing import Any, Optional

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.utils.sparse import SparseRows


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
            most one less than there are users or items. (default: :obj:`256`)
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

    def __init__(
        self,
        num_items: int,
        alpha: float = 0.3,
        num_factors: int = 256,
        temporal: Optional[Temporal] = None,
    ) -> None:
        super().__init__(num_items, temporal)
        if alpha < 0 or num_factors < 1:
            raise ValueError(
                f"'alpha' needs to be non-negative and 'num_factors' positive in "
                f"'{self.__class__.__name__}' (got {alpha} and {num_factors})"
            )
        self.alpha = alpha
        self.num_factors = num_factors
        self.register_buffer('low_in', torch.zeros(num_items, 0))
        self.register_buffer('low_out', torch.zeros(0, num_items))
        self._rows: Optional[SparseRows] = None
        self._columns: Optional[SparseRows] = None

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        rows = history.to_scipy()
        degree_user, degree_item = rows.sum(axis=1), rows.sum(axis=0)
        with np.errstate(divide='ignore'):
            scale_user = np.where(degree_user > 0, degree_user**-0.5, 0)
            scale_item = np.where(degree_item > 0, degree_item**-0.5, 0)
        scaled = rows.multiply(scale_user[:, None]).multiply(scale_item).tocsr()
        self._rows, self._columns = _sparse_rows(scaled), _sparse_rows(scaled.T.tocsr())

        num_factors = min(self.num_factors, min(rows.shape) - 1)
        # A fixed start makes the factors the same on every run.
        start = np.ones(min(rows.shape))
        _, _, factors = scipy.sparse.linalg.svds(scaled, num_factors, v0=start)
        self.low_in = torch.from_numpy(scale_item[:, None] * factors.T).float()
        self.low_out = torch.from_numpy(factors * np.sqrt(degree_item)).float()

    def score(self, users: Tensor, history: SparseRows) -> Any:
        assert self._rows is not None
        assert self._columns is not None
        rows = self.weigh(history)
        if self._rows.device != rows.device:
            self._rows = self._rows.to(rows.device)
            self._columns = self._columns.to(rows.device)
        signal = rows.to(dtype=self.low_in.dtype).to_dense().t()  # [I, B]
        linear = self._columns.matmul(self._rows.matmul(signal)).t()
        return linear + self.alpha * (rows.matmul(self.low_in) @ self.low_out)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, alpha={self.alpha}, '
            f'num_factors={self.num_factors})'
        )


def _sparse_rows(matrix: scipy.sparse.csr_array) -> SparseRows:
    return SparseRows(
        torch.from_numpy(matrix.indptr).long(),
        torch.from_numpy(matrix.indices).long(),
        torch.from_numpy(matrix.data).float(),
        num_cols=matrix.shape[1],
    )
