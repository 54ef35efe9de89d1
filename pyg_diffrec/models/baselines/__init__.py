from pyg_diffrec.models.baselines.bm3 import BM3
from pyg_diffrec.models.baselines.diff_net import DiffNet
from pyg_diffrec.models.baselines.ease import EASE
from pyg_diffrec.models.baselines.gfcf import GFCF
from pyg_diffrec.models.baselines.ials import IALS
from pyg_diffrec.models.baselines.item_knn import ItemKNN
from pyg_diffrec.models.baselines.lattice import LATTICE
from pyg_diffrec.models.baselines.light_gcn import LightGCN
from pyg_diffrec.models.baselines.mf_bpr import MFBPR
from pyg_diffrec.models.baselines.mhcn import MHCN
from pyg_diffrec.models.baselines.most_popular import MostPopular
from pyg_diffrec.models.baselines.multi_dae import MultiDAE
from pyg_diffrec.models.baselines.multi_vae import MultiVAE
from pyg_diffrec.models.baselines.planted import Planted
from pyg_diffrec.models.baselines.sim_gcl import SimGCL
from pyg_diffrec.models.baselines.vbpr import VBPR

__all__ = [
    'BM3',
    'DiffNet',
    'EASE',
    'GFCF',
    'IALS',
    'ItemKNN',
    'LATTICE',
    'LightGCN',
    'MFBPR',
    'MHCN',
    'MostPopular',
    'MultiDAE',
    'MultiVAE',
    'Planted',
    'SimGCL',
    'VBPR',
]
