r"""Propagation over a bipartite graph whose backward pass transposes nothing."""

from typing import Any, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.utils.checks import check_dropout
from pyg_diffrec.utils.sparse import SparseRows


class Product(torch.autograd.Function):
    r"""The product of fixed sparse rows with a matrix, given their transpose."""

    # On a CPU, `SparseRows.matmul` takes PyTorch's embedding bag. Measured at
    # 6,000 x 3,000 with 400,000 entries and 64 columns, one core, float32:
    # - one product, relative to it (1 ms): PyTorch's CSR product 1.6, SciPy's 5,
    #   torch-sparse's 25 (1.5 for CSR at 60,000 nodes and 1.5 million entries). In
    #   float64, which is not for training, the CSR product takes 0.25;
    # - both directions, forward and backward, relative to this function (5 ms): the
    #   embedding bag's own backward pass 13, PyG's `spmm` 16, torch-sparse 18.

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: SparseRows, rows_t: SparseRows) -> Tensor:
        ctx.rows, ctx.rows_t = rows, rows_t
        return rows.matmul(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        # Itself once more, so that gradients have gradients.
        return Product.apply(grad, ctx.rows_t, ctx.rows), None, None


def edge_weight(rows: SparseRows, name: str) -> Tensor:
    r"""The values of :obj:`rows` in float64, if :obj:`name` can take their degrees."""
    weight = rows.value.double()
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise ValueError(
            f"'rows' need finite, non-negative values in '{name}' (got "
            f'{weight.min()} to {weight.max()})'
        )
    return weight


class BipartiteAdj:
    r"""The symmetrically normalised interactions of users with items, and their
    transpose, both in CSR layout: what graph convolutions on a user-item graph
    multiply with, built once.

    .. math::
        \hat{\mathbf{R}} = \mathbf{D}_u^{-1/2} \mathbf{R} \mathbf{D}_i^{-1/2},
        \qquad \hat{\mathbf{A}} = \begin{pmatrix} \mathbf{0} & \hat{\mathbf{R}} \\
        \hat{\mathbf{R}}^{\top} & \mathbf{0} \end{pmatrix}

    with the weighted degrees :math:`\mathbf{D}` and zero in place of
    :math:`0^{-1/2}`. As :math:`\hat{\mathbf{A}}` is symmetric, the gradient of
    :math:`\hat{\mathbf{A}} \mathbf{x}` is :math:`\hat{\mathbf{A}} \mathbf{g}`: the
    backward pass takes the same two products, and none of them a transposition. A
    :class:`BipartiteAdj` is a value: no method changes it.

    Args:
        rows (SparseRows): The interactions :math:`(U, I)`, with their weights.
        dtype (torch.dtype, optional): The type of the normalised weights, which are
            computed in float64; the one of :obj:`rows` if :obj:`None`.
            (default: :obj:`None`)

    Raises:
        ValueError: If a weight is negative or not finite.
    """

    def __init__(self, rows: SparseRows, dtype: Optional[torch.dtype] = None) -> None:
        weight = edge_weight(rows, self.__class__.__name__)
        row, col = rows.row, rows.col
        num_users, num_items = rows.shape
        user_degree = torch.bincount(row, weight, minlength=num_users)
        item_degree = torch.bincount(col, weight, minlength=num_items)
        scale = [degree.rsqrt() for degree in (user_degree, item_degree)]
        scale = [x.masked_fill(x == float('inf'), 0.0) for x in scale]
        value = (scale[0][row] * weight * scale[1][col]).to(dtype or rows.dtype)

        #: The permutation that sorts the entries by item.
        self.perm = col.argsort(stable=True)
        self.rows = rows.with_value(value)
        self.rows_t = SparseRows.from_coo(
            col[self.perm],
            row[self.perm],
            value[self.perm],
            num_rows=num_items,
            num_cols=num_users,
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape

    @property
    def nnz(self) -> int:
        return self.rows.nnz

    @property
    def dtype(self) -> torch.dtype:
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def to(
        self,
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> 'BipartiteAdj':
        r"""Returns the graph on :obj:`device`, with weights as :obj:`dtype`."""
        return self._with(
            self.rows.to(device, dtype),
            self.rows_t.to(device, dtype),
            self.perm.to(device),
        )

    def dropout(
        self, p: float, generator: Optional[torch.Generator] = None
    ) -> 'BipartiteAdj':
        r"""Returns the graph without a random share :math:`p` of the interactions,
        each dropped in both directions, and the others times :math:`1 / (1 - p)`.
        The degrees stay those of the whole graph.

        Raises:
            ValueError: If :obj:`p` lies outside :math:`[0, 1)`.
        """
        check_dropout(f'{self.__class__.__name__}.dropout', p=p)
        value = self.rows.value
        u = torch.rand(self.nnz, generator=generator, device=self.device)
        value = torch.where(u >= p, value / (1.0 - p), 0.0)
        return self._with(
            self.rows.with_value(value),
            self.rows_t.with_value(value[self.perm]),
            self.perm,
        )

    def propagate(self, x_user: Tensor, x_item: Tensor) -> tuple[Tensor, Tensor]:
        r"""One step of propagation, differentiable in both arguments.

        .. math::
            (\hat{\mathbf{R}} \, \mathbf{x}_{\mathrm{item}}, \;
            \hat{\mathbf{R}}^{\top} \, \mathbf{x}_{\mathrm{user}})

        Shapes:
            - **x_user:** :math:`(U, C)`
            - **x_item:** :math:`(I, C)`
            - **output:** users :math:`(U, C)` and items :math:`(I, C)`

        Raises:
            ValueError: If an argument does not have one row per node.
        """
        return (
            Product.apply(x_item, self.rows, self.rows_t),
            Product.apply(x_user, self.rows_t, self.rows),
        )

    @classmethod
    def _with(
        cls, rows: SparseRows, rows_t: SparseRows, perm: Tensor
    ) -> 'BipartiteAdj':
        out = cls.__new__(cls)
        out.rows, out.rows_t, out.perm = rows, rows_t, perm
        return out

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({list(self.shape)}, nnz={self.nnz})'
