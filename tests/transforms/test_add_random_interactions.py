import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data import USER_ITEM, interaction_rows, target_rows, validate
from pyg_diffrec.transforms import AddRandomInteractions


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5])
def test_adds_unknown_items_to_training_alone(share):
    data = toy_data()
    before = interaction_rows(data)
    noisy = validate(AddRandomInteractions(share, seed=3)(data))
    after, store = interaction_rows(noisy), noisy[USER_ITEM]
    count, old = after.rowptr.diff(), before.rowptr.diff()
    assert torch.equal(count - old, (old * share + 0.5).floor().long())
    assert (after.to_dense() >= before.to_dense()).all()
    for split in ('val', 'test'):
        assert torch.equal(
            target_rows(noisy, split).to_dense(), target_rows(data, split).to_dense()
        )
    assert store.noise_mask.sum() == (count - old).sum()
    assert (store.train_mask | ~store.noise_mask).all()
    # Without the marked ones the graph is as it was, in the same order.
    kept = ~store.noise_mask
    assert torch.equal(store.edge_index[:, kept], data[USER_ITEM].edge_index)
    assert torch.equal(store.time[kept], data[USER_ITEM].time)
    assert data[USER_ITEM].edge_index.size(1) == kept.sum()


def test_noise_is_spread_over_time_and_follows_the_seed():
    data = toy_data(400, 300, interactions_per_user=20)

    def noise(seed):
        store = AddRandomInteractions(0.5, seed=seed)(data)[USER_ITEM]
        return store.edge_index[1, store.noise_mask], store.time[store.noise_mask]

    items, times = noise(0)
    assert torch.equal(items, noise(0)[0])
    assert not torch.equal(items, noise(1)[0])
    train = data[USER_ITEM].time[data[USER_ITEM].train_mask].double()
    assert times.double().mean() == pytest.approx(train.mean().item(), rel=0.05)
    share = torch.bincount(items, minlength=300).double() / len(items)
    assert share.max() < 4 / 300


def test_earlier_marks_stay():
    twice = AddRandomInteractions(0.2, 1)(AddRandomInteractions(0.2, 0)(toy_data()))
    once = AddRandomInteractions(0.2, 0)(toy_data())
    assert twice[USER_ITEM].noise_mask.sum() > once[USER_ITEM].noise_mask.sum()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'share' must not be negative"):
        AddRandomInteractions(-0.1)
    data = given_data([[0, 1, 2]], [[3]], [[4]], 6)
    with pytest.raises(ValueError, match='User 0 has 5 of 6 items and cannot get 2'):
        AddRandomInteractions(0.5)(data)
    del data[USER_ITEM].train_mask
    with pytest.raises(ValueError, match="no 'train_mask'"):
        AddRandomInteractions(0.5)(data)
    assert str(AddRandomInteractions(0.5)) == 'AddRandomInteractions(0.5, seed=0)'
