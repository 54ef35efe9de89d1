"""A device that is none, to see on a CPU what mixes devices.

Under `FakeDevice` tensors that were moved to 'cuda', made there or computed from such
refuse what a GPU's tensors refuse: to meet others than single numbers, to be read by
NumPy, to be drawn by a generator of the CPU. Indices may be on the CPU, as in PyTorch.
"""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

FAKE = torch.device('cuda')
_READS = (Tensor.tolist, Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__)
_READS = (*_READS, Tensor.__index__, Tensor.size, Tensor.dim, Tensor.numel)


def _mark(x):
    if isinstance(x, Tensor):
        x.on_fake_device = True
    return x


def _is_fake(x):
    return isinstance(x, Tensor) and getattr(x, 'on_fake_device', False)


class FakeDevice(TorchFunctionMode):
    """See above; `moved(data)` gives a graph on it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        with torch._C.DisableTorchFunction():
            leaves = tree_flatten((args, kwargs))[0]
            tensors = [x for x in leaves if isinstance(x, Tensor)]
            fake = [x for x in tensors if _is_fake(x)]
            if func == Tensor.device.__get__:
                return FAKE if fake else func(*args)
            if func == Tensor.is_cuda.__get__:
                return bool(fake)
            if func is Tensor.cpu:
                return args[0].clone() if fake else args[0]
            if func is Tensor.to:
                return self._to(*args, **kwargs)
            if func is Tensor.numpy and fake:
                raise TypeError("can't convert cuda:0 device type tensor to numpy.")
            index = func in (Tensor.__getitem__, Tensor.__setitem__)
            others = tensors[:1] if index else tensors
            others = [x for x in others if x.dim() > 0 and not _is_fake(x)]
            if index and tensors[0].dim() > 0 and not _is_fake(tensors[0]) and fake:
                raise RuntimeError('indices should be on the same device')
            if fake and others and not index:
                raise RuntimeError(f'Expected all tensors on one device in {func}')
            made = kwargs.get('device') is not None
            made = made and torch.device(kwargs.pop('device')).type == 'cuda'
            if (made or fake) and kwargs.get('generator') is not None:
                raise RuntimeError("Expected a 'cuda' device type for generator")
            out = func(*args, **kwargs)
            if not (made or fake):
                return out
            if func is Tensor.__iter__:
                return iter([_mark(x) for x in out])
            return out if func in _READS else tree_map(_mark, out)

    def _to(self, tensor, *args, **kwargs):
        device, dtype = torch._C._nn._parse_to(*args, **kwargs)[:2]
        out = tensor if dtype is None else tensor.to(dtype)
        stays = device is None and _is_fake(tensor)
        if stays or (device is not None and device.type == 'cuda'):
            return tensor if out is tensor and _is_fake(tensor) else _mark(out.clone())
        return out.clone() if out is tensor and _is_fake(tensor) else out


def moved(data):
    """A copy of a graph with all its tensors on the fake device."""
    return data.clone().apply(lambda x: _mark(x.clone()))
