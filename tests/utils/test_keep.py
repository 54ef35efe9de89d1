import copy

import torch

from pyg_diffrec.utils.keep import Kept


class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.calls


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
