import pytest
from toy import given_data

from pyg_diffrec.evaluation import Protocol


def build(order, roles='published'):
    data = given_data([[0], [1]], [[1], []], [[2], [0]], 3)
    data.split_order, data.roles, data.name = order, roles, 'ml-1m_clean'
    return data


def test_history_that_leaks_the_future_is_refused():
    data = build(('train', 'test', 'val'))
    protocol = Protocol(history='train+val')
    with pytest.raises(
        ValueError, match="leaks the future on 'ml-1m_clean'.*published"
    ):
        protocol.history_rows(data, 'test')
    with pytest.raises(ValueError, match='leaks the future'):
        protocol.history_rows(data, 'val')
    Protocol(history='train').check(data)
    allowed = Protocol(history='train+val', allow_future_history=True)
    assert allowed.history_rows(data, 'test').nnz == 3
    assert 'future history allowed' in allowed.describe(data)
    protocol.check(build(('train', 'val', 'test')))
    protocol.check(build(None))


def test_users_that_count():
    data = build(None)
    assert Protocol().users(data, 'val').tolist() == [0]
    assert Protocol(empty_users='zero').users(data, 'val').tolist() == [0, 1]


def test_description_names_all_conventions():
    text = Protocol(history='train+val').describe(build(None))
    assert text == (
        'roles = published, history = train+val, all 3 items ranked, training and '
        'validation items masked at test, users without relevant items left out'
    )


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="'history' needs to be one of"):
        Protocol(history='test')
    with pytest.raises(ValueError, match="'empty_users' needs to be one of"):
        Protocol(empty_users='drop')
