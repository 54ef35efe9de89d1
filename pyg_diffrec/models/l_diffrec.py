import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.diffusion.gaussian import GaussianDiffusion
from pyg_diffrec.loader.row_loader import RowLoader
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.models.baselines.light_gcn import LightGCN
from pyg_diffrec.nn.clustering import cluster_items
from pyg_diffrec.nn.denoisers.mlp import MLPDenoiser
from pyg_diffrec.nn.encoders.clustered_vae import ClusteredVAE
from pyg_diffrec.nn.losses import multinomial_loss
from pyg_diffrec.nn.rows import AffineRows
from pyg_diffrec.typing import Activation, OptTensor, Phase, PredictionType, RowBatch
from pyg_diffrec.utils.checks import check_ids
from pyg_diffrec.utils.counter_noise import counter_normal
from pyg_diffrec.utils.sparse import SparseRows

if TYPE_CHECKING:
    from typing_extensions import Self


class Annealing(NamedTuple):
    r"""How the weights of the parts of the loss change over time; where the weight
    :math:`\lambda` starts, :obj:`elbo_weight` of the model tells.

    Args:
        elbo_floor (float, optional): What it falls to. (default: :obj:`0.005`)
        elbo_epochs (int, optional): The epochs in which it would reach zero.
            (default: :obj:`500`)
        kl_cap (float, optional): What the weight of the divergence rises to.
            (default: :obj:`0.3`)
        kl_batches (int, optional): The batches in which it would reach one.
            (default: :obj:`200`)
    """

    elbo_floor: float = 0.005
    elbo_epochs: int = 500
    kl_cap: float = 0.3
    kl_batches: int = 200

    def elbo_weight(self, start: float, epoch: Tensor) -> Tensor:
        r"""The weight that began at :obj:`start` after :obj:`epoch` epochs."""
        weight = (1 - epoch / self.elbo_epochs) * start
        return weight.clamp(min=self.elbo_floor)

    def kl_weight(self, batch: Tensor) -> Tensor:
        r"""The weight of the divergence after :obj:`batch` batches."""
        return (batch / self.kl_batches).clamp(max=self.kl_cap)


def _light_gcn_embedding(data: HeteroData, epochs: int) -> Tensor:
    model = LightGCN.from_data(copy.copy(data).cpu())  # As models begin there.
    (phase,) = model.phases()
    optimizer = phase.optimizer
    assert optimizer is not None
    model.train()
    for _ in range(epochs):
        for batch in phase.loader:
            optimizer.zero_grad()
            model.loss(batch)['total'].backward()
            optimizer.step()
    with torch.no_grad():
        return model.tables()[1]


