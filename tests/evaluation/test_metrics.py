import math

import pytest
import torch
from torch_geometric import metrics as pyg_metrics

from pyg_diffrec.evaluation import (
    METRICS,
    higher_is_better,
    parse_metric,
    parse_metrics,
)
from pyg_diffrec.evaluation.metrics import (
    average_popularity,
    coverage,
    personalization,
)


def random_lists(num_users, k, num_items, seed=0):
    """Lists in which low items are the more frequent."""
    generator = torch.Generator().manual_seed(seed)
    weight = 1 / torch.arange(1, num_items + 1).sqrt()
    return weight.expand(num_users, -1).multinomial(k, generator=generator)


def pyg_value(name, items, **kwargs):
    metric = getattr(pyg_metrics, f'LinkPred{name}')(k=items.size(1), **kwargs)
    metric.update(items, torch.empty(2, 0, dtype=torch.long))
    return float(metric.compute())


@pytest.mark.parametrize(('num_users', 'k'), [(2, 1), (30, 5), (700, 20)])
def test_full_lists_are_measured_as_in_pyg(num_users, k):
    items = random_lists(num_users, k, 50)
    popularity = torch.arange(50, 0, -1).float()
    assert coverage(items, 50) == pyg_value('Coverage', items, num_dst_nodes=50)
    expected = pyg_value('AveragePopularity', items, popularity=popularity)
    assert average_popularity(items, popularity) == expected
    expected = pyg_value('Personalization', items)
    assert personalization(items, 50) == pytest.approx(expected, abs=1e-7)


def test_personalization_looks_at_all_users():
    # The first 4,096 users get the same list, all others lists of their own.
    items = torch.arange(3 * 5000).view(5000, 3)
    items[:4096] = items[0]
    shared = math.comb(4096, 2) / math.comb(5000, 2)
    assert personalization(items, 15000) == pytest.approx(1 - shared, abs=1e-12)


def test_lists_of_different_lengths():
    items = torch.tensor([[3, 1, -1], [1, -1, -1], [-1, -1, -1], [1, 3, 0]])
    assert coverage(items, 6) == 0.5
    pairs = [1, 0, 2, 0, 1, 0]  # Users 0 and 1 share item 1, 0 and 3 items 1 and 3.
    expected = 1 - sum(pairs) / 3 / len(pairs)
    assert personalization(items, 6) == pytest.approx(expected, abs=1e-12)
    popularity = torch.tensor([10.0, 4, 7, 2, 100, 100])
    expected = ((2 + 4) / 2 + 4 + (4 + 2 + 10) / 3) / 3
    assert average_popularity(items, popularity) == pytest.approx(expected)


def test_lists_without_any_item():
    items = torch.full((3, 2), -1)
    assert coverage(items, 4) == 0
    assert personalization(items, 4) == 1
    assert average_popularity(items, torch.ones(4)) == 0


def test_one_list_is_not_personal():
    assert personalization(torch.tensor([[0, 1]]), 4) == 0


def test_only_metrics_of_hits_have_a_direction():
    directions = {name: higher_is_better(f'{name}@5') for name in METRICS}
    none = {name for name, direction in directions.items() if direction is None}
    assert none == {'Coverage', 'Personalization', 'AveragePopularity'}
    assert set(directions.values()) == {True, None}
    with pytest.raises(ValueError, match="Did you mean 'NDCG'"):
        higher_is_better('ndcg@5')


def test_names_of_metrics():
    assert parse_metric('Recall@20') == ('Recall', 20)
    assert list(parse_metrics(['F1@3', 'MRR@10'])) == ['F1@3', 'MRR@10']
    with pytest.raises(ValueError, match="Unknown metric ''"):
        parse_metric('@5')
    no_length = ['', '@', '@x', '@0', '@-1', '@020', '@1.0', '@ 5', '@5 ', '@5@5']
    for end in [*no_length, '@5\n', '@\u00b2', '@\u0665', '@' + '9' * 5000]:
        with pytest.raises(ValueError, match="A metric needs .* e.g. 'Recall@20'"):
            parse_metric('Recall' + end)
    with pytest.raises(TypeError, match='needs to be a string'):
        parse_metric(20)


def test_bad_lists_of_metrics_are_refused():
    for metrics in ('Recall@20', 20, None):
        with pytest.raises(TypeError, match="'metrics' needs a list of metrics"):
            parse_metrics(metrics)
    with pytest.raises(ValueError, match='at least one metric'):
        parse_metrics([])
    with pytest.raises(ValueError, match="names 'MAP@5' more than once"):
        parse_metrics(['MAP@5', 'MRR@5', 'MAP@5'])
