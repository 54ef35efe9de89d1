r"""From top-K lists to numbers."""

from typing import Any, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric import metrics as pyg_metrics
from torch_geometric.data import HeteroData
from torch_geometric.metrics import LinkPredMetricCollection

from pyg_diffrec.data.interactions import rows_of_valid
from pyg_diffrec.evaluation.metrics import (
    USER_METRICS,
    average_popularity,
    coverage,
    parse_metrics,
    personalization,
)
from pyg_diffrec.evaluation.protocol import Protocol, check_request
from pyg_diffrec.typing import Split
from pyg_diffrec.utils.checks import check_ids, check_whole
from pyg_diffrec.utils.sparse import SparseRows

# Metrics are updated by blocks of this many users, whatever the batch size.
_METRIC_BLOCK = 65536


def measure(
    items: Tensor,
    users: Tensor,
    data: HeteroData,
    split: Split,
    metrics: Sequence[str],
    protocol: Protocol = Protocol(),  # noqa: B008 (immutable)
) -> dict[str, float]:
    r"""Measures given top-K lists.

    Metrics of users are those of :obj:`torch_geometric.metrics`; a place without an
    item is a miss, so that Precision divides by :math:`k` where a list is shorter.
    Coverage, Personalization and AveragePopularity count the items alone.
    Everything is computed on the CPU, so that digits do not depend on where the graph
    and the lists are.

    Args:
        items (torch.Tensor): The lists :math:`(N, k)`, best first; :obj:`-1` where
            there is no item, as :meth:`rank` and
            :class:`~pyg_diffrec.models.Recommendation` have it.
        users (torch.Tensor): Their users :math:`(N)`; one may come several times.
        data (HeteroData): A graph with a split.
        split (str): :obj:`'val'` or :obj:`'test'`.
        metrics (list): What to measure, *e.g.* :obj:`['Recall@20']`.
        protocol (Protocol, optional): The protocol.

    Raises:
        ValueError: If the graph breaks the schema, a metric is unknown or asks for
            longer lists, a user or an item does not exist, an item stands in a list
            twice, or no user counts.
        TypeError: If an argument is of another type.
    """
    wanted = parse_metrics(metrics)
    items, users = _check_lists(items, users, data, split, protocol, wanted, 'measure')
    targets = rows_of_valid(data, split)
    return measure_lists(items, users, data, targets, wanted, protocol)


def measure_groups(
    items: Tensor,
    users: Tensor,
    data: HeteroData,
    split: Split,
    metrics: Sequence[str],
    bounds: Sequence[int],
    protocol: Protocol = Protocol(),  # noqa: B008 (immutable)
) -> list[dict[str, Any]]:
    r"""Measures given top-K lists by their users' number of training interactions.

    Args:
        items (torch.Tensor): The lists :math:`(N, k)`, as for :meth:`measure`.
        users (torch.Tensor): Their users :math:`(N)`.
        data (HeteroData): A graph with a split.
        split (str): :obj:`'val'` or :obj:`'test'`.
        metrics (list): What to measure.
        bounds (list): Numbers of interactions, rising, at which a new group begins.
        protocol (Protocol, optional): The protocol.

    Returns:
        Of each group with users that count: the :obj:`interactions`, from its first
        number to its last, which is :obj:`None` in the last group; the number of
        :obj:`users`; and the metrics.

    Raises:
        ValueError: As :meth:`measure`, or if :obj:`bounds` do not rise.
        TypeError: If an argument is of another type.
    """
    wanted = parse_metrics(metrics)
    items, users = _check_lists(
        items, users, data, split, protocol, wanted, 'measure_groups'
    )
    bounds = _check_bounds(bounds)
    targets = rows_of_valid(data, split)
    counts = torch.zeros(targets.num_rows, dtype=torch.bool)
    counts[protocol.counted_users(targets).cpu()] = True
    items, users = items[counts[users]], users[counts[users]]
    history = rows_of_valid(data, 'train').rowptr.diff().cpu()[users]
    group = torch.bucketize(history, torch.tensor(bounds, dtype=torch.long), right=True)
    out = []
    for index, low in enumerate([0, *bounds]):
        chosen = (group == index).nonzero().view(-1)
        if chosen.numel() == 0:
            continue
        last = bounds[index] - 1 if index < len(bounds) else None
        found = measure_lists(
            items[chosen], users[chosen], data, targets, wanted, protocol
        )
        out.append({'interactions': [low, last], 'users': chosen.numel(), **found})
    return out


