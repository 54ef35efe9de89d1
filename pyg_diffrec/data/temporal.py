r"""Weights that let recent interactions count more."""

from typing import Any, Mapping, Optional, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data.interactions import USER_ITEM
from pyg_diffrec.resolver import unknown
from pyg_diffrec.utils.arguments import Checked
from pyg_diffrec.utils.sparse import SparseRows


class TemporalWeight(Checked):
    r"""An abstract class for maps from interaction rows in time order to weighted
    rows, user by user.

    Args:
        rescale (bool, optional): Whether the weights of a user are scaled to a mean
            of one, so that a row keeps its mass. (default: :obj:`False`)
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
        return rows.with_value(rows.value * weight.to(rows.dtype))

    def weight(self, position: Tensor, count: Tensor) -> Tensor:
        r"""The weight of the interaction at :obj:`position` of :obj:`count`, counted
        from zero and from the oldest, float64."""
        raise NotImplementedError

    def __repr__(self) -> str:
        args = ', '.join(
            f'{key}={value}'
            for key, value in vars(self).items()
            if key != 'rescale' or value
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
        Weights below the smallest positive float32, after some 150 half-lives, are
        lifted to it, so that no interaction is dropped.
    """

    def __init__(self, half_life: float = 5.0, rescale: bool = False) -> None:
        super().__init__(rescale)
        if half_life <= 0:
            raise ValueError(
                f"'half_life' needs to be positive in '{self.__class__.__name__}' "
                f'(got {half_life})'
            )
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
        if h <= 0:
            raise ValueError(
                f"'h' needs to be positive in '{self.__class__.__name__}' (got {h})"
            )
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
    if not isinstance(temporal, Mapping) or 'form' not in temporal:
        raise TypeError(
            f"'temporal' needs to be a form, or a dictionary with a 'form' and its "
            f"arguments (got {temporal!r}), e.g. {{'form': 'hyperbolic', 'h': 2.0}}"
        )
    args = {key: value for key, value in temporal.items() if key != 'form'}
    if temporal['form'] not in FORMS:
        raise ValueError(unknown('temporal form', str(temporal['form']), FORMS))
    return FORMS[temporal['form']](**args)


def is_time_ordered(data: HeteroData) -> bool:
    r"""Whether a user's interactions are known to be stored in time order: by their
    :obj:`time`, by a split along time, or because the source says so
    (:obj:`data.time_ordered`)."""
    return (
        'time' in data[USER_ITEM]
        or getattr(data, 'split_order', None) is not None
        or bool(getattr(data, 'time_ordered', False))
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
            f"the graph their 'time', or split it by 'TemporalSplit' if they are "
            f'stored in that order'
        )
