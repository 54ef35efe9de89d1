from pyg_diffrec.training.checkpoint import load_checkpoint, save_checkpoint
from pyg_diffrec.training.fit import FitResult, NonFiniteLossError, fit

__all__ = [
    'FitResult',
    'NonFiniteLossError',
    'fit',
    'load_checkpoint',
    'save_checkpoint',
]
