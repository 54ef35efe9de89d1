from pyg_diffrec.training.checkpoint import load_checkpoint, save_checkpoint
from pyg_diffrec.training.fit import fit, fit_readings
from pyg_diffrec.training.run import FitResult, NonFiniteLossError

__all__ = [
    'FitResult',
    'NonFiniteLossError',
    'fit',
    'fit_readings',
    'load_checkpoint',
    'save_checkpoint',
]
