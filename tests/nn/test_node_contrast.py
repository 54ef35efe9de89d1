import pytest
import torch
import torch.nn.functional as F

from pyg_diffrec.nn import node_contrast
from pyg_diffrec.nn.node_contrast import node_contrast_loss


def naive(first, second, node, temperature):
    first, second = F.normalize(first), F.normalize(second)
    logits = first[node] @ second.t() / temperature
    return F.cross_entropy(logits, node)


# Anchors of one block, and of a part of a second one; each with repetitions.
@pytest.mark.parametrize(('num_nodes', 'num_anchors'), [(1, 1), (9, 30), (400, 700)])
@pytest.mark.parametrize('num_products', [5, 3000, 1 << 20])
def test_equals_the_cross_entropy_over_all_nodes(
    monkeypatch, num_nodes, num_anchors, num_products
):
    monkeypatch.setattr(node_contrast, '_PRODUCTS', num_products)
    torch.manual_seed(0)
    views = torch.randn(2, num_nodes, 4, dtype=torch.double).requires_grad_()
    node = torch.randint(num_nodes, (num_anchors,))
    loss = node_contrast_loss(*views, node, 0.2)
    expected = naive(*views, node, 0.2)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    (actual,) = torch.autograd.grad(3 * loss, views)
    (dense,) = torch.autograd.grad(3 * expected, views)
    torch.testing.assert_close(actual, dense, rtol=0, atol=1e-12)


@pytest.mark.parametrize(('sign', 'expected'), [(-1, 1e4 + 0.6931472), (1, 0.0)])
def test_stays_finite_at_low_temperatures(sign, expected):
    first = torch.eye(3).requires_grad_()
    loss = node_contrast_loss(first, sign * torch.eye(3), torch.tensor([0, 1]), 1e-4)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert bool(first.grad.isfinite().all())


@pytest.mark.parametrize('m', [2, 3])
@pytest.mark.parametrize('kind', [0, 1])
def test_equals_reference_values(golden, m, kind, assert_exact):
    values = golden('diffmm_model')
    prefix = f'm{m}_trans{kind}_'
    temperature = float(values[f'{prefix}hyper_ris_lambda_adjlambda_temp'][2])
    user = [values[f'{prefix}out_cl_user{i}'] for i in range(2)]
    loss = node_contrast_loss(*user, values[f'{prefix}in_anc'], temperature)
    assert_exact(loss, values[f'{prefix}out_contrast_user_0_1'])
    views = values[f'{prefix}out_item'], values[f'{prefix}out_cl_item0']
    loss = node_contrast_loss(*views, values[f'{prefix}in_pos'], temperature)
    assert_exact(loss, values[f'{prefix}out_contrast_item_main_0'])


def test_bad_arguments_are_refused():
    x, node = torch.rand(3, 2), torch.tensor([1])
    with pytest.raises(ValueError, match=r'same shape .*\[3, 2\], \[2, 2\]'):
        node_contrast_loss(x, x[:2], node, 0.5)
    with pytest.raises(ValueError, match='at least one node .*and 0 nodes'):
        node_contrast_loss(x, x, node[:0], 0.5)
    with pytest.raises(ValueError, match="'temperature' needs to be positive"):
        node_contrast_loss(x, x, node, 0.0)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('temperature', [0.02, 0.001, 1.0])
def test_half_precision_is_finite_and_right(dtype, temperature):
    torch.manual_seed(0)
    views = torch.randn(2, 3000, 4).to(dtype)
    node = torch.arange(300)
    exact = node_contrast_loss(*views.double(), node, temperature)
    first = views[0].clone().requires_grad_()
    loss = node_contrast_loss(first, views[1], node, temperature)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-3, atol=0)
    (grad,) = torch.autograd.grad(loss, first)
    assert grad.dtype == dtype
    assert bool(grad.isfinite().all())
