r"""Interaction rows in compressed form and their products. The only file that
imports :obj:`torch_sparse`, and only for a product on a GPU."""

from typing import Any, Optional, Union

import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.scatter import segment_sum
from pyg_diffrec.utils.sparse_checks import (
    can_look_at,
    check_boundaries,
    check_float,
    check_index,
    check_long,
    check_range,
)


def _torch_sparse() -> Any:
    try:
        import torch_sparse
    except (ImportError, OSError) as error:  # OSError: built for another PyTorch.
        raise ImportError(
            f"A sparse product on a GPU needs 'torch-scatter' and 'torch-sparse', "
            f'built for the PyTorch that is installed, {torch.__version__} ({error}). '
            f"Install them with 'python -m pyg_diffrec.extensions', which takes "
            f'prebuilt wheels where it is told of some, and compiles otherwise'
        ) from error
    return torch_sparse


class SparseRows:
    r"""A batch of sparse rows in CSR layout, the form in which interactions
    travel from the loader to the first layer of a model.

    Entries of a row keep the order in which they were given, which is time order
    for interactions. A :class:`SparseRows` is a value: no method changes it.

    Args:
        rowptr (torch.Tensor): Row boundaries :math:`(B + 1)`, int64.
        col (torch.Tensor): Column of each entry :math:`(\mathrm{nnz})`, int64,
            unique within a row.
        value (torch.Tensor, optional): Value of each entry
            :math:`(\mathrm{nnz})`, floating point; ones if :obj:`None`.
            (default: :obj:`None`)
        num_cols (int): The length :math:`I` of a row.

    Raises:
        ValueError: If the parts do not fit each other: on a CPU also if a column lies
            outside of :math:`[0, I)`, or the boundaries fall, do not start at zero, or
            do not end at the number of entries. On other devices values are not looked
            at, since that would wait for the device.
        TypeError: If an index is not int64 or the values are not floating point.
    """

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        value: Optional[Tensor] = None,
        *,
        num_cols: int,
    ) -> None:
        check_whole('SparseRows', minimum=0, num_cols=num_cols)
        check_long(rowptr=rowptr, col=col)
        if value is None:
            value = torch.ones(col.numel(), device=col.device)
        check_float('value', value, 'SparseRows')
        if rowptr.dim() != 1 or rowptr.numel() < 1:
            raise ValueError(
                f"'rowptr' needs shape [num_rows + 1] in 'SparseRows' "
                f'(got {list(rowptr.shape)})'
            )
        if col.dim() != 1 or value.shape != col.shape:
            raise ValueError(
                f"'col' and 'value' need the same shape [nnz] in 'SparseRows' "
                f'(got {list(col.shape)} and {list(value.shape)})'
            )
        if not rowptr.device == col.device == value.device:
            raise ValueError(
                f"'rowptr', 'col' and 'value' need to be on one device in 'SparseRows' "
                f"(got '{rowptr.device}', '{col.device}' and '{value.device}')"
            )
        if can_look_at(col):
            check_boundaries(rowptr, col.numel())
            check_range('col', col, num_cols)
        self._set(rowptr, col, value, int(num_cols))

    def _set(self, rowptr: Tensor, col: Tensor, value: Tensor, num_cols: int) -> None:
        self.rowptr = rowptr
        self.col = col
        self.value = value
        self.num_cols = num_cols

    @classmethod
    def _trusted(
        cls, rowptr: Tensor, col: Tensor, value: Tensor, num_cols: int
    ) -> 'SparseRows':
        r"""Parts that were made of checked ones, and need no further look."""
        out = cls.__new__(cls)
        out._set(rowptr, col, value, num_cols)
        return out

    @classmethod
    def from_coo(
        cls,
        row: Tensor,
        col: Tensor,
        value: Optional[Tensor] = None,
        *,
        num_rows: int,
        num_cols: int,
    ) -> 'SparseRows':
        r"""Groups entries by row; within a row they keep their order.

        Args:
            row (torch.Tensor): Row of each entry :math:`(\mathrm{nnz})`, int64.
            col (torch.Tensor): Column of each entry :math:`(\mathrm{nnz})`, int64,
                unique within a row.
            value (torch.Tensor, optional): Value of each entry; ones if :obj:`None`.
                (default: :obj:`None`)
            num_rows (int): The number :math:`B` of rows.
            num_cols (int): The length :math:`I` of a row.

        Raises:
            ValueError: If the parts do not fit each other, or, on a CPU, a row or
                column is out of range.
            TypeError: If an index is not int64 or the values are not floating point.
        """
        check_whole('SparseRows.from_coo', minimum=0, num_rows=num_rows)
        check_long(row=row, col=col)
        if row.dim() != 1 or row.shape != col.shape:
            raise ValueError(
                f"'row' and 'col' need the same shape [nnz] in 'SparseRows' (got "
                f'{list(row.shape)} and {list(col.shape)})'
            )
        if value is not None and value.shape != row.shape:
            raise ValueError(
                f"'value' needs shape {list(row.shape)}, that of 'row', in "
                f"'SparseRows' (got {list(value.shape)})"
            )
        if can_look_at(row):
            check_range('row', row, num_rows)
        if not bool((row[1:] >= row[:-1]).all()):
            row, perm = row.sort(stable=True)
            col = col[perm]
            value = None if value is None else value[perm]
        rowptr = F.pad(torch.bincount(row, minlength=num_rows).cumsum(0), (1, 0))
        return cls(rowptr, col, value, num_cols=num_cols)

    @property
    def num_rows(self) -> int:
        return self.rowptr.numel() - 1

    @property
    def nnz(self) -> int:
        return self.col.numel()

    @property
    def shape(self) -> tuple[int, int]:
        return self.num_rows, self.num_cols

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        return self.col.device

    @property
    def row(self) -> Tensor:
        r"""The row of each entry :math:`(\mathrm{nnz})`."""
        arange = torch.arange(self.num_rows, device=self.device)
        return arange.repeat_interleave(self.rowptr.diff(), output_size=self.nnz)

    def to(
        self,
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
        non_blocking: bool = False,
    ) -> 'SparseRows':
        r"""Returns the rows on :obj:`device`, with values as :obj:`dtype`."""
        rowptr = self.rowptr.to(device, non_blocking=non_blocking)
        col = self.col.to(device, non_blocking=non_blocking)
        value = self.value.to(device, dtype, non_blocking=non_blocking)
        if not value.is_floating_point():
            raise TypeError(
                f"'dtype' needs to be a floating point type in 'SparseRows.to' (got "
                f"'{dtype}')"
            )
        return SparseRows._trusted(rowptr, col, value, self.num_cols)

    def with_value(self, value: Tensor) -> 'SparseRows':
        r"""Returns the same pattern with other values.

        Raises:
            ValueError: If there is not one value per entry.
            TypeError: If the values are not floating point.
        """
        check_float('value', value, 'SparseRows.with_value')
        if value.shape != self.col.shape:
            raise ValueError(
                f"'value' needs shape [{self.nnz}], one value per entry, in "
                f"'SparseRows.with_value' (got {list(value.shape)})"
            )
        return SparseRows._trusted(self.rowptr, self.col, value, self.num_cols)

    def index_select(self, index: Tensor) -> 'SparseRows':
        r"""Returns the rows :obj:`index`, in that order; repeats are allowed.

        Raises:
            ValueError: If :obj:`index` is not one-dimensional, or, on a CPU, out of
                range.
            TypeError: If it is not int64.
        """
        check_index(index, self.num_rows, 'SparseRows.index_select')
        start, count = self.rowptr[index], self.rowptr.diff()[index]
        rowptr = F.pad(count.cumsum(0), (1, 0))
        # The position of each new entry in the old arrays: count up from zero
        # and shift every row by the distance between its old and its new start.
        entry = torch.arange(int(rowptr[-1]), device=self.device)
        entry = entry + (start - rowptr[:-1]).repeat_interleave(
            count, output_size=entry.numel()
        )
        return SparseRows._trusted(
            rowptr, self.col[entry], self.value[entry], self.num_cols
        )

    def select_columns(self, index: Tensor) -> 'SparseRows':
        r"""Returns the columns :obj:`index`, numbered anew in that order, of all
        rows; entries of a row keep their order.

        Raises:
            ValueError: If :obj:`index` is not one-dimensional, or, on a CPU, out of
                range or names a column twice.
            TypeError: If it is not int64.
        """
        check_index(index, self.num_cols, 'SparseRows.select_columns')
        number = torch.arange(index.numel(), device=self.device)
        position = self.col.new_full((self.num_cols,), -1)
        position[index] = number
        if can_look_at(index) and not torch.equal(position[index], number):
            twice = int(index[position[index] != number][0])
            raise ValueError(
                f"'index' needs each column once in 'SparseRows.select_columns' (got "
                f'{twice} again)'
            )
        col = position[self.col]
        keep = col >= 0
        rowptr = F.pad(keep.cumsum(0), (1, 0))[self.rowptr]
        return SparseRows._trusted(rowptr, col[keep], self.value[keep], index.numel())

    def t(self) -> 'SparseRows':
        r"""Returns the transpose :math:`(I, B)`, where the entries of a column of
        ours follow each other by row."""
        col, perm = self.col.sort(stable=True)
        count = torch.bincount(col, minlength=self.num_cols)
        rowptr = F.pad(count.cumsum(0), (1, 0))
        return SparseRows._trusted(rowptr, self.row[perm], self.value[perm], len(self))

    def to_dense(self) -> Tensor:
        r"""Returns the rows as a dense :math:`(B, I)` tensor."""
        out = self.value.new_zeros(self.shape)
        out[self.row, self.col] = self.value
        return out

    def to_scipy(self) -> scipy.sparse.csr_array:
        r"""Returns a copy of the rows as a SciPy matrix in float64, for closed forms.
        It shares no memory, as many methods of SciPy sort a matrix in place."""
        parts = (self.value.double(), self.col, self.rowptr)
        data, indices, indptr = (part.detach().cpu().numpy().copy() for part in parts)
        return scipy.sparse.csr_array((data, indices, indptr), shape=self.shape)

    def matmul(self, other: Tensor) -> Tensor:
        r"""The product with a dense matrix, differentiable in both.

        .. math::
            \mathrm{out}_b = \sum_{i \in S_b} v_{b,i} \, \mathrm{other}_i

        Costs :math:`\mathrm{nnz} \cdot H` operations. On a GPU this is
        :obj:`torch_sparse`, elsewhere PyTorch's embedding bag, which is the faster
        kernel there.

        Args:
            other (torch.Tensor): The matrix :math:`(I, H)`.

        Shapes:
            - **output:** :math:`(B, H)`

        Raises:
            ValueError: If :obj:`other` does not have one row per column.
            TypeError: If it is not floating point.
            ImportError: If a GPU is asked for and :obj:`torch_sparse` is missing.
        """
        if other.dim() != 2 or other.size(0) != self.num_cols:
            raise ValueError(
                f"'other' needs shape [{self.num_cols}, *] in 'SparseRows.matmul' "
                f'(got {list(other.shape)})'
            )
        check_float('other', other, 'SparseRows.matmul')
        if other.is_cuda:
            return self._torch_sparse_matmul(other)
        return F.embedding_bag(
            self.col,
            other,
            self.rowptr[:-1],
            mode='sum',
            per_sample_weights=self.value.to(other.dtype),
        )

    def _torch_sparse_matmul(self, other: Tensor) -> Tensor:
        torch_sparse = _torch_sparse()
        adj = torch_sparse.SparseTensor(
            rowptr=self.rowptr,
            col=self.col,
            value=self.value.to(other.dtype),
            sparse_sizes=self.shape,
            is_sorted=True,
            trust_data=True,
        )
        return torch_sparse.matmul(adj, other)

    def row_sum(self, value: Optional[Tensor] = None) -> Tensor:
        r"""Sums per row, of :obj:`value` :math:`(\mathrm{nnz}, *)` if given.

        Raises:
            ValueError: If there is not one value per entry.
        """
        if value is not None and (value.dim() < 1 or value.size(0) != self.nnz):
            raise ValueError(
                f"'value' needs shape [{self.nnz}, *], one value per entry, in "
                f"'SparseRows.row_sum' (got {list(value.shape)})"
            )
        return segment_sum(self.value if value is None else value, self.rowptr)

    def dot(self, vector: Tensor) -> Tensor:
        r"""The inner product of every row with :obj:`vector` :math:`(I)`.

        Raises:
            ValueError: If :obj:`vector` is of another shape.
            TypeError: If it is not floating point.
        """
        if vector.shape != (self.num_cols,):
            raise ValueError(
                f"'vector' needs shape [{self.num_cols}] in 'SparseRows.dot' (got "
                f'{list(vector.shape)})'
            )
        check_float('vector', vector, 'SparseRows.dot')
        return self.row_sum(self.value.to(vector.dtype) * vector[self.col])

    def dot_dense(self, other: Tensor) -> Tensor:
        r"""The inner product of every row with the same row of a dense
        :math:`(B, I)` tensor.

        Raises:
            ValueError: If :obj:`other` is of another shape.
            TypeError: If it is not floating point.
        """
        if other.shape != self.shape:
            raise ValueError(
                f"'other' needs shape {list(self.shape)} in 'SparseRows.dot_dense' "
                f'(got {list(other.shape)})'
            )
        check_float('other', other, 'SparseRows.dot_dense')
        return self.row_sum(self.value.to(other.dtype) * other[self.row, self.col])

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({list(self.shape)}, nnz={self.nnz})'
