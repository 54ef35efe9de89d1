from typing import Any

from pyg_diffrec.models.base import Recommendation, Recommender, RowRecommender
from pyg_diffrec.models.baselines import (
    EASE,
    GFCF,
    IALS,
    MFBPR,
    ItemKNN,
    LightGCN,
    MostPopular,
    MultiDAE,
    MultiVAE,
    Planted,
    SimGCL,
)
from pyg_diffrec.models.diffrec import DiffRec
from pyg_diffrec.models.giffcf import GiffCF
from pyg_diffrec.models.l_diffrec import LDiffRec
from pyg_diffrec.models.preset import preset, presets
from pyg_diffrec.models.rec_diff import Contributions, RecDiff

#: Models that a suite may name.
MODELS = [
    'DiffRec',
    'EASE',
    'GFCF',
    'GiffCF',
    'IALS',
    'ItemKNN',
    'LDiffRec',
    'LightGCN',
    'MFBPR',
    'MostPopular',
    'MultiDAE',
    'MultiVAE',
    'Planted',
    'RecDiff',
    'SimGCL',
]

#: Models by another name: the model, and the arguments that make it the other one.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    'LTDiffRec': ('LDiffRec', {'temporal': 'linear'}),
    'TDiffRec': ('DiffRec', {'temporal': 'linear'}),
}

__all__ = [
    'Contributions',
    'DiffRec',
    'EASE',
    'GFCF',
    'GiffCF',
    'IALS',
    'ItemKNN',
    'LDiffRec',
    'LightGCN',
    'MFBPR',
    'MODELS',
    'MostPopular',
    'MultiDAE',
    'MultiVAE',
    'Planted',
    'RecDiff',
    'Recommendation',
    'Recommender',
    'RowRecommender',
    'SimGCL',
    'VARIANTS',
    'preset',
    'presets',
]
