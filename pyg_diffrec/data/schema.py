r"""What a recommendation graph has to look like, and a check that says so."""

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import BaseStorage

from pyg_diffrec.data.interactions import USER_ITEM
from pyg_diffrec.data.social import find_opposites
from pyg_diffrec.utils.sampling import first_occurrences

USER_USER = ('user', 'trusts', 'user')
SPLITS = ('train', 'val', 'test')


def _first(mask: Tensor) -> int:
    return int(mask.nonzero()[0, 0])


def _tensor(store: BaseStorage, key: str, where: str) -> Tensor:
    value = store[key]
    if not isinstance(value, Tensor):
        raise TypeError(
            f"'{key}' of {where} needs to be a 'torch.Tensor' (got '{type(value)}'): "
            f"convert it with 'torch.as_tensor'"
        )
    return value


def _check_num_nodes(data: HeteroData, node_type: str) -> int:
    if node_type not in data.node_types or 'num_nodes' not in data[node_type]:
        raise ValueError(
            f"The graph does not say how many '{node_type}' nodes it has: set "
            f"'data['{node_type}'].num_nodes'"
        )
    num_nodes = data[node_type].num_nodes
    if isinstance(num_nodes, bool) or not isinstance(num_nodes, int):
        raise TypeError(
            f"'data['{node_type}'].num_nodes' needs to be an 'int' "
            f"(got '{type(num_nodes)}')"
        )
    if num_nodes < 1:
        raise ValueError(
            f"'data['{node_type}'].num_nodes' needs to be positive (got {num_nodes})"
        )
    return num_nodes


def _check_edge_index(data: HeteroData, edge_type: tuple[str, str, str]) -> Tensor:
    if edge_type not in data.edge_types or 'edge_index' not in data[edge_type]:
        raise ValueError(
            f'The graph has no {edge_type} relation (it has {data.edge_types}): set '
            f"'data[{edge_type}].edge_index'"
        )
    edge_index = _tensor(data[edge_type], 'edge_index', str(edge_type))
    if edge_index.dtype != torch.long:
        raise ValueError(
            f"'edge_index' of {edge_type} needs to be 'torch.long' "
            f"(got '{edge_index.dtype}'): convert it with '.long()'"
        )
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(
            f"'edge_index' of {edge_type} needs shape [2, num_edges] "
            f'(got {list(edge_index.shape)})'
        )
    for row, node_type in zip(edge_index, (edge_type[0], edge_type[2]), strict=True):
        num_nodes = data[node_type].num_nodes
        outside = (row < 0) | (row >= num_nodes)
        if bool(outside.any()):
            pos = _first(outside)
            raise ValueError(
                f"'edge_index' of {edge_type} names {node_type} {int(row[pos])} at "
                f'position {pos}, outside of [0, {num_nodes}) '
                f'({int(outside.sum())} such edges): number the {node_type}s from '
                f"zero, or raise 'data['{node_type}'].num_nodes'"
            )
    return edge_index


def _check_unique(edge_index: Tensor, num_items: int) -> None:
    repeated = ~first_occurrences(edge_index[0] * num_items + edge_index[1])
    if bool(repeated.any()):
        pos = _first(repeated)
        user, item = edge_index[:, pos].tolist()
        raise ValueError(
            f'The interactions hold {int(repeated.sum())} duplicates, the first is '
            f'user {user}, item {item} at position {pos}: keep each pair once, with '
            f"'torch_geometric.utils.coalesce(edge_index)' if their order does not "
            f"matter, or with the positions 'numpy.sort(numpy.unique(edge_index, "
            f"axis=1, return_index=True)[1])', which keep the first of each and the "
            f'order'
        )


