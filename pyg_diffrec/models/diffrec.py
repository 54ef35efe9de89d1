from typing import Any, Callable, Literal, Optional, Sequence, Union

import torch
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.diffusion.constants import takes_noise_bounds
from pyg_diffrec.diffusion.gaussian import GaussianDiffusion
from pyg_diffrec.loader.row_loader import RowLoader
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.nn.denoisers.row_mlp import RowMLPDenoiser
from pyg_diffrec.nn.rows import AffineRows
from pyg_diffrec.typing import Activation, Phase, PredictionType, RowBatch
from pyg_diffrec.utils.counter_noise import counter_normal
from pyg_diffrec.utils.sparse import SparseRows


class DiffRec(RowRecommender):
    r"""The generative recommender that noises interaction rows and learns to restore
    them, from the `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_ paper.

    .. math::
        \mathcal{L} = \mathbb{E}_{t, \epsilon} \left[ \frac{w_t}{T p_t} \tfrac{1}{I}
        {\lVert \mathbf{x}_0 - \mathrm{MLP}(\mathbf{x}_t, t) \rVert}^2 \right],
        \qquad \mathrm{score} = \mathbf{x}_0 \text{ after the reverse chain}

    Rows stay sparse up to the first layer, and the reverse chain runs in the hidden
    space, exactly (:class:`~pyg_diffrec.nn.AffineRows`).

    Args:
        num_items (int): The number of items :math:`I`.
        hidden_channels (int or list, optional): The hidden widths on the way in;
            :obj:`[600, 200]` is :math:`I \to 600 \to 200 \to 600 \to I`.
            (default: :obj:`1000`)
        time_embedding_dim (int, optional): The length of the timestep code.
            (default: :obj:`10`)
        dropout (float, optional): Dropout on the noised row. (default: :obj:`0.5`)
        norm (bool, optional): Whether the denoiser scales noised rows to unit
            length. (default: :obj:`False`)
        act (str or Callable, optional): The activation of the denoiser;
            :obj:`'identity'` makes it linear. (default: :obj:`'tanh'`)
        num_timesteps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)
        schedule (str, optional): The noise schedule. (default: :obj:`'linear-var'`)
        noise_scale (float, optional): Factor on the noise bounds of the linear
            schedules; 0 switches noise off. (default: :obj:`0.1`)
        noise_min (float, optional): The lower noise bound of the linear schedules.
            (default: :obj:`1e-4`)
        noise_max (float, optional): The upper noise bound of the linear schedules.
            (default: :obj:`0.02`)
        first_beta (float, optional): Overwrites :math:`\beta_0`.
            (default: :obj:`1e-5`)
        prediction (str, optional): What the denoiser estimates, :obj:`'x_start'` or
            :obj:`'noise'`. (default: :obj:`'x_start'`)
        weighting (str, optional): :obj:`'snr'` or :obj:`'uniform'` loss weights.
            (default: :obj:`'snr'`)
        timestep_sampler (str, optional): :obj:`'importance'` or :obj:`'uniform'`.
            (default: :obj:`'importance'`)
        num_noising_steps (int, optional): The number :math:`T'` of forward steps
            before the reverse chain. (default: :obj:`0`)
        sampling_noise (bool, optional): Whether reverse steps draw noise; takes the
            dense path. (default: :obj:`False`)
        noise_seed (int, optional): The seed of the noise drawn when scoring, which
            depends on it, the user and the step alone. (default: :obj:`0`)
        lr (float, optional): The learning rate of AdamW. (default: :obj:`1e-3`)
        weight_decay (float, optional): The weight decay of AdamW.
            (default: :obj:`0.0`)
        batch_size (int, optional): The number of users per training batch.
            (default: :obj:`400`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions, on which the model is trained and from which it scores:
            :obj:`'linear'` is T-DiffRec. (default: :obj:`None`)
        temporal_training (bool, optional): Whether training uses them too, or
            scoring alone. (default: :obj:`True`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range.

    .. note::
        With :math:`H` the first hidden width, training needs :math:`O(B I + I H)`
        numbers at its peak (the noise of one batch, the weights and their moments),
        scoring :math:`O(B H + H^2 + I H)` and a top-K list
        :math:`O(B \min(I, 16384))` more; with :math:`T' > 0` or sampling noise
        :math:`O(B I)` more. Nothing depends on the number of users.

    .. note::
        We follow the authors' code where it departs from the paper: importance
        sampling mixes 0.1% uniform draws, the loss is a mean over items, and
        scoring runs all :math:`T` reverse steps whatever :math:`T'` is. Unlike
        there, :obj:`weighting='uniform'` and :math:`T = 1` work.
    """

    weighs_training = True

    def __init__(
        self,
        num_items: int,
        hidden_channels: Union[int, Sequence[int]] = 1000,
        time_embedding_dim: int = 10,
        dropout: float = 0.5,
        norm: bool = False,
        act: Activation = 'tanh',
        num_timesteps: int = 5,
        schedule: Union[str, Callable[..., Tensor]] = 'linear-var',
        noise_scale: float = 0.1,
        noise_min: float = 1e-4,
        noise_max: float = 0.02,
        first_beta: Optional[float] = 1e-5,
        prediction: PredictionType = 'x_start',
        weighting: Union[str, Callable[..., Tensor]] = 'snr',
        timestep_sampler: str = 'importance',
        num_noising_steps: int = 0,
        sampling_noise: bool = False,
        noise_seed: int = 0,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 400,
        temporal: Optional[Temporal] = None,
        temporal_training: bool = True,
    ) -> None:
        super().__init__(num_items, temporal, temporal_training)
        bounds = {}
        if takes_noise_bounds(schedule):
            bounds = {
                'noise_scale': noise_scale,
                'noise_min': noise_min,
                'noise_max': noise_max,
            }
        self.diffusion = GaussianDiffusion(
            schedule,
            num_timesteps,
            first_beta=first_beta,
            prediction=prediction,
            weighting=weighting,
            timestep_sampler=timestep_sampler,
            **bounds,
        )
        self.diffusion.check_noising_steps(num_noising_steps, self.__class__.__name__)
        self.denoiser = RowMLPDenoiser(
            num_items,
            hidden_channels,
            time_embedding_dim=time_embedding_dim,
            dropout=dropout,
            norm=norm,
            act=act,
        )
        self.num_noising_steps = num_noising_steps
        self.sampling_noise = sampling_noise
        self.noise_seed = noise_seed
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size

    def reset_parameters(self) -> None:
        r"""Draws new weights and forgets the loss history."""
        self.denoiser.reset_parameters()
        self.diffusion.reset_parameters()

    def phases(self) -> list[Phase]:
        loader = RowLoader(self.training_rows(), self.batch_size, shuffle=True)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        return [Phase('diffusion', loader, optimizer)]

    def loss(self, batch: RowBatch) -> dict[str, Tensor]:
        r"""The diffusion loss of a batch of users."""
        rows = batch.rows.to(dtype=self.denoiser.weight.dtype)
        terms = self.diffusion.training_losses(self.denoiser, AffineRows(rows))
        return {'total': terms.loss.mean()}

    def score(
        self,
        users: Tensor,
        history: SparseRows,
        path: Literal['hidden', 'dense'] = 'hidden',
    ) -> Any:
        r"""Scores of all items after the reverse chain.

        Args:
            users (torch.Tensor): The users :math:`(B)`, int64; they matter only for
                the noise they draw.
            history (SparseRows): Their interactions :math:`(B, I)`.
            path (str, optional): :obj:`'hidden'` runs the chain in the hidden
                space, :obj:`'dense'` over all items. Both compute the same;
                sampling noise needs the dense one and takes it by itself.
                (default: :obj:`'hidden'`)

        Raises:
            ValueError: If :obj:`path` is unknown.
        """
        if path not in ('hidden', 'dense'):
            raise ValueError(f"'path' needs to be 'hidden' or 'dense' (got '{path}')")
        dtype = self.denoiser.weight.dtype
        rows = self.weigh(history.to(dtype=dtype))

        def noise(step: int) -> Tensor:
            return counter_normal(self.noise_seed, step, users, self.num_items, dtype)

        dense = path == 'dense' or self.sampling_noise
        return self.diffusion.p_sample_loop(
            self.denoiser,
            rows.to_dense() if dense else AffineRows(rows),
            self.num_noising_steps,
            # Reverse steps use the streams 1 to T - 1.
            noise=noise(0) if self.num_noising_steps > 0 else None,
            sampling_noise=noise if self.sampling_noise else False,
        )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'hidden_channels={self.denoiser.hidden_channels}, '
            f'num_timesteps={self.diffusion.num_timesteps})'
        )
