from pyg_diffrec.nn.encoders.clustered_vae import ClusteredVAE
from pyg_diffrec.nn.encoders.graph_encoder import GraphEncoder
from pyg_diffrec.nn.encoders.light_gcn import LightGCNEncoder
from pyg_diffrec.nn.encoders.modality import ModalityEncoder
from pyg_diffrec.nn.encoders.multi_modal import MultiModalEncoder
from pyg_diffrec.nn.encoders.social import SocialEncoder
from pyg_diffrec.nn.encoders.user_item import UserItemEncoder

__all__ = [
    'ClusteredVAE',
    'GraphEncoder',
    'LightGCNEncoder',
    'ModalityEncoder',
    'MultiModalEncoder',
    'SocialEncoder',
    'UserItemEncoder',
]