def _check_masks(store: BaseStorage, num_edges: int) -> None:
    names = [f'{split}_mask' for split in SPLITS]
    missing = [name for name in names if name not in store]
    if len(missing) == len(names):
        return
    if missing:
        raise ValueError(
            f'The interactions have a split without {missing}: set all of {names}, '
            f'or none'
        )
    masks = [_tensor(store, name, 'the interactions') for name in names]
    for name, mask in zip(names, masks, strict=True):
        if mask.dtype != torch.bool or list(mask.shape) != [num_edges]:
            raise ValueError(
                f"'{name}' needs to be a 'torch.bool' tensor of shape [{num_edges}], "
                f"one entry per interaction (got '{mask.dtype}' of shape "
                f'{list(mask.shape)})'
            )
    count = torch.stack(masks).sum(0)
    if bool((count > 1).any()):
        pos = _first(count > 1)
        inside = [name for name, mask in zip(names, masks, strict=True) if mask[pos]]
        raise ValueError(
            f'The split masks overlap at {int((count > 1).sum())} interactions, the '
            f'first at position {pos} ({inside}): put each interaction into one split'
        )
    if bool((count < 1).any()):
        raise ValueError(
            f'The split masks leave out {int((count < 1).sum())} interactions, the '
            f'first at position {_first(count < 1)}: put each interaction into one '
            f'split, or remove it from the graph'
        )


def _check_edge_values(store: BaseStorage, name: str, num_edges: int) -> None:
    value = _tensor(store, name, 'the interactions')
    if list(value.shape) != [num_edges]:
        raise ValueError(
            f"'{name}' needs shape [{num_edges}], one entry per interaction "
            f'(got {list(value.shape)})'
        )
    if not bool(value.isfinite().all()):
        pos = _first(~value.isfinite())
        raise ValueError(
            f"'{name}' is {float(value[pos])} at position {pos}: replace it, or remove "
            f'the interaction'
        )


def _check_time_order(user: Tensor, time: Tensor) -> None:
    user, perm = user.sort(stable=True)
    time = time[perm]
    backwards = (user[1:] == user[:-1]) & (time[1:] < time[:-1])
    if bool(backwards.any()):
        pos = _first(backwards)
        raise ValueError(
            f'The interactions of user {int(user[pos])} are not stored in the order '
            f"of their 'time' (position {int(perm[pos + 1])} is earlier than position "
            f"{int(perm[pos])}): sort all interactions by 'time' with a stable sort"
        )


def _check_weights(weight: Tensor) -> None:
    if not weight.is_floating_point():
        raise ValueError(
            f"'edge_weight' needs to be floating point (got '{weight.dtype}'): "
            f"convert it with '.float()'"
        )
    if bool((weight <= 0).any()):
        pos = _first(weight <= 0)
        raise ValueError(
            f"'edge_weight' needs to be positive (got {float(weight[pos])} at position "
            f'{pos}): an interaction without weight does not belong into the graph'
        )


def _check_features(data: HeteroData, node_type: str) -> None:
    store, num_nodes = data[node_type], data[node_type].num_nodes
    for key in [key for key in store.keys() if key.startswith('x_')]:  # noqa: SIM118
        modality = key[2:]
        x = _tensor(store, key, f"'{node_type}'")
        if x.dim() != 2 or x.size(0) != num_nodes:
            raise ValueError(
                f"The features '{key}' of modality '{modality}' need shape "
                f'[{num_nodes}, *], one row per {node_type} (got {list(x.shape)})'
            )
        finite = x.isfinite().all(1)
        if not bool(finite.all()):
            raise ValueError(
                f"The features '{key}' of modality '{modality}' hold NaN or inf in "
                f'{int((~finite).sum())} rows, the first is {node_type} '
                f'{_first(~finite)}: fill these rows before training'
            )


