from typing import Union

import torch

_KINDS = ('cpu', 'cuda', 'mps')


def resolve_device(device: Union[str, torch.device]) -> torch.device:
    r"""A device of this machine, whether it is given by its name or as a
    :class:`torch.device`.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is no such device, or this machine does not have it.
    """
    if not isinstance(device, (str, torch.device)):
        raise TypeError(
            f"'device' needs to be a name such as 'cpu' or 'cuda:1', or a "
            f"'torch.device' (got {device!r})"
        )
    try:
        out = torch.device(device)
    except RuntimeError:
        out = None
    if out is None or out.type not in _KINDS:
        raise ValueError(
            f"'device' needs to be one of {list(_KINDS)}, with or without a number as "
            f"in 'cuda:1' (got '{device}')"
        )
    count = {
        'cpu': lambda: 1,
        'cuda': torch.cuda.device_count,
        'mps': lambda: int(torch.backends.mps.is_available()),
    }[out.type]()
    if count == 0:
        raise ValueError(
            f"'device' is '{out}', but PyTorch finds no device '{out.type}' on this "
            f"machine; choose 'cpu', or install a PyTorch that is built for it"
        )
    if (out.index or 0) >= count:
        last = f" to '{out.type}:{count - 1}'" if count > 1 else ''
        raise ValueError(
            f"'device' is '{out}', but this machine has only '{out.type}:0'{last}"
        )
    # A CPU has no number; that of the others is kept.
    return torch.device('cpu') if out.type == 'cpu' else out