class LDiffRec(RowRecommender):
    r"""Diffusion in the latent space of a clustered autoencoder of interaction rows,
    from the `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_
    paper.

    .. math::
        \mathbf{z}_0 = \boldsymbol{\mu}(\mathbf{x}) + \boldsymbol{\sigma}(\mathbf{x})
        \odot \boldsymbol{\epsilon}, \qquad
        \mathcal{L} = \lambda \, \mathcal{L}_{\mathrm{diff}}(\mathbf{z}_0) +
        \mathrm{NLL}(\mathrm{dec}(\hat{\mathbf{z}}_0), \mathbf{x}) + \gamma \,
        \mathrm{KL}

    with :math:`\lambda` falling per epoch and :math:`\gamma` rising per batch. With
    unit weights (:obj:`weighting='uniform'`) it is
    :math:`\mathcal{L}_{\mathrm{diff}} + \lambda (\mathrm{NLL} + \gamma
    \mathrm{KL})`, as in the authors' code. Scores start from the mean
    :math:`\boldsymbol{\mu}`.

    Args:
        num_items (int): The number of items :math:`I`.
        cluster (torch.Tensor, optional): The cluster of each item :math:`(I)`; all
            in one if :obj:`None`. :meth:`from_data` finds it.
            (default: :obj:`None`)
        encoder_channels (list, optional): The widths of the encoders; the last is
            the latent size :math:`L`. (default: :obj:`(300,)`)
        decoder_channels (list, optional): The hidden widths of the decoders.
            (default: :obj:`()`)
        vae_dropout (float, optional): Dropout on interactions.
            (default: :obj:`0.1`)
        act (str or Callable, optional): The activation of the autoencoder.
            (default: :obj:`'tanh'`)
        hidden_channels (int or list, optional): The hidden widths of the denoiser.
            (default: :obj:`300`)
        time_embedding_dim (int, optional): The length of the timestep code.
            (default: :obj:`10`)
        dropout (float, optional): Dropout on noised latents. (default: :obj:`0.5`)
        norm (bool, optional): Whether the denoiser scales noised latents to unit
            length. (default: :obj:`False`)
        num_timesteps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)
        noise_scale (float, optional): Factor on the noise bounds.
            (default: :obj:`0.1`)
        noise_min (float, optional): The lower noise bound. (default: :obj:`1e-4`)
        noise_max (float, optional): The upper noise bound. (default: :obj:`0.02`)
        prediction (str, optional): :obj:`'x_start'` or :obj:`'noise'`.
            (default: :obj:`'x_start'`)
        weighting (str, optional): :obj:`'snr'` or :obj:`'uniform'` loss weights.
            (default: :obj:`'snr'`)
        timestep_sampler (str, optional): :obj:`'importance'` or :obj:`'uniform'`.
            (default: :obj:`'importance'`)
        num_noising_steps (int, optional): Forward steps before the reverse chain.
            (default: :obj:`0`)
        noise_seed (int, optional): The seed of the noise drawn when scoring.
            (default: :obj:`0`)
        elbo_weight (float, optional): The weight :math:`\lambda` at the start.
            (default: :obj:`0.03`)
        annealing (Annealing, optional): How it and the weight of the divergence
            change.
        lr (float, optional): The learning rate of the autoencoder.
            (default: :obj:`1e-3`)
        denoiser_lr (float, optional): The learning rate of the denoiser.
            (default: :obj:`5e-4`)
        weight_decay (float, optional): The weight decay of AdamW.
            (default: :obj:`0.0`)
        batch_size (int, optional): The number of users per training batch.
            (default: :obj:`400`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions: :obj:`'linear'` is LT-DiffRec. (default: :obj:`None`)
        temporal_training (bool, optional): Whether training uses them too, or
            scoring alone. (default: :obj:`True`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, logits

    Raises:
        ValueError: If a hyper-parameter is out of range.

    .. note::
        Training and scoring need :math:`O(B I + I L)` numbers, whatever the number
        of users. Two departures of the authors' code from the paper are kept: what
        is reconstructed are the rows after dropout (0 or 1.11), and the activation
        squashes means and log variances.
    """

    weighs_training = True
    num_batches: Tensor

    def __init__(
        self,
        num_items: int,
        cluster: OptTensor = None,
        encoder_channels: Sequence[int] = (300,),
        decoder_channels: Sequence[int] = (),
        vae_dropout: float = 0.1,
        act: Activation = 'tanh',
        hidden_channels: Union[int, Sequence[int]] = 300,
        time_embedding_dim: int = 10,
        dropout: float = 0.5,
        norm: bool = False,
        num_timesteps: int = 5,
        noise_scale: float = 0.1,
        noise_min: float = 1e-4,
        noise_max: float = 0.02,
        prediction: PredictionType = 'x_start',
        weighting: str = 'snr',
        timestep_sampler: str = 'importance',
        num_noising_steps: int = 0,
        noise_seed: int = 0,
        elbo_weight: float = 0.03,
        annealing: Annealing = Annealing(),  # noqa: B008 (immutable)
        lr: float = 1e-3,
        denoiser_lr: float = 5e-4,
        weight_decay: float = 0.0,
        batch_size: int = 400,
        temporal: Optional[Temporal] = None,
        temporal_training: bool = True,
    ) -> None:
        super().__init__(num_items, temporal, temporal_training)
        if cluster is None:
            cluster = torch.zeros(num_items, dtype=torch.long)
        cluster = torch.as_tensor(cluster)
        if cluster.shape != (num_items,):
            raise ValueError(
                f"'cluster' needs shape [{num_items}] in '{self.__class__.__name__}' "
                f'(got {list(cluster.shape)})'
            )
        cluster = check_ids('cluster', cluster, num_items, self.__class__.__name__)
        self.vae = ClusteredVAE(
            cluster, encoder_channels, decoder_channels, vae_dropout, act
        )
        self.denoiser = MLPDenoiser(
            self.vae.latent_channels,
            hidden_channels,
            time_embedding_dim=time_embedding_dim,
            dropout=dropout,
            norm=norm,
        )
        self.diffusion = GaussianDiffusion(
            'linear-var',
            num_timesteps,
            noise_scale=noise_scale,
            noise_min=noise_min,
            noise_max=noise_max,
            prediction=prediction,
            weighting=weighting,
            timestep_sampler=timestep_sampler,
        )
        self.diffusion.check_noising_steps(num_noising_steps, self.__class__.__name__)
        self.num_noising_steps = num_noising_steps
        self.noise_seed = noise_seed
        self.elbo_weight = elbo_weight
        self.annealing = annealing
        self.lr = lr
        self.denoiser_lr = denoiser_lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        # Counts training batches: the annealing is part of the state.
        self.register_buffer('num_batches', torch.zeros((), dtype=torch.long))

    @classmethod
    def from_data(
        cls,
        data: HeteroData,
        num_clusters: int = 2,
        item_embedding: OptTensor = None,
        cluster_seed: int = 0,
        embedding_epochs: int = 20,
        **kwargs: Any,
    ) -> 'Self':
        r"""Clusters the items and builds the model.

        Args:
            data (HeteroData): A graph with a split.
            num_clusters (int, optional): The number of clusters :math:`C`.
                (default: :obj:`2`)
            item_embedding (torch.Tensor, optional): The embeddings :math:`(I, F)`
                by which items are clustered. If :obj:`None`, they are
                :obj:`data['item'].embedding` where the graph has it, and else those
                of a :class:`~pyg_diffrec.models.LightGCN` that is trained for it.
                (default: :obj:`None`)
            cluster_seed (int, optional): The seed of k-means. (default: :obj:`0`)
            embedding_epochs (int, optional): The epochs of that training.
                (default: :obj:`20`)
            **kwargs (optional): The hyper-parameters.

        Raises:
            ValueError: If there are more clusters than items, a cluster is empty,
                or the embeddings are of the wrong length.
        """
        num_items = data['item'].num_nodes
        if num_clusters != 1:
            if item_embedding is None:
                item_embedding = data['item'].get('embedding')
            if item_embedding is None:
                item_embedding = _light_gcn_embedding(data, embedding_epochs)
            if item_embedding.size(0) != num_items:
                raise ValueError(
                    f"'item_embedding' needs one row per item, {num_items}, in "
                    f"'{cls.__name__}' (got {list(item_embedding.shape)})"
                )
            kwargs['cluster'] = cluster_items(
                item_embedding, num_clusters, cluster_seed
            )
        return super().from_data(data, **kwargs)

    def reset_parameters(self) -> None:
        r"""Draws new weights and starts the annealing anew."""
        self.vae.reset_parameters()
        self.denoiser.reset_parameters()
        self.diffusion.reset_parameters()
        self.num_batches.zero_()

    def phases(self) -> list[Phase]:
        loader = RowLoader(self.training_rows(), self.batch_size, shuffle=True)
        groups = [
            {'params': list(self.vae.parameters()), 'lr': self.lr},
            {'params': list(self.denoiser.parameters()), 'lr': self.denoiser_lr},
        ]
        optimizer = torch.optim.AdamW(
            groups, weight_decay=self.weight_decay, fused=True
        )
        return [Phase('latent diffusion', loader, optimizer)]

    def loss(self, batch: RowBatch) -> dict[str, Tensor]:
        r"""The loss of a batch of users; in training its weights move on."""
        assert self.history is not None
        batches_per_epoch = -(-self.history.num_rows // self.batch_size)
        epoch = self.num_batches // batches_per_epoch
        elbo_weight = self.annealing.elbo_weight(self.elbo_weight, epoch)
        kl_weight = self.annealing.kl_weight(self.num_batches)
        if self.training:
            self.num_batches.add_(1)
        rows = batch.rows.to(dtype=self.denoiser.weight.dtype)
        return self.losses(rows, elbo_weight, kl_weight)

    def losses(
        self,
        rows: SparseRows,
        elbo_weight: Tensor,
        kl_weight: Tensor,
        t: OptTensor = None,
        noise: OptTensor = None,
        latent_noise: OptTensor = None,
    ) -> dict[str, Tensor]:
        r"""The loss and its parts for given weights and, optionally, given draws."""
        encoding = self.vae.encode(rows)
        if latent_noise is None:
            latent_noise = torch.randn_like(encoding.mean)
        latent = encoding.mean + (0.5 * encoding.log_variance).exp() * latent_noise
        terms = self.diffusion.training_losses(self.denoiser, latent, t, noise)
        logits = self.vae.decode(terms.x_start)
        elbo = terms.loss.mean()
        reconstruction = multinomial_loss(logits, encoding.rows)
        divergence = self.vae.kl_divergence(encoding)
        vae = reconstruction + kl_weight * divergence
        if self.diffusion.weighting == 'uniform':
            total = elbo + elbo_weight * vae
        else:
            total = elbo_weight * elbo + vae
        return {
            'total': total,
            'diffusion': elbo,
            'reconstruction': reconstruction,
            'kl': divergence,
        }

    def score(self, users: Tensor, history: SparseRows) -> Any:
        dtype = self.denoiser.weight.dtype
        rows = self.weigh(history.to(dtype=dtype))
        latent = self.vae.encode(rows).mean
        noise = None
        if self.num_noising_steps > 0:
            noise = counter_normal(self.noise_seed, 0, users, latent.size(1), dtype)
        latent = self.diffusion.p_sample_loop(
            self.denoiser, latent, self.num_noising_steps, noise=noise
        )
        if self.vae.readout is not None:  # Decoded in blocks of items.
            return AffineRows(rows, 0.0).with_state(self.vae.readout, latent)
        return self.vae.decode(latent)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_clusters={len(self.vae.sizes)}, '
            f'latent_channels={self.vae.latent_channels}, '
            f'num_timesteps={self.diffusion.num_timesteps})'
        )
