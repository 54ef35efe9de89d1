r"""Gaussian noise as a function of who it is for."""

import math

import torch
from torch import Tensor

from pyg_diffrec.utils.checks import check_whole

# The constants of the SplitMix64 generator, as signed 64-bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)


def _shift(x: Tensor, bits: int) -> Tensor:
    # PyTorch shifts int64 arithmetically; the mask makes it logical.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def counter_normal(
    seed: int, stream: int, row: Tensor, num_cols: int, dtype: torch.dtype
) -> Tensor:
    r"""Standard normal noise that depends on seed, stream, row and column alone.

    A user gets the same noise whichever batch it is part of, so that scores depend on
    the batch size by no more than round-off. The bits are those of the SplitMix64
    generator (`"Fast Splittable Pseudorandom Number Generators"
    <https://doi.org/10.1145/2714064.2660195>`_), turned into normal variates by the
    Box-Muller transform.

    Args:
        seed (int): The seed.
        stream (int): Which of several noises for the same row, *e.g.* the timestep.
        row (torch.Tensor): The rows :math:`(B)`, int64.
        num_cols (int): The number of columns :math:`I`.
        dtype (torch.dtype): The type of the output.

    Shapes:
        - **output:** noise :math:`(B, I)`

    Raises:
        ValueError: If :obj:`row` is not one-dimensional, or :obj:`num_cols` negative.
        TypeError: If a number is not whole, or :obj:`dtype` not floating point.
    """
    check_whole('counter_normal', 0, num_cols=num_cols)
    if row.dtype != torch.long or not dtype.is_floating_point:
        raise TypeError(
            f"'row' needs to be a 'torch.long' tensor and 'dtype' a floating point "
            f"type in 'counter_normal' (got '{row.dtype}' and '{dtype}')"
        )
    if row.dim() != 1:
        raise ValueError(
            f"'row' needs one dimension in 'counter_normal' (got {list(row.shape)})"
        )
    key = _mix(torch.tensor([seed, stream]) * _GOLDEN + _GOLDEN)
    key = _mix(key[:1] + key[1:] * _MIX1).to(row.device)
    key = _mix(key + row * _GOLDEN).view(-1, 1)
    col = torch.arange(num_cols, device=row.device).view(1, -1)
    bits = _mix(key + (col + 1) * _GOLDEN)
    # 32 bits each for radius and angle; the half keeps the logarithm finite.
    radius = ((bits & 0xFFFFFFFF).double() + 0.5) / 2**32
    angle = _shift(bits, 32).double() / 2**32
    out = (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
    return out.to(dtype)
