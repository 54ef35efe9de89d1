import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data import USER_ITEM
from pyg_diffrec.models import MFBPR, DiffRec, MostPopular
from pyg_diffrec.utils import SparseRows


def build():
    # Popularity of the items 0 to 4: 3, 2, 2, 1, 0.
    train = [[0, 1, 2], [0, 1], [0, 2, 3]]
    return MostPopular.from_data(given_data(train, [[3], [2], [1]], [[4]] * 3, 5))


def test_recommends_unseen_items_with_ties_by_item():
    out = build().recommend([2, 0, 1], k=3, exclude='train')
    assert out.item.tolist() == [[1, 4, -1], [3, 4, -1], [2, 3, 4]]
    assert out.score.tolist()[0] == [2, 0, float('-inf')]


def test_recommends_for_rows_never_seen_in_training():
    model = build()
    assert model.recommend_rows([[0], [], [4, 1]], k=2).item.tolist() == [
        [1, 2],
        [0, 1],
        [0, 2],
    ]
    rows = SparseRows(torch.tensor([0, 1]), torch.tensor([0]), num_cols=5)
    assert model.recommend_rows(rows, k=1).item.tolist() == [[1]]
    assert model.recommend_rows([], k=2).item.shape == (0, 2)


def test_rows_give_what_their_users_get():
    data = toy_data()
    torch.manual_seed(0)
    model = DiffRec.from_data(data, hidden_channels=8)
    users = torch.tensor([5, 9])
    rows = model.history.index_select(users)
    expected = model.recommend(users, k=6, exclude='train')
    actual = model.recommend_rows(rows, k=6)
    assert torch.equal(actual.item, expected.item)
    assert model.training  # As it was.


def test_nothing_known_of_a_user_is_recommended_unless_asked_for():
    data = toy_data()
    everything = torch.zeros(60, 40, dtype=torch.bool)
    user, item = data[USER_ITEM].edge_index
    everything[user, item] = True
    model = MostPopular.from_data(data)
    train = model.history.to_dense().bool()

    def found(rows, **kwargs):
        lists = model.recommend(range(60), k=10, **kwargs).item
        there = rows.gather(1, lists.clamp(min=0)) & (lists >= 0)
        return bool(there.any())

    assert not found(everything)
    assert found(everything & ~train, exclude='train')
    assert not found(train, exclude='train')
    assert found(train, exclude=None)
    # What is given, and nothing else.
    popular = model.recommend([7, 7], k=3, exclude=[[], [2, 3]])
    assert popular.item[0].tolist() == model.popularity.topk(3).indices.tolist()
    assert not {2, 3} & set(popular.item[1].tolist())
    assert (
        popular.item[1].tolist()
        == model.recommend([7], 3, exclude=[[2, 3]]).item[0].tolist()
    )
    rows = model.recommend_rows([[2, 3]], k=3, exclude=None)
    assert rows.item[0].tolist() == popular.item[0].tolist()
    # A history of its own is all that is known.
    model.fit_history(model.history.index_select(torch.arange(59, -1, -1)))
    assert found(everything)


def test_training_on_everything_scores_from_everything():
    data = toy_data()
    store = data[USER_ITEM]
    store.train_mask = torch.ones_like(store.train_mask)
    store.val_mask = store.test_mask = torch.zeros_like(store.train_mask)
    model = DiffRec.from_data(data, hidden_channels=8)
    assert model.history.nnz == store.edge_index.size(1)
    lists = [model.recommend([3], 5, exclude=x).item for x in ('known', 'train')]
    assert torch.equal(*lists)


ITEMS = torch.tensor([0, 1]), torch.tensor([3])


@pytest.mark.parametrize(
    ('users', 'error', 'message'),
    [
        ([0, 3], ValueError, r"'users' need to lie in \[0, 3\) .*got 3 at position 1"),
        ([-1], ValueError, r"'users' need to lie in \[0, 3\) .*got -1"),
        ([1.9], TypeError, r"'users' needs whole numbers .*got 1.9"),
        ([float('nan')], TypeError, r"'users' needs whole numbers .*got nan"),
        ([True], TypeError, r"'users' needs whole numbers .*got True"),
        (torch.ones(3) > 0, TypeError, r"'users' .*take the positions"),
        (torch.rand(3), TypeError, r"'users' needs whole numbers .*torch.float32"),
        (torch.zeros(1, 2).long(), ValueError, r"'users' needs shape"),
        (['a'], TypeError, r"'users' needs whole numbers .*got 'a'"),
    ],
)
def test_bad_users_are_refused(users, error, message):
    for model in (build(), MFBPR(5, 3)):
        if model.history is None:
            model.fit_history(build().history)
        with pytest.raises(error, match=message):
            model.recommend(users, k=1)


