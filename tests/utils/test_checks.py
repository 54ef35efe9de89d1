import math

import pytest

from pyg_diffrec.utils.checks import check_dropout, check_positive


@pytest.mark.parametrize('bad', [0, -1, -0.5, math.nan])
def test_the_argument_that_is_not_positive_is_named(bad):
    check_positive('Model', lr=0.1, batch_size=1)
    with pytest.raises(ValueError, match=rf"^'k' needs to be.*'Model' \(got {bad}\)$"):
        check_positive('Model', lr=0.1, k=bad, batch_size=0)


@pytest.mark.parametrize('bad', [-0.1, 1, 1.5, math.nan])
def test_the_share_that_cannot_be_dropped_is_named(bad):
    check_dropout('Model', dropout=0.0, edge_dropout=0.99)
    with pytest.raises(ValueError, match=rf"^'p' needs to lie in \[0, 1\).*{bad}\)$"):
        check_dropout('Model', dropout=0.5, p=bad)
