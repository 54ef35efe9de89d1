import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data import HyperbolicTemporalWeight
from pyg_diffrec.models import EASE, DiffRec
from pyg_diffrec.testing import check_model

TEMPORAL = {'form': 'hyperbolic', 'h': 2.0}


@pytest.mark.parametrize('cls', [DiffRec, EASE])
def test_contract(cls):
    options = {'hidden_channels': 8} if cls is DiffRec else {'l2': 5.0}
    check_model(cls, toy_data(), temporal=TEMPORAL, **options)


@pytest.mark.parametrize('norm', [False, True])
def test_weighted_rows_are_exact_in_the_hidden_space(norm):
    torch.manual_seed(0)
    model = DiffRec.from_data(
        toy_data(), hidden_channels=[8, 4], norm=norm, temporal=TEMPORAL
    ).double()
    users = torch.arange(60)
    model.eval()
    with torch.no_grad():
        hidden = model.score(users, model.history).to_dense()
        dense = model.score(users, model.history, path='dense')
        weighted = HyperbolicTemporalWeight(2.0)(model.history).to_dense().double()
        expected = model.diffusion.p_sample_loop(model.denoiser, weighted)
    torch.testing.assert_close(hidden, dense, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dense, expected)


def test_diffrec_trains_on_weighted_rows_and_ease_does_not():
    data = toy_data()
    model = DiffRec.from_data(data, hidden_channels=8, temporal='linear')
    batch = next(iter(model.phases()[0].loader))
    assert batch.rows.value.min() == pytest.approx(0.1)
    assert model.history.value.min() == 1
    model.temporal_training = False
    batch = next(iter(model.phases()[0].loader))
    assert batch.rows.value.min() == 1
    plain, weighted = EASE.from_data(data), EASE.from_data(data, temporal=TEMPORAL)
    assert torch.equal(plain.weight, weighted.weight)
    users = torch.arange(60)
    expected = HyperbolicTemporalWeight(2.0)(plain.history).matmul(plain.weight)
    torch.testing.assert_close(weighted.score(users, plain.history), expected)


@pytest.mark.parametrize('cls', [DiffRec, EASE])
def test_data_without_order_is_refused(cls):
    data = given_data([[0, 1]], [[2]], [[3]], 4)
    with pytest.raises(ValueError, match="'temporal' weights .* need interactions in"):
        cls.from_data(data, temporal='linear')
    cls.from_data(data)
