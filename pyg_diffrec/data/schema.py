r"""What a recommendation graph has to look like, and a check that says so."""

import warnings
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import BaseStorage

from pyg_diffrec.data.social import find_opposites
from pyg_diffrec.utils.sampling import first_occurrences

EdgeType = tuple[str, str, str]

USER_ITEM = ('user', 'interacts', 'item')
USER_USER = ('user', 'trusts', 'user')
SPLITS = ('train', 'val', 'test')

# Attributes from which PyG infers the number of nodes, beside those that hold 'node'.
_TELLING = ('x', 'feat', 'pos', 'batch', 'n_id', 'tf')

# So many nodes, and so many times as many as edges, and most of them are in none.
_MANY_NODES, _MOSTLY_UNUSED = 10_000, 10


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


def _check_hetero(data: Any) -> None:
    if not isinstance(data, HeteroData):
        raise TypeError(f"'data' needs to be a 'HeteroData' (got '{type(data)}')")


def _told_num_nodes(data: HeteroData, node_type: str) -> Any:
    if node_type not in data.node_types:
        return None
    store = data[node_type]
    # PyG warns where it cannot tell, which is for us to say.
    told = any(key in _TELLING or 'node' in key for key in store)
    return store.num_nodes if told else None


def num_nodes(data: HeteroData, node_type: str) -> int:
    r"""The number of nodes of a type: what the graph says, or what PyG infers from
    their features :obj:`x`.

    Raises:
        ValueError: If the graph does not tell, or the number is not positive.
        TypeError: If it is no whole number.
    """
    _check_hetero(data)
    count = _told_num_nodes(data, node_type)
    if count is None:
        raise ValueError(
            f"The graph does not say how many '{node_type}' nodes it has: set "
            f"'data['{node_type}'].num_nodes'"
        )
    if isinstance(count, bool) or not isinstance(count, Integral):
        raise TypeError(
            f"'data['{node_type}'].num_nodes' needs to be an 'int' "
            f"(got '{type(count)}')"
        )
    if count < 1:
        raise ValueError(
            f"'data['{node_type}'].num_nodes' needs to be positive (got {count})"
        )
    return int(count)


def _no_relation(data: HeteroData, edge_type: EdgeType) -> str:
    if edge_type in data.edge_types:
        adj = [key for key in ('adj_t', 'adj') if key in data[edge_type]]
        if adj:
            return (
                f"{edge_type} has '{adj[0]}' and no 'edge_index': take the graph as it "
                f"was before 'ToSparseTensor', which also sorts the edges, or set "
                f"'data[{edge_type}].edge_index'"
            )
        return f"{edge_type} has no 'edge_index': set 'data[{edge_type}].edge_index'"
    message = f'The graph has no {edge_type} relation (it has {data.edge_types}): '
    others = [
        other
        for other in data.edge_types
        if other[0] != other[2] and other[0] != 'item' and other[2] != 'user'
    ]
    if edge_type == USER_ITEM and others:
        user, relation, item = others[0]
        return (
            f"{message}name its types by 'pyg_diffrec.transforms.ToUserItem(user="
            f"{user!r}, item={item!r}, relation={relation!r})(data)', or set "
            f"'data[{edge_type}].edge_index'"
        )
    return f"{message}set 'data[{edge_type}].edge_index'"


def check_edges(
    data: HeteroData, edge_type: EdgeType, check_range: bool = True
) -> Tensor:
    r"""Returns the edges of a relation :math:`(2, E)` once they are known to be some:
    of right type and shape, and between nodes that the graph has.

    Args:
        data (HeteroData): The graph.
        edge_type (tuple): The relation.
        check_range (bool, optional): Whether edges of unknown nodes are an error.
            (default: :obj:`True`)

    Raises:
        ValueError: If they are not there, or not what edges have to be.
        TypeError: If they are no tensor.
    """
    _check_hetero(data)
    if edge_type not in data.edge_types or 'edge_index' not in data[edge_type]:
        raise ValueError(_no_relation(data, edge_type))
    edge_index = _tensor(data[edge_type], 'edge_index', str(edge_type))
    if isinstance(edge_index, EdgeIndex):
        # It knows of an order that may not last, and selects otherwise.
        edge_index = edge_index.as_tensor()
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
    if check_range and edge_index.size(1) > 0:
        for i, node_type in enumerate((edge_type[0], edge_type[2])):
            told = _told_num_nodes(data, node_type) is not None
            if told or node_type in ('user', 'item'):  # Others may go without.
                size = num_nodes(data, node_type)
                _check_range(edge_index[i], size, node_type, edge_type)
    return edge_index


def _check_range(row: Tensor, size: int, node_type: str, edge_type: EdgeType) -> None:
    low, high = row.aminmax()
    if int(low) < 0 or int(high) >= size:
        outside = (row < 0) | (row >= size)
        pos = _first(outside)
        raise ValueError(
            f"'edge_index' of {edge_type} names {node_type} {int(row[pos])} at "
            f'position {pos}, outside of [0, {size}) '
            f'({int(outside.sum())} such edges): number the {node_type}s from '
            f"zero, or raise 'data['{node_type}'].num_nodes'"
        )


