r"""From a name to the object a subpackage registers in its :obj:`__all__`."""

from difflib import get_close_matches
from types import ModuleType
from typing import Any, Iterable


def _normalize(name: str, suffix: str) -> str:
    name = name.lower().replace('-', '_')
    return name.removesuffix(suffix.lower()) or name


def names(module: ModuleType, suffix: str = '') -> list[str]:
    r"""The names that :meth:`resolve` accepts, as users write them."""
    return [name.removesuffix(suffix) or name for name in module.__all__]


def resolve(name: str, module: ModuleType, *, kind: str, suffix: str = '') -> Any:
    r"""Returns the object of :obj:`module.__all__` that :obj:`name` means.

    Case, dashes against underscores, and the common :obj:`suffix` do not matter:
    :obj:`'linear-var'` finds :obj:`linear_var_beta_schedule`.

    Args:
        name (str): The name.
        module (ModuleType): The subpackage that registers the objects.
        kind (str): What is looked for, for the error, *e.g.* :obj:`'schedule'`.
        suffix (str, optional): What all registered names end in.
            (default: :obj:`''`)

    Raises:
        ValueError: If there is no such name; the error lists the choices.
        TypeError: If :obj:`name` is not a string.
    """
    if not isinstance(name, str):
        got = getattr(name, '__name__', None) or type(name).__name__
        raise TypeError(
            f'A {kind} needs to be given by its name, one of '
            f"{', '.join(names(module, suffix))} (got '{got}')"
        )
    choices = {_normalize(key, suffix): key for key in module.__all__}
    key = choices.get(_normalize(name, suffix))
    if key is None:
        raise ValueError(unknown(kind, name, names(module, suffix)))
    return getattr(module, key)


def unknown(kind: str, name: str, choices: Iterable[str]) -> str:
    r"""The message for a name that does not exist, with the nearest match."""
    choices = list(choices)
    folded = {choice.lower(): choice for choice in choices}
    close = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f" Did you mean '{folded[close[0]]}'?" if close else ''
    return f"Unknown {kind} '{name}'.{hint} Choices: {', '.join(choices)}"
