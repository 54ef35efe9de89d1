from pyg_diffrec.diffusion.gaussian import GaussianDiffusion
from pyg_diffrec.diffusion.process import DiffusionProcess, TrainingTerms
from pyg_diffrec.diffusion.schedules import (
    binomial_beta_schedule,
    cosine_beta_schedule,
    linear_beta_schedule,
    linear_var_beta_schedule,
)
from pyg_diffrec.diffusion.smoothing import GraphSmoothing
from pyg_diffrec.diffusion.timestep_samplers import (
    ImportanceTimestepSampler,
    UniformTimestepSampler,
)
from pyg_diffrec.diffusion.weighting import snr_weights, uniform_weights

__all__ = [
    'DiffusionProcess',
    'GaussianDiffusion',
    'GraphSmoothing',
    'ImportanceTimestepSampler',
    'TrainingTerms',
    'UniformTimestepSampler',
    'binomial_beta_schedule',
    'cosine_beta_schedule',
    'linear_beta_schedule',
    'linear_var_beta_schedule',
    'snr_weights',
    'uniform_weights',
]
