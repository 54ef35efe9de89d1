from pyg_diffrec.transforms.add_random_interactions import AddRandomInteractions
from pyg_diffrec.transforms.clean_social_edges import CleanSocialEdges
from pyg_diffrec.transforms.k_core import KCore
from pyg_diffrec.transforms.random_split import RandomSplit
from pyg_diffrec.transforms.rewire_social_edges import RewireSocialEdges
from pyg_diffrec.transforms.temporal_split import TemporalSplit

__all__ = [
    'AddRandomInteractions',
    'CleanSocialEdges',
    'KCore',
    'RandomSplit',
    'RewireSocialEdges',
    'TemporalSplit',
]
