r"""Interaction rows in compressed form and their products. The only file that
imports :obj:`torch_sparse`, and only for a product on a GPU."""

from typing import Any, Optional, Union

import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.utils.scatter import segment_sum


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
        ValueError: If the parts do not fit each other.
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
        for name, index in (('rowptr', rowptr), ('col', col)):
            if index.dtype != torch.long:
                raise TypeError(
                    f"'{name}' needs to be a 'torch.long' tensor in 'SparseRows' "
                    f"(got '{index.dtype}')"
                )
        if value is None:
            value = torch.ones(col.numel(), device=col.device)
        if not value.is_floating_point():
            raise TypeError(
                f"'value' needs to be a floating point tensor in 'SparseRows' "
                f"(got '{value.dtype}')"
            )
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
        self.rowptr = rowptr
        self.col = col
        self.value = value
        self.num_cols = int(num_cols)

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
        r"""Groups entries by row; within a row they keep their order."""
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
        return SparseRows(rowptr, col, value, num_cols=self.num_cols)

    def with_value(self, value: Tensor) -> 'SparseRows':
        r"""Returns the same pattern with other values."""
        return SparseRows(self.rowptr, self.col, value, num_cols=self.num_cols)

    def index_select(self, index: Tensor) -> 'SparseRows':
        r"""Returns the rows :obj:`index`, in that order; repeats are allowed."""
        start, count = self.rowptr[index], self.rowptr.diff()[index]
        rowptr = F.pad(count.cumsum(0), (1, 0))
        # The position of each new entry in the old arrays: count up from zero
        # and shift every row by the distance between its old and its new start.
        entry = torch.arange(int(rowptr[-1]), device=self.device)
        entry = entry + (start - rowptr[:-1]).repeat_interleave(
            count, output_size=entry.numel()
        )
        return SparseRows(
            rowptr, self.col[entry], self.value[entry], num_cols=self.num_cols
        )

    def select_columns(self, index: Tensor) -> 'SparseRows':
        r"""Returns the columns :obj:`index`, numbered anew in that order, of all
        rows; entries of a row keep their order."""
        position = self.col.new_full((self.num_cols,), -1)
        position[index] = torch.arange(index.numel(), device=self.device)
        col = position[self.col]
        keep = col >= 0
        rowptr = F.pad(keep.cumsum(0), (1, 0))[self.rowptr]
        return SparseRows(rowptr, col[keep], self.value[keep], num_cols=index.numel())

    def t(self) -> 'SparseRows':
        r"""Returns the transpose :math:`(I, B)`, where the entries of a column of
        ours follow each other by row."""
        return SparseRows.from_coo(
            self.col, self.row, self.value, num_rows=self.num_cols, num_cols=len(self)
        )

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
            ImportError: If a GPU is asked for and :obj:`torch_sparse` is missing.
        """
        if other.dim() != 2 or other.size(0) != self.num_cols:
            raise ValueError(
                f"'other' needs shape [{self.num_cols}, *] in 'SparseRows.matmul' "
                f'(got {list(other.shape)})'
            )
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
        r"""Sums per row, of :obj:`value` :math:`(\mathrm{nnz}, *)` if given."""
        return segment_sum(self.value if value is None else value, self.rowptr)

    def dot(self, vector: Tensor) -> Tensor:
        r"""The inner product of every row with :obj:`vector` :math:`(I)`."""
        return self.row_sum(self.value.to(vector.dtype) * vector[self.col])

    def dot_dense(self, other: Tensor) -> Tensor:
        r"""The inner product of every row with the same row of a dense
        :math:`(B, I)` tensor."""
        return self.row_sum(self.value.to(other.dtype) * other[self.row, self.col])

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({list(self.shape)}, nnz={self.nnz})'
