from typing import Any, Callable

import torch

from pyg_diffrec.config import Configured


class Float64Module(Configured, torch.nn.Module):
    r"""A module whose float64 buffers stay float64 when the model around it is cast,
    *e.g.* by :obj:`model.half()`: they move between devices, and are cast only
    where they are used.
    """

    def _apply(self, fn: Callable, recurse: bool = True) -> Any:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = self._buffers[name]
            if buffer is not None and after is not None and after.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(after.device)
        return self
