r"""Losses over scores."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.nn.node_contrast import node_contrast_loss
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


def info_nce_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""The contrastive loss between two views of the same nodes, from the
    `"Representation Learning with Contrastive Predictive Coding"
    <https://arxiv.org/abs/1807.03748>`_ paper, on unit vectors.

    .. math::
        - \frac{1}{N} \sum_n \log \frac{\exp(\mathbf{a}_n \cdot \mathbf{b}_n / \tau)}
        {\sum_m \exp(\mathbf{a}_n \cdot \mathbf{b}_m / \tau)}

    This is :meth:`~pyg_diffrec.nn.node_contrast_loss` of all nodes: of the
    :math:`(N, N)` products only a block of rows exists at a time.

    Args:
        first (torch.Tensor): The anchors :math:`(N, C)`.
        second (torch.Tensor): Their other views :math:`(N, C)`.
        temperature (float): The temperature :math:`\tau`.

    Shapes:
        - **output:** a scalar, in nats; float32 for views in half precision

    Raises:
        ValueError: If the views differ in shape, there is no node, or
            :obj:`temperature` is not positive.
        RuntimeError: If the gradients are asked for their own gradients.
    """
    node = torch.arange(len(first), device=first.device)
    return node_contrast_loss(first, second, node, temperature)


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

    Raises:
        ValueError: If the shapes differ, or there is no row.
    """
    if tuple(logits.shape) != rows.shape or len(rows) == 0:
        raise ValueError(
            f"'logits' needs the shape of 'rows', {list(rows.shape)}, and at least one "
            f"row in 'multinomial_loss' (got {list(logits.shape)})"
        )
    value = rows.value.to(logits.dtype)
    mass = rows.row_sum(value) * torch.logsumexp(logits, 1)
    return (mass - rows.row_sum(value * logits[rows.row, rows.col])).mean()
