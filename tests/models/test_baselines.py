import numpy as np
import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.models import EASE, MostPopular, Planted


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
