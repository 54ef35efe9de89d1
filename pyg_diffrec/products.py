r"""Products of matrices that are computed once while their factors stay the same."""

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence

import torch
from torch import Tensor


class _Kept(NamedTuple):
    r"""A value, what it was made of, and the state of that at the time. The factors are
    held, so that no other tensor can take their place in memory."""

    factors: tuple[Tensor, ...]
    state: tuple
    value: Any


# The products of each scope, the outermost first.
_SCOPES: ContextVar[tuple[dict[tuple, _Kept], ...]] = ContextVar('scopes', default=())


@contextmanager
def keep_products() -> Iterator[None]:
    r"""Within it, and without gradients, products that
    :class:`~pyg_diffrec.nn.AffineRows` takes with the same matrices are computed once.

    A reverse chain opens it for the products of its rows, and a ranking of many
    batches for those of the weights. Nothing is kept beyond it. Within it, products
    follow every change that PyTorch counts, which leaves out writes into
    :obj:`.data`, steps of fused optimizers, and writes into tensors made under
    :meth:`torch.inference_mode`.

    .. code-block:: python

        with torch.no_grad(), keep_products():
            for users in batches:
                scores = model.score(users, history.index_select(users))
    """
    token = _SCOPES.set((*_SCOPES.get(), {}))
    try:
        yield
    finally:
        _SCOPES.reset(token)


def kept(
    key: tuple, factors: Sequence[Tensor], compute: Callable[[], Any], lasting: bool
) -> Any:
    r"""What :obj:`compute` makes of :obj:`factors`, computed anew unless the last value
    under :obj:`key` was made of the same tensors in the same state.

    Args:
        key (tuple): Under what the value is kept, one for each key.
        factors (list): All tensors that the value depends on.
        compute (Callable): Computes it.
        lasting (bool): Whether the outermost scope keeps it, or the innermost.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return compute()
    scopes = _SCOPES.get()
    if not scopes:
        return compute()
    scope = scopes[0 if lasting else -1]
    # What autocast does to a product is part of it.
    device = factors[0].device.type
    state = (
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
        *((x.data_ptr(), x.dtype, _version(x)) for x in factors),
    )
    found = scope.get(key)
    if found is None or found.state != state or not _same(found.factors, factors):
        scope[key] = found = _Kept(tuple(factors), state, compute())
    return found.value


def _version(x: Tensor) -> Optional[int]:
    return None if x.is_inference() else x._version


def _same(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    return all(a is b for a, b in zip(left, right, strict=True))
