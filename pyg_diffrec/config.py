r"""Configurations: what an object was built with, as plain data, and back again."""

import functools
import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Callable

from pyg_diffrec.resolver import locate, path_of
from pyg_diffrec.utils.arguments import Checked

if TYPE_CHECKING:
    from typing_extensions import Self


class Configured(Checked):
    r"""A mix-in whose subclasses know what they were built with.

    The arguments of the outermost constructor are recorded as they are given;
    :attr:`config` completes them by the defaults. An argument that became a part of the
    object, under the same name, is described by the configuration of that part.

    .. code-block:: python

        denoiser = RowMLPDenoiser(1000, hidden_channels=[600, 200])
        again = RowMLPDenoiser.from_config(denoiser.config)

    Constructors pass what they do not know on to their base by :obj:`**kwargs`;
    :obj:`takes_no` names what of a base's arguments a subclass settles itself.
    """

    #: Arguments of a base that the class does not take.
    takes_no: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if '__init__' in vars(cls):
            cls.__init__ = _recorded(cls.__init__)  # type: ignore[method-assign]

    @property
    def config(self) -> dict[str, Any]:
        r"""The name of the class and all arguments of its constructor, of such types
        alone as JSON knows.

        Raises:
            TypeError: If an argument cannot be described by such, as a function that
                has no name.
        """
        given = vars(self).get('_arguments', {})
        out: dict[str, Any] = {'name': path_of(type(self))}
        for key, value in {**default_arguments(type(self)), **given}.items():
            part = getattr(self, key, None)
            if isinstance(part, Configured):
                value = part
            out[key] = plain(value, key, type(self).__name__)
        return out

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> 'Self':
        r"""Builds an object of a configuration, one that :attr:`config` gave.

        Args:
            config (dict): The arguments of the constructor by name; the :obj:`name` of
                the class may be among them.

        Raises:
            ValueError: If it is the configuration of another class.
            TypeError: If an argument is missing, unknown or of another type.
        """
        args = dict(config)
        name = args.pop('name', None)
        if name not in (None, cls.__name__, path_of(cls)):
            raise ValueError(
                f"'config' describes a '{name}', and no '{cls.__name__}': call "
                f"'from_config' of that class"
            )
        return cls(**args)


def default_arguments(cls: type) -> dict[str, Any]:
    r"""What the arguments of a constructor are if nobody gives them: those of
    :obj:`cls`, and of its bases as long as each passes on what it does not know."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if '__init__' not in vars(base) or not issubclass(base, Configured):
            continue
        parameters = inspect.signature(base.__init__).parameters
        for key, each in parameters.items():
            if each.default is not each.empty:
                found.setdefault(key, each.default)
        if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
            break
    skipped = {key for base in cls.__mro__ for key in vars(base).get('takes_no', ())}
    return {key: value for key, value in found.items() if key not in skipped}


def plain(value: Any, key: str, owner: str) -> Any:
    r"""A value in such types alone as JSON knows: tensors and arrays become lists,
    parts their configurations, and classes and functions the paths that
    :func:`~pyg_diffrec.resolver.locate` finds them by.

    Args:
        value (Any): The value.
        key (str): The name of the argument, for the message.
        owner (str): Whose argument it is, for the message.

    Raises:
        TypeError: If a value cannot be described so.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    config = getattr(value, 'config', None)
    if isinstance(config, dict) and not isinstance(value, type):
        return config
    if isinstance(value, PathLike):
        return fspath(value)
    if callable(getattr(value, '_asdict', None)):  # A named tuple.
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(k): plain(x, f'{key}.{k}', owner) for k, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(x, f'{key}[{i}]', owner) for i, x in enumerate(value)]
    if callable(getattr(value, 'tolist', None)):  # A tensor or an array.
        return value.tolist()
    if isinstance(value, type) or callable(value):
        path = path_of(value)
        try:
            if locate(path) is value:
                return path
        except ValueError:
            pass
    raise TypeError(
        f"'{key}' of '{owner}' cannot be described by a configuration (got "
        f'{value!r:.60}): give it by its name, as a function or class that a module '
        f"holds, or as an object with a 'config'"
    )


def _recorded(init: Callable[..., None]) -> Callable[..., None]:
    r"""The same constructor, which notes its arguments unless another one that calls it
    has done so."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if '_arguments' not in vars(self):
            try:
                bound = dict(signature.bind(self, *args, **kwargs).arguments)
            except TypeError:
                bound = {}  # The constructor says best what is wrong.
            first, *_ = signature.parameters
            bound.pop(first, None)
            for key, each in signature.parameters.items():
                if each.kind is each.VAR_KEYWORD:
                    bound |= bound.pop(key, {})
            vars(self)['_arguments'] = bound
        init(self, *args, **kwargs)

    return wrapper
