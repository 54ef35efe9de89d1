from pyg_diffrec.data.interactions import (
    USER_ITEM,
    history_mask,
    interaction_rows,
    split_mask,
    target_rows,
)
from pyg_diffrec.data.schema import USER_USER, validate
from pyg_diffrec.data.social import read_ties
from pyg_diffrec.data.temporal import (
    ExponentialTemporalWeight,
    HyperbolicTemporalWeight,
    LinearTemporalWeight,
    TemporalWeight,
    check_time_order,
    is_time_ordered,
    resolve_temporal,
)

__all__ = [
    'ExponentialTemporalWeight',
    'HyperbolicTemporalWeight',
    'LinearTemporalWeight',
    'TemporalWeight',
    'USER_ITEM',
    'USER_USER',
    'check_time_order',
    'history_mask',
    'interaction_rows',
    'is_time_ordered',
    'read_ties',
    'resolve_temporal',
    'split_mask',
    'target_rows',
    'validate',
]
