import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.models import DiffRec, MostPopular
from pyg_diffrec.utils import SparseRows


def build():
    # Popularity of the items 0 to 4: 3, 2, 2, 1, 0.
    train = [[0, 1, 2], [0, 1], [0, 2, 3]]
    return MostPopular.from_data(given_data(train, [[3], [2], [1]], [[4]] * 3, 5))


def test_recommends_unseen_items_with_ties_by_item():
    out = build().recommend([2, 0, 1], k=3)
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
    expected = model.recommend(users, k=6)
    actual = model.recommend_rows(rows, k=6)
    assert torch.equal(actual.item, expected.item)
    assert model.training  # As it was.


def test_bad_users_rows_and_sizes_are_refused():
    model = build()
    with pytest.raises(ValueError, match=r"'users' need to lie in \[0, 3\) .*got 3"):
        model.recommend([0, 3], k=1)
    with pytest.raises(ValueError, match=r"'k' needs to lie in \[1, 5\]"):
        model.recommend([0], k=6)
    with pytest.raises(ValueError, match=r"'rows' need items in \[0, 5\) .*got 5"):
        model.recommend_rows([[5]], k=1)
    with pytest.raises(ValueError, match=r'row 1 lists item 2 more than once'):
        model.recommend_rows([[1], [2, 2]], k=1)
    rows = SparseRows(torch.tensor([0]), torch.tensor([]).long(), num_cols=4)
    with pytest.raises(ValueError, match="'rows' need 5 columns"):
        model.recommend_rows(rows, k=1)
    with pytest.raises(ValueError, match="'history' needs 5 columns"):
        model.fit_history(rows)
    with pytest.raises(ValueError, match='knows no users yet'):
        MostPopular(5).recommend([0], k=1)
    with pytest.raises(ValueError, match='has no interactions to train on'):
        DiffRec(5).phases()


def test_invalid_data_is_refused():
    data = toy_data()
    data['item'].num_nodes = 3
    with pytest.raises(ValueError, match='names item'):
        MostPopular.from_data(data)
