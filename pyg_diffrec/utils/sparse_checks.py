r"""What the parts of sparse rows have to fulfil."""

import torch
from torch import Tensor


def can_look_at(index: Tensor) -> bool:
    r"""Whether a look at the values of :obj:`index` costs no wait: elsewhere than on
    a CPU it waits for the device."""
    return index.device.type == 'cpu' and not torch.compiler.is_compiling()


def check_long(**indices: Tensor) -> None:
    r"""Raises a TypeError unless all are int64."""
    for name, index in indices.items():
        dtype = getattr(index, 'dtype', type(index))
        if dtype != torch.long:
            raise TypeError(
                f"'{name}' needs to be a 'torch.long' tensor in 'SparseRows' "
                f"(got '{dtype}')"
            )


def check_float(key: str, x: Tensor, name: str) -> None:
    r"""Raises a TypeError unless :obj:`x` is floating point."""
    if not x.is_floating_point():
        raise TypeError(
            f"'{key}' needs to be a floating point tensor in '{name}' (got '{x.dtype}')"
        )


def check_range(key: str, index: Tensor, size: int, name: str = 'SparseRows') -> None:
    r"""Raises a ValueError unless all entries lie in :math:`[0, \mathrm{size})`."""
    if index.numel() == 0:
        return
    low, high = (int(value) for value in index.aminmax())
    if low < 0 or high >= size:
        bad = low if low < 0 else high
        place = int((index == bad).nonzero()[0])
        raise ValueError(
            f"'{key}' needs to lie in [0, {size}) in '{name}' (got {bad} at position "
            f'{place})'
        )


def check_boundaries(rowptr: Tensor, nnz: int) -> None:
    r"""Raises a ValueError unless :obj:`rowptr` rises from zero to :obj:`nnz`."""
    first, last = int(rowptr[0]), int(rowptr[-1])
    if first != 0 or last != nnz:
        raise ValueError(
            f"'rowptr' needs to go from 0 to {nnz}, the number of entries, in "
            f"'SparseRows' (got {first} to {last})"
        )
    falls = rowptr.diff() < 0
    if bool(falls.any()):
        row = int(falls.nonzero()[0])
        raise ValueError(
            f"'rowptr' must not fall in 'SparseRows' (got {int(rowptr[row])} and then "
            f'{int(rowptr[row + 1])} in row {row})'
        )


def check_index(index: Tensor, size: int, name: str) -> None:
    r"""Raises an error unless :obj:`index` is a list of places in
    :math:`[0, \mathrm{size})`."""
    if index.dtype != torch.long:
        fix = ": take the positions, 'mask.nonzero().view(-1)'"
        raise TypeError(
            f"'index' needs to be a 'torch.long' tensor in '{name}' (got "
            f"'{index.dtype}'){fix if index.dtype == torch.bool else ''}"
        )
    if index.dim() != 1:
        raise ValueError(
            f"'index' needs one dimension in '{name}' (got {list(index.shape)})"
        )
    if can_look_at(index):
        check_range('index', index, size, name)
