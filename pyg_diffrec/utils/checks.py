r"""Checks of arguments that many classes share."""

from numbers import Integral, Real
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor


def check_positive(name: str, **values: float) -> None:
    r"""Raises an error unless all arguments of :obj:`name` are positive, finite
    numbers.

    Raises:
        ValueError: If one is zero, negative, infinite or not a number.
        TypeError: If one is of another type; Booleans are no numbers.
    """
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"'{key}' needs to be a number in '{name}' (got {value!r})")
        if not 0 < value < float('inf'):
            raise ValueError(f"'{key}' needs to be positive in '{name}' (got {value})")


def check_whole(name: str, minimum: int = 1, **values: int) -> None:
    r"""Raises an error unless all arguments of :obj:`name` are whole numbers of at
    least :obj:`minimum`.

    Raises:
        ValueError: If one is smaller.
        TypeError: If one is no integer; Booleans are none.
    """
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(
                f"'{key}' needs to be a whole number in '{name}' (got {value!r})"
            )
        if value < minimum:
            needed = 'positive' if minimum == 1 else f'at least {minimum}'
            raise ValueError(f"'{key}' needs to be {needed} in '{name}' (got {value})")


def check_dropout(name: str, **shares: float) -> None:
    r"""Raises an error unless :obj:`name` can drop these shares and still keep
    something.

    Raises:
        ValueError: If one lies outside :math:`[0, 1)`.
        TypeError: If one is of another type; Booleans are no numbers.
    """
    for key, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, Real):
            raise TypeError(f"'{key}' needs to be a number in '{name}' (got {share!r})")
        if not 0.0 <= share < 1.0:
            raise ValueError(
                f"'{key}' needs to lie in [0, 1) in '{name}' (got {share})"
            )


def check_ids(
    key: str, ids: Any, size: int, name: str, unique: bool = False, hint: str = ''
) -> Tensor:
    r"""Returns ids as a one-dimensional int64 tensor on the CPU, or says which of
    them is none.

    Args:
        key (str): The name of the argument.
        ids (torch.Tensor or numpy.ndarray or list): The ids.
        size (int): The number of things that ids name: each lies in
            :math:`[0, \mathrm{size})`.
        name (str): Who asks.
        unique (bool, optional): Whether each id may come once only.
            (default: :obj:`False`)
        hint (str, optional): The next step for who gives an id out of range.
            (default: :obj:`''`)

    Raises:
        TypeError: If an id is a Boolean, a float or no number at all.
        ValueError: If an id is out of range or, with :obj:`unique`, comes again, or
            the ids are not one-dimensional.
    """
    if not isinstance(ids, (Tensor, np.ndarray)):
        ids = [ids] if isinstance(ids, (Integral, Real)) else list(ids)
        for place, value in enumerate(ids):
            if isinstance(value, Tensor) and value.dim() == 0:
                value = ids[place] = value.item()
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
                raise TypeError(
                    f"'{key}' needs whole numbers in '{name}' (got {value!r} at "
                    f'position {place})'
                )
            if not 0 <= int(value) < size:  # It may be too large for a tensor.
                raise ValueError(_outside(key, int(value), place, size, name, hint))
        ids = torch.tensor([int(value) for value in ids], dtype=torch.long)
    out = torch.as_tensor(ids)
    if out.dim() > 1:
        raise ValueError(
            f"'{key}' needs shape [num_{key}] in '{name}' (got {list(out.shape)})"
        )
    if out.dtype == torch.bool or out.is_floating_point() or out.is_complex():
        fix = ": take the positions, 'mask.nonzero().view(-1)'"
        fix = fix if out.dtype == torch.bool else ''
        raise TypeError(
            f"'{key}' needs whole numbers in '{name}' (got '{out.dtype}'){fix}"
        )
    out = out.detach().long().view(-1).cpu()
    bad = ((out < 0) | (out >= size)).nonzero().view(-1)
    if bad.numel() > 0:
        place = int(bad[0])
        raise ValueError(_outside(key, int(out[place]), place, size, name, hint))
    if unique:
        again = _first_repeat(out)
        if again is not None:
            raise ValueError(
                f"'{key}' needs each id once in '{name}' (got {int(out[again])} again "
                f'at position {again})'
            )
    return out


def _outside(key: str, value: int, place: int, size: int, name: str, hint: str) -> str:
    hint = f'; {hint}' if hint else ''
    return (
        f"'{key}' need to lie in [0, {size}) in '{name}' (got {value} at position "
        f'{place}){hint}'
    )


def _first_repeat(ids: Tensor) -> Optional[int]:
    value, perm = ids.sort(stable=True)
    again = perm[1:][value[1:] == value[:-1]]
    return int(again.min()) if again.numel() > 0 else None
