import pytest
import torch
from toy import toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import MostPopular, MultiDAE, MultiVAE, Planted
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.typing import RowBatch

SMALL = {'latent_channels': 8, 'batch_size': 20}


@pytest.mark.parametrize('cls', [MultiDAE, MultiVAE])
@pytest.mark.parametrize('hidden', [[], [12], [12, 10]])
def test_contract(cls, hidden):
    check_model(cls, toy_data(), hidden_channels=hidden, **SMALL)
    check_model(cls, toy_data(), hidden_channels=hidden, temporal='linear', **SMALL)


@pytest.mark.parametrize('cls', [MultiDAE, MultiVAE])
def test_scores_equal_the_dense_network(cls):
    torch.manual_seed(0)
    model = cls.from_data(toy_data(), hidden_channels=[12], **SMALL).double().eval()
    x = torch.nn.functional.normalize(model.history.to_dense().double())
    first, second = model.encoder
    h = ((x @ first.weight + first.bias).tanh()) @ second.weight.t() + second.bias
    z = h.tanh() if cls is MultiDAE else h[:, :8]
    (back,) = model.decoder
    expected = model.readout((z @ back.weight.t() + back.bias).tanh())
    actual = model.score(torch.arange(60), model.history).to_dense()
    torch.testing.assert_close(actual, expected)


def test_loss_of_the_variational_model_by_hand():
    torch.manual_seed(0)
    model = MultiVAE.from_data(toy_data(), dropout=0.0, anneal_batches=10, **SMALL)
    rows = model.history.index_select(torch.arange(5))
    batch = RowBatch(torch.arange(5), rows)
    model.train()
    for step in range(4):
        torch.manual_seed(step)
        losses = model.loss(batch)
        torch.manual_seed(step)
        mean, log_variance = model.encode(rows).chunk(2, 1)
        sigma = (log_variance / 2).exp()
        z = mean + sigma * torch.randn_like(mean)
        logits = model.readout(model.decode(z))
        nll = -(logits.log_softmax(1) * rows.to_dense()).sum(1).mean()
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, sigma), torch.distributions.Normal(0, 1)
        )
        beta = min(step / 10, 0.2)
        torch.testing.assert_close(losses['reconstruction'], nll)
        torch.testing.assert_close(losses['kl'], beta * kl.sum(1).mean())
        torch.testing.assert_close(losses['total'], nll + losses['kl'])
    assert model.state_dict()['num_batches'] == 4


@pytest.mark.parametrize('cls', [MultiDAE, MultiVAE])
def test_learns_the_planted_groups(cls):
    data = toy_data(300, 60, interactions_per_user=15)
    torch.manual_seed(0)
    model = cls.from_data(data, latent_channels=16, batch_size=50, lr=3e-3)
    fit(model, epochs=40, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    assert 0.4 < (recall(model) - popular) / (best - popular) < 1


def test_bad_arguments_are_refused():
    for options in ({'latent_channels': 0}, {'lr': 0.0}, {'hidden_channels': [0]}):
        with pytest.raises(ValueError, match='needs? to be positive'):
            MultiDAE(5, **options)
    with pytest.raises(ValueError, match=r"'dropout' needs to lie in \[0, 1\)"):
        MultiVAE(5, dropout=1.0)
    with pytest.raises(ValueError, match="'beta' needs to be non-negative"):
        MultiVAE(5, beta=-1.0)
    with pytest.raises(ValueError, match='has no interactions to train on'):
        MultiDAE(5).phases()
