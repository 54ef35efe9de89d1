r"""From a name to an object: one that a subpackage registers, one of an installed
package, or one of a module of one's own."""

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from types import ModuleType
from typing import Any, Iterable, Iterator, Mapping

# Whether a path may name a module that is not yet imported.
_IMPORTS: ContextVar[bool] = ContextVar('imports', default=True)


def _normalize(name: str, suffix: str) -> str:
    name = name.lower().replace('-', '_')
    return name.removesuffix(suffix.lower()) or name


def names(module: ModuleType, suffix: str = '') -> list[str]:
    r"""The names that :meth:`resolve` accepts, as users write them."""
    return [name.removesuffix(suffix) or name for name in module.__all__]


def resolve(
    name: str,
    module: ModuleType,
    *,
    kind: str,
    suffix: str = '',
    among: Iterable[str] = (),
) -> Any:
    r"""Returns the object that :obj:`name` means.

    It is looked for among the names that :obj:`module` registers, where case, dashes
    against underscores, and the common :obj:`suffix` do not matter:
    :obj:`'linear-var'` finds :obj:`linear_var_beta_schedule`. Then among the entry
    points that installed packages have in the group :obj:`pyg_diffrec.<kind>s`. A path
    such as :obj:`'my_package.models:MyModel'` names an object of any module.

    Args:
        name (str): The name or path.
        module (ModuleType): The subpackage that registers the objects.
        kind (str): What is looked for, for the error and the group of entry points,
            *e.g.* :obj:`'schedule'`.
        suffix (str, optional): What all registered names end in.
            (default: :obj:`''`)
        among (list, optional): The registered names that may be meant; all of
            :obj:`module.__all__` if empty. (default: :obj:`()`)

    Raises:
        ValueError: If there is no such name or path; the error lists the choices.
        TypeError: If :obj:`name` is not a string.
    """
    registered = list(among) or list(module.__all__)
    if not isinstance(name, str):
        got = getattr(name, '__name__', None) or type(name).__name__
        shown = ', '.join(key.removesuffix(suffix) or key for key in registered)
        raise TypeError(
            f"A {kind} needs to be given by its name, one of {shown} (got '{got}')"
        )
    if ':' in name:
        return locate(name, kind)
    choices = {_normalize(key, suffix): key for key in registered}
    key = choices.get(_normalize(name, suffix))
    if key is not None:
        return getattr(module, key)
    installed = installed_names(kind)
    if name in installed:
        return locate(installed[name], kind)
    shown = [key.removesuffix(suffix) or key for key in registered]
    raise ValueError(unknown(kind, name, [*shown, *installed]))


def installed_names(kind: str) -> dict[str, str]:
    r"""The paths of the objects of a kind that installed packages register as entry
    points, by name."""
    group = f'pyg_diffrec.{kind.replace(" ", "_")}s'
    return {point.name: point.value for point in entry_points(group=group)}


def locate(path: str, kind: str = 'object') -> Any:
    r"""The object at a path such as :obj:`'my_package.models:MyModel'`, whose module is
    imported for it.

    Raises:
        ValueError: If there is no such module, or nothing of that name in it.
    """
    module, _, name = path.partition(':')
    if not module or not name or '<' in name:
        raise ValueError(
            f"A {kind} of a module needs the form 'package.module:Name' (got '{path}')"
        )
    try:
        found: Any = sys.modules.get(module)
        if found is None and not _IMPORTS.get():
            raise ValueError(
                f"'{path}' is of a module that is not imported: if you trust it, "
                f"'import {module}' first"
            )
        found = import_module(module) if found is None else found
    except ImportError as error:
        raise ValueError(
            f"The module of {kind} '{path}' cannot be imported ({error}): install its "
            f'package, or run from the folder that holds it'
        ) from error
    for part in name.split('.'):
        if not hasattr(found, part):
            public = [key for key in dir(found) if not key.startswith('_')]
            raise ValueError(f"'{module}': {unknown(kind, name, public)}")
        found = getattr(found, part)
    return found


@contextmanager
def no_imports() -> Iterator[None]:
    r"""Within it, paths name objects of modules alone that are imported already: what a
    file says runs no code that was not there."""
    token = _IMPORTS.set(False)
    try:
        yield
    finally:
        _IMPORTS.reset(token)


def path_of(value: Any) -> str:
    r"""How a class or function is named: by its name alone if it is ours, else by the
    path that :func:`locate` takes."""
    module = getattr(value, '__module__', '')
    name = getattr(value, '__qualname__', type(value).__name__)
    if isinstance(value, type) and module.split('.')[0] == 'pyg_diffrec':
        return name
    return f'{module}:{name}'


def build(
    given: Any,
    module: ModuleType,
    *,
    kind: str,
    suffix: str = '',
    default: Mapping[str, Any] = {},
    filled: Mapping[str, Any] = {},
) -> Any:
    r"""Builds a part of its description.

    Args:
        given (Any): The part itself, which is returned as it is; its name, see
            :meth:`resolve`; or a dictionary of its arguments. One with a :obj:`name`
            describes the part whole, one without changes the default.
        module (ModuleType): The subpackage that registers parts of this kind.
        kind (str): What is built, for errors, *e.g.* :obj:`'denoiser'`.
        suffix (str, optional): What all registered names end in.
            (default: :obj:`''`)
        default (dict, optional): The :obj:`name` and the arguments of the default.
        filled (dict, optional): Arguments that the owner knows, for parts that take
            them.

    Raises:
        ValueError: If the name or an argument is unknown or out of range.
        TypeError: If an argument is of another type.
    """
    if given is None:
        given = {}
    if isinstance(given, str):
        given = {'name': given}
    if not isinstance(given, Mapping):
        return given
    args = dict(given) if 'name' in given else {**default, **given}
    if 'name' not in args:
        raise ValueError(f"A {kind} needs a 'name' (got {given!r})")
    cls = resolve(args.pop('name'), module, kind=kind, suffix=suffix)
    known = signature(cls).parameters
    several = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for key in args:
        if key not in known and not several:
            raise ValueError(
                unknown(f"argument of {kind} '{cls.__name__}'", key, known)
            )
    return cls(**{key: x for key, x in filled.items() if key in known} | args)


def unknown(kind: str, name: str, choices: Iterable[str]) -> str:
    r"""The message for a name that does not exist, with the nearest match."""
    choices = list(choices)
    folded = {choice.lower(): choice for choice in choices}
    close = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f" Did you mean '{folded[close[0]]}'?" if close else ''
    return f"Unknown {kind} '{name}'.{hint} Choices: {', '.join(choices)}"