def has_repeats(key: Tensor) -> bool:
    r"""Whether a value comes twice among :obj:`key` :math:`(N)`."""
    if bool((key[1:] > key[:-1]).all()):
        return False
    if int(key.max()) < 2**31:
        key = key.int()  # Sorts twice as fast.
    if key.device.type == 'cpu':  # Where NumPy's is several times as fast.
        key = torch.from_numpy(np.sort(key.numpy()))
    else:
        key = key.sort().values
    return bool((key[1:] == key[:-1]).any())


def check_unique(data: HeteroData) -> None:
    r"""Refuses interactions that come twice.

    Raises:
        ValueError: With the first of them.
    """
    edge_index = check_edges(data, USER_ITEM, check_range=False)
    key = edge_index[0] * num_nodes(data, 'item') + edge_index[1]
    if not has_repeats(key):
        return
    repeated = ~first_occurrences(key)
    pos = _first(repeated)
    user, item = edge_index[:, pos].tolist()
    raise ValueError(
        f'The interactions hold {int(repeated.sum())} duplicates, the first is '
        f'user {user}, item {item} at position {pos}: keep each pair once, with '
        f"'pyg_diffrec.transforms.CleanInteractions()(data)', which keeps their order; "
        f"'coalesce' and 'unique' sort them by item number, which is no order in time"
    )


def check_mask(store: BaseStorage, name: str, edge_index: Tensor, what: str) -> Tensor:
    r"""Returns a mask of a relation :math:`(E)` once it is known to be one."""
    mask, num_edges = _tensor(store, name, f'the {what}s'), edge_index.size(1)
    if mask.dtype != torch.bool or list(mask.shape) != [num_edges]:
        raise ValueError(
            f"'{name}' needs to be a 'torch.bool' tensor of shape [{num_edges}], "
            f"one entry per {what} (got '{mask.dtype}' of shape "
            f'{list(mask.shape)})'
        )
    _check_device(mask, name, edge_index)
    return mask


def _check_device(value: Tensor, name: str, edge_index: Tensor) -> None:
    if value.device != edge_index.device:
        raise ValueError(
            f"'{name}' is on device '{value.device}' and 'edge_index' on "
            f"'{edge_index.device}': move the whole graph with 'data.to(device)'"
        )


def _check_masks(store: BaseStorage, edge_index: Tensor) -> None:
    names = [f'{split}_mask' for split in SPLITS]
    missing = [name for name in names if name not in store]
    if len(missing) == len(names):
        return
    if missing:
        raise ValueError(
            f'The interactions have a split without {missing}: set all of {names}, '
            f'or none'
        )
    masks = [check_mask(store, name, edge_index, 'interaction') for name in names]
    train, val, test = masks
    # An odd number of three is one or all.
    if bool((train ^ val ^ test).all()) and not bool((train & val).any()):
        return
    count = torch.stack(masks).sum(0)
    if bool((count > 1).any()):
        pos = _first(count > 1)
        inside = [name for name, mask in zip(names, masks, strict=True) if mask[pos]]
        raise ValueError(
            f'The split masks overlap at {int((count > 1).sum())} interactions, the '
            f'first at position {pos} ({inside}): put each interaction into one split'
        )
    raise ValueError(
        f'The split masks leave out {int((count < 1).sum())} interactions, the '
        f'first at position {_first(count < 1)}: put each interaction into one '
        f'split, or remove it from the graph'
    )


def _check_edge_values(store: BaseStorage, name: str, edge_index: Tensor) -> Tensor:
    value, num_edges = _tensor(store, name, 'the interactions'), edge_index.size(1)
    if list(value.shape) != [num_edges]:
        raise ValueError(
            f"'{name}' needs shape [{num_edges}], one entry per interaction "
            f'(got {list(value.shape)})'
        )
    if value.dtype == torch.bool or value.is_complex():
        raise ValueError(f"'{name}' needs to hold numbers (got '{value.dtype}')")
    _check_device(value, name, edge_index)
    if value.is_floating_point() and not bool(value.isfinite().all()):
        pos = _first(~value.isfinite())
        raise ValueError(
            f"'{name}' is {float(value[pos])} at position {pos}: replace it, or remove "
            f'the interaction'
        )
    return value


