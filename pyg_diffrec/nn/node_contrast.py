r"""A contrastive loss against all nodes of a graph."""

from typing import Any

import torch
from torch import Tensor

from pyg_diffrec.utils.precision import at_least_float, normalize

# Logits up to this size, and sums of their exponentials over all nodes, are finite in
# single precision.
_SAFE_LOGIT = 50.0
# The most anchors, and the most products, that are looked at at once. Measured at 5,600
# anchors and nodes with 64 columns, one core, float32, forward and backward, relative
# to this loss (0.2 s): cross entropy on the whole product 3, `logsumexp` on it 5, and
# on blocks of it 2. Blocks of 64 to 512 anchors take the same time.
_ANCHORS, _PRODUCTS = 256, 1 << 23


class _WeightedLogSumExp(torch.autograd.Function):
    r"""The weighted sum over rows of the log-sum-exp of :math:`\mathbf{A}
    \mathbf{B}^{\top}`, and its gradients while a block of the product is at hand."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor, safe: bool) -> Tensor:
        size = max(1, min(_ANCHORS, _PRODUCTS // len(b)))
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        total = a.new_zeros(())
        blocks = (x.split(size) for x in (a, grad_a, weight))
        for x, grad_x, w in zip(*blocks):
            prob = x @ b.t()
            high = x.new_zeros(()) if safe else prob.amax(1, keepdim=True)
            prob = prob.exp_() if safe else prob.sub_(high).exp_()
            mass = prob.sum(1, keepdim=True)
            w = w.view(-1, 1)
            total += ((high + mass.log()) * w).sum()
            # The rows of `prob` still have to be divided by their mass.
            w = w / mass
            torch.mm(prob, b, out=grad_x).mul_(w)
            grad_b.addmm_(prob.t(), x * w)
        ctx.save_for_backward(grad_a, grad_b)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The gradients of 'info_nce_loss' and 'node_contrast_loss' have no "
                "gradients: leave out 'create_graph'"
            )
        grad_a, grad_b = ctx.saved_tensors
        return grad * grad_a, grad * grad_b, None, None


def node_contrast_loss(
    first: Tensor, second: Tensor, node: Tensor, temperature: float
) -> Tensor:
    r"""The contrast of the nodes of a batch between two views of a graph, against
    **all** nodes of the second, as in the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper.

    .. math::
        - \frac{1}{B} \sum_{b} \log \frac{\exp(\mathbf{x}_{n_b} \cdot
        \mathbf{y}_{n_b} / \tau)}{\sum_v \exp(\mathbf{x}_{n_b} \cdot \mathbf{y}_v /
        \tau)}

    on unit vectors. A node that occurs several times in the batch is computed once and
    counts as often as it occurs. Of the products only a block of anchors exists at a
    time.

    Args:
        first (torch.Tensor): The view of the anchors :math:`(N, C)`.
        second (torch.Tensor): The other view :math:`(N, C)`.
        node (torch.Tensor): The nodes of the batch :math:`(B)`, int64.
        temperature (float): The temperature :math:`\tau`.

    Shapes:
        - **output:** a scalar, in nats; float32 for views in half precision

    Raises:
        ValueError: If the views differ in shape, there is no node, or
            :obj:`temperature` is not positive.
        RuntimeError: If the gradients are asked for their own gradients.
    """
    if first.shape != second.shape or node.numel() == 0:
        raise ValueError(
            f"'first' and 'second' need the same shape and 'node' at least one node in "
            f"'node_contrast_loss' (got {list(first.shape)}, {list(second.shape)} and "
            f'{node.numel()} nodes)'
        )
    if not temperature > 0:
        raise ValueError(
            f"'temperature' needs to be positive in 'node_contrast_loss' (got "
            f'{temperature})'
        )
    # Exponentials leave the range of half precision.
    first, second = at_least_float(first), at_least_float(second)
    index, count = node.unique(return_counts=True)
    weight = count.to(first.dtype) / node.numel()
    anchor = normalize(first.index_select(0, index)) / temperature
    second = normalize(second)
    safe = 1 / temperature <= _SAFE_LOGIT
    total = _WeightedLogSumExp.apply(anchor, second, weight, safe)
    positive = (anchor * second.index_select(0, index)).sum(1)
    return total - weight @ positive
