from pyg_diffrec.transforms.add_random_interactions import AddRandomInteractions
from pyg_diffrec.transforms.k_core import KCore
from pyg_diffrec.transforms.random_split import RandomSplit
from pyg_diffrec.transforms.temporal_split import TemporalSplit

__all__ = [
    'AddRandomInteractions',
    'KCore',
    'RandomSplit',
    'TemporalSplit',
]
