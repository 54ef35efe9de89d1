import math

import pytest
import torch

from pyg_diffrec.nn.losses import bpr_loss, info_nce_loss, multinomial_loss
from pyg_diffrec.utils import SparseRows


def test_bpr_loss_by_hand():
    positive, negative = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 3.0])
    expected = -sum(math.log(1 / (1 + math.exp(-d))) for d in (2.0, -3.0)) / 2
    assert bpr_loss(positive, negative).item() == pytest.approx(expected, rel=1e-6)
    assert bpr_loss(positive, positive).item() == pytest.approx(math.log(2))
    weight = torch.tensor([0.5, 3.0])
    expected = -0.5 * math.log(1 / (1 + math.exp(-2))) / 2
    expected -= 3.0 * math.log(1 / (1 + math.exp(3))) / 2
    loss = bpr_loss(positive, negative, weight)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


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
    with pytest.raises(ValueError, match=r"'weight' needs .* \[3\], in .*\[1\]"):
        bpr_loss(torch.rand(3), torch.rand(3), torch.rand(1))


# Of one block of rows, of whole blocks, and of a part of one.
@pytest.mark.parametrize('num_nodes', [1, 7, 512, 600])
def test_info_nce_equals_the_cross_entropy_of_all_products(num_nodes):
    torch.manual_seed(0)
    first, second = torch.randn(2, num_nodes, 4, dtype=torch.double)
    views = first.requires_grad_(), (second + first.detach()).requires_grad_()
    unit = [torch.nn.functional.normalize(x) for x in views]
    index = torch.arange(num_nodes)
    expected = torch.nn.functional.cross_entropy(unit[0] @ unit[1].t() / 0.2, index)
    loss = info_nce_loss(*views, 0.2)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    grads = torch.autograd.grad(3 * loss, views)
    for actual, dense in zip(grads, torch.autograd.grad(3 * expected, views)):
        torch.testing.assert_close(actual, dense, rtol=0, atol=1e-12)


def test_info_nce_stays_finite_at_low_temperatures():
    first = torch.eye(3).requires_grad_()
    loss = info_nce_loss(first, -torch.eye(3), 1e-4)
    assert loss.item() == pytest.approx(1e4 + math.log(2))
    loss.backward()
    assert bool(first.grad.isfinite().all())


def test_info_nce_refuses_bad_arguments():
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match=r'same shape .*\[3, 2\], \[2, 2\]'):
        info_nce_loss(x, x[:2], 0.2)
    with pytest.raises(ValueError, match="'temperature' needs to be positive"):
        info_nce_loss(x, x, 0.0)
    with pytest.raises(ValueError, match="'temperature' needs .*got nan"):
        info_nce_loss(x, x, float('nan'))


def test_gradients_of_info_nce_have_none():
    first = torch.randn(3, 2).requires_grad_()
    loss = info_nce_loss(first, torch.randn(3, 2), 0.2)
    with pytest.raises(RuntimeError, match="of 'info_nce_loss' and .* have no grad"):
        torch.autograd.grad(loss, first, create_graph=True)


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


def test_multinomial_loss_refuses_logits_of_other_rows():
    rows = SparseRows(torch.tensor([0, 1, 1]), torch.tensor([2]), num_cols=3)
    for shape in ((2, 4), (3, 3), (1, 3)):
        with pytest.raises(ValueError, match=r"shape of 'rows', \[2, 3\]"):
            multinomial_loss(torch.zeros(shape), rows)
    with pytest.raises(ValueError, match='at least one row'):
        multinomial_loss(torch.zeros(0, 3), rows.index_select(torch.arange(0)))
