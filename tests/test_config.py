import json

import pytest
import torch

from pyg_diffrec.config import Configured
from pyg_diffrec.data import resolve_temporal
from pyg_diffrec.diffusion import GaussianDiffusion
from pyg_diffrec.nn import Denoiser, RowMLPDenoiser


class Inner(Configured):
    def __init__(self, size=3, *, act=torch.nn.ReLU):
        self.size, self.act = size, act


class Base(Configured):
    def __init__(self, width=4, depth=1):
        self.width, self.depth = width, depth


class Outer(Base):
    takes_no = ('depth',)

    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = Inner(**inner) if isinstance(inner, dict) else inner or Inner()


class Mine(Denoiser):
    def __init__(self, in_channels, hidden_channels=4):
        super().__init__()


def same_again(x):
    config = json.loads(json.dumps(x.config, allow_nan=False))
    assert config == x.config
    again = type(x).from_config(config)
    assert again.config == config
    return again


def test_a_configuration_is_complete_and_leads_back():
    out = Outer(inner={'size': 5})
    assert out.config == {
        'name': f'{__name__}:Outer',
        'inner': {
            'name': f'{__name__}:Inner',
            'size': 5,
            'act': 'torch.nn.modules.activation:ReLU',
        },
        'width': 4,
    }
    config = Outer(Inner(5), width=2).config
    assert (config['width'], config['inner']['size']) == (2, 5)


def test_parts_lead_back():
    betas = torch.tensor([0.1, 0.25], dtype=torch.double)
    parts = [
        Mine(7),
        RowMLPDenoiser(7, [4, 3], act=torch.nn.ReLU),
        resolve_temporal({'form': 'hyperbolic', 'h': 2.0}),
        GaussianDiffusion('cosine', 4, timestep_sampler='importance'),
    ]
    for part in parts:
        same_again(part)
    assert same_again(parts[0]).__class__ is Mine
    again = same_again(GaussianDiffusion(betas))
    assert torch.equal(again.betas, betas)
    sampler = same_again(parts[3]).timestep_sampler
    assert sampler.config['name'] == 'ImportanceTimestepSampler'
    assert resolve_temporal(parts[2].config).h == 2.0
    act = same_again(parts[1]).act
    assert isinstance(act, torch.nn.ReLU)


def test_what_has_no_name_is_refused_with_its_argument():
    part = Inner(act=lambda x: x)
    with pytest.raises(TypeError, match="'act' of 'Inner' cannot be described"):
        _ = part.config
    with pytest.raises(TypeError, match=r"'act\[0\]' of 'Inner'"):
        _ = Inner(act=[object()]).config


def test_the_configuration_of_another_class_is_refused():
    with pytest.raises(ValueError, match="describes a 'Inner', and no 'Base'"):
        Base.from_config({'name': 'Inner'})
    with pytest.raises(TypeError, match='unexpected keyword'):
        Inner.from_config({'name': 'Inner', 'sise': 3})
