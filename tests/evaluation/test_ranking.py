import math
import re
from itertools import product

import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.evaluation import (
    METRICS,
    Protocol,
    evaluate,
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


def short_case():
    """Of 6 items, user 0 has 2 left at test, user 1 has 4, user 2 none."""
    train, val = [[0, 1, 2, 3], [1, 5], [0, 1, 2, 3]], [[], [], [4]]
    return given_data(train, val, [[4], [0], [5]], 6)


def test_what_fills_a_list_is_no_recommendation():
    data = given_data([[0, 1, 2, 3]], [[]], [[4]], 6)  # Items 4 and 5 are left.
    model = Given(-torch.arange(6.0).view(1, -1))
    _, items = rank(model, data, 'test', 5)
    assert items.tolist() == [[4, 5, -1, -1, -1]]
    found = evaluate(model, data, 'test', [f'{name}@5' for name in METRICS])
    expected = dict.fromkeys(METRICS, 1.0)
    expected.update(Coverage=2 / 6, Precision=1 / 5, F1=2 / 6)
    expected.update(AveragePopularity=0.0, Personalization=0.0)
    assert found == pytest.approx({f'{k}@5': v for k, v in expected.items()})


def test_lists_of_users_with_few_items_left():
    data, scores = short_case(), -torch.arange(6.0).expand(3, -1)
    users, items = rank(Given(scores), data, 'test', 3)
    assert items.tolist() == [[4, 5, -1], [0, 2, 3], [5, -1, -1]]
    found = evaluate(
        Given(scores), data, 'test', ['Personalization@3', 'AveragePopularity@3']
    )
    assert found['Personalization@3'] == pytest.approx(1 - 1 / 3 / 3)  # Item 5.
    # Training interactions: 2 of items 0, 2, 3, 1 of item 5, none of item 4.
    assert found['AveragePopularity@3'] == pytest.approx((1 / 2 + 2 + 1) / 3)
    metrics = [f'{name}@3' for name in METRICS]
    expected = evaluate(Given(scores), data, 'test', metrics)
    assert measure(items, users, data, 'test', metrics) == expected
    # The last item, which user 2 is after, is no hit of an empty list that follows.
    given = torch.tensor([[0], [-1], [-1]])
    users = torch.tensor([2, 0, 1])
    assert measure(given, users, data, 'test', ['HitRatio@1'])['HitRatio@1'] == 0
    with_every_item = given_data([[0, 1]], [[]], [[2]], 3)
    scores = torch.tensor([[0.0, 0, -math.inf]])
    assert rank(Given(scores), with_every_item, 'test', 2)[1].tolist() == [[-1, -1]]


def broken(change):
    data = toy_data()
    change(data, data[USER_ITEM])
    return data


def repeat(data, store):
    store.edge_index[:, 1] = store.edge_index[:, 0]


def integers(data, store):
    store.test_mask = store.test_mask.long()


def outside(data, store):
    store.edge_index[1, 3] = 40


def weightless(data, store):
    store.edge_weight = torch.zeros(store.edge_index.size(1))


@pytest.mark.parametrize('change', [repeat, integers, outside, weightless])
def test_graphs_are_checked_for_models_of_ones_own(change):
    data, model = broken(change), Given(torch.rand(60, 40))
    users, items = rank(model, toy_data(), 'test', 5)
    with pytest.raises((TypeError, ValueError)) as expected:
        validate(data)
    calls = [
        lambda: evaluate(model, data, 'test'),
        lambda: rank(model, data, 'val', 5),
        lambda: measure(items, users, data, 'test', ['Recall@5']),
        lambda: measure_groups(items, users, data, 'test', ['Recall@5'], [3]),
        lambda: Protocol().history_rows(data, 'val'),
        lambda: Protocol().seen_rows(data, 'val'),
        lambda: Protocol().users(data, 'val'),
        lambda: Protocol().describe(data),
    ]
    for call in calls:
        with pytest.raises(expected.type, match=re.escape(str(expected.value))):
            call()
    with pytest.raises(TypeError, match="'data' needs to be a 'HeteroData'"):
        evaluate(model, None, 'test')


def test_any_object_with_scores_is_ranked():
    data, scores = toy_data(), torch.rand(60, 40)

    class Mine:
        def score(self, users, history):
            assert users.device == history.device == torch.device('cpu')
            return scores[users]

    class Blocks(Mine):
        shape, device, training = property(lambda self: self.scores.shape), 'cpu', 7

        def score(self, users, history):
            self.scores = super().score(users, history)
            return self

        def blocks(self, size):
            yield 0, self.scores[:, :17]
            yield 17, self.scores[:, 17:]

    expected = evaluate(Given(scores), data, 'val')
    for model in (Mine(), Blocks()):
        assert evaluate(model, data, 'val') == expected
        assert torch.equal(
            rank(model, data, 'val', 4)[1], rank(Given(scores), data, 'val', 4)[1]
        )
    with pytest.raises(TypeError, match="'model' needs a method 'score.*'function'"):
        evaluate(lambda users, history: scores[users], data, 'val')


@pytest.mark.parametrize(
    ('wrong', 'error', 'match'),
    [
        (lambda x: x[:-1], ValueError, r'\[60, 40\], of 60 users.*got \[59, 40\]'),
        (lambda x: x[:, 1:], ValueError, r'for all 40 items .got \[60, 39\]'),
        (lambda x: x.sum(1), ValueError, r'\[60, 40\].*got \[60\]'),
        (lambda x: x.numpy(), TypeError, 'a tensor or a value .*ndarray'),
        (lambda x: (x, x), TypeError, 'a tensor or a value .*tuple'),
        (lambda x: None, TypeError, 'a tensor or a value .*NoneType'),
    ],
)
def test_scores_of_another_form_are_refused(wrong, error, match):
    class Mine:
        def score(self, users, history):
            return wrong(torch.rand(60, 40))

    data = given_data([[0]] * 60, [[1]] * 60, [[2]] * 60, 40)
    with pytest.raises(error, match="'Mine.score' needs to give scores.*" + match):
        evaluate(Mine(), data, 'test')


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('fails', [True, False])
def test_every_part_of_a_model_gets_its_mode_back(training, fails):
    class Parts(Given):
        def score(self, users, history):
            assert not any(module.training for module in self.modules())
            if fails:
                raise KeyError('inside of score')
            return super().score(users, history)

    data, model = toy_data(), Parts(torch.rand(60, 40))
    model.frozen = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout())
    model.train(training)
    model.frozen[0].train(not training)
    modes = [module.training for module in model.modules()]
    if fails:
        with pytest.raises(KeyError, match='inside of score'):
            evaluate(model, data, 'val')
    else:
        evaluate(model, data, 'val')
    assert [module.training for module in model.modules()] == modes
    model.scores[0] = math.nan  # Fails after the scores, too.
    with pytest.raises((KeyError, ValueError), match='inside|not a number'):
        rank(model, data, 'val', 5)
    assert [module.training for module in model.modules()] == modes


