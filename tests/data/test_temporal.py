import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data import (
    USER_ITEM,
    ExponentialTemporalWeight,
    HyperbolicTemporalWeight,
    LinearTemporalWeight,
    check_time_order,
    is_time_ordered,
    resolve_temporal,
)
from pyg_diffrec.data.temporal import is_item_ordered
from pyg_diffrec.transforms import RandomSplit, TemporalSplit
from pyg_diffrec.utils import SparseRows


def rows_of(lists, num_cols):
    user = [u for u, items in enumerate(lists) for _ in items]
    item = [i for items in lists for i in items]
    return SparseRows.from_coo(
        torch.tensor(user),
        torch.tensor(item),
        torch.ones(len(item), dtype=torch.double),
        num_rows=len(lists),
        num_cols=num_cols,
    )


@pytest.mark.parametrize('case', ['c0', 'c1', 'c2'])
def test_linear_weights_equal_the_reference(golden, case, assert_exact):
    values = golden('tdiffrec')
    expected = values[f'{case}_out_weighted']
    user, item = values[f'{case}_in_train_list'].t()
    rows = SparseRows.from_coo(
        user,
        item,
        torch.ones(len(user), dtype=torch.double),
        num_rows=expected.size(0),
        num_cols=expected.size(1),
    )
    w_min, w_max = values[f'{case}_w_min_max'].tolist()
    assert_exact(LinearTemporalWeight(w_min, w_max)(rows).to_dense(), expected)
    assert torch.equal(rows.to_dense(), values[f'{case}_out_binary'].double())


def test_weights_by_hand():
    rows = rows_of([[2, 0, 1], [], [3]], 4)
    linear = LinearTemporalWeight(0.5, 1.0)(rows)
    assert linear.value.tolist() == [0.5, 0.75, 1.0, 0.5]
    assert linear.col.tolist() == [2, 0, 1, 3]
    half = ExponentialTemporalWeight(half_life=1.0)(rows)
    assert half.value.tolist() == [0.25, 0.5, 1.0, 1.0]
    hyperbolic = HyperbolicTemporalWeight(h=2.0)(rows)
    assert hyperbolic.value.tolist() == [1 / 2, 1 / 1.5, 1.0, 1.0]
    kept = HyperbolicTemporalWeight(h=2.0, rescale=True)(rows)
    assert kept.row_sum().tolist() == pytest.approx([3, 0, 1])
    ratio = kept.value[:3] / hyperbolic.value[:3]
    assert ratio.tolist() == pytest.approx([3 / (1 / 2 + 1 / 1.5 + 1)] * 3)
    twice = LinearTemporalWeight(0.5, 1.0)(linear.with_value(linear.value * 2))
    assert twice.value.tolist() == [0.5, 1.125, 2.0, 0.5]


def test_no_interaction_is_dropped():
    rows = rows_of([list(range(5000))], 5000).to(dtype=torch.float)
    assert (ExponentialTemporalWeight(half_life=1.0)(rows).value > 0).all()


def test_resolve():
    assert resolve_temporal(None) is None
    assert resolve_temporal('linear').w_min == 0.1
    weight = resolve_temporal({'form': 'hyperbolic', 'h': 7.0})
    assert repr(weight) == 'HyperbolicTemporalWeight(h=7.0)'
    scaled = resolve_temporal({'form': 'linear', 'rescale': True})
    assert repr(scaled) == 'LinearTemporalWeight(rescale=True, w_min=0.1, w_max=1.0)'
    assert resolve_temporal(weight) is weight
    with pytest.raises(
        ValueError, match="temporal form 'lineal'. Did you mean 'linear'"
    ):
        resolve_temporal('lineal')
    for bad in (3, {'h': 1.0}):
        with pytest.raises(TypeError, match="'temporal' needs to be a form"):
            resolve_temporal(bad)
    with pytest.raises(TypeError, match='half_life'):
        resolve_temporal({'form': 'linear', 'half_life': 1.0})


def test_bad_weights_are_refused():
    for w_min, w_max in ((0.0, 1.0), (0.5, 0.4), (-1.0, 1.0)):
        with pytest.raises(ValueError, match="'w_min' and 'w_max' need 0 < w_min"):
            LinearTemporalWeight(w_min, w_max)
    with pytest.raises(ValueError, match="'half_life' needs to be positive"):
        ExponentialTemporalWeight(0.0)
    with pytest.raises(ValueError, match="'h' needs to be positive"):
        HyperbolicTemporalWeight(0.0)


def test_time_order_is_known_from_time_split_or_source():
    data = given_data([[0, 1]], [[2]], [[3]], 4)
    assert not is_time_ordered(data)
    data.time_ordered = True
    assert is_time_ordered(data)
    assert is_time_ordered(toy_data())
    assert is_time_ordered(RandomSplit()(toy_data()))  # It still has its time.


def test_a_split_along_time_does_not_outlive_its_order():
    data = toy_data(300, 120, interactions_per_user=30)
    del data[USER_ITEM].time
    data = TemporalSplit()(data)
    assert is_time_ordered(data)
    check_time_order(data, 'linear', 'Model')
    data = data.coalesce()  # Sorts by user and item, and the masks with them.
    assert data.split_order == ('train', 'val', 'test')
    assert is_item_ordered(data)
    assert not is_time_ordered(data)
    with pytest.raises(ValueError, match=r"'Model' need .*'data.time_ordered = True'"):
        check_time_order(data, 'linear', 'Model')
    check_time_order(data, None, 'Model')
    data.time_ordered = True
    check_time_order(data, 'linear', 'Model')


def test_an_order_that_is_none_of_time_may_be_stated():
    data = given_data([[0, 1]], [[2]], [[3]], 4)
    data.split_order, data.time_ordered = ('train', 'val', 'test'), False
    assert not is_time_ordered(data)


@pytest.mark.parametrize(
    ('temporal', 'error', 'match'),
    [
        ({'form': 'linear', 'w_min': '0.1'}, TypeError, "'w_min' needs to be a number"),
        ({'form': 'linear', 'w_max': True}, TypeError, "'w_max' needs to be a number"),
        (
            {'form': 'linear', 'w_max': float('inf')},
            ValueError,
            r"'w_max' need.* inf\)",
        ),
        ({'form': 'hyperbolic', 'h': 'two'}, TypeError, "'h' needs to be a number in"),
        (
            {'form': 'hyperbolic', 'h': float('nan')},
            ValueError,
            "'h' needs to be ",
        ),
        ({'form': 'exponential', 'half_life': True}, TypeError, "'half_life' needs to"),
        ({'form': 'linear', 'rescale': 'no'}, TypeError, "'rescale' needs .*'no'"),
        ({'form': ['linear']}, ValueError, 'temporal form'),
        (
            {'form': 'linear', 'half_live': 1.0},
            TypeError,
            "argument of temporal form 'linear' 'half_live'",
        ),
        (
            {'form': 'exponential', 'halflife': 1.0},
            TypeError,
            "Did you mean 'half_life'",
        ),
    ],
)
def test_bad_descriptions_are_refused(temporal, error, match):
    with pytest.raises(error, match=match):
        resolve_temporal(temporal)


@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16, torch.float])
def test_no_interaction_is_dropped_in_any_precision(dtype, rescale):
    col = torch.arange(300)
    rows = SparseRows(torch.tensor([0, 300]), col, num_cols=300).to(dtype=dtype)
    value = ExponentialTemporalWeight(half_life=1.0, rescale=rescale)(rows).value
    assert value.dtype == dtype
    assert bool(((value > 0) & value.isfinite()).all())
    assert bool((value.diff() >= 0).all())
