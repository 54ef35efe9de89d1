from pyg_diffrec.nn.denoisers import Denoiser, MLPDenoiser, RowMLPDenoiser
from pyg_diffrec.nn.readout import LinearReadout
from pyg_diffrec.nn.rows import AffineRows
from pyg_diffrec.nn.time_embedding import SinusoidalTimeEmbedding

__all__ = [
    'AffineRows',
    'Denoiser',
    'LinearReadout',
    'MLPDenoiser',
    'RowMLPDenoiser',
    'SinusoidalTimeEmbedding',
]
