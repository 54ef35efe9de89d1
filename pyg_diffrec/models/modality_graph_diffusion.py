from typing import Any, Literal, NamedTuple, Optional, Sequence, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.diffusion.gaussian import GaussianDiffusion
from pyg_diffrec.nn.denoisers.row_mlp import RowMLPDenoiser
from pyg_diffrec.nn.pooled_noise import PooledNoise
from pyg_diffrec.nn.rows import AffineRows
from pyg_diffrec.products import keep_products
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.precision import normalize
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.topk import masked_topk

NoiseKind = Literal['dense', 'pooled']


class GraphLosses(NamedTuple):
    r"""The losses of a batch of rows for one modality.

    Args:
        diffusion (torch.Tensor): The weighted squared error per row :math:`(B)`.
        signal (torch.Tensor): The error of the modality signal per row :math:`(B)`.
    """

    diffusion: Tensor
    signal: Tensor


class ModalityGraphDiffusion(Configured, torch.nn.Module):
    r"""The diffusion over interaction rows that generates a graph per modality, from
    the `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper.

    .. math::
        \mathcal{L}_m = \mathbb{E}_{t, \epsilon} \left[ \frac{w_t}{I}
        {\lVert \mathbf{x}_0 - \hat{\mathbf{x}}_m \rVert}^2 + \frac{\lambda}{C}
        {\lVert \hat{\mathbf{x}}_m \mathbf{F}_m - \mathbf{x}_0 \mathbf{E} \rVert}^2
        \right], \qquad \hat{\mathbf{x}}_m = \mathrm{MLP}_m(\mathrm{dropout}
        (\mathbf{x}_t), t)

    with the projected features :math:`\mathbf{F}_m` and the embeddings
    :math:`\mathbf{E}` of the items. The second term injects the modality's signal.
    In the graph of a modality each user has the :obj:`k` best items of what the
    reverse chain makes of their row.

    Rows of products over all items appear in training as the noise of one batch,
    and nowhere else: losses, reverse chain and top-k lists work in the hidden space
    (:class:`~pyg_diffrec.nn.AffineRows`).

    Args:
        num_items (int): The number of items :math:`I`.
        num_modalities (int): The number of modalities, each with its denoiser.
        hidden_channels (int or list, optional): The hidden widths of a denoiser on
            the way in. (default: :obj:`1000`)
        time_embedding_dim (int, optional): The length of the timestep code.
            (default: :obj:`10`)
        dropout (float, optional): Dropout on the noised row. (default: :obj:`0.5`)
        num_timesteps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)
        noise_scale (float, optional): Factor on the noise bounds; 0 switches noise
            off, and needs :obj:`weighting='uniform'`. (default: :obj:`0.1`)
        noise_min (float, optional): The lower noise bound. (default: :obj:`1e-4`)
        noise_max (float, optional): The upper noise bound. (default: :obj:`0.02`)
        first_beta (float, optional): Overwrites :math:`\beta_0`.
            (default: :obj:`1e-4`)
        weighting (str, optional): :obj:`'snr'` or :obj:`'uniform'` weights
            :math:`w_t`. (default: :obj:`'snr'`)
        num_noising_steps (int, optional): Forward steps before the reverse chain.
            (default: :obj:`0`)
        noise (str, optional): How training draws noise: :obj:`'dense'`, or
            :obj:`'pooled'` for unit-length mixtures of :obj:`pool_size` rows, each of
            which is Gaussian, but not independent of the others of its batch. Pooled
            noise needs no :math:`(B, I)` numbers. (default: :obj:`'dense'`)
        pool_size (int, optional): The number of rows of the pool.
            (default: :obj:`64`)

    Shapes:
        - **rows:** interaction rows :math:`(B, I)`

    Raises:
        ValueError: If a hyper-parameter is out of range.

    .. note::
        All modalities see the same timesteps, noise and dropout, drawn once per
        batch: each network learns from the same distribution as if it had its own.
        With pooled noise dropout acts on the row and on the pool.
    """

    def __init__(
        self,
        num_items: int,
        num_modalities: int,
        hidden_channels: Union[int, Sequence[int]] = 1000,
        time_embedding_dim: int = 10,
        dropout: float = 0.5,
        num_timesteps: int = 5,
        noise_scale: float = 0.1,
        noise_min: float = 1e-4,
        noise_max: float = 0.02,
        first_beta: Optional[float] = 1e-4,
        weighting: str = 'snr',
        num_noising_steps: int = 0,
        noise: NoiseKind = 'dense',
        pool_size: int = 64,
    ) -> None:
        super().__init__()
        self.diffusion = GaussianDiffusion(
            'linear-var',
            num_timesteps,
            noise_scale=noise_scale,
            noise_min=noise_min,
            noise_max=noise_max,
            first_beta=first_beta,
            weighting=weighting,
        )
        self.diffusion.check_noising_steps(num_noising_steps, self.__class__.__name__)
        # Dropout happens here, once for all denoisers.
        self.denoisers = torch.nn.ModuleList(
            RowMLPDenoiser(num_items, hidden_channels, time_embedding_dim, dropout=0.0)
            for _ in range(num_modalities)
        )
        self.num_items = num_items
        self.dropout = dropout
        self.num_noising_steps = num_noising_steps
        self.noise = noise
        self.pool_size = pool_size

    def reset_parameters(self) -> None:
        r"""Draws new weights."""
        for denoiser in self.denoisers:
            assert isinstance(denoiser, RowMLPDenoiser)
            denoiser.reset_parameters()

    def losses(
        self,
        rows: SparseRows,
        features: Optional[Sequence[Tensor]] = None,
        item_embedding: OptTensor = None,
        t: OptTensor = None,
        noise: OptTensor = None,
    ) -> list[GraphLosses]:
        r"""The losses of a batch for each modality.

        Args:
            rows (SparseRows): The rows :math:`\mathbf{x}_0` :math:`(B, I)`.
            features (list, optional): :math:`\mathbf{F}_m` of each modality
                :math:`(I, C)`; without them the signal is not looked at, and its
                losses are zero. (default: :obj:`None`)
            item_embedding (torch.Tensor, optional): :math:`\mathbf{E}`
                :math:`(I, C)`, which comes with :obj:`features`.
                (default: :obj:`None`)
            t (torch.Tensor, optional): The timesteps :math:`(B)`, drawn if
                :obj:`None`. (default: :obj:`None`)
            noise (torch.Tensor, optional): The noise :math:`(B, I)`, drawn if
                :obj:`None`. (default: :obj:`None`)
        """
        diffusion, x_start = self.diffusion, AffineRows(rows)
        if t is None:
            t = diffusion.timestep_sampler.sample(len(rows), rows.device)
        noise_rows = self._noise_rows(rows, noise)
        seen = self._drop(diffusion.q_sample(x_start, t, noise_rows))
        target = None if item_embedding is None else rows.matmul(item_embedding)
        out = []
        for i, denoiser in enumerate(self.denoisers):

            def denoise(_: AffineRows, t: Tensor, denoiser: Any = denoiser) -> Any:
                # Of rows after dropout; what is estimated are the rows before it.
                out = denoiser(seen, t)
                return x_start.with_state(out.readout, out.s)

            terms = diffusion.training_losses(denoise, x_start, t, noise_rows)
            signal = torch.zeros_like(terms.loss)
            if features is not None and target is not None:
                # [B, I] -> [B, C]
                signal = (terms.x_start.project(features[i]) - target).square().mean(1)
            out.append(GraphLosses(terms.loss, signal))
        return out

    @torch.no_grad()
    @keep_products()
    def generate(
        self, rows: SparseRows, k: int, batch_size: int = 1024
    ) -> tuple[Tensor, Tensor]:
        r"""The best items of each user in each modality, seen in training or not.

        Args:
            rows (SparseRows): The interactions of the users :math:`(U, I)`.
            k (int): The number of items per user.
            batch_size (int, optional): The number of users at once; without noising
                steps it changes scores by no more than round-off.
                (default: :obj:`1024`)

        Shapes:
            - **output:** scores and items :math:`(M, U, k)`, best first

        Raises:
            ValueError: If :obj:`k` lies outside :math:`[1, I]`, or a network has
                diverged.
        """
        scores, items = [], []
        for chunk in torch.arange(len(rows), device=rows.device).split(batch_size):
            x_start = AffineRows(rows.index_select(chunk))
            lists = [
                masked_topk(
                    self.diffusion.p_sample_loop(
                        denoiser, x_start, self.num_noising_steps
                    ),
                    k,
                )
                for denoiser in self.denoisers
            ]
            scores.append(torch.stack([score for score, _ in lists]))
            items.append(torch.stack([item for _, item in lists]))
        return torch.cat(scores, dim=1), torch.cat(items, dim=1)

    def _noise_rows(self, rows: SparseRows, noise: OptTensor) -> Any:
        r"""The noise as rows that can be added to :obj:`rows`, if there is any."""
        if self.diffusion.noise_free:
            return None
        source: Any = noise
        options: dict[str, Any] = {'dtype': rows.dtype, 'device': rows.device}
        if source is None and self.noise == 'pooled':
            mix = normalize(torch.randn(len(rows), self.pool_size, **options))
            pool = torch.randn(self.pool_size, self.num_items, **options)
            source = PooledNoise(mix, pool)
        elif source is None:
            source = torch.randn(rows.shape, **options)
        return AffineRows(rows, 0.0, noise=source, r=1.0)

    def _drop(self, x_t: AffineRows) -> AffineRows:
        if not self.training or self.dropout == 0.0:
            return x_t
        start, noise = x_t.start, x_t.noise
        if isinstance(noise, Tensor):
            dense = F.dropout(x_t.to_dense(), self.dropout)
            return AffineRows(start, 0.0, noise=dense, r=1.0)
        start = start.with_value(F.dropout(start.value, self.dropout))
        if noise is not None:
            noise = PooledNoise(noise.mix, F.dropout(noise.pool, self.dropout))
        return AffineRows(start, x_t.p, noise=noise, r=x_t.r)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_modalities={len(self.denoisers)}, '
            f'hidden_channels={self.denoisers[0].hidden_channels}, '
            f'num_timesteps={self.diffusion.num_timesteps})'
        )
