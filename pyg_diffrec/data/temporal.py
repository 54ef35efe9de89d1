r"""Weights that let recent interactions count more."""

import inspect
import math
import sys
from typing import Any, Mapping, Optional, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import USER_ITEM, check_edges
from pyg_diffrec.resolver import build, unknown
from pyg_diffrec.utils.checks import check_positive
from pyg_diffrec.utils.sparse import SparseRows

__all__ = [
    'ExponentialTemporalWeight',
    'HyperbolicTemporalWeight',
    'LinearTemporalWeight',
]


class TemporalWeight(Configured):
    r"""An abstract class for maps from interaction rows in time order to weighted
    rows, user by user.

    Args:
        rescale (bool, optional): Whether the weights of a user are scaled to a mean
            of one, so that a row keeps its mass. (default: :obj:`False`)

    Raises:
        TypeError: If :obj:`rescale` is no Boolean.
    """

    def __init__(self, rescale: bool = False) -> None:
        self.rescale = rescale

    def __call__(self, rows: SparseRows) -> SparseRows:
        r"""Multiplies the values of the rows by their weights.

        Args:
            rows (SparseRows): The rows :math:`(B, I)`, in time order.
        """
        count = rows.rowptr.diff()[rows.row]
        index = torch.arange(rows.nnz, device=rows.device)
        position = index - rows.rowptr[rows.row]
        weight = self.weight(position, count)
        if self.rescale:
            weight = weight * count / rows.row_sum(weight)[rows.row]
        # None may become zero, which would drop the interaction.
        weight = weight.clamp(min=torch.finfo(rows.dtype).tiny)
        return rows.with_value(rows.value * weight.to(rows.dtype))

    def weight(self, position: Tensor, count: Tensor) -> Tensor:
        r"""The weight of the interaction at :obj:`position` of :obj:`count`, counted
        from zero and from the oldest, float64."""
        raise NotImplementedError

    def __repr__(self) -> str:
        args = ', '.join(
            f'{key}={value}'
            for key, value in vars(self).items()
            if key[0] != '_' and (key != 'rescale' or value)
        )
        return f'{self.__class__.__name__}({args})'


class LinearTemporalWeight(TemporalWeight):
    r"""Weights on a line from the oldest to the latest interaction of a user, as in
    T-DiffRec of the `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_ paper.

    .. math::
        w_j = w_{\min} + \tfrac{j}{n - 1} (w_{\max} - w_{\min}),
        \qquad j = 0, \ldots, n - 1

    A single interaction gets :math:`w_{\min}`, as in the authors' code.

    Args:
        w_min (float, optional): The weight of the oldest. (default: :obj:`0.1`)
        w_max (float, optional): The weight of the latest. (default: :obj:`1.0`)
        rescale (bool, optional): See :class:`TemporalWeight`.
            (default: :obj:`False`)

    Raises:
        ValueError: If not :math:`0 < w_{\min} \le w_{\max}`.

    .. note::
        A weight of zero would drop an interaction without saying so: the authors'
        code then stores explicit zeros, which it no longer masks. It is refused.
    """

    def __init__(
        self, w_min: float = 0.1, w_max: float = 1.0, rescale: bool = False
    ) -> None:
        super().__init__(rescale)
        if not 0 < w_min <= w_max:
            raise ValueError(
                f"'w_min' and 'w_max' need 0 < w_min <= w_max in "
                f"'{self.__class__.__name__}' (got {w_min} and {w_max}); a weight of "
                f'zero would drop interactions'
            )
        self.w_min = w_min
        self.w_max = w_max

    def weight(self, position: Tensor, count: Tensor) -> Tensor:
        share = position.double() / (count - 1).clamp(min=1)
        return self.w_min + share * (self.w_max - self.w_min)


class ExponentialTemporalWeight(TemporalWeight):
    r"""Weights that halve every :obj:`half_life` interactions.

    .. math::
        w = 2^{-\mathrm{back} / \mathrm{half\_life}}

    where :math:`\mathrm{back}` counts how many interactions of the user came later.

    Args:
        half_life (float, optional): In interactions. (default: :obj:`5.0`)
        rescale (bool, optional): See :class:`TemporalWeight`.
            (default: :obj:`False`)

    Raises:
        ValueError: If :obj:`half_life` is not positive.

    .. note::
        Weights below the smallest normal float32, after some 126 half-lives, are
        lifted to it, and where values are float16 to the smallest of these, after 14,
        so that no interaction is dropped.
    """

    def __init__(self, half_life: float = 5.0, rescale: bool = False) -> None:
        super().__init__(rescale)
        check_positive(self.__class__.__name__, half_life=half_life)
        self.half_life = half_life

    def weight(self, position: Tensor, count: Tensor) -> Tensor:
        back = (count - 1 - position).double()
        smallest = torch.finfo(torch.float).tiny
        return (-back / self.half_life).exp2().clamp(min=smallest)


class HyperbolicTemporalWeight(TemporalWeight):
    r"""Weights that fall like the reciprocal of age.

    .. math::
        w = \frac{1}{1 + \mathrm{back} / h}

    where :math:`\mathrm{back}` counts how many interactions of the user came later.

    Args:
        h (float, optional): The age at which the weight is one half, in
            interactions. (default: :obj:`2.0`)
        rescale (bool, optional): See :class:`TemporalWeight`.
            (default: :obj:`False`)

    Raises:
        ValueError: If :obj:`h` is not positive.
    """

    def __init__(self, h: float = 2.0, rescale: bool = False) -> None:
        super().__init__(rescale)
        check_positive(self.__class__.__name__, h=h)
        self.h = h

    def weight(self, position: Tensor, count: Tensor) -> Tensor:
        back = (count - 1 - position).double()
        return 1 / (1 + back / self.h)