def test_a_model_is_told_that_its_mode_changes():
    class Told(Given):
        told = []

        def train(self, mode=True):
            self.told.append(mode)
            return super().train(mode)

    evaluate(Told(torch.rand(60, 40)), toy_data(), 'val')
    assert Told.told == [False, True]


def test_what_wraps_a_module_is_put_into_evaluation_mode():
    class Wrapper:
        def __init__(self, model):
            self.model = model

        def __getattr__(self, name):
            return getattr(self.model, name)

    class Asked(Given):
        def score(self, users, history):
            assert not self.training
            return super().score(users, history)

    data, model = toy_data(), Asked(torch.rand(60, 40)).train()
    assert evaluate(Wrapper(model), data, 'val') == evaluate(model, data, 'val')
    assert model.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('graph', ['cpu', 'cuda'])
@pytest.mark.parametrize('model', ['cpu', 'cuda'])
def test_graph_and_model_may_be_on_different_devices(graph, model):
    data, given = toy_data(), Given(torch.rand(60, 40))
    given.register_buffer('scores', given.__dict__.pop('scores'))
    metrics = [f'{name}@10' for name in METRICS]
    protocol = Protocol(empty_users='zero')
    expected = evaluate(given, data, 'test', metrics, protocol)
    data, given = data.to(graph), given.to(model)
    assert evaluate(given, data, 'test', metrics, protocol) == expected
    users, items = rank(given, data, 'test', 10, protocol)
    assert users.is_cpu
    assert items.is_cpu
    for device in ('cpu', 'cuda'):
        lists = items.to(device), users.to(device), data, 'test', metrics
        assert measure(*lists, protocol) == expected
        assert measure_groups(*lists, [], protocol)[0].items() >= expected.items()


def test_bad_requests_are_refused():
    data, model = toy_data(), Given(torch.rand(60, 40))
    for split in ('train', 'tests', None, 1):
        with pytest.raises(ValueError, match=r"'split' needs .*\['val', 'test'\]"):
            evaluate(model, data, split)
        with pytest.raises(ValueError, match="'split' needs"):
            Protocol().users(data, split)
    with pytest.raises(TypeError, match="'metrics' needs a list"):
        evaluate(model, data, 'val', 'Recall@20')
    with pytest.raises(ValueError, match="'batch_size' needs to be positive in 'rank'"):
        rank(model, data, 'val', 5, batch_size=0)
    for batch_size in (1.5, True):
        with pytest.raises(TypeError, match="'batch_size' needs to be a whole number"):
            rank(model, data, 'val', 5, batch_size=batch_size)
    with pytest.raises(TypeError, match="'k' needs to be a whole number"):
        rank(model, data, 'val', 5.0)
    with pytest.raises(TypeError, match="'protocol' needs to be a 'Protocol'"):
        rank(model, data, 'val', 5, 'train')


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
