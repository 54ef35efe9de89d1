r"""What needs more digits, or a larger range, than half precision has."""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float(x: Tensor) -> Tensor:
    r"""Half precision as float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float))


def normalize(x: Tensor, dim: int = 1) -> Tensor:
    r"""Scales vectors to unit length, in any precision. Those of zeros stay zeros."""
    # In float16 the least length of `F.normalize`, 1e-12, is zero itself.
    return F.normalize(at_least_float(x), dim=dim).to(x.dtype)


def least_length(dtype: torch.dtype) -> float:
    r"""A length by which a vector of zeros can be divided: :obj:`1e-12`, or what
    :obj:`dtype` can hold, and so can the reciprocal."""
    return max(1e-12, torch.finfo(dtype).tiny)
