from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.state import adopt_sizes

# Rows smoothed at once: a table of this many columns stays in the cache, which makes
# the sparse products faster than one pass over a wide one.
_BLOCK = 128


def _inverse_power(degree: Tensor, power: float) -> Tensor:
    # Users and items without interactions have no neighbours: they get weight 0.
    return torch.where(degree > 0, degree.clamp(min=1e-300).pow(-power), 0.0)


def _max_eigenvalue(rows: SparseRows, start: Tensor) -> float:
    r"""The largest eigenvalue of the product of a matrix with its transpose."""
    adj = rows.to_scipy()
    if rows.num_cols <= 2:  # Lanczos needs more columns than eigenvalues.
        return float(np.linalg.eigvalsh((adj.T @ adj).toarray())[-1])
    operator = scipy.sparse.linalg.LinearOperator(
        (rows.num_cols, rows.num_cols), lambda x: adj.T @ (adj @ x), dtype=np.float64
    )
    value = scipy.sparse.linalg.eigsh(
        operator, 1, v0=start.cpu().numpy(), tol=1e-12, return_eigenvectors=False
    )
    return float(value[0])


class ItemGraph(torch.nn.Module):
    r"""The item-item similarity operator of the `"Graph Signal Diffusion Model for
    Collaborative Filtering" <https://arxiv.org/abs/2311.08744>`_ paper, which smooths
    rows over items that share users.

    .. math::
        \mathbf{S} = \tfrac{1}{\lambda_{\max}} \mathbf{A}^{\top} \mathbf{A}, \qquad
        \mathbf{A} = \mathbf{D}_U^{-1/4} \mathbf{R} \, \mathbf{D}_I^{-1/2}

    Here :math:`\mathbf{R}` are the training interactions :math:`(U, I)` and
    :math:`\mathbf{D}_U, \mathbf{D}_I` the degrees of users and items (sums of their
    interactions); :math:`\lambda_{\max}` is the largest eigenvalue of
    :math:`\mathbf{A}^{\top} \mathbf{A}`. :math:`\mathbf{S}` is symmetric with
    eigenvalues in :math:`[0, 1]`. It is never formed: rows go through
    :math:`{(\mathbf{A}^{\top} (\mathbf{A} \mathbf{x}^{\top}))}^{\top}`, two sparse
    products of :math:`\mathrm{nnz}` operations per row each.

    Args:
        rows (SparseRows): The training interactions :math:`(U, I)`, not negative.

    Shapes:
        - **x:** rows :math:`(B, I)`
        - **output:** smoothed rows :math:`(B, I)`, in the unit of :obj:`x`

    Raises:
        ValueError: If there are no interactions, or one is negative, or :obj:`x`
            does not have :math:`I` columns.

    .. note::
        With :math:`\mathbf{D}_U^{-1}` between :math:`\mathbf{R}^{\top}` and
        :math:`\mathbf{R}` the operator would be similar to a random walk from item to
        user to item, its largest eigenvalue 1 and the eigenvector
        :math:`\mathbf{D}_I^{1/2} \mathbf{1}`. With :math:`\mathbf{D}_U^{-1/2}`, as
        in paper and code, the eigenvalue has no closed form, and Lanczos iterations
        from that vector find it, in float64. Power iterations would take thousands of
        steps where the next eigenvalue is close, as it is on large sparse graphs.
        The scaled interactions are kept twice, by user and by item: :math:`32`
        bytes per interaction.
    """

    eigenvalue: Tensor
    rowptr: Tensor
    col: Tensor
    value: Tensor
    rowptr_t: Tensor
    col_t: Tensor
    value_t: Tensor

    def __init__(self, rows: SparseRows) -> None:
        super().__init__()
        value, row, col = rows.value.double(), rows.row, rows.col
        if not bool((value > 0).any()) or bool((value < 0).any()):
            raise ValueError(
                f"'rows' needs interactions, none of them negative, in "
                f"'{self.__class__.__name__}' (got {rows.nnz} interactions)"
            )
        self.num_items = rows.num_cols
        user_degree = rows.row_sum(value)
        item_degree = value.new_zeros(self.num_items).index_add_(0, col, value)
        value = value * _inverse_power(user_degree, 0.25)[row]
        value = value * _inverse_power(item_degree, 0.5)[col]
        adj = rows.with_value(value)
        largest = _max_eigenvalue(adj, item_degree.sqrt())
        scale = largest**-0.5
        self.register_buffer('eigenvalue', value.new_tensor(largest))
        for name, part in (('', adj), ('_t', adj.t())):
            for key in ('rowptr', 'col'):
                self.register_buffer(key + name, getattr(part, key).clone())
            self.register_buffer('value' + name, part.value * scale)

    @property
    def num_users(self) -> int:
        return self.rowptr.numel() - 1

    @property
    def max_eigenvalue(self) -> float:
        r"""The largest eigenvalue before scaling."""
        return float(self.eigenvalue)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.size(1) != self.num_items:
            raise ValueError(
                f"'x' needs shape [*, {self.num_items}] in "
                f"'{self.__class__.__name__}' (got {list(x.shape)})"
            )
        dtype, (num_users, num_items) = x.dtype, (self.num_users, self.num_items)
        adj = SparseRows._trusted(
            self.rowptr, self.col, self.value.to(dtype), num_items
        )
        adj_t = SparseRows._trusted(
            self.rowptr_t, self.col_t, self.value_t.to(dtype), num_users
        )
        blocks = [
            # [I, B] -> [U, B] -> [I, B]
            adj_t.matmul(adj.matmul(block.t().contiguous())).t()
            for block in x.split(_BLOCK)
        ]
        return torch.cat(blocks) if len(blocks) > 1 else blocks[0].contiguous()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        free = dict.fromkeys(('rowptr', 'col', 'value', 'col_t', 'value_t'), (None,))
        adopt_sizes(self, state_dict, prefix, **free)
        super()._load_from_state_dict(state_dict, prefix, *args)
        # What a file holds is looked at once, here, and trusted in every pass.
        for end, num_cols in (('', self.num_items), ('_t', self.num_users)):
            parts = (getattr(self, key + end) for key in ('rowptr', 'col', 'value'))
            try:
                SparseRows(*parts, num_cols=num_cols)
            except ValueError as error:
                args[-1].append(f"'{prefix}rowptr{end}', 'col{end}': {error}")

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_interactions={self.col.numel()})'
        )
