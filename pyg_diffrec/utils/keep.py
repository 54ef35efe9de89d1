r"""Values that are kept until what they are made of is replaced."""

from typing import Any, Callable, Optional, TypeVar

import torch

T = TypeVar('T')


class Kept:
    r"""A value that is made anew when one of the objects it is made of is replaced by
    another: for what is made of values that never change, such as
    :class:`~pyg_diffrec.utils.SparseRows`."""

    def __init__(self) -> None:
        self._made_of: Optional[tuple] = None
        self._value: Any = None

    def get(self, make: Callable[[], T], *made_of: Any) -> T:
        r"""What :obj:`make` returns, or returned for the same objects."""
        known = self._made_of
        if known is None or not all(map(_same, known, made_of)):
            self._value, self._made_of = make(), made_of
        return self._value

    def forget(self) -> None:
        r"""Drops the value."""
        self._made_of = self._value = None


def _same(left: Any, right: Any) -> bool:
    # PyTorch makes these anew for every question.
    plain = (torch.device, torch.dtype, bool, int)
    return left is right or (isinstance(left, plain) and left == right)
