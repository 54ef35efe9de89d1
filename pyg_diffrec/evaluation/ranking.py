r"""Full ranking: every user against every item."""

from typing import Any, Optional, Sequence

import torch
from torch import Tensor
from torch_geometric import metrics as pyg_metrics
from torch_geometric.data import HeteroData
from torch_geometric.metrics import LinkPredMetricCollection

from pyg_diffrec.data import interaction_rows, target_rows
from pyg_diffrec.evaluation.protocol import Protocol
from pyg_diffrec.products import keep_products
from pyg_diffrec.resolver import unknown
from pyg_diffrec.typing import Split
from pyg_diffrec.utils.topk import masked_topk

#: Metrics that are a mean over users with relevant items.
USER_METRICS = ('Recall', 'NDCG', 'Precision', 'MRR', 'MAP', 'HitRatio', 'F1')
#: Metrics of the lists as a whole.
LIST_METRICS = ('Coverage', 'Personalization', 'AveragePopularity')
METRICS = (*USER_METRICS, *LIST_METRICS)

# Metrics are updated by blocks of this many users, whatever the batch size.
_METRIC_BLOCK = 65536

# So many scores are asked for at once: 16 MiB of them in float32 come to lie in the
# same memory again and again, where more would cost new pages every time.
_BATCH_SCORES = 1 << 22


def parse_metric(metric: str) -> tuple[str, int]:
    r"""Splits :obj:`'Recall@20'` into its name and its list length.

    Raises:
        ValueError: If the metric is unknown or has no list length.
    """
    name, _, k = metric.partition('@')
    if name not in METRICS:
        raise ValueError(unknown('metric', name, METRICS))
    if not k.isdigit() or int(k) < 1:
        raise ValueError(
            f"A metric needs a list length, e.g. '{name}@20' (got '{metric}')"
        )
    return name, int(k)


def _build(metrics: Sequence[str], data: HeteroData) -> LinkPredMetricCollection:
    out = {}
    for metric in metrics:
        name, k = parse_metric(metric)
        kwargs: dict[str, Any] = {}
        if name == 'Coverage':
            kwargs['num_dst_nodes'] = data['item'].num_nodes
        elif name == 'AveragePopularity':
            rows = interaction_rows(data, 'train')
            kwargs['popularity'] = torch.bincount(
                rows.col, minlength=rows.num_cols
            ).float()
        out[metric] = getattr(pyg_metrics, f'LinkPred{name}')(k=k, **kwargs)
    return LinkPredMetricCollection(out)


