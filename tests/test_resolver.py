import pytest

from pyg_diffrec.diffusion import schedules
from pyg_diffrec.resolver import names, resolve, unknown


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
