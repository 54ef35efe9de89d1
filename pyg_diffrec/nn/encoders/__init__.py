from pyg_diffrec.nn.encoders.clustered_vae import ClusteredVAE
from pyg_diffrec.nn.encoders.light_gcn import LightGCNEncoder

__all__ = [
    'ClusteredVAE',
    'LightGCNEncoder',
]
