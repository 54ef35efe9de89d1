import math
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.products import kept
from pyg_diffrec.typing import Phase
from pyg_diffrec.utils.checks import check_positive
from pyg_diffrec.utils.precision import at_least_float
from pyg_diffrec.utils.sparse import SparseRows

# As many rows are solved at once as gather so many numbers: what a cache holds.
_BLOCK = 1 << 20


class _Axes(NamedTuple):
    r"""Factors :math:`(N, C)` along the principal axes of their Gramian, its
    eigenvalues :math:`(C)`, and the axes as columns :math:`(C, C)`."""

    factors: Tensor
    eigenvalues: Tensor
    basis: Tensor


def _principal_axes(factors: Tensor) -> _Axes:
    factors = at_least_float(factors)  # Solvers know no half precision.
    eigenvalues, basis = torch.linalg.eigh(factors.t() @ factors)
    # Round-off may leave those of unused dimensions below zero.
    return _Axes(factors @ basis, eigenvalues.clamp(min=0), basis)


def _pad(rows: SparseRows, width: int) -> tuple[Tensor, Tensor]:
    r"""Columns and values of all rows :math:`(B, N)`; values are zero behind the end
    of a row."""
    row = rows.row
    position = torch.arange(rows.nnz, device=rows.device) - rows.rowptr[row]
    col = rows.col.new_zeros(rows.num_rows, width)
    value = rows.value.new_zeros(rows.num_rows, width)
    col[row, position], value[row, position] = rows.col, rows.value
    return col, value


def _solve_shifted(gram: Tensor, target: Tensor) -> Tensor:
    r"""Solves :math:`(\mathbf{I} + \mathbf{G}) \mathbf{y} = \mathbf{b}` for a batch;
    overwrites :obj:`gram`."""
    gram.diagonal(dim1=1, dim2=2).add_(1)
    try:
        factor = torch.linalg.cholesky(gram)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            "'l2' or 'alpha0' is too small for these interactions in 'IALS': use a "
            'larger one'
        ) from error
    return torch.cholesky_solve(target, factor)


