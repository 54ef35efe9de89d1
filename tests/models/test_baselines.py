import numpy as np
import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.models import EASE, GFCF, ItemKNN, MostPopular, Planted
from pyg_diffrec.testing import check_model


def test_ease_equals_a_regression_per_item():
    """Column j of the solution is ridge regression of item j on all others."""
    data = toy_data()
    model = EASE.from_data(data, l2=3.0)
    x = model.history.to_dense().double().numpy()
    for item in (0, 7, 39):
        others = np.delete(np.arange(40), item)
        gram = x[:, others].T @ x[:, others] + 3.0 * np.eye(39)
        weight = np.linalg.solve(gram, x[:, others].T @ x[:, item])
        np.testing.assert_allclose(model.weight[others, item], weight, atol=1e-6)
        assert model.weight[item, item] == 0
    scores = model.score(torch.arange(60), model.history)
    torch.testing.assert_close(scores, model.history.to_dense() @ model.weight)
    assert model.weight.is_contiguous()


def test_ease_refuses_what_does_not_fit():
    with pytest.raises(MemoryError, match=r'needs 0.0 GiB for 40 items, .*KCore'):
        EASE.from_data(toy_data(), memory_limit=1000)
    with pytest.raises(MemoryError, match='GiB for 10000000 items'):
        EASE(10_000_000)._check_memory()
    with pytest.raises(ValueError, match="'l2' needs to be positive"):
        EASE(5, l2=0.0)
    assert str(EASE(5, l2=2.0)) == 'EASE(5, l2=2.0)'


def test_most_popular_counts_training_interactions_alone():
    data = given_data([[0, 1], [1]], [[2], [2]], [[3], [0]], 4)
    model = MostPopular.from_data(data)
    assert model.popularity.tolist() == [1, 2, 0, 0]
    scores = model.score(torch.tensor([0, 1]), model.history)
    assert scores.tolist() == [[1, 2, 0, 0]] * 2


def test_planted_scores_are_the_probabilities_of_the_data():
    data = toy_data()
    scores = Planted.from_data(data).score(torch.arange(60), None)
    torch.testing.assert_close(scores.sum(1), torch.ones(60))
    expected = data['user'].planted[7] @ data['item'].planted[3]
    torch.testing.assert_close(scores[7, 3], expected)
    with pytest.raises(
        ValueError, match="needs a graph with a planted answer.*'given'"
    ):
        Planted.from_data(given_data([[0]], [[1]], [[2]], 3))


@pytest.mark.parametrize('k', [3, 39, 100])
def test_item_knn_equals_a_loop_over_items(k, monkeypatch):
    monkeypatch.setattr('pyg_diffrec.models.baselines.item_knn._BLOCK', 7 * 40)
    data = toy_data()
    model = ItemKNN.from_data(data, k=k, shrinkage=2.0)
    x = model.history.to_dense().double()
    expected = torch.zeros(40, 40, dtype=torch.double)
    for i in range(40):
        similarity = torch.zeros(40, dtype=torch.double)
        for j in range(40):
            if i != j:
                length = x[:, i].norm() * x[:, j].norm() + 2.0
                similarity[j] = x[:, i] @ x[:, j] / length
        kept = similarity.topk(min(k, 40)).indices
        expected[i, kept] = similarity[kept]
    scores = model.score(torch.arange(60), model.history)
    if k >= 39:  # Without equal similarities at the edge of the neighbourhood.
        torch.testing.assert_close(scores, (x @ expected).float())
    assert model.similarity.double().sum() == pytest.approx(expected.sum().item())
    assert (model.neighbor[model.similarity > 0] >= 0).all()


def test_item_knn_contract_time_and_errors():
    check_model(ItemKNN, toy_data(), k=5, temporal={'form': 'hyperbolic', 'h': 1.0})
    with pytest.raises(ValueError, match="'k' needs to be positive in 'ItemKNN'"):
        ItemKNN(5, k=0)
    with pytest.raises(ValueError, match="'shrinkage' must not be negative"):
        ItemKNN(5, shrinkage=-1.0)
    assert str(ItemKNN(5)) == 'ItemKNN(5, k=100, shrinkage=20.0)'


def test_gfcf_equals_the_dense_filter():
    data = toy_data()
    model = GFCF.from_data(data, alpha=0.5, num_factors=7)
    x = model.history.to_dense().double()
    scale_user, scale_item = x.sum(1).pow(-0.5), x.sum(0).pow(-0.5)
    scale_item[x.sum(0) == 0] = 0
    scaled = scale_user.view(-1, 1) * x * scale_item
    _, _, vh = torch.linalg.svd(scaled)
    low = scale_item.view(-1, 1) * (vh[:7].t() @ vh[:7]) * x.sum(0).sqrt()
    expected = x @ (scaled.t() @ scaled + 0.5 * low)
    scores = model.score(torch.arange(60), model.history)
    torch.testing.assert_close(scores, expected.float(), rtol=1e-4, atol=1e-5)


def test_gfcf_contract_items_without_interactions_and_errors():
    check_model(GFCF, toy_data(), temporal={'form': 'exponential'})
    lonely = given_data([[0, 1], [1, 2], [0, 2]], [[3], [], []], [[], [3], []], 5)
    scores = GFCF.from_data(lonely).recommend_rows([[0, 3]], k=5)
    assert scores.score[0, :3].isfinite().all()
    assert scores.score[0, 2] == 0
    with pytest.raises(ValueError, match="'alpha' needs to be non-negative"):
        GFCF(5, alpha=-1.0)
    with pytest.raises(ValueError, match="'num_factors' needs to be positive"):
        GFCF(5, num_factors=0)
    assert str(GFCF(5)) == 'GFCF(5, alpha=0.3, num_factors=256)'
