import math
from itertools import product

import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.evaluation import (
    METRICS,
    Protocol,
    evaluate,
    higher_is_better,
    measure,
    measure_groups,
    rank,
    ranking,
)
from pyg_diffrec.models import EASE, DiffRec, MostPopular


class Given(torch.nn.Module):
    """Scores that were decided beforehand."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def score(self, users, history):
        return self.scores[users]


def naive(lists, truth, k):
    """All user metrics by a loop over users with relevant items."""
    sums = dict.fromkeys(
        ['Recall', 'NDCG', 'Precision', 'MRR', 'MAP', 'HitRatio', 'F1'], 0.0
    )
    counted = 0
    for items, relevant in zip(lists, truth):
        if not relevant:
            continue
        counted += 1
        hits = [item in relevant for item in items[:k]]
        ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(relevant))))
        dcg = sum(hit / math.log2(i + 2) for i, hit in enumerate(hits))
        precision, recall = sum(hits) / k, sum(hits) / len(relevant)
        precisions = [sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit]
        sums['Recall'] += recall
        sums['NDCG'] += dcg / ideal
        sums['Precision'] += precision
        sums['MRR'] += 1 / (hits.index(True) + 1) if any(hits) else 0
        sums['MAP'] += sum(precisions) / min(k, len(relevant))
        sums['HitRatio'] += any(hits)
        if any(hits):
            sums['F1'] += 2 * precision * recall / (precision + recall)
    return {name: value / counted for name, value in sums.items()}


def random_case(seed, num_users=40, num_items=25):
    """Scores and splits, among them users without relevant items."""
    generator = torch.Generator().manual_seed(seed)
    code = torch.rand(num_users, num_items, generator=generator)
    splits = [
        [row.nonzero().view(-1).tolist() for row in (code > low) & (code <= high)]
        for low, high in ((0.0, 0.3), (0.3, 0.34), (0.34, 0.4))
    ]
    # Few distinct values, so that scores are often equal.
    scores = torch.randint(0, 6, (num_users, num_items), generator=generator).float()
    return scores, splits, given_data(*splits, num_items)


@pytest.mark.parametrize('split', ['val', 'test'])
@pytest.mark.parametrize('seed', range(3))
def test_metrics_equal_a_loop_over_users(split, seed):
    scores, (train, val, test), data = random_case(seed)
    seen = train if split == 'val' else [a + b for a, b in zip(train, val)]
    truth = val if split == 'val' else test
    lists = [
        sorted(set(range(25)) - set(s), key=lambda i, row=row: (-row[i], i))
        for row, s in zip(scores.tolist(), seen)
    ]
    names = ['Recall', 'NDCG', 'Precision', 'MRR', 'MAP', 'HitRatio', 'F1']
    metrics = [f'{name}@{k}' for name, k in product(names, (1, 5, 10))]
    results = evaluate(Given(scores), data, split, metrics)
    for k in (1, 5, 10):
        for name, value in naive(lists, truth, k).items():
            assert results[f'{name}@{k}'] == pytest.approx(value, rel=1e-5), name

    zero = evaluate(Given(scores), data, split, metrics, Protocol(empty_users='zero'))
    share = sum(map(bool, truth)) / len(truth)
    assert share < 1
    for metric in metrics:
        assert zero[metric] == pytest.approx(results[metric] * share, rel=1e-5)


def test_groups_of_users_are_measured_on_their_own():
    _, (train, _, test), data = random_case(0)
    scores = random_case(1)[0]
    users, items = rank(Given(scores), data, 'test', 5)
    bounds = [7, 8, 100]
    groups = measure_groups(items, users, data, 'test', ['Recall@5'], bounds)
    for group, own in zip(groups, [range(7), [7], range(8, 100)]):
        chosen = [i for i, u in enumerate(users.tolist()) if len(train[u]) in own]
        recall = [
            len(set(items[i].tolist()) & set(test[users[i]])) / len(test[users[i]])
            for i in chosen
        ]
        assert group['users'] == len(chosen) > 0
        assert group['Recall@5'] == pytest.approx(sum(recall) / len(recall))
    assert [x['interactions'] for x in groups] == [[0, 6], [7, 7], [8, 99]]


@pytest.mark.parametrize(
    ('name', 'ks'),
    [('diffrec', 'in_topN'), ('recdiff', 'in_topk'), ('diffmm', 'in_topk')],
)
def test_metrics_equal_the_reference(golden, name, ks):
    values = golden(f'metrics_{name}')
    ptr, lists = values['in_gt_ptr'], values['in_pred']
    truth = [
        values['in_gt_items'][a:b].tolist()
        for a, b in zip(ptr.tolist(), ptr[1:].tolist())
    ]
    num_items = int(max(lists.max(), values['in_gt_items'].max())) + 1
    data = given_data([[]] * len(truth), [[]] * len(truth), truth, num_items)
    # The DiffRec code averages over all users, the others over those with items.
    protocol = Protocol(empty_users='zero' if name == 'diffrec' else 'skip')
    prefix = 'diffrec_' if name == 'diffrec' else ''
    checked = 0
    for metric in ('Recall', 'NDCG', 'Precision', 'MRR'):
        key = f'{prefix}{metric.lower()}'
        if key not in values.arrays:
            continue
        metrics = [f'{metric}@{k}' for k in values[ks].tolist()]
        users = torch.arange(len(truth))
        actual = measure(lists, users, data, 'test', metrics, protocol)
        torch.testing.assert_close(
            torch.tensor(list(actual.values())),
            values[key].float(),
            rtol=1e-5,
            atol=1e-7,
        )
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize('model', ['DiffRec', 'EASE', 'MostPopular'])
def test_results_do_not_depend_on_the_batch_size(model):
    data = toy_data(200, 50)
    torch.manual_seed(0)
    cls = {'DiffRec': DiffRec, 'EASE': EASE, 'MostPopular': MostPopular}[model]
    options = {'hidden_channels': 8} if model == 'DiffRec' else {}
    built = cls.from_data(data, **options)
    metrics = [f'{name}@10' for name in METRICS]
    expected = evaluate(built, data, 'test', metrics)
    assert set(expected) == set(metrics)
    for batch_size in (1, 7, 64, 199):
        assert evaluate(built, data, 'test', metrics, batch_size=batch_size) == expected


@pytest.mark.parametrize(
    ('num_scores', 'sizes'),
    [(1, [128, 128, 44]), (40 * 150, [150, 150]), (10**9, [300])],
)
def test_users_are_scored_as_far_as_their_scores_are_few(
    num_scores, sizes, monkeypatch
):
    class Sizes(Given):
        def score(self, users, history):
            assert len(users) == history.num_rows
            self.sizes.append(len(users))
            return super().score(users, history)

    monkeypatch.setattr(ranking, '_BATCH_SCORES', num_scores)
    data = given_data([[0]] * 300, [[1]] * 300, [[2]] * 300, 40)
    model = Sizes(torch.rand(300, 40))
    model.sizes = []
    rank(model, data, 'test', 5)
    assert model.sizes == sizes


def test_history_and_seen_items_by_split():
    """A model that returns what it was fed shows which history that was."""
    data = given_data([[0]], [[1]], [[2, 3]], 5)

    class Echo(torch.nn.Module):
        def score(self, users, history):
            self.fed = history.to_dense().tolist()
            return torch.tensor([[5.0, 4, 3, 2, 1]])

    model = Echo()
    for split, history, fed, items in [
        ('val', 'train', [1, 0, 0, 0, 0], [1, 2, 3, 4]),
        ('val', 'train+val', [1, 0, 0, 0, 0], [1, 2, 3, 4]),
        ('test', 'train', [1, 0, 0, 0, 0], [2, 3, 4]),
        ('test', 'train+val', [1, 1, 0, 0, 0], [2, 3, 4]),
    ]:
        users, lists = rank(model, data, split, 5, Protocol(history=history))
        assert model.fed == [fed]
        assert lists[0].tolist()[: len(items)] == items
        assert users.tolist() == [0]


def test_only_metrics_of_hits_have_a_direction():
    directions = {name: higher_is_better(f'{name}@5') for name in METRICS}
    none = {name for name, direction in directions.items() if direction is None}
    assert none == {'Coverage', 'Personalization', 'AveragePopularity'}
    assert set(directions.values()) == {True, None}
    with pytest.raises(ValueError, match="Did you mean 'NDCG'"):
        higher_is_better('ndcg@5')


def test_bad_metrics_and_splits_are_refused():
    data, model = toy_data(), Given(torch.rand(60, 40))
    with pytest.raises(ValueError, match="Did you mean 'Recall'"):
        evaluate(model, data, 'test', ['Recal@20'])
    for metric in ('Recall', 'Recall@', 'Recall@x', 'Recall@0'):
        with pytest.raises(ValueError, match="e.g. 'Recall@20'"):
            evaluate(model, data, 'test', [metric])
    with pytest.raises(ValueError, match=r"'k' needs to lie in \[1, 40\]"):
        evaluate(model, data, 'test', ['Recall@41'])
    empty = given_data([[0]], [[]], [[1]], 3)
    with pytest.raises(ValueError, match="No user has an interaction in the 'val'"):
        evaluate(Given(torch.rand(1, 3)), empty, 'val', ['Recall@2'])
