from pyg_diffrec.models.baselines import EASE, MostPopular
from pyg_diffrec.models.diffrec import DiffRec

__all__ = [
    'DiffRec',
    'EASE',
    'MostPopular',
]
