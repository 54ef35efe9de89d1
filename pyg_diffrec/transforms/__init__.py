from pyg_diffrec.transforms.k_core import KCore
from pyg_diffrec.transforms.random_split import RandomSplit
from pyg_diffrec.transforms.temporal_split import TemporalSplit

__all__ = [
    'KCore',
    'RandomSplit',
    'TemporalSplit',
]