@torch.no_grad()
@keep_products()
def rank(
    model: Any,
    data: HeteroData,
    split: Split,
    k: int,
    protocol: Protocol = Protocol(),  # noqa: B008 (immutable)
    batch_size: Optional[int] = None,
) -> tuple[Tensor, Tensor]:
    r"""The top-K lists of all users that count.

    Args:
        model (torch.nn.Module): Any object with :obj:`score(users, history)`.
        data (HeteroData): A graph with a split.
        split (str): :obj:`'val'` or :obj:`'test'`.
        k (int): The length of a list.
        protocol (Protocol, optional): The protocol.
        batch_size (int, optional): The number of users scored at once; it does not
            change the result. If :obj:`None`, between 128 and 1,024, by the number of
            items. (default: :obj:`None`)

    Shapes:
        - **output:** users :math:`(N)` and their items :math:`(N, k)`, best first

    Raises:
        ValueError: If the graph has no such split, or the protocol does not suit it.
    """
    history = protocol.history_rows(data, split)
    seen = protocol.seen_rows(data, split)
    users = protocol.users(data, split)
    if users.numel() == 0:
        raise ValueError(f"No user has an interaction in the '{split}' split")
    if batch_size is None:
        batch_size = min(max(_BATCH_SCORES // seen.num_cols, 128), 1024)
    device = _device_of(model)
    was_training = model.training
    model.eval()
    items = []
    for chunk in users.split(batch_size):
        scores = model.score(chunk.to(device), history.index_select(chunk).to(device))
        _, item = masked_topk(scores, k, exclude=seen.index_select(chunk).to(device))
        items.append(item.cpu())
    model.train(was_training)
    return users, torch.cat(items)


def evaluate(
    model: Any,
    data: HeteroData,
    split: Split,
    metrics: Sequence[str] = ('Recall@20', 'NDCG@20'),
    protocol: Protocol = Protocol(),  # noqa: B008 (immutable)
    batch_size: Optional[int] = None,
) -> dict[str, float]:
    r"""Ranks all items for all users and measures the lists, in one pass.

    Recall divides by the number of relevant items, the ideal of NDCG has
    :math:`\min(\mathrm{relevant}, K)` terms, as in
    :obj:`torch_geometric.metrics`.

    Args:
        model (torch.nn.Module): Any object with :obj:`score(users, history)`.
        data (HeteroData): A graph with a split.
        split (str): :obj:`'val'` or :obj:`'test'`.
        metrics (list, optional): What to measure, *e.g.* :obj:`'Recall@20'`.
            (default: :obj:`('Recall@20', 'NDCG@20')`)
        protocol (Protocol, optional): The protocol.
        batch_size (int, optional): The number of users scored at once; it does not
            change the result. If :obj:`None`, between 128 and 1,024, by the number of
            items. (default: :obj:`None`)

    Raises:
        ValueError: If a metric is unknown, a list is longer than the catalogue, or
            the protocol does not suit the graph.
    """
    k = max(parse_metric(metric)[1] for metric in metrics)
    users, items = rank(model, data, split, k, protocol, batch_size)
    return measure(items, users, data, split, metrics, protocol)


def measure(
    items: Tensor,
    users: Tensor,
    data: HeteroData,
    split: Split,
    metrics: Sequence[str],
    protocol: Protocol = Protocol(),  # noqa: B008 (immutable)
) -> dict[str, float]:
    r"""Measures given top-K lists :math:`(N, k)` of users :math:`(N)`."""
    collection = _build(metrics, data)
    targets = target_rows(data, split).index_select(users)
    for chunk in torch.arange(len(users)).split(_METRIC_BLOCK):
        target = targets.index_select(chunk)
        collection.update(items[chunk], torch.stack([target.row, target.col]))
    out = {name: float(value) for name, value in collection.compute().items()}
    if protocol.empty_users == 'zero':
        share = float((targets.rowptr.diff() > 0).double().mean())
        for name in out:
            if parse_metric(name)[0] in USER_METRICS:
                out[name] *= share
    return out


def measure_groups(
    items: Tensor,
    users: Tensor,
    data: HeteroData,
    split: Split,
    metrics: Sequence[str],
    bounds: Sequence[int],
    protocol: Protocol = Protocol(),  # noqa: B008 (immutable)
) -> list[dict[str, Any]]:
    r"""Measures given top-K lists :math:`(N, k)` of users :math:`(N)` by the users'
    number of training interactions.

    Args:
        items (torch.Tensor): The lists, best first.
        users (torch.Tensor): Their users.
        data (HeteroData): A graph with a split.
        split (str): :obj:`'val'` or :obj:`'test'`.
        metrics (list): What to measure.
        bounds (list): Numbers of interactions, rising, at which a new group begins.
        protocol (Protocol, optional): The protocol.

    Returns:
        Of each group that is not empty: the :obj:`interactions`, from its first number
        to its last, which is :obj:`None` in the last group; the number of
        :obj:`users`; and the metrics.
    """
    count = interaction_rows(data, 'train').rowptr.diff()[users]
    group = torch.bucketize(count, torch.tensor(list(bounds)), right=True)
    out = []
    for index, low in enumerate([0, *bounds]):
        chosen = (group == index).nonzero().view(-1)
        if chosen.numel() == 0:
            continue
        last = bounds[index] - 1 if index < len(bounds) else None
        found = measure(items[chosen], users[chosen], data, split, metrics, protocol)
        out.append({'interactions': [low, last], 'users': chosen.numel(), **found})
    return out


def _device_of(model: Any) -> torch.device:
    for tensor in [*model.parameters(), *model.buffers()]:
        return tensor.device
    return torch.device('cpu')