@pytest.mark.parametrize('cls', [MostPopular, MFBPR])
def test_only_row_models_advise_to_give_rows(cls):
    model = cls.from_data(toy_data())
    with pytest.raises(ValueError, match='got 9999') as error:
        model.recommend([9999], k=1)
    assert ('recommend_rows' in str(error.value)) == hasattr(model, 'recommend_rows')


@pytest.mark.parametrize(
    ('rows', 'error', 'message'),
    [
        ([[0], [1, 5]], ValueError, r"'rows\[1\]' need to lie in \[0, 5\) .*got 5"),
        ([[-1]], ValueError, r"'rows\[0\]' need to lie in \[0, 5\) .*got -1"),
        ([[0.7, 2.9]], TypeError, r"'rows\[0\]' needs whole numbers .*got 0.7"),
        ([[1], [2, 2]], ValueError, r'row 1 lists item 2 more than once'),
        ([torch.ones(5) > 0], TypeError, r"'rows\[0\]' needs whole numbers .*True"),
        ([3, 4], TypeError, r"'rows' needs 'SparseRows' or one list of items per user"),
        (3, TypeError, r"'rows' needs 'SparseRows' or one list of items per user"),
        (SparseRows(*ITEMS, num_cols=4), ValueError, "'rows' need 5 columns"),
        (
            # As it may come from a GPU, where values are not looked at.
            SparseRows._trusted(torch.arange(2), torch.tensor([-1]), torch.ones(1), 5),
            ValueError,
            r"'rows' need items in \[0, 5\) .*holds item -1",
        ),
        (
            SparseRows(torch.tensor([0, 2]), torch.tensor([3, 3]), num_cols=5),
            ValueError,
            r'row 0 lists item 3 more than once',
        ),
        (
            SparseRows(*ITEMS, torch.tensor([float('nan')]), num_cols=5),
            ValueError,
            r'finite values .*holds item 3 with value nan',
        ),
    ],
)
def test_bad_rows_are_refused(rows, error, message):
    with pytest.raises(error, match=message):
        build().recommend_rows(rows, k=1)
    with pytest.raises(error, match=message.replace('rows', 'exclude')):
        build().recommend([0], k=1, exclude=rows)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'k': 0}, ValueError, "'k' needs to be positive"),
        ({'k': 6}, ValueError, r"'k' needs to lie in \[1, 5\]"),
        ({'k': 2.0}, TypeError, "'k' needs to be a whole number"),
        ({'k': '2'}, TypeError, "'k' needs to be a whole number"),
        ({'k': True}, TypeError, "'k' needs to be a whole number"),
        ({'k': 2, 'batch_size': 0}, ValueError, "'batch_size' needs to be positive"),
        ({'k': 2, 'batch_size': 1.5}, TypeError, "'batch_size' needs to be a whole"),
        ({'k': 2, 'exclude': 'test'}, ValueError, r"one of \['known'.*\(got 'test'\)"),
        ({'k': 2, 'exclude': [[], []]}, ValueError, r'for each of 1 users .*\(got 2'),
    ],
)
def test_bad_options_are_refused_whether_there_are_users_or_not(kwargs, error, message):
    for call in (build().recommend, build().recommend_rows):
        with pytest.raises(error, match=message):
            call([0] if call.__name__ == 'recommend' else [[0]], **kwargs)
        if 'exclude' not in kwargs:
            with pytest.raises(error, match=message):
                call([], **kwargs)


def test_a_model_that_knows_nothing_says_so():
    rows = SparseRows(torch.tensor([0]), torch.tensor([]).long(), num_cols=4)
    with pytest.raises(ValueError, match="'history' needs 5 columns"):
        build().fit_history(rows)
    with pytest.raises(ValueError, match='knows no users yet'):
        MostPopular(5).recommend([0], k=1)
    with pytest.raises(ValueError, match='has no interactions to train on'):
        DiffRec(5).phases()


def test_a_score_that_fails_leaves_the_model_in_training(monkeypatch):
    model = build().train()

    def score(users, history):
        raise RuntimeError

    monkeypatch.setattr(model, 'score', score)
    for call in (model.recommend, model.recommend_rows):
        with pytest.raises(RuntimeError):
            call([0] if call == model.recommend else [[0]], k=1)
        assert model.training


def test_a_model_takes_no_hyper_parameters_of_scoring_that_it_has_not():
    model = build()
    assert model.rescored().popularity is model.popularity
    with pytest.raises(
        ValueError, match=r"'MostPopular' has \[\] .*got \['temporal'\]"
    ):
        model.rescored(temporal='linear')
    with pytest.raises(ValueError, match=r"has \['temporal', .*got \['steps'\]"):
        DiffRec(5).rescored(steps=3)


def test_invalid_data_is_refused():
    data = toy_data()
    data['item'].num_nodes = 3
    with pytest.raises(ValueError, match='names item'):
        MostPopular.from_data(data)
