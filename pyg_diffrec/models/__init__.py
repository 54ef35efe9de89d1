from pyg_diffrec.models.base import Recommendation, Recommender, RowRecommender
from pyg_diffrec.models.baselines import EASE, MostPopular
from pyg_diffrec.models.diffrec import DiffRec
from pyg_diffrec.models.preset import preset, presets

#: Models that a suite may name.
MODELS = [
    'DiffRec',
    'EASE',
    'MostPopular',
]

__all__ = [
    'DiffRec',
    'EASE',
    'MODELS',
    'MostPopular',
    'Recommendation',
    'Recommender',
    'RowRecommender',
    'preset',
    'presets',
]
