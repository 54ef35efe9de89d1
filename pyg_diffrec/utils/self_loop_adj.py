r"""Propagation over a graph of users and items with a loop at every node."""

from typing import Optional

import torch
from torch import Tensor

from pyg_diffrec.utils.checks import check_dropout
from pyg_diffrec.utils.propagation import Product, edge_weight
from pyg_diffrec.utils.sparse import SparseRows


class SelfLoopAdj:
    r"""The symmetrically normalised graph of users and items with a loop at every
    node, as the `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper propagates along it, built once.

    .. math::
        \hat{\mathbf{A}} = \mathbf{D}^{-1/2} (\mathbf{B} + \mathbf{I})
        \mathbf{D}^{-1/2}, \qquad
        \mathbf{B} = \begin{pmatrix} \mathbf{0} & \mathbf{R} \\
        \mathbf{R}^{\top} & \mathbf{0} \end{pmatrix}

    with the weighted degrees :math:`\mathbf{D}` of :math:`\mathbf{B} + \mathbf{I}`.
    Users are the first :math:`U` nodes, items the last :math:`I`. Entries are kept
    with their transposition, so that the backward pass of a product costs one
    product more and transposes nothing. A :class:`SelfLoopAdj` is a value: no method
    changes it.

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
        self.num_users, num_items = rows.shape
        num_nodes = self.num_users + num_items
        user, item = rows.row, rows.col + self.num_users
        loop = torch.arange(num_nodes, device=rows.device)
        row, col = torch.cat([user, item, loop]), torch.cat([item, user, loop])
        value = torch.cat([weight, weight, weight.new_ones(num_nodes)])

        key, perm = (row * num_nodes + col).sort()
        row, col, value = key // num_nodes, key % num_nodes, value[perm]
        scale = torch.bincount(row, value, minlength=num_nodes).rsqrt()
        value = (scale[row] * value * scale[col]).to(dtype or rows.dtype)
        #: The entries, sorted by the node they go into and then by where they come
        #: from :math:`(U + I, U + I)`.
        self.rows = SparseRows.from_coo(
            row, col, value, num_rows=num_nodes, num_cols=num_nodes
        )
        self.rows_t = self.rows
        #: The place of the opposite of each entry.
        self.opposite = (col * num_nodes + row).argsort()

    @property
    def num_nodes(self) -> int:
        return self.rows.num_rows

    @property
    def nnz(self) -> int:
        r"""The number of entries: both directions of all edges, and the loops."""
        return self.rows.nnz

    @property
    def dtype(self) -> torch.dtype:
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def dropout(
        self,
        p: float,
        generator: Optional[torch.Generator] = None,
        uniform: Optional[Tensor] = None,
    ) -> 'SelfLoopAdj':
        r"""Returns the graph without a random share :math:`p` of its entries, and
        the others times :math:`1 / (1 - p)`: an entry stays if
        :math:`\lfloor u + 1 - p \rfloor = 1`. As in the authors' code the two
        directions of an edge are dropped independently, loops too, and the degrees
        stay those of the whole graph.

        Args:
            p (float): The share :math:`p`.
            generator (torch.Generator, optional): Draws :math:`u` on the CPU,
                whatever the device. (default: :obj:`None`)
            uniform (torch.Tensor, optional): The :math:`u` of each entry in the
                order of :obj:`rows`, drawn from :math:`[0, 1)` if :obj:`None`.
                (default: :obj:`None`)

        Raises:
            ValueError: If :obj:`p` lies outside :math:`[0, 1)`, or :obj:`uniform`
                does not hold one number per entry.
        """
        check_dropout(f'{self.__class__.__name__}.dropout', p=p)
        if uniform is None:
            uniform = torch.rand(self.nnz, generator=generator).to(self.device)
        if uniform.shape != (self.nnz,):
            raise ValueError(
                f"'uniform' needs shape [{self.nnz}] in "
                f"'{self.__class__.__name__}.dropout', one number per entry (got "
                f'{list(uniform.shape)})'
            )
        keep = 1.0 - p
        kept = (uniform + keep).floor() >= 1
        return self._with(torch.where(kept, self.rows.value / keep, 0.0))

    def mix(self, other: 'SelfLoopAdj', share: float) -> 'SelfLoopAdj':
        r"""Returns :math:`s \, \hat{\mathbf{A}} + (1 - s) \, \hat{\mathbf{A}}'` with
        the graph :obj:`other` of the same nodes and the share :math:`s`.

        Raises:
            ValueError: If :obj:`other` has other nodes.
        """
        size = self.num_nodes
        if (other.num_users, other.num_nodes) != (self.num_users, size):
            raise ValueError(
                f"'other' needs {self.num_users} users and {size} nodes in "
                f"'{self.__class__.__name__}.mix' (got {other.num_users} and "
                f'{other.num_nodes})'
            )
        keys = [x.rows.row * size + x.rows.col for x in (self, other)]
        values = [self.rows.value * share, other.rows.value * (1.0 - share)]
        key, index = torch.cat(keys).unique(return_inverse=True)
        value = values[0].new_zeros(key.numel()).index_add_(0, index, torch.cat(values))
        row, col = key // size, key % size
        out = self.__class__.__new__(self.__class__)
        out.num_users = self.num_users
        out.rows = SparseRows.from_coo(row, col, value, num_rows=size, num_cols=size)
        out.opposite = (col * size + row).argsort()
        return out._with(value)

    def propagate(self, x: Tensor) -> Tensor:
        r"""One step of propagation :math:`\hat{\mathbf{A}} \mathbf{x}`, differentiable.

        Shapes:
            - **x:** users, then items :math:`(U + I, C)`
            - **output:** :math:`(U + I, C)`

        Raises:
            ValueError: If :obj:`x` does not have one row per node.
        """
        return Product.apply(x, self.rows, self.rows_t)

    def _with(self, value: Tensor) -> 'SelfLoopAdj':
        r"""The same pattern with other values, not necessarily symmetric."""
        out = self.__class__.__new__(self.__class__)
        out.num_users, out.opposite = self.num_users, self.opposite
        out.rows = self.rows.with_value(value)
        out.rows_t = self.rows.with_value(value[self.opposite])
        return out

    def __repr__(self) -> str:
        num_items = self.num_nodes - self.num_users
        return (
            f'{self.__class__.__name__}({self.num_users}, {num_items}, nnz={self.nnz})'
        )
