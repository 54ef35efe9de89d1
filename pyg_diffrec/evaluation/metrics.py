r"""What can be measured: names, and the metrics of lists as a whole."""

import re
from typing import Optional, Sequence

import torch
from torch import Tensor

from pyg_diffrec.resolver import unknown

#: Metrics that are a mean over users with relevant items.
USER_METRICS = ('Recall', 'NDCG', 'Precision', 'MRR', 'MAP', 'HitRatio', 'F1')
#: Metrics of the lists as a whole.
LIST_METRICS = ('Coverage', 'Personalization', 'AveragePopularity')
METRICS = (*USER_METRICS, *LIST_METRICS)


def parse_metric(metric: str) -> tuple[str, int]:
    r"""Splits :obj:`'Recall@20'` into its name and its list length.

    Raises:
        ValueError: If the metric is unknown or has no list length.
        TypeError: If it is no string.
    """
    if not isinstance(metric, str):
        raise TypeError(f"A metric needs to be a string (got '{type(metric)}')")
    name, _, k = metric.partition('@')
    if name not in METRICS:
        raise ValueError(unknown('metric', name, METRICS))
    if re.fullmatch('[1-9][0-9]{0,17}', k) is None:
        raise ValueError(
            f"A metric needs a list length, e.g. '{name}@20' (got '{metric}')"
        )
    return name, int(k)


def parse_metrics(metrics: Sequence[str]) -> dict[str, tuple[str, int]]:
    r"""Name and list length by metric, in the order given.

    Raises:
        ValueError: If there are none, or one is unknown or comes again.
        TypeError: If they are no list of strings.
    """
    if isinstance(metrics, str) or not hasattr(metrics, '__iter__'):
        raise TypeError(
            f"'metrics' needs a list of metrics, e.g. ['Recall@20'] (got {metrics!r})"
        )
    parsed: dict[str, tuple[str, int]] = {}
    for metric in metrics:
        name, k = parse_metric(metric)
        if metric in parsed:
            raise ValueError(f"'metrics' names '{metric}' more than once")
        parsed[metric] = name, k
    if not parsed:
        raise ValueError("'metrics' needs at least one metric, e.g. ['Recall@20']")
    return parsed


def higher_is_better(metric: str) -> Optional[bool]:
    r"""Whether more of a metric is better: :obj:`True` for those of
    :obj:`USER_METRICS`, and :obj:`None` for those of :obj:`LIST_METRICS`, which tell
    lists apart but not good ones from bad ones (random lists cover the most items,
    are the most personal and the least popular). No metric here is better for being
    lower.

    Args:
        metric (str): The metric, *e.g.* :obj:`'Recall@20'`.

    Raises:
        ValueError: If the metric is unknown or has no list length.
        TypeError: If it is no string.
    """
    return True if parse_metric(metric)[0] in USER_METRICS else None


def coverage(items: Tensor, num_items: int) -> float:
    r"""The share of all items that stand in at least one list.

    Args:
        items (torch.Tensor): The lists :math:`(N, k)`; :obj:`-1` where there is no
            item.
        num_items (int): The number of items :math:`I`.
    """
    return float((_count(items, num_items) > 0).float().mean())


def personalization(items: Tensor, num_items: int) -> float:
    r"""How little two users' lists have in common, on average over all pairs of
    users.

    .. math::
        1 - \frac{1}{k} \binom{N}{2}^{-1} \sum_{u < v} |L_u \cap L_v|
        = 1 - \frac{1}{k} \binom{N}{2}^{-1} \sum_i \binom{c_i}{2}

    where :math:`c_i` lists hold item :math:`i`. The right side takes no loop over
    pairs. A single user's list is not personal, :obj:`0`.

    Args:
        items (torch.Tensor): The lists :math:`(N, k)`, each item once; :obj:`-1`,
            which is shared with nobody, where there is no item.
        num_items (int): The number of items :math:`I`.

    .. note::
        :class:`torch_geometric.metrics.LinkPredPersonalization` is the left side,
        of the first 4,096 users.
    """
    num_users, k = items.shape
    if num_users < 2:
        return 0.0
    count = _count(items, num_items)
    shared = int((count * (count - 1)).sum())  # Twice, as are the pairs.
    return 1 - shared / (k * num_users * (num_users - 1))


def average_popularity(items: Tensor, popularity: Tensor) -> float:
    r"""The mean popularity of a list's items, on average over all lists that hold
    any.

    Args:
        items (torch.Tensor): The lists :math:`(N, k)`; :obj:`-1` where there is no
            item.
        popularity (torch.Tensor): The number of interactions of each item
            :math:`(I)`, float32.
    """
    real = items >= 0
    found = popularity[items.clamp(min=0)].masked_fill(~real, 0.0).sum(1)
    length = real.sum(1)
    found, length = found[length > 0], length[length > 0]
    return float((found / length).sum() / max(length.numel(), 1))


def _count(items: Tensor, num_items: int) -> Tensor:
    r"""The number of lists that hold each item :math:`(I)`."""
    return torch.bincount(items[items >= 0], minlength=num_items)
