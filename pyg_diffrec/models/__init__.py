from typing import Any

from pyg_diffrec.models.base import Recommendation, Recommender, RowRecommender
from pyg_diffrec.models.baselines import (
    BM3,
    EASE,
    GFCF,
    IALS,
    LATTICE,
    MFBPR,
    MHCN,
    VBPR,
    DiffNet,
    ItemKNN,
    LightGCN,
    MostPopular,
    MultiDAE,
    MultiVAE,
    Planted,
    SimGCL,
)
from pyg_diffrec.models.diff_mm import DiffMM
from pyg_diffrec.models.diffrec import DiffRec
from pyg_diffrec.models.giffcf import GiffCF
from pyg_diffrec.models.l_diffrec import LDiffRec
from pyg_diffrec.models.modality_graph_diffusion import ModalityGraphDiffusion
from pyg_diffrec.models.preset import preset, presets
from pyg_diffrec.models.rec_diff import Contributions, RecDiff

#: Models that a suite may name.
MODELS = [
    'BM3',
    'DiffMM',
    'DiffNet',
    'DiffRec',
    'EASE',
    'GFCF',
    'GiffCF',
    'IALS',
    'ItemKNN',
    'LATTICE',
    'LDiffRec',
    'LightGCN',
    'MFBPR',
    'MHCN',
    'MostPopular',
    'MultiDAE',
    'MultiVAE',
    'Planted',
    'RecDiff',
    'SimGCL',
    'VBPR',
]

#: Models by another name: the model, and the arguments that make it the other one.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    'LTDiffRec': ('LDiffRec', {'temporal': 'linear'}),
    'TDiffRec': ('DiffRec', {'temporal': 'linear'}),
}

__all__ = [
    'BM3',
    'Contributions',
    'DiffMM',
    'DiffNet',
    'DiffRec',
    'EASE',
    'GFCF',
    'GiffCF',
    'IALS',
    'ItemKNN',
    'LATTICE',
    'LDiffRec',
    'LightGCN',
    'MFBPR',
    'MHCN',
    'MODELS',
    'ModalityGraphDiffusion',
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
    'VBPR',
    'preset',
    'presets',
]
