import pytest
import torch
from toy import toy_data

from pyg_diffrec import models
from pyg_diffrec.training import fit

SMALL = {
    'DiffRec': {'hidden_channels': 8, 'num_timesteps': 2},
    'GiffCF': {'embedding_dim': 6, 'num_timesteps': 2},
    'MultiVAE': {'hidden_channels': [8], 'latent_channels': 4},
}


@pytest.fixture(autouse=True)
def _afresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(name, compiled):
    torch.manual_seed(0)
    model = getattr(models, name).from_data(toy_data(), **SMALL[name])
    model.batch_size = 25  # The last batch is a smaller one.
    made = torch.compile(model, backend='eager') if compiled else model
    fit(made, epochs=1, progress=False)
    return model


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', list(SMALL))
def test_a_compiled_model_learns_what_it_learns_otherwise(name):
    model, plain = trained(name, True), trained(name, False)
    lists = [x.recommend(range(60), 5) for x in (model, plain)]
    assert torch.equal(lists[0].item, lists[1].item)
    torch.testing.assert_close(lists[0].score, lists[1].score)
