from pyg_diffrec.nn.clustering import cluster_items
from pyg_diffrec.nn.conv import BipartiteLGConv, RecDiffConv
from pyg_diffrec.nn.denoisers import (
    Denoiser,
    GiffCFDenoiser,
    MLPDenoiser,
    RowMLPDenoiser,
)
from pyg_diffrec.nn.encoders import (
    ClusteredVAE,
    GraphEncoder,
    LightGCNEncoder,
    ModalityEncoder,
    MultiModalEncoder,
    SocialEncoder,
    UserItemEncoder,
)
from pyg_diffrec.nn.item_features import ItemFeatures
from pyg_diffrec.nn.item_graph import ItemGraph
from pyg_diffrec.nn.losses import bpr_loss, info_nce_loss, multinomial_loss
from pyg_diffrec.nn.node_contrast import node_contrast_loss
from pyg_diffrec.nn.pooled_noise import PooledNoise
from pyg_diffrec.nn.readout import LinearReadout
from pyg_diffrec.nn.rows import AffineRows
from pyg_diffrec.nn.sparse_linear import SparseLinear
from pyg_diffrec.nn.time_embedding import SinusoidalTimeEmbedding
from pyg_diffrec.products import keep_products

__all__ = [
    'AffineRows',
    'BipartiteLGConv',
    'ClusteredVAE',
    'Denoiser',
    'GiffCFDenoiser',
    'GraphEncoder',
    'ItemFeatures',
    'ItemGraph',
    'LightGCNEncoder',
    'LinearReadout',
    'MLPDenoiser',
    'ModalityEncoder',
    'MultiModalEncoder',
    'PooledNoise',
    'RecDiffConv',
    'RowMLPDenoiser',
    'SinusoidalTimeEmbedding',
    'SocialEncoder',
    'SparseLinear',
    'UserItemEncoder',
    'bpr_loss',
    'cluster_items',
    'info_nce_loss',
    'keep_products',
    'multinomial_loss',
    'node_contrast_loss',
]
