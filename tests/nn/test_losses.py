import math

import pytest
import torch

from pyg_diffrec.nn.losses import bpr_loss, multinomial_loss
from pyg_diffrec.utils import SparseRows


def test_bpr_loss_by_hand():
    positive, negative = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 3.0])
    expected = -sum(math.log(1 / (1 + math.exp(-d))) for d in (2.0, -3.0)) / 2
    assert bpr_loss(positive, negative).item() == pytest.approx(expected, rel=1e-6)
    assert bpr_loss(positive, positive).item() == pytest.approx(math.log(2))


def test_bpr_loss_depends_on_differences_and_stays_finite():
    torch.manual_seed(0)
    positive, negative = torch.randn(2, 7, dtype=torch.double)
    shifted = bpr_loss(positive + 5.0, negative + 5.0)
    torch.testing.assert_close(shifted, bpr_loss(positive, negative))
    far = torch.tensor([1e4])
    assert bpr_loss(-far, far).item() == 2e4
    assert bpr_loss(far, -far).item() == 0.0


def test_bpr_loss_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r'same, non-empty shape .*\[3\] and \[1\]'):
        bpr_loss(torch.rand(3), torch.rand(1))
    with pytest.raises(ValueError, match='non-empty'):
        bpr_loss(torch.rand(0), torch.rand(0))


def test_multinomial_loss_equals_the_dense_form():
    torch.manual_seed(0)
    mask = torch.rand(4, 6) < 0.5
    mask[1] = False
    row, col = mask.nonzero().t()
    value = torch.rand(len(row), dtype=torch.double)
    rows = SparseRows.from_coo(row, col, value, num_rows=4, num_cols=6)
    logits = torch.randn(4, 6, dtype=torch.double, requires_grad=True)
    dense = -(logits.log_softmax(1) * rows.to_dense()).sum(1).mean()
    loss = multinomial_loss(logits, rows)
    torch.testing.assert_close(loss, dense)
    (actual,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(dense, logits)
    torch.testing.assert_close(actual, expected)
