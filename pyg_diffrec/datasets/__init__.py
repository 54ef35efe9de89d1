from pyg_diffrec.datasets.diffrec import DiffRecDataset
from pyg_diffrec.datasets.synthetic import SyntheticInteractions

__all__ = [
    'DiffRecDataset',
    'SyntheticInteractions',
]
