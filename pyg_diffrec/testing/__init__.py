from pyg_diffrec.testing.contracts import (
    check_dataset,
    check_denoiser,
    check_model,
    check_process,
    check_schedule,
)

__all__ = [
    'check_dataset',
    'check_denoiser',
    'check_model',
    'check_process',
    'check_schedule',
]