def _check_presence(data: HeteroData) -> None:
    store, num_items = data['item'], data['item'].num_nodes
    for key in [key for key in store.keys() if key.startswith('has_')]:  # noqa: SIM118
        modality = key[4:]
        has = _tensor(store, key, "'item'")
        if has.dtype != torch.bool or list(has.shape) != [num_items]:
            raise ValueError(
                f"'{key}' needs to be a 'torch.bool' tensor of shape [{num_items}], "
                f"one entry per item (got '{has.dtype}' of shape {list(has.shape)})"
            )
        if f'x_{modality}' not in store:
            raise ValueError(
                f"'{key}' tells which items have modality '{modality}', but there are "
                f"no features 'x_{modality}': set 'data['item'].x_{modality}', or "
                f"remove '{key}'"
            )


def check_ties(data: HeteroData, undirected: bool = False) -> None:
    r"""Checks the ties :obj:`('user', 'trusts', 'user')` of a graph, which have to be
    there.

    Args:
        data (HeteroData): A graph that says how many users it has.
        undirected (bool, optional): Whether each tie needs its opposite.
            (default: :obj:`False`)

    Raises:
        ValueError: If there is no such relation, or a tie is out of range, of a user
            to itself, there twice, or without its opposite.
    """
    edge_index = _check_edge_index(data, USER_USER)
    row, col = edge_index
    num_users = data['user'].num_nodes
    checks = [
        (row == col, 'that join a user to itself', 'CleanSocialEdges()'),
        (~first_occurrences(row * num_users + col), 'twice', 'CleanSocialEdges()'),
    ]
    if undirected:
        alone = find_opposites(edge_index, num_users) < 0
        checks.append(
            (alone, 'in one direction only', 'CleanSocialEdges(undirected=True)')
        )
    for wrong, what, transform in checks:
        if bool(wrong.any()):
            pos = _first(wrong)
            raise ValueError(
                f'{USER_USER} holds {int(wrong.sum())} ties {what}, the first is from '
                f'user {int(row[pos])} to user {int(col[pos])} at position {pos}: '
                f"clean them with 'pyg_diffrec.transforms.{transform}(data)'"
            )


def validate(data: HeteroData, undirected_ties: bool = False) -> HeteroData:
    r"""Checks a graph against the schema that all models rely on.

    .. code-block:: python

        data = validate(data)

    The graph holds the number of its users and items and the
    :obj:`('user', 'interacts', 'item')` relation with each interaction once.
    Everything else is optional, and is checked where it is present: the masks
    :obj:`train_mask`, :obj:`val_mask` and :obj:`test_mask`, which divide the
    interactions; :obj:`time`, along which a user's interactions are stored;
    :obj:`edge_weight`; features :obj:`x_<modality>` of users and items; which items
    have them, :obj:`has_<modality>`; ties :obj:`('user', 'trusts', 'user')`, each once
    and none of a user to itself.

    Args:
        data (HeteroData): The graph.
        undirected_ties (bool, optional): Whether each tie needs its opposite.
            (default: :obj:`False`)

    Shapes:
        - **output:** :obj:`data` itself, unchanged

    Raises:
        ValueError: If the graph breaks the schema. The message names what is
            wrong, the first place, and what to do.
        TypeError: If :obj:`data` is no :class:`HeteroData`, or one of its
            attributes is of a wrong type.
    """
    if not isinstance(data, HeteroData):
        raise TypeError(f"'data' needs to be a 'HeteroData' (got '{type(data)}')")
    _check_num_nodes(data, 'user')
    num_items = _check_num_nodes(data, 'item')
    edge_index = _check_edge_index(data, USER_ITEM)
    _check_unique(edge_index, num_items)

    store, num_edges = data[USER_ITEM], edge_index.size(1)
    _check_masks(store, num_edges)
    for name in ('time', 'edge_weight'):
        if name in store:
            _check_edge_values(store, name, num_edges)
    if 'time' in store:
        _check_time_order(edge_index[0], store.time)
    if 'edge_weight' in store:
        _check_weights(store.edge_weight)
    for node_type in ('user', 'item'):
        _check_features(data, node_type)
    _check_presence(data)
    if USER_USER in data.edge_types:
        check_ties(data, undirected_ties)
    return data
