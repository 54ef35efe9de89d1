import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.evaluation import (
    Protocol,
    measure,
    measure_groups,
    measuring,
    rank,
)
from pyg_diffrec.models import EASE


def test_groups_of_users_are_measured_on_their_own():
    generator = torch.Generator().manual_seed(0)
    code = torch.rand(40, 25, generator=generator)
    train, val, test = (
        [row.nonzero().view(-1).tolist() for row in (code > low) & (code <= high)]
        for low, high in ((0.0, 0.3), (0.3, 0.34), (0.34, 0.4))
    )
    data = given_data(train, val, test, 25)
    users, items = rank(EASE.from_data(data), data, 'test', 5)
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


def lists():
    data = toy_data()
    users = Protocol().users(data, 'test')
    generator = torch.Generator().manual_seed(0)
    items = torch.rand(len(users), 40, generator=generator).topk(5, dim=1).indices
    return items, users, data


def test_blocks_of_users_make_no_difference(monkeypatch):
    items, users, data = lists()
    metrics = ['Recall@5', 'Coverage@2', 'NDCG@3', 'Personalization@5']
    expected = measure(items, users, data, 'test', metrics)
    assert list(expected) == metrics
    monkeypatch.setattr(measuring, '_METRIC_BLOCK', 7)
    assert measure(items, users, data, 'test', metrics) == pytest.approx(expected)


def test_users_may_be_drawn_with_replacement():
    items, users, data = lists()
    metrics = ['Recall@5', 'Precision@5', 'MAP@3']
    single = [
        measure(items[i : i + 1], users[i : i + 1], data, 'test', metrics)
        for i in range(len(users))
    ]
    drawn = torch.tensor([3, 0, 3, 3, 5])
    found = measure(items[drawn], users[drawn], data, 'test', metrics)
    for metric in metrics:
        expected = sum(single[i][metric] for i in drawn.tolist()) / 5
        assert found[metric] == pytest.approx(expected)


def test_users_and_items_as_numpy_arrays():
    items, users, data = lists()
    expected = measure(items, users, data, 'test', ['Recall@5'])
    items, users = items.int().numpy(), users.tolist()
    assert measure(items, users, data, 'test', ['Recall@5']) == expected


def test_users_that_do_not_count():
    data = given_data([[0], [1], [0, 1]], [[], [], []], [[2], [], []], 4)
    items, users = torch.tensor([[2], [3], [3]]), torch.arange(3)
    groups = measure_groups(items, users, data, 'test', ['Recall@1'], [2])
    assert groups == [{'interactions': [0, 1], 'users': 1, 'Recall@1': 1.0}]
    zero = Protocol(empty_users='zero')
    groups = measure_groups(items, users, data, 'test', ['Recall@1'], [2], zero)
    assert [group['Recall@1'] for group in groups] == [0.5, 0.0]
    with pytest.raises(ValueError, match='None of the users has a relevant item'):
        measure(items[1:], users[1:], data, 'test', ['Recall@1'])
    assert measure(items[1:], users[1:], data, 'test', ['Coverage@1']) == {
        'Coverage@1': 0.25
    }
    with pytest.raises(ValueError, match="at least one user in 'measure'"):
        measure(items[:0], users[:0], data, 'test', ['Recall@1'])


@pytest.mark.parametrize(
    ('change', 'error', 'match'),
    [
        (lambda x, u: (x[1:], u), ValueError, r"'items' needs shape \[\d+, k\]"),
        (lambda x, u: (x[:, 0], u), ValueError, r"'items' needs shape \[\d+, k\]"),
        (lambda x, u: (x[:, :4], u), ValueError, r"at least 5 .*'MRR@5' .got 4\)"),
        (lambda x, u: (x.float(), u), TypeError, "'items' needs whole numbers"),
        (lambda x, u: (x > 3, u), TypeError, "'items' needs whole numbers"),
        (lambda x, u: (x.tolist(), u), TypeError, "'items' needs to be a tensor"),
        (lambda x, u: (x + 40, u), ValueError, r'in \[0, 40\), or be -1, .*list 0'),
        (lambda x, u: (x - 41, u), ValueError, r'in \[0, 40\), or be -1'),
        (lambda x, u: (x * 0 + 7, u), ValueError, 'got 7 more than once in list 0'),
        (lambda x, u: (x, u + 60), ValueError, r"'users' need to lie in \[0, 60\)"),
        (lambda x, u: (x, u - 60), ValueError, r"'users' need to lie in \[0, 60\)"),
        (lambda x, u: (x, u.double()), TypeError, "'users' needs whole numbers"),
        (lambda x, u: (x, u.bool()), TypeError, "'users' needs whole numbers"),
    ],
)
def test_bad_lists_are_refused(change, error, match):
    items, users, data = lists()
    items, users = change(items, users)
    with pytest.raises(error, match=match):
        measure(items, users, data, 'test', ['Recall@2', 'MRR@5'])
    with pytest.raises(error, match=match):
        measure_groups(items, users, data, 'test', ['MRR@5'], [3])


def test_bad_bounds_are_refused():
    items, users, data = lists()
    for bounds in ([5, 3], [3, 3], [0]):
        with pytest.raises(ValueError, match="'bounds' need"):
            measure_groups(items, users, data, 'test', ['Recall@5'], bounds)
    with pytest.raises(TypeError, match="'bounds' needs to be a whole number"):
        measure_groups(items, users, data, 'test', ['Recall@5'], [2.5])
    whole = measure(items, users, data, 'test', ['Recall@5'])
    groups = measure_groups(items, users, data, 'test', ['Recall@5'], [])
    assert groups == [{'interactions': [0, None], 'users': len(users), **whole}]
