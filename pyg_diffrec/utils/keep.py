r"""Values that are derived from others and kept: for the length of one evaluation, or
until what they are made of is replaced."""

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Callable, Iterator, Optional, TypeVar

import torch

T = TypeVar('T')

_SCOPE: ContextVar[Optional[dict[tuple, tuple]]] = ContextVar('_SCOPE', default=None)


@contextmanager
def keeping() -> Iterator[None]:
    r"""Within it, what models derive from their weights to score is derived once and
    kept; outside of it every score derives it anew. Weights must not change within.
    Scopes may be nested: the outermost counts.

    .. code-block:: python

        with torch.no_grad(), keeping():
            scores = [model.score(users, history) for users, history in batches]

    .. note::
        Nothing that is kept outlives the scope, as no change of a weight can be told
        for certain: PyTorch does not count writes through :obj:`.data`, with which
        averages of weights are swapped in, and steps of fused optimizers.
    """
    if _SCOPE.get() is not None:
        yield
        return
    token = _SCOPE.set({})
    try:
        yield
    finally:
        _SCOPE.reset(token)


def keep(make: Callable[[], T], name: str, *made_of: Any) -> T:
    r"""What :obj:`make` returns; within :meth:`keeping` and without gradients, what it
    returned before by this name for the same objects.

    Args:
        make (Callable): Derives the value.
        name (str): Which of the values that are made of these objects.
        *made_of: The objects it is made of.
    """
    scope = _SCOPE.get()
    if scope is None or torch.is_grad_enabled():
        return make()
    key = (name, *map(id, made_of))
    if key not in scope:
        # Holds the objects too, so that no other one gets their ids.
        scope[key] = (made_of, make())
    return scope[key][1]


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
