import copy
import gc

import torch

from pyg_diffrec.utils.keep import Kept, keep, keeping


class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.calls


@torch.no_grad()
def test_values_live_as_long_as_the_outermost_scope():
    make, owner = Counter(), object()
    assert [keep(make, 'x', owner) for _ in range(2)] == [1, 2]
    with keeping():
        assert [keep(make, 'x', owner) for _ in range(2)] == [3, 3]
        with keeping():
            assert keep(make, 'x', owner) == 3
        assert keep(make, 'x', owner) == 3
        assert keep(make, 'y', owner) == 4
        assert keep(make, 'x', object()) == 5
    assert keep(make, 'x', owner) == 6


@torch.no_grad()
def test_a_freed_object_never_lends_its_value_to_another():
    with keeping():
        for i in range(200):
            x = torch.full((64,), float(i))
            assert float(keep(x.sum, 'sum', x)) == 64 * i
            del x
            gc.collect(0)


def test_nothing_is_kept_with_gradients_or_after_an_error():
    make, owner = Counter(), object()
    with keeping():
        assert [keep(make, 'x', owner) for _ in range(2)] == [1, 2]
    try:
        with torch.no_grad(), keeping():
            keep(make, 'x', owner)
            raise ValueError
    except ValueError:
        pass
    with torch.no_grad():
        assert [keep(make, 'x', owner) for _ in range(2)] == [4, 5]


def test_a_kept_value_follows_what_it_is_made_of():
    make, kept, weight = Counter(), Kept(), torch.zeros(1)
    history, ties = object(), object()

    def get(*made_of):
        return kept.get(make, *made_of)

    assert get(history, ties, weight.device, weight.dtype) == 1
    assert get(history, ties, weight.device, weight.dtype) == 1
    assert copy.copy(kept).get(make, history, ties, weight.device, weight.dtype) == 1
    assert get(history, object(), weight.device, weight.dtype) == 2
    assert get(history, ties, weight.device, torch.double) == 3
    kept.forget()
    assert get(history, ties, weight.device, torch.double) == 4
