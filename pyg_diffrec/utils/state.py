r"""State whose size is not known before it is loaded."""

from typing import Any, Mapping, Optional

import torch
from torch import Tensor


def adopt_sizes(
    module: torch.nn.Module,
    state: Mapping[str, Any],
    prefix: str,
    **sizes: tuple[Optional[int], ...],
) -> None:
    r"""Gives buffers the sizes that they have in a state dict, so that it can be loaded
    by a module that has seen no data.

    Args:
        module (torch.nn.Module): The module.
        state (dict): The state dict, of other modules too.
        prefix (str): What stands before the names of the buffers.
        **sizes (tuple): The shape that each buffer needs to have; :obj:`None` where a
            dimension is free. Buffers of another shape are left to
            :meth:`~torch.nn.Module.load_state_dict`, which refuses them.
    """
    for name, shape in sizes.items():
        value, buffer = state.get(prefix + name), getattr(module, name)
        if not isinstance(value, Tensor) or value.shape == buffer.shape:
            continue
        if value.dim() == len(shape) and all(
            size is None or size == there for size, there in zip(shape, value.shape)
        ):
            setattr(module, name, buffer.new_zeros(value.shape))