def _check_time_order(user: Tensor, time: Tensor) -> None:
    if bool((time[1:] >= time[:-1]).all()):
        return
    place = None
    if not bool((user[1:] >= user[:-1]).all()):
        user, place = user.sort(stable=True)
        time = time[place]
    backwards = (user[1:] == user[:-1]) & (time[1:] < time[:-1])
    if bool(backwards.any()):
        pos = _first(backwards)
        later, earlier = (
            (pos, pos + 1) if place is None else place[pos : pos + 2].tolist()
        )
        raise ValueError(
            f'The interactions of user {int(user[pos])} are not stored in the order '
            f"of their 'time' (position {earlier} is earlier than position {later}): "
            f"sort them with 'pyg_diffrec.transforms.CleanInteractions()(data)'"
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


def check_interactions(data: HeteroData, unique: bool = True) -> Tensor:
    r"""Checks what every reader of the interactions relies on: a cheap part of
    :meth:`validate`, which leaves out the order in time, features and ties. All
    transforms and all that reads rows begin with it.

    Args:
        data (HeteroData): The graph.
        unique (bool, optional): Whether an interaction may come once only.
            (default: :obj:`True`)

    Shapes:
        - **output:** the interactions :math:`(2, E)`, int64: user, item

    Raises:
        ValueError: If the relation, the node counts, the ids, or masks, times and
            weights of the interactions are not as the schema says.
        TypeError: If :obj:`data` is no :class:`HeteroData`, or one of its
            attributes is of a wrong type.
    """
    edge_index = check_edges(data, USER_ITEM)
    num_users, num_items = num_nodes(data, 'user'), num_nodes(data, 'item')
    if num_users * num_items >= 2**63:
        raise ValueError(
            f'The graph has {num_users:,} users and {num_items:,} items, whose pairs '
            f'cannot be numbered: number both without gaps, from zero'
        )
    store = data[USER_ITEM]
    if 'edge_label_index' in store:
        raise ValueError(
            f"{USER_ITEM} has an 'edge_label_index', as of 'RandomLinkSplit', which "
            f'spreads a split over several graphs: here one graph holds all '
            f"interactions in 'edge_index', with a mask per split. Apply "
            f"'pyg_diffrec.transforms.RandomSplit()' or 'TemporalSplit()' to the graph "
            f"before that split; or join the pairs into one 'edge_index', set "
            f"'train_mask', 'val_mask' and 'test_mask', and delete 'edge_label_index'"
        )
    _check_masks(store, edge_index)
    if 'noise_mask' in store:
        check_mask(store, 'noise_mask', edge_index, 'interaction')
    if 'time' in store:
        _check_edge_values(store, 'time', edge_index)
    if 'edge_weight' in store:
        _check_weights(_check_edge_values(store, 'edge_weight', edge_index))
    if unique:
        check_unique(data)
    return edge_index


def _check_features(data: HeteroData, node_type: str) -> None:
    store, size = data[node_type], num_nodes(data, node_type)
    for key in [key for key in store.keys() if key.startswith('x_')]:  # noqa: SIM118
        modality = key[2:]
        x = _tensor(store, key, f"'{node_type}'")
        if x.dim() != 2 or x.size(0) != size:
            raise ValueError(
                f"The features '{key}' of modality '{modality}' need shape "
                f'[{size}, *], one row per {node_type} (got {list(x.shape)})'
            )
        if x.layout != torch.strided:
            raise ValueError(
                f"The features '{key}' of modality '{modality}' need to be dense (got "
                f"'{x.layout}'): convert them with '.to_dense()'"
            )
        finite = x.isfinite().all(1)
        if not bool(finite.all()):
            raise ValueError(
                f"The features '{key}' of modality '{modality}' hold NaN or inf in "
                f'{int((~finite).sum())} rows, the first is {node_type} '
                f'{_first(~finite)}: fill these rows before training'
            )


def _check_presence(data: HeteroData) -> None:
    store, num_items = data['item'], num_nodes(data, 'item')
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
    edge_index = check_edges(data, USER_USER)
    row, col = edge_index
    num_users = num_nodes(data, 'user')
    key, clean = row * num_users + col, 'CleanSocialEdges()'
    checks = [(row == col, 'that join a user to itself', clean)]
    if has_repeats(key):
        checks.append((~first_occurrences(key), 'twice', clean))
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


def _warn_of_unused(data: HeteroData, num_edges: int) -> None:
    for node_type in ('user', 'item'):
        size = num_nodes(data, node_type)
        if size > max(_MANY_NODES, _MOSTLY_UNUSED * num_edges):
            warnings.warn(
                f'The graph has {size:,} {node_type}s, of which at most {num_edges:,} '
                f'have an interaction, and models and rows hold all of them: number '
                f"the {node_type}s without gaps, e.g. with 'numpy.unique(ids, "
                f"return_inverse=True)', or remove those without interactions with "
                f"'pyg_diffrec.transforms.KCore(1, 1)(data)'",
                stacklevel=3,
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
    and none of a user to itself. The number of nodes may come from features :obj:`x`,
    as in PyG. Warns where most ids of a large graph are in no interaction.

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
    edge_index = check_interactions(data)
    store = data[USER_ITEM]
    if 'time' in store:
        _check_time_order(edge_index[0], store.time)
    for node_type in ('user', 'item'):
        _check_features(data, node_type)
    _check_presence(data)
    if USER_USER in data.edge_types:
        check_ties(data, undirected_ties)
    _warn_of_unused(data, edge_index.size(1))
    return data