FORMS = {
    'linear': LinearTemporalWeight,
    'exponential': ExponentialTemporalWeight,
    'hyperbolic': HyperbolicTemporalWeight,
}
Temporal = Union[str, Mapping[str, Any], TemporalWeight]


def resolve_temporal(temporal: Optional[Temporal]) -> Optional[TemporalWeight]:
    r"""Builds a temporal weight from what a model was given.

    Args:
        temporal (str or dict or TemporalWeight, optional): A form
            (:obj:`'linear'`, :obj:`'exponential'`, :obj:`'hyperbolic'`), a
            dictionary of its :obj:`form` and arguments, the weight itself, or
            :obj:`None` for none.

    Raises:
        ValueError: If the form is unknown or an argument out of range.
        TypeError: If :obj:`temporal` is of another type, or an argument unknown.
    """
    if temporal is None or isinstance(temporal, TemporalWeight):
        return temporal
    if isinstance(temporal, str):
        temporal = {'form': temporal}
    if isinstance(temporal, Mapping) and 'name' in temporal:
        return build(
            temporal,
            sys.modules[__name__],
            kind='temporal weight',
            suffix='TemporalWeight',
        )
    if not isinstance(temporal, Mapping) or 'form' not in temporal:
        raise TypeError(
            f"'temporal' needs to be a form, or a dictionary with a 'form' and its "
            f"arguments (got {temporal!r}), e.g. {{'form': 'hyperbolic', 'h': 2.0}}"
        )
    form, args = temporal['form'], {**temporal}
    if not isinstance(form, str) or form not in FORMS:
        raise ValueError(unknown('temporal form', str(form), FORMS))
    del args['form']
    known = inspect.signature(FORMS[form]).parameters
    for key in args:
        if key not in known:
            kind = f"argument of temporal form '{form}'"
            raise TypeError(unknown(kind, str(key), known))
    return FORMS[form](**args)


# A share of all orders so small that a lucky one among many graphs is no worry.
_CHANCE = 1e-12


def _is_sorted(group: Tensor, item: Tensor) -> bool:
    if not bool((group[1:] >= group[:-1]).all()):
        group, perm = group.sort(stable=True)
        item = item[perm]
    same = group[1:] == group[:-1]
    up = item[1:] > item[:-1]
    if bool((same & up).any()) and bool((same & ~up).any()):
        return False
    count = torch.unique_consecutive(group, return_counts=True)[1]
    # Of the n! orders of a user's n items, one is ascending.
    return float((count + 1.0).lgamma().sum()) > -math.log(_CHANCE)


def is_item_ordered(data: HeteroData) -> bool:
    r"""Whether the interactions are stored by item number, as :obj:`coalesce`,
    :obj:`unique` and sparse matrices leave them: those of every user, or of every
    user within every split, ascend, or all descend, and there are too many for that to
    be chance (:math:`10^{-12}`, if each order is as likely as another). Users with one
    interaction prove nothing."""
    store = data[USER_ITEM]
    user, item = check_edges(data, USER_ITEM, check_range=False)
    if _is_sorted(user, item):
        return True
    if 'train_mask' not in store:
        return False
    part = store.val_mask + 2 * store.test_mask.long()
    return _is_sorted(user * 3 + part, item)


def is_time_ordered(data: HeteroData) -> bool:
    r"""Whether a user's interactions are known to be stored in time order: by their
    :obj:`time`, because the source says so (:obj:`data.time_ordered`), or by a split
    along time, unless they are stored by item number (:meth:`is_item_ordered`), as
    where they were sorted after the split."""
    if 'time' in data[USER_ITEM]:
        return True
    stated = getattr(data, 'time_ordered', None)
    if stated is not None:
        return bool(stated)
    return getattr(data, 'split_order', None) is not None and not is_item_ordered(data)


def check_stored_order(data: HeteroData, name: str) -> None:
    r"""Refuses to take the stored order for time where it is known to be another one.

    Args:
        data (HeteroData): The graph, whose interactions have no :obj:`time`.
        name (str): Who takes it for time, for the message.

    Raises:
        ValueError: If the source says so (:obj:`data.time_ordered` is
            :obj:`False`), or the interactions are stored by item number.
    """
    stated = getattr(data, 'time_ordered', None)
    if stated is None:
        wrong = is_item_ordered(data)
        reason = 'are stored by item number, which is no order in time'
    else:
        wrong, reason = not stated, 'are in no order of time (time_ordered=False)'
    if wrong:
        raise ValueError(
            f"The interactions have no 'time' for '{name}' and {reason}: set "
            f"'data[{USER_ITEM}].time', or split them by 'RandomSplit'; if they are in "
            f"time order all the same, say so with 'data.time_ordered = True'"
        )


def check_time_order(data: HeteroData, temporal: Any, name: str) -> None:
    r"""Refuses temporal weights on interactions that are not known to be in time
    order.

    Args:
        data (HeteroData): The graph.
        temporal (str or dict or TemporalWeight, optional): The weights, if any.
        name (str): The name of the model, for the message.

    Raises:
        ValueError: If there are weights and no order.
    """
    if temporal is not None and not is_time_ordered(data):
        raise ValueError(
            f"'temporal' weights of '{name}' need interactions in time order: give "
            f"the graph their 'time', or, if a user's interactions are stored in that "
            f"order, say so with 'data.time_ordered = True'"
        )
