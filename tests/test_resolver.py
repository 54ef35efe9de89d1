import pytest
import torch

from pyg_diffrec.diffusion import GaussianDiffusion, schedules
from pyg_diffrec.nn import denoisers
from pyg_diffrec.resolver import (
    build,
    locate,
    names,
    no_imports,
    path_of,
    resolve,
    unknown,
)


def test_case_dashes_and_suffix_do_not_matter():
    for name in ('linear-var', 'LINEAR_VAR', 'linear_var_beta_schedule'):
        found = resolve(name, schedules, kind='schedule', suffix='_beta_schedule')
        assert found is schedules.linear_var_beta_schedule
    assert names(schedules, '_beta_schedule') == [
        'binomial',
        'cosine',
        'linear',
        'linear_var',
    ]


def test_miss_lists_the_choices_and_the_nearest():
    with pytest.raises(
        ValueError, match="schedule 'cosin'. Did you mean 'cosine'.*binom"
    ):
        resolve('cosin', schedules, kind='schedule', suffix='_beta_schedule')
    for name, got in ((len, 'len'), (3, 'int'), (None, 'NoneType')):
        with pytest.raises(TypeError, match=f"thing needs .*cosine.*got '{got}'"):
            resolve(name, schedules, kind='thing', suffix='_beta_schedule')
    assert unknown('thing', 'zzz', ['a', 'b']) == "Unknown thing 'zzz'. Choices: a, b"


def test_paths_name_objects_of_any_module(monkeypatch, tmp_path):
    (tmp_path / 'own_schedules.py').write_text(
        'import torch\n'
        'def mine(num_timesteps):\n'
        '    return torch.full((num_timesteps,), 0.25, dtype=torch.double)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    with no_imports(), pytest.raises(ValueError, match="'import own_schedules' first"):
        locate('own_schedules:mine')
    assert GaussianDiffusion('own_schedules:mine', 3).betas.tolist() == [0.25] * 3
    with no_imports():
        assert locate('own_schedules:mine')
    assert locate(path_of(torch.nn.ReLU)) is torch.nn.ReLU
    for path, message in (
        ('own_schedules:mime', "Unknown thing 'mime'. Did you mean 'mine'"),
        ('no_such_module:x', 'cannot be imported'),
        ('own_schedules:', "the form 'package.module:Name'"),
    ):
        with pytest.raises(ValueError, match=message):
            locate(path, 'thing')


def test_parts_are_built_of_their_descriptions():
    options = {'kind': 'denoiser', 'suffix': 'Denoiser', 'filled': {'in_channels': 7}}
    options['default'] = {'name': 'MLPDenoiser', 'hidden_channels': 3, 'norm': True}
    out = build({'hidden_channels': 4}, denoisers, **options)
    assert (out.in_channels, out.hidden_channels, out.norm) == (7, [4], True)
    whole = {'name': 'RowMLP', 'hidden_channels': 4}
    assert not build(whole, denoisers, **options).norm
    assert build(out, denoisers, **options) is out
    with pytest.raises(ValueError, match="denoiser 'MLPDenoiser' 'hiden_channels'"):
        build({'hiden_channels': 4}, denoisers, **options)
    with pytest.raises(ValueError, match="denoiser 'unet'"):
        build('unet', denoisers, **options)
