r"""Checks of arguments against the annotations of a signature.

What an argument may be is written in its annotation, and what an argument of a
well-known name may be at all in :obj:`_BOUNDS`. Everything that takes such arguments
asks here: constructors (:class:`Checked`), functions (:func:`checked`), suites, presets
and search spaces (:func:`check_argument`).
"""

import functools
import inspect
import math
import reprlib
import sys
from collections.abc import Callable as AnyCallable
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, SimpleNamespace, UnionType
from typing import (
    Any,
    Callable,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

F = TypeVar('F', bound=Callable[..., Any])

_INT64 = 2**63
_FLOAT32 = 3e38  # Networks compute with no more.
_SHOWN = reprlib.Repr()
_SHOWN.maxother = _SHOWN.maxstring = 80


class _Bounds(NamedTuple):
    r"""Where a number has to lie; an open end is left out."""

    low: float
    high: float = math.inf
    open: Literal['', 'low', 'high'] = ''

    def holds(self, value: Any) -> bool:
        if value == {'low': self.low, 'high': self.high}.get(self.open):
            return False
        return self.low <= value <= self.high

    def needed(self, value: Any) -> str:
        if self.high == math.inf or (self.high > 1 and value < self.low):
            if (self.low, self.open) in ((0, 'low'), (1, '')):
                return 'needs to be positive'
            return 'must not be negative'
        if self.high > 1:
            return f'needs to be at most {self.high}'
        return f'needs to lie in [0, 1{")" if self.open == "high" else "]"}'


def _names(names: str, bounds: _Bounds) -> dict[str, _Bounds]:
    return dict.fromkeys(names.split(), bounds)


# What an argument of a name may be, whoever takes it: an owner may ask for more. The
# upper ends are what nothing sensible reaches, and what a slip of the pen would turn
# into hours or gigabytes.
_BOUNDS = {
    **_names('num_users', _Bounds(0, 10**8)),
    **_names('in_channels num_items out_channels', _Bounds(1, 10**8)),
    **_names('batch_size interactions_per_user k num_clusters', _Bounds(1, 2**31 - 1)),
    **_names('num_factors rebuild_k', _Bounds(1, 2**31 - 1)),
    **_names('embedding_dim feature_dim time_embedding_dim', _Bounds(1, 2**14)),
    **_names('decoder_channels encoder_channels hidden_channels', _Bounds(1, 2**14)),
    **_names('channels latent_channels mixer_channels pool_size', _Bounds(1, 2**14)),
    **_names('num_item_layers num_layers num_social_layers', _Bounds(0, 100)),
    **_names('num_noising_steps', _Bounds(0, 10_000)),
    **_names(
        'history_size num_groups num_modalities num_timesteps', _Bounds(1, 10_000)
    ),
    **_names('embedding_epochs', _Bounds(0, 10_000)),
    **_names('cluster_seed', _Bounds(0, 2**32 - 1)),  # NumPy takes no others.
    **_names('anneal_batches cond_channels elbo_epochs k_item k_user', _Bounds(1)),
    **_names('kl_batches leave_last', _Bounds(1)),
    **_names('alpha0 denoiser_lr lr lr_decay temperature', _Bounds(0, open='low')),
    **_names('contrast elbo elbo_floor elbo_weight eps init_std', _Bounds(0)),
    **_names('feature_l2 kl_cap l2 memory_limit modality_weight', _Bounds(0)),
    **_names('noise_max noise_min noise_scale nu random_share', _Bounds(0)),
    **_names('self_supervision share shrinkage signal weight_decay', _Bounds(0)),
    **_names('decay fake_social_share fusion_ratio noise_share', _Bounds(0, 1)),
    **_names('ratio rewired_share uniform_share', _Bounds(0, 1)),
    **_names('dropout edge_dropout embedding_dropout', _Bounds(0, 1, 'high')),
    **_names('random_edge_dropout vae_dropout', _Bounds(0, 1, 'high')),
}


def check_argument(key: str, value: Any, hint: Any, where: str) -> None:
    r"""Raises an error unless an argument is what its annotation says, finite, and
    within the bounds of its name.

    Whole numbers are numbers of their own type or NumPy's, and Booleans are no
    numbers; a list may be any sequence. What an annotation does not tell (such as
    :obj:`typing.Any`) is not asked for.

    Args:
        key (str): The name of the argument.
        value (Any): Its value.
        hint (Any): Its annotation.
        where (str): Who asks, for the message, *e.g.* :obj:`"'DiffRec'"`.

    Raises:
        TypeError: If it is of another type.
        ValueError: If a number in it is not finite or out of range, or a string is
            none of the choices.
    """
    if not _fits(value, hint):
        raise TypeError(
            f"'{key}' needs to be {_describe(hint)} in {where} "
            f'(got {_SHOWN.repr(value)})'
        )
    _check_values(key, value, hint, where)


def checked(function: F) -> F:
    r"""Checks the arguments of a function or constructor on every call, see
    :func:`check_argument`, and says so if its tensors do not fit into memory."""
    signature = inspect.signature(function)
    hints = functools.cache(lambda: argument_hints(function))

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # Python says best what is missing.
        name, known = function.__name__, hints()
        if name == '__init__':
            name = type(args[0]).__name__
        elif name == 'from_data':
            # Checks what is passed on at once, not after what comes before.
            name, known = args[0].__name__, constructor_hints(args[0]) | known
        for key, value in bound.items():
            parameter = signature.parameters[key]
            if value is parameter.default:
                continue
            several, hint = {key: value}, known.get(key, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                several = value
            elif parameter.kind is parameter.VAR_POSITIONAL:
                several = {f'{key}[{i}]': x for i, x in enumerate(value)}
            for each, x in several.items():
                own = known.get(each, hint) if several is value else hint
                check_argument(each, x, own, f"'{name}'")
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            sizes = {key: x for key, x in bound.items() if isinstance(x, int)}
            raise MemoryError(
                f"'{name}' does not fit into memory: use smaller sizes (got {sizes})"
            ) from error

    return wrapper  # type: ignore[return-value]


class Checked:
    r"""A mix-in whose subclasses check the arguments of their constructors, and of
    :meth:`from_data` if they have one, against their annotations, see
    :func:`check_argument`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if '__init__' in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]
        builder = vars(cls).get('from_data')
        if isinstance(builder, classmethod):
            cls.from_data = classmethod(  # type: ignore[attr-defined]
                checked(builder.__func__)
            )


def argument_hints(function: Callable[..., Any]) -> dict[str, Any]:
    r"""The annotations of a function's arguments; those that cannot be resolved are
    left out."""
    plain = inspect.unwrap(function)
    hints = {key: x for key, x in plain.__annotations__.items() if key != 'return'}
    names = vars(sys.modules[plain.__module__])
    try:
        return get_type_hints(SimpleNamespace(__annotations__=hints), names)
    except (NameError, TypeError):  # A name that only a type checker imports.
        return {}


def constructor_hints(cls: Any) -> dict[str, Any]:
    r"""The arguments of :obj:`cls.from_data`, if there is one, and of the constructor,
    with their annotations. A constructor that takes :obj:`**kwargs` passes them on to
    its base."""
    functions = [cls.from_data] if hasattr(cls, 'from_data') else []
    for base in cls.__mro__:
        if '__init__' in vars(base):
            functions.append(base.__init__)
            parameters = inspect.signature(base.__init__).parameters.values()
            if all(each.kind is not each.VAR_KEYWORD for each in parameters):
                break
    found: dict[str, Any] = {}
    for function in functions:
        hints = argument_hints(function)
        for key, each in inspect.signature(function).parameters.items():
            if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL):
                # What a subclass says of an argument counts.
                found.setdefault(key, hints.get(key, Any))
    found.pop('self', None)
    return found


def _fits(value: Any, hint: Any) -> bool:
    r"""Whether a value is of the type of an annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in args)
    if origin is Literal:
        return any(isinstance(value, type(each)) for each in args)
    if hint in (None, NoneType):
        return value is None
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if hint is AnyCallable or origin is AnyCallable:
        return callable(value)
    kind: Any = origin or hint
    if hint is Any or not inspect.isclass(kind) or getattr(kind, '_is_protocol', False):
        return True
    if not isinstance(value, kind) or (kind is Sequence and isinstance(value, str)):
        return False
    if isinstance(value, Mapping) and args:
        key, item = args
        return all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if origin is tuple:
        return _fits_tuple(value, args)
    if isinstance(value, Sequence) and args:
        return all(_fits(each, args[0]) for each in value)
    return True


def _fits_tuple(value: Any, args: tuple) -> bool:
    if not args:
        return True
    if args[-1] is Ellipsis:
        return all(_fits(each, args[0]) for each in value)
    return len(value) == len(args) and all(map(_fits, value, args))


def _check_values(key: str, value: Any, hint: Any, where: str) -> None:
    r"""Raises an error unless numbers and strings of the right type are in range."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        hint = next(each for each in args if _fits(value, each))
        return _check_values(key, value, hint, where)
    if origin is Literal and value not in args:
        raise ValueError(
            f"'{key}' needs to be {_describe(hint)} in {where} "
            f'(got {_SHOWN.repr(value)})'
        )
    if hint in (int, float):
        _check_number(key, value, hint, where)
    elif isinstance(value, Mapping):
        for each in value.values() if args else ():
            _check_values(key, each, args[1], where)
    elif hasattr(hint, '_fields'):  # A named tuple: its fields are arguments, too.
        for field, kind in argument_hints(hint).items():
            check_argument(field, getattr(value, field), kind, where)
    elif isinstance(value, Sequence) and not isinstance(value, str) and args:
        kinds = args if origin is tuple and Ellipsis not in args else None
        for index, each in enumerate(value):
            _check_values(key, each, kinds[index] if kinds else args[0], where)


def _check_number(key: str, value: Any, hint: Any, where: str) -> None:
    bounds, needed = _BOUNDS.get(key), None
    if bounds is not None and not bounds.holds(value):
        needed = bounds.needed(value)
    elif hint is float and not abs(value) < math.inf:
        needed = 'needs to be finite'
    elif hint is float and abs(value) > _FLOAT32:
        needed = f'needs to be within {_FLOAT32:.1e} of zero'
    elif isinstance(value, Integral) and not -_INT64 <= int(value) < _INT64:
        needed = 'needs to lie in [-2^63, 2^63)'
    if needed is not None:
        raise ValueError(f"'{key}' {needed} in {where} (got {_SHOWN.repr(value)})")


def _describe(hint: Any, plural: bool = False) -> str:
    r"""What an annotation asks for, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        each = (_describe(x, plural) for x in args if x is not NoneType)
        return ' or '.join(dict.fromkeys(each))
    if origin is Literal:
        return f'one of {list(args)}'
    words: dict[Any, tuple[str, str]] = {
        bool: ('true or false', 'Booleans'),
        int: ('a whole number', 'whole numbers'),
        float: ('a number', 'numbers'),
        str: ('a string', 'strings'),
        AnyCallable: ('callable', 'callables'),
    }
    kind: Any = origin or hint
    if kind in words:
        return words[kind][plural]
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        of = f' of {_describe(args[1], True)}' if args and args[1] is not Any else ''
        return ('dictionaries' if plural else 'a dictionary') + of
    if inspect.isclass(kind) and issubclass(kind, Sequence) and args:
        plain = [each for each in args if each is not Ellipsis]
        of = ' and '.join(dict.fromkeys(_describe(each, True) for each in plain))
        return ('lists of ' if plural else 'a list of ') + of
    name = getattr(kind, '__name__', str(kind))
    return f"'{name}'s" if plural else f"a '{name}'"
