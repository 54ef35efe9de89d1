from pyg_diffrec.data.interactions import (
    USER_ITEM,
    history_mask,
    interaction_rows,
    split_mask,
    target_rows,
)
from pyg_diffrec.data.schema import validate

__all__ = [
    'USER_ITEM',
    'history_mask',
    'interaction_rows',
    'split_mask',
    'target_rows',
    'validate',
]
