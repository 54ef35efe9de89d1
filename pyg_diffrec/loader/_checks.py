r"""Checks of arguments that the loaders share."""

from typing import Any

from pyg_diffrec.utils.sparse import SparseRows


def check_rows(rows: Any, name: str, key: str = 'rows') -> None:
    r"""Raises an error unless :obj:`rows` are :class:`SparseRows`."""
    if not isinstance(rows, SparseRows):
        raise TypeError(
            f"'{key}' needs to be a 'SparseRows' in '{name}' (got '{type(rows)}'): of "
            f"a graph take 'pyg_diffrec.data.interaction_rows(data)'"
        )


def check_flags(name: str, **flags: bool) -> None:
    r"""Raises an error unless all arguments are Booleans."""
    for key, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(
                f"'{key}' needs to be true or false in '{name}' (got {flag!r})"
            )
