from pyg_diffrec.transforms.add_random_interactions import AddRandomInteractions
from pyg_diffrec.transforms.clean_interactions import CleanInteractions
from pyg_diffrec.transforms.clean_social_edges import CleanSocialEdges
from pyg_diffrec.transforms.k_core import KCore
from pyg_diffrec.transforms.random_split import RandomSplit
from pyg_diffrec.transforms.rewire_social_edges import RewireSocialEdges
from pyg_diffrec.transforms.temporal_split import TemporalSplit
from pyg_diffrec.transforms.to_user_item import ToUserItem

__all__ = [
    'AddRandomInteractions',
    'CleanInteractions',
    'CleanSocialEdges',
    'KCore',
    'RandomSplit',
    'RewireSocialEdges',
    'TemporalSplit',
    'ToUserItem',
]
