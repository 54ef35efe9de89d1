r"""What the hyper-parameters of a model may be, for files that list them."""

from typing import Any, Callable, Mapping

from pyg_diffrec.data import resolve_temporal
from pyg_diffrec.diffusion import schedules, weighting
from pyg_diffrec.diffusion.timestep_samplers import resolve_timestep_sampler
from pyg_diffrec.resolver import resolve, unknown
from pyg_diffrec.utils.activation import resolve_activation
from pyg_diffrec.utils.arguments import check_argument, constructor_hints

# What `from_data` fills in.
_FROM_DATA = ('data', 'num_items', 'num_users')

# Names that stand for something, and what finds it.
_RESOLVERS: dict[str, Callable[[Any], Any]] = {
    'act': resolve_activation,
    'schedule': lambda x: resolve(
        x, schedules, kind='schedule', suffix='_beta_schedule'
    ),
    'temporal': resolve_temporal,
    'timestep_sampler': lambda x: resolve_timestep_sampler(x, 1),
    'weighting': lambda x: resolve(x, weighting, kind='weighting', suffix='_weights'),
}


def hyper_parameters(cls: Any) -> dict[str, Any]:
    r"""The hyper-parameters of a model, with their annotations: the arguments of its
    constructor and of its :meth:`from_data`, apart from what the data say."""
    others = (*_FROM_DATA, *getattr(cls, 'takes_no', ()))
    return {k: hint for k, hint in constructor_hints(cls).items() if k not in others}


def check_hyper_parameters(cls: Any, args: Mapping[str, Any], where: str) -> None:
    r"""Refuses hyper-parameters that the model cannot take, before there are data and
    before anything trains.

    Args:
        cls (type): The model.
        args (dict): Its hyper-parameters.
        where (str): Where they are written, for the message.

    Raises:
        ValueError: If one is unknown, of the wrong type, not finite or out of range.
            How several go together is checked when the model is built.
    """
    hints = hyper_parameters(cls)
    for key, value in args.items():
        if key not in hints:
            raise ValueError(unknown(f'key of {where}', key, hints))
        try:
            check_argument(key, value, hints[key], where)
        except TypeError as error:  # In a file, a wrong type is a wrong value.
            raise ValueError(str(error)) from error
        if key in _RESOLVERS and value is not None:
            try:
                _RESOLVERS[key](value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"'{key}' of {where}: {error}") from error
