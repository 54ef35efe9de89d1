r"""Losses over scores."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.utils.sparse import SparseRows


def bpr_loss(positive_score: Tensor, negative_score: Tensor) -> Tensor:
    r"""The pairwise ranking loss from the `"BPR: Bayesian Personalized Ranking from
    Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper, without its
    regularisation.

    .. math::
        \frac{1}{B} \sum_{b} - \log \sigma (s^{+}_b - s^{-}_b) =
        \frac{1}{B} \sum_{b} \mathrm{softplus}(s^{-}_b - s^{+}_b)

    Args:
        positive_score (torch.Tensor): The scores of items that should rank higher
            :math:`(B)`, no unit.
        negative_score (torch.Tensor): The scores of items that should rank lower
            :math:`(B)`.

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
    return F.softplus(negative_score - positive_score).mean()


def info_nce_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""The contrastive loss between two views of the same nodes, from the
    `"Representation Learning with Contrastive Predictive Coding"
    <https://arxiv.org/abs/1807.03748>`_ paper, on unit vectors.

    .. math::
        - \frac{1}{N} \sum_n \log \frac{\exp(\mathbf{a}_n \cdot \mathbf{b}_n / \tau)}
        {\sum_m \exp(\mathbf{a}_n \cdot \mathbf{b}_m / \tau)}

    Args:
        first (torch.Tensor): The anchors :math:`(N, C)`.
        second (torch.Tensor): Their other views :math:`(N, C)`.
        temperature (float): The temperature :math:`\tau`.
    """
    logits = F.normalize(first) @ F.normalize(second).t() / temperature
    return (torch.logsumexp(logits, 1) - logits.diagonal()).mean()


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
