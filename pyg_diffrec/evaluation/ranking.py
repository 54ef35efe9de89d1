r"""Full ranking: every user against every item."""

from contextlib import contextmanager
from typing import Any, Iterator, Optional, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data.interactions import rows_of_valid
from pyg_diffrec.evaluation.measuring import measure_lists
from pyg_diffrec.evaluation.metrics import parse_metrics
from pyg_diffrec.evaluation.protocol import Protocol, check_request
from pyg_diffrec.products import keep_products
from pyg_diffrec.typing import Split
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.topk import check_length, masked_topk

# So many scores are asked for at once: 16 MiB of them in float32 come to lie in the
# same memory again and again, where more would cost new pages every time.
_BATCH_SCORES = 1 << 22


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
        model (Any): Any object with :obj:`score(users, history)`, which gives scores
            :math:`(B, I)`, a tensor or a value with :obj:`shape` and
            :obj:`blocks(size)`. A :class:`torch.nn.Module`, or what hands on its
            methods, is asked on its device and in evaluation mode, and is back in its
            mode afterwards; another object on its :obj:`device`, if it has one, or
            the CPU.
        data (HeteroData): A graph with a split.
        split (str): :obj:`'val'` or :obj:`'test'`.
        k (int): The length of a list.
        protocol (Protocol, optional): The protocol.
        batch_size (int, optional): The number of users scored at once. A model whose
            scores depend on it by round-off, as those of matrix products do, may
            order items by it whose scores differ by no more. If :obj:`None`, between
            128 and 1,024, by the number of items. (default: :obj:`None`)

    Shapes:
        - **output:** users :math:`(N)` and their items :math:`(N, k)`, best first,
          both on the CPU; :obj:`-1` where a user has fewer than :obj:`k` unseen
          items left, or their scores are :math:`-\infty`

    Raises:
        ValueError: If the graph breaks the schema or has no such split, the protocol
            does not suit it, :obj:`k` lies outside :math:`[1, I]`, or the scores are
            of another shape or not a number.
        TypeError: If the model has no :obj:`score`, or gives something else.
    """
    check_request(data, split, protocol, 'rank')
    targets = rows_of_valid(data, split)
    return _rank(model, data, split, k, protocol, batch_size, targets)


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
        model (Any): Any object with :obj:`score(users, history)`, see :meth:`rank`.
        data (HeteroData): A graph with a split.
        split (str): :obj:`'val'` or :obj:`'test'`.
        metrics (list, optional): What to measure, *e.g.* :obj:`'Recall@20'`.
            (default: :obj:`('Recall@20', 'NDCG@20')`)
        protocol (Protocol, optional): The protocol.
        batch_size (int, optional): The number of users scored at once, see
            :meth:`rank`. (default: :obj:`None`)

    Raises:
        ValueError: If a metric is unknown, a list is longer than the catalogue, the
            graph breaks the schema, or the protocol does not suit it.
        TypeError: If an argument is of another type.
    """
    wanted = parse_metrics(metrics)
    k = max(k for _, k in wanted.values())
    check_request(data, split, protocol, 'evaluate')
    targets = rows_of_valid(data, split)
    users, items = _rank(model, data, split, k, protocol, batch_size, targets)
    return measure_lists(items, users, data, targets, wanted, protocol)


@torch.no_grad()
def _rank(
    model: Any,
    data: HeteroData,
    split: Split,
    k: int,
    protocol: Protocol,
    batch_size: Optional[int],
    targets: SparseRows,
) -> tuple[Tensor, Tensor]:
    if not callable(getattr(model, 'score', None)):
        raise TypeError(
            f"'model' needs a method 'score(users, history)' in 'rank' (got "
            f"'{type(model)}')"
        )
    num_items = targets.num_cols
    check_length(k, num_items)
    if batch_size is None:
        batch_size = min(max(_BATCH_SCORES // num_items, 128), 1024)
    check_whole('rank', batch_size=batch_size)
    history, seen = protocol.sources(data, split)
    rows = {name: rows_of_valid(data, name) for name in {history, seen}}
    users = protocol.counted_users(targets)
    if users.numel() == 0:
        raise ValueError(f"No user has an interaction in the '{split}' split")
    device = _device_of(model)
    items = []
    with _evaluation_mode(model), keep_products():
        for chunk in users.split(batch_size):
            known = rows[history].index_select(chunk).to(device)
            scores = model.score(chunk.to(device), known)
            _check_scores(scores, model, [chunk.numel(), num_items])
            _, item = masked_topk(scores, k, exclude=rows[seen].index_select(chunk))
            items.append(item.cpu())
    return users.cpu(), torch.cat(items)


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    r"""Puts a module into evaluation mode, and each of its parts back into its own
    afterwards, whatever happens."""
    if not _is_module(model):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(modes[0][1])
        for module, mode in modes:
            module.training = mode


def _is_module(model: Any) -> bool:
    # Or what wraps one and hands on its methods.
    names = ('parameters', 'buffers', 'modules', 'eval', 'train')
    return all(callable(getattr(model, name, None)) for name in names)


def _device_of(model: Any) -> torch.device:
    if _is_module(model):
        for tensor in [*model.parameters(), *model.buffers()]:
            return tensor.device
    device = getattr(model, 'device', None)
    return torch.device(device if isinstance(device, (str, torch.device)) else 'cpu')


def _check_scores(scores: Any, model: Any, shape: list[int]) -> None:
    name = f'{model.__class__.__name__}.score'
    if not isinstance(scores, Tensor) and not hasattr(scores, 'blocks'):
        raise TypeError(
            f"'{name}' needs to give scores {shape}, a tensor or a value with "
            f"'shape' and 'blocks(size)' (got '{type(scores)}')"
        )
    if list(scores.shape) != shape:
        raise ValueError(
            f"'{name}' needs to give scores {shape}, of {shape[0]} users for all "
            f'{shape[1]} items (got {list(scores.shape)})'
        )
