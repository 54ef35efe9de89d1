from pyg_diffrec.loader.edge_loader import EdgeBatch, EdgeLoader
from pyg_diffrec.loader.negative_sampling import NegativeSampler, sample_negatives
from pyg_diffrec.loader.row_loader import RowLoader

__all__ = [
    'EdgeBatch',
    'EdgeLoader',
    'NegativeSampler',
    'RowLoader',
    'sample_negatives',
]
