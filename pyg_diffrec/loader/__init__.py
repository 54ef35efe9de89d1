from pyg_diffrec.loader.row_loader import RowLoader

__all__ = [
    'RowLoader',
]
