from pyg_diffrec.datasets.diffrec import DiffRecDataset
from pyg_diffrec.datasets.multi_modal import MultiModalDataset
from pyg_diffrec.datasets.social import SocialDataset
from pyg_diffrec.datasets.synthetic import SyntheticInteractions

__all__ = [
    'DiffRecDataset',
    'MultiModalDataset',
    'SocialDataset',
    'SyntheticInteractions',
]
