import pytest
import torch

from pyg_diffrec.training.device import resolve_device


def test_names_and_devices_are_the_same(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    for name in ('cpu', 'cuda', 'cuda:0', 'cuda:1', 'mps', 'mps:0'):
        assert resolve_device(name) == resolve_device(torch.device(name))
        assert str(resolve_device(name)) == name
    assert str(resolve_device('cpu:0')) == 'cpu'


@pytest.mark.parametrize(
    ('device', 'message'),
    [
        ('cuda:2', "has only 'cuda:0' to 'cuda:1'"),
        ('cpu:1', "has only 'cpu:0'"),
        ('mps', "PyTorch finds no device 'mps' on this machine; choose 'cpu'"),
        ('xpu', r"one of \['cpu', 'cuda', 'mps'\].*got 'xpu'"),
        ('auto', "got 'auto'"),
        ('cuda:x', "got 'cuda:x'"),
    ],
)
def test_other_devices_say_what_there_is(monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=message):
        resolve_device(device)


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="'device' needs to be a name .*got 0"):
        resolve_device(0)
