import pytest
import torch
from toy import toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader import EdgeBatch
from pyg_diffrec.models import LightGCN, MostPopular, Planted, SimGCL
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit

SMALL = {'embedding_dim': 8, 'batch_size': 64}


@pytest.mark.parametrize('num_layers', [1, 3])
def test_contract(num_layers):
    check_model(SimGCL, toy_data(), num_layers=num_layers, **SMALL)


def test_tables_are_the_mean_of_the_propagated_layers():
    torch.manual_seed(0)
    model = SimGCL.from_data(toy_data(), num_layers=2, **SMALL)
    twin = LightGCN.from_data(toy_data(), num_layers=2, alpha=[0, 0.5, 0.5], **SMALL)
    twin.load_state_dict(model.state_dict())
    for actual, expected in zip(model.tables(), twin.tables()):
        torch.testing.assert_close(actual, expected)


def test_perturbed_views_keep_signs_and_distance():
    torch.manual_seed(0)
    model = SimGCL.from_data(toy_data(), num_layers=1, eps=0.3, **SMALL)
    with torch.no_grad():
        pairs = zip(model._propagate(0.3), model.tables())
    for view, table in pairs:
        moved = (view - table).norm(dim=1)
        assert (moved <= 0.3 + 1e-5).all()
        assert moved.max() == pytest.approx(0.3, rel=1e-4)
        assert ((view - table) * table >= 0).all()


def test_contrast_counts_each_node_once():
    torch.manual_seed(0)
    model = SimGCL.from_data(toy_data(), contrast=0.5, temperature=0.3, **SMALL)
    index = torch.tensor([3, 5, 3, 9])
    batch = EdgeBatch(index, index, torch.tensor([1, 2, 3, 4]))
    torch.manual_seed(1)
    losses = model.loss(batch)
    torch.manual_seed(1)
    first, second = model._propagate(0.1), model._propagate(0.1)
    expected = 0.0
    for a, b in zip(first, second):
        a = torch.nn.functional.normalize(a[[3, 5, 9]])
        b = torch.nn.functional.normalize(b[[3, 5, 9]])
        for n in range(3):
            share = (a[n] @ b[n] / 0.3).exp() / (b @ a[n] / 0.3).exp().sum()
            expected -= share.log() / 3
    torch.testing.assert_close(losses['contrast'], 0.5 * expected)
    parts = losses['bpr'] + losses['l2'] + losses['contrast']
    torch.testing.assert_close(losses['total'], parts)


def test_learns_the_planted_groups():
    data = toy_data(300, 60, interactions_per_user=15)
    torch.manual_seed(0)
    model = SimGCL.from_data(
        data, embedding_dim=16, batch_size=256, lr=1e-2, contrast=0.01
    )
    fit(model, epochs=20, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    assert 0.4 < (recall(model) - popular) / (best - popular) < 1


def test_bad_arguments_are_refused():
    for options in ({'num_layers': 0}, {'eps': -1.0}, {'temperature': 0.0}):
        with pytest.raises(ValueError, match="'num_layers' and 'temperature' need"):
            SimGCL(5, num_users=3, **options)