class IALS(RowRecommender):
    r"""Matrix factorisation of implicit feedback by alternating least squares, from
    the `"Collaborative Filtering for Implicit Feedback Datasets"
    <https://doi.org/10.1109/ICDM.2008.22>`_ paper, with the loss of the
    `"Revisiting the Performance of iALS on Item Recommendation Benchmarks"
    <https://arxiv.org/abs/2110.14037>`_ paper.

    .. math::
        \mathcal{L} = \sum_{(u,i) \in S} w_{u,i} {(1 - \mathbf{e}_u^{\top}
        \mathbf{e}_i)}^2 + \alpha_0 \sum_{u,i} {(\mathbf{e}_u^{\top}
        \mathbf{e}_i)}^2 + \lambda \Big( \sum_u m_u^{\nu}
        {\lVert \mathbf{e}_u \rVert}^2 + \sum_i m_i^{\nu}
        {\lVert \mathbf{e}_i \rVert}^2 \Big)

        m_u = \sum_{i \in S_u} w_{u,i} + \alpha_0 I, \qquad
        m_i = \sum_{u \in S_i} w_{u,i} + \alpha_0 U

    where :math:`w_{u,i}` is the value of an interaction, one unless the data have
    weights. An epoch is one sweep: the exact minimum over all users, then over all
    items. Only item factors are kept. Scoring folds the given rows in: it solves for
    their users' factors (:meth:`fold_in`), as training does.

    Args:
        num_items (int): The number of items :math:`I`.
        embedding_dim (int, optional): The length :math:`C` of a factor.
            (default: :obj:`64`)
        l2 (float, optional): The regularisation :math:`\lambda`.
            (default: :obj:`0.01`)
        alpha0 (float, optional): The weight :math:`\alpha_0` of all pairs, observed
            or not, towards zero. (default: :obj:`0.3`)
        nu (float, optional): The exponent :math:`\nu` by which frequent users and
            items are regularised more; a plain :math:`\lambda` at zero.
            (default: :obj:`1.0`)
        init_std (float, optional): The deviation of the first item factors, times
            :math:`\sqrt{C}`. (default: :obj:`0.1`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions in the rows that are scored, which multiply
            :math:`w_{u,i}`; training is that of unweighted rows.
            (default: :obj:`None`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, near one for what was observed, zero for users
          without interactions and items without training interactions

    Raises:
        ValueError: If :obj:`nu` is negative or another hyper-parameter not positive.

    .. note::
        Along the principal axes of the Gramian :math:`\mathbf{V}^{\top} \mathbf{V}`
        all but the observed part of a normal equation is diagonal,
        :math:`\mathbf{D}`. With :math:`\mathbf{Z} = \mathbf{W}^{1/2} \mathbf{V}_S
        \mathbf{D}^{-1/2}`, the factors of the row's :math:`n` entries,

        .. math::
            \mathbf{D}^{1/2} \mathbf{e} = {(\mathbf{I} + \mathbf{Z}^{\top}
            \mathbf{Z})}^{-1} \mathbf{Z}^{\top} \mathbf{w}^{1/2} =
            \mathbf{Z}^{\top} {(\mathbf{I} + \mathbf{Z}
            \mathbf{Z}^{\top})}^{-1} \mathbf{w}^{1/2},

        so that the system has :math:`\min(n, C)` unknowns. Rows of similar length
        are solved together; memory beyond the factors is a few times
        :math:`\max(2^{20}, n C)` numbers.
    """

    item: Tensor

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 64,
        l2: float = 0.01,
        alpha0: float = 0.3,
        nu: float = 1.0,
        init_std: float = 0.1,
        temporal: Optional[Temporal] = None,
    ) -> None:
        super().__init__(num_items, temporal)
        check_positive(self.__class__.__name__, l2=l2, init_std=init_std)
        self.embedding_dim = embedding_dim
        self.l2 = l2
        self.alpha0 = alpha0
        self.nu = nu
        self.init_std = init_std
        self.register_buffer('item', torch.empty(num_items, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws normal item factors."""
        std = self.init_std / math.sqrt(self.embedding_dim)
        torch.nn.init.normal_(self.item, std=std)

    def phases(self) -> list[Phase]:
        rows = self.training_rows()
        return [Phase('sweep', [(rows, rows.t())], None, 'sweep')]

    def sweep(self, batch: tuple[SparseRows, SparseRows]) -> dict[str, Tensor]:
        r"""Solves for the factors of all users, then for those of all items.

        Args:
            batch (tuple): The training interactions by user :math:`(U, I)` and by
                item :math:`(I, U)`.

        Returns:
            The loss after the sweep, per interaction.
        """
        rows, columns = (x.to(dtype=self._dtype) for x in batch)
        user = self._solve(rows, self._item_axes())
        item = self._solve(columns, _principal_axes(user))
        self.item.copy_(item)
        # At its minimum, what an item adds to the loss is linear in its factor.
        observed = columns.value.sum() - (columns.matmul(user) * item).sum()
        total = observed + self._penalty(rows) @ user.square().sum(1)
        return {'total': total / rows.nnz}

    def fold_in(self, rows: SparseRows) -> Tensor:
        r"""The factors :math:`(B, C)` of users with the interactions :obj:`rows`
        :math:`(B, I)`, which minimise the loss for the learned items.

        Raises:
            ValueError: If :obj:`rows` does not have one column per item.
        """
        if rows.num_cols != self.num_items:
            raise ValueError(
                f"'rows' need {self.num_items} columns in "
                f"'{self.__class__.__name__}' (got {rows.num_cols})"
            )
        rows = self.weigh(rows.to(dtype=self._dtype))
        return self._solve(rows, self._item_axes()).to(self.item.dtype)

    def score(self, users: Tensor, history: SparseRows) -> Any:
        return self.fold_in(history) @ self.item.t()

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.item.dtype, torch.float)

    def _item_axes(self) -> _Axes:
        item = self.item
        return kept(
            ('axes', id(self)), [item], lambda: _principal_axes(item), lasting=True
        )

    def _penalty(self, rows: SparseRows) -> Tensor:
        return self.l2 * (rows.row_sum() + self.alpha0 * rows.num_cols) ** self.nu

    def _solve(self, rows: SparseRows, axes: _Axes) -> Tensor:
        r"""The factors of all rows, for given factors of all columns."""
        scale = self.alpha0 * axes.eigenvalues + self._penalty(rows).view(-1, 1)
        scale = scale.rsqrt()  # [B, C]
        out = torch.zeros_like(scale)
        length, order = rows.rowptr.diff().sort(descending=True, stable=True)
        lengths = length.tolist()
        start = 0
        while start < len(lengths) and lengths[start] > 0:
            width = lengths[start]
            index = order[start:][: max(1, _BLOCK // (width * self.embedding_dim))]
            start += len(index)
            col, weight = _pad(rows.index_select(index), width)
            root = weight.sqrt().unsqueeze(2)  # [B, N, 1]
            # Several times as fast as to index, for the same numbers.
            z = axes.factors.index_select(0, col.view(-1)).view(*col.shape, -1)
            z = z.mul_(root).mul_(scale[index].unsqueeze(1))  # [B, N, C]
            zt = z.transpose(1, 2)  # [B, C, N]
            if width < self.embedding_dim:
                solution = zt @ _solve_shifted(z @ zt, root)
            else:
                solution = _solve_shifted(zt @ z, zt @ root)
            out[index] = scale[index] * solution.squeeze(2)
        return out @ axes.basis.t()

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'embedding_dim={self.embedding_dim}, l2={self.l2}, '
            f'alpha0={self.alpha0})'
        )
