r"""Losses over scores."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.sparse import SparseRows


def bpr_loss(
    positive_score: Tensor, negative_score: Tensor, weight: OptTensor = None
) -> Tensor:
    r"""The pairwise ranking loss from the `"BPR: Bayesian Personalized Ranking from
    Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper, without its
    regularisation.

    .. math::
        \frac{1}{B} \sum_{b} - w_b \log \sigma (s^{+}_b - s^{-}_b) =
        \frac{1}{B} \sum_{b} w_b \, \mathrm{softplus}(s^{-}_b - s^{+}_b)

    Args:
        positive_score (torch.Tensor): The scores of items that should rank higher
            :math:`(B)`, no unit.
        negative_score (torch.Tensor): The scores of items that should rank lower
            :math:`(B)`.
        weight (torch.Tensor, optional): The weights :math:`w` of the pairs
            :math:`(B)`, ones if :obj:`None`; their sum is not divided by.
            (default: :obj:`None`)

    Shapes:
        - **output:** a scalar, in nats; finite for scores of any size

    Raises:
        ValueError: If the shapes differ, or there is no score.
    """
    if positive_score.shape != negative_score.shape or positive_score.numel() == 0:
        raise ValueError(
            f"'positive_score' and 'negative_score' need the same, non-empty shape in "
            f"'bpr_loss' (got {list(positive_score.shape)} and "
            f'{list(negative_score.shape)})'
        )
    loss = F.softplus(negative_score - positive_score)
    if weight is None:
        return loss.mean()
    if weight.shape != loss.shape:
        raise ValueError(
            f"'weight' needs the shape of the scores, {list(loss.shape)}, in "
            f"'bpr_loss' (got {list(weight.shape)})"
        )
    return (weight * loss).mean()


class _SumOfLogSumExp(torch.autograd.Function):
    r"""The sum over rows of the log-sum-exp of :math:`\mathbf{A} \mathbf{B}^{\top}`,
    and its gradients while a block of the product is at hand."""

    # Measured at 5,600 x 5,600 with 64 columns, one core, float32, forward and
    # backward, relative to this function (0.2 s): cross entropy on the whole product
    # 3, `logsumexp` on it 5, and on blocks of it 2. Blocks of 64 to 512 rows take the
    # same time.
    block = 256

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        total = a.new_zeros(())
        for x, grad_x in zip(*(y.split(_SumOfLogSumExp.block) for y in (a, grad_a))):
            prob = x @ b.t()
            high = prob.amax(1, keepdim=True)
            mass = prob.sub_(high).exp_().sum(1, keepdim=True)
            total += (high + mass.log()).sum()
            # The rows of `prob` still have to be divided by their mass.
            torch.mm(prob, b, out=grad_x).div_(mass)
            grad_b.addmm_(prob.t(), x / mass)
        ctx.save_for_backward(grad_a, grad_b)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The gradients of 'info_nce_loss' have no gradients: leave out "
                "'create_graph'"
            )
        grad_a, grad_b = ctx.saved_tensors
        return grad * grad_a, grad * grad_b


def info_nce_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""The contrastive loss between two views of the same nodes, from the
    `"Representation Learning with Contrastive Predictive Coding"
    <https://arxiv.org/abs/1807.03748>`_ paper, on unit vectors.

    .. math::
        - \frac{1}{N} \sum_n \log \frac{\exp(\mathbf{a}_n \cdot \mathbf{b}_n / \tau)}
        {\sum_m \exp(\mathbf{a}_n \cdot \mathbf{b}_m / \tau)}

    Of the :math:`(N, N)` products only a block of rows exists at a time.

    Args:
        first (torch.Tensor): The anchors :math:`(N, C)`.
        second (torch.Tensor): Their other views :math:`(N, C)`.
        temperature (float): The temperature :math:`\tau`.

    Shapes:
        - **output:** a scalar, in nats

    Raises:
        RuntimeError: If the gradients are asked for their own gradients.
    """
    first, second = F.normalize(first) / temperature, F.normalize(second)
    total = _SumOfLogSumExp.apply(first, second)
    return (total - (first * second).sum()) / first.size(0)


def multinomial_loss(logits: Tensor, rows: SparseRows) -> Tensor:
    r"""The negative multinomial log-likelihood of interaction rows, from the
    `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_ paper, as a mean over users.

    .. math::
        - \tfrac{1}{B} \sum_b \sum_i x_{b,i} \, \log \mathrm{softmax}
        {(\mathrm{logits}_b)}_i

    Only the logits of stored entries are gathered.

    Args:
        logits (torch.Tensor): The logits of all items :math:`(B, I)`.
        rows (SparseRows): The rows :math:`(B, I)`.
    """
    value = rows.value.to(logits.dtype)
    mass = rows.row_sum(value) * torch.logsumexp(logits, 1)
    return (mass - rows.row_sum(value * logits[rows.row, rows.col])).mean()