def measure_lists(
    items: Tensor,
    users: Tensor,
    data: HeteroData,
    targets: SparseRows,
    wanted: Mapping[str, tuple[str, int]],
    protocol: Protocol,
) -> dict[str, float]:
    r"""Measures lists and users that are known to be right, on the CPU, by the
    held-out interactions of all users :math:`(U, I)`."""
    targets, num_items = targets.to('cpu'), targets.num_cols
    out: dict[str, float] = {}
    means = {m: part for m, part in wanted.items() if part[0] in USER_METRICS}
    if means:
        out = _user_means(items, users, targets, means, protocol)
    for metric, (name, k) in wanted.items():
        lists = items[:, :k]
        if name == 'Coverage':
            out[metric] = coverage(lists, num_items)
        elif name == 'Personalization':
            out[metric] = personalization(lists, num_items)
        elif name == 'AveragePopularity':
            seen = rows_of_valid(data, 'train').col.cpu()
            popularity = torch.bincount(seen, minlength=num_items).float()
            out[metric] = average_popularity(lists, popularity)
    return {metric: out[metric] for metric in wanted}


def _user_means(
    items: Tensor,
    users: Tensor,
    targets: SparseRows,
    wanted: Mapping[str, tuple[str, int]],
    protocol: Protocol,
) -> dict[str, float]:
    relevant = targets.rowptr.diff()[users] > 0
    if protocol.empty_users == 'skip' and not bool(relevant.any()):
        raise ValueError(
            'None of the users has a relevant item, so there is nothing to take the '
            "mean of: give users with one, or 'Protocol(empty_users='zero')'"
        )
    collection = LinkPredMetricCollection(
        {
            metric: getattr(pyg_metrics, f'LinkPred{name}')(k=k)
            for metric, (name, k) in wanted.items()
        }
    )
    # An item that does not exist is relevant to nobody; -1 would be taken for the
    # last item of the user before.
    items = items[:, : max(k for _, k in wanted.values())]
    items = items.masked_fill(items < 0, targets.num_cols)
    for lists, chunk in zip(items.split(_METRIC_BLOCK), users.split(_METRIC_BLOCK)):
        target = targets.index_select(chunk)
        collection.update(lists, torch.stack([target.row, target.col]))
    out = {metric: float(value) for metric, value in collection.compute().items()}
    if protocol.empty_users == 'zero':
        share = float(relevant.double().mean())
        out = {metric: value * share for metric, value in out.items()}
    return out


def _check_lists(
    items: Tensor,
    users: Tensor,
    data: HeteroData,
    split: Split,
    protocol: Protocol,
    wanted: Mapping[str, tuple[str, int]],
    name: str,
) -> tuple[Tensor, Tensor]:
    check_request(data, split, protocol, name)
    users = check_ids('users', users, data['user'].num_nodes, name)
    if users.numel() == 0:
        raise ValueError(f"'users' needs at least one user in '{name}'")
    if not isinstance(items, (Tensor, np.ndarray)):
        raise TypeError(
            f"'items' needs to be a tensor [N, k] in '{name}' (got '{type(items)}')"
        )
    items = torch.as_tensor(items).cpu()
    if items.dtype == torch.bool or items.is_floating_point() or items.is_complex():
        raise TypeError(f"'items' needs whole numbers in '{name}' (got {items.dtype})")
    if items.dim() != 2 or items.size(0) != users.numel():
        raise ValueError(
            f"'items' needs shape [{users.numel()}, k], one list per user, in '{name}' "
            f'(got {list(items.shape)})'
        )
    longest = max(wanted, key=lambda metric: wanted[metric][1])
    if items.size(1) < wanted[longest][1]:
        raise ValueError(
            f"'items' needs lists of at least {wanted[longest][1]} in '{name}' for "
            f"'{longest}' (got {items.size(1)}): rank as many, or fill the lists with "
            f'-1'
        )
    items, num_items = items.long(), data['item'].num_nodes
    outside = (items < -1) | (items >= num_items)
    if bool(outside.any()):
        row, place = outside.nonzero()[0].tolist()
        raise ValueError(
            f"'items' need to lie in [0, {num_items}), or be -1, in '{name}' (got "
            f'{int(items[row, place])} in list {row} at place {place})'
        )
    # NumPy sorts short rows several times as fast.
    ordered = torch.from_numpy(np.sort(items.numpy(), axis=1))
    again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if bool(again.any()):
        row, place = again.nonzero()[0].tolist()
        raise ValueError(
            f"'items' needs each item once per list in '{name}' (got "
            f'{int(ordered[row, place])} more than once in list {row})'
        )
    return items, users


def _check_bounds(bounds: Sequence[int]) -> list[int]:
    bounds = list(bounds)
    for bound in bounds:
        check_whole('measure_groups', bounds=bound)
    if sorted(set(bounds)) != bounds:
        raise ValueError(f"'bounds' need to rise in 'measure_groups' (got {bounds})")
    return bounds
