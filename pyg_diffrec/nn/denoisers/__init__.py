from pyg_diffrec.nn.denoisers.base import Denoiser
from pyg_diffrec.nn.denoisers.giffcf import GiffCFDenoiser
from pyg_diffrec.nn.denoisers.mlp import MLPDenoiser
from pyg_diffrec.nn.denoisers.row_mlp import RowMLPDenoiser

__all__ = [
    'Denoiser',
    'GiffCFDenoiser',
    'MLPDenoiser',
    'RowMLPDenoiser',
]
