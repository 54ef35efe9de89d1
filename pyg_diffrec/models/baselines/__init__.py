from pyg_diffrec.models.baselines.ease import EASE
from pyg_diffrec.models.baselines.most_popular import MostPopular

__all__ = [
    'EASE',
    'MostPopular',
]
