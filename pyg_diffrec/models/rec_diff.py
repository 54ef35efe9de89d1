from typing import Any, Literal, NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor

from pyg_diffrec.diffusion.gaussian import GaussianDiffusion
from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.models.baselines.social import SocialRecommender
from pyg_diffrec.nn.denoisers.mlp import MLPDenoiser
from pyg_diffrec.nn.encoders.social import SocialEncoder
from pyg_diffrec.nn.encoders.user_item import UserItemEncoder
from pyg_diffrec.nn.losses import bpr_loss
from pyg_diffrec.typing import OptTensor, Phase
from pyg_diffrec.utils.checks import check_ids
from pyg_diffrec.utils.counter_noise import counter_normal
from pyg_diffrec.utils.propagation import BipartiteAdj
from pyg_diffrec.utils.sparse import SparseRows

Denoising = Literal['diffusion', 'autoencoder', 'none']


class Contributions(NamedTuple):
    r"""What scores are made of.

    Args:
        score (torch.Tensor): The scores :math:`(B, *)`, no unit.
        social (torch.Tensor): The part of them that is due to the social embedding
            :math:`(B, *)`; the rest is due to interactions.
    """

    score: Tensor
    social: Tensor

    @property
    def share(self) -> Tensor:
        r"""The size of the social part as a share of both sizes, in
        :math:`[0, 1]`."""
        social, rest = self.social.abs(), (self.score - self.social).abs()
        return social / (social + rest).clamp(min=torch.finfo(social.dtype).tiny)


class RecDiff(SocialRecommender):
    r"""The social recommender that takes the noise off what ties say about users, by
    diffusion in the latent space, from the `"RecDiff: Diffusion Model for Social
    Recommendation" <https://arxiv.org/abs/2406.01629>`_ paper.

    .. math::
        \mathrm{score}_{u,i} = {(\mathbf{z}_u + \hat{\mathbf{s}}_u)}^{\top}
        \mathbf{z}_i, \qquad \mathcal{L} = \mathbb{E}_{t, \epsilon} \left[ w_t
        \tfrac{1}{C} {\lVert \mathbf{s}_u - \hat{\mathbf{s}}_u \rVert}^2 \right] +
        \mathcal{L}_{\mathrm{BPR}} + \frac{\lambda}{B} \sum_{(u, i, j)}
        {\lVert \mathbf{z}_u + \hat{\mathbf{s}}_u \rVert}^2 +
        {\lVert \mathbf{z}_i \rVert}^2 + {\lVert \mathbf{z}_j \rVert}^2

    where :math:`\mathbf{z}` comes from the interactions
    (:class:`~pyg_diffrec.nn.encoders.UserItemEncoder`) and :math:`\mathbf{s}`
    from the ties (:class:`~pyg_diffrec.nn.encoders.SocialEncoder`) of the same
    user embeddings. In training :math:`\hat{\mathbf{s}}` is the estimate from a random
    noise level, drawn for every interaction; in scoring it is what the whole reverse
    chain makes of :math:`\mathbf{s}`.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        num_layers (int, optional): The number of layers over interactions.
            (default: :obj:`2`)
        num_social_layers (int, optional): The number of layers over ties.
            (default: :obj:`2`)
        layer_weight (bool, optional): Whether layers have matrices.
            (default: :obj:`True`)
        embedding_dropout (float, optional): Dropout on the embeddings that are
            encoded. (default: :obj:`0.0`)
        edge_dropout (float, optional): The share of interactions and of ties dropped
            per training step. (default: :obj:`0.0`)
        social (bool, optional): Whether ties are used at all; otherwise
            :math:`\hat{\mathbf{s}} = \mathbf{0}`. (default: :obj:`True`)
        denoising (str, optional): :obj:`'diffusion'`; :obj:`'autoencoder'` for the
            same network as a denoising autoencoder, with the strongest noise of the
            schedule alone; or :obj:`'none'`, :math:`\hat{\mathbf{s}} = \mathbf{s}`.
            (default: :obj:`'diffusion'`)
        hidden_channels (int or list, optional): The hidden widths of the denoiser.
            (default: :obj:`64`)
        time_embedding_dim (int, optional): The length of the timestep code.
            (default: :obj:`16`)
        dropout (float, optional): Dropout on the noised social embedding.
            (default: :obj:`0.5`)
        num_timesteps (int, optional): The number of steps :math:`T` of the diffusion.
            (default: :obj:`20`)
        noise_scale (float, optional): Factor on the noise bounds; 0 switches noise
            off, and needs :obj:`weighting='uniform'`. (default: :obj:`1.0`)
        noise_min (float, optional): The lower noise bound. (default: :obj:`1e-4`)
        noise_max (float, optional): The upper noise bound. (default: :obj:`0.01`)
        weighting (str, optional): :obj:`'snr'` or :obj:`'uniform'` weights of the
            diffusion loss. (default: :obj:`'snr'`)
        num_noising_steps (int, optional): Forward steps before the reverse chain.
            (default: :obj:`0`)
        noise_seed (int, optional): The seed of the noise drawn when scoring, which
            depends on it and the user alone. (default: :obj:`0`)
        lr (float, optional): The learning rate of embeddings and encoders.
            (default: :obj:`5e-3`)
        denoiser_lr (float, optional): The learning rate of the denoiser.
            (default: :obj:`1e-3`)
        lr_decay (float, optional): Factor on both after every epoch.
            (default: :obj:`0.985`)
        l2 (float, optional): The weight :math:`\lambda` on the embeddings that are
            scored. (default: :obj:`1e-2`)
        **kwargs (optional): :obj:`embedding_dim`, :obj:`batch_size`,
            :obj:`negatives` and :obj:`temporal` of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: users are known by
          their embeddings
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, or there are no ties.

    .. note::
        A batch costs one pass over all interactions and ties, and a training step
        :math:`O((U + I) C)` numbers. As scores do not depend on the batch, neither do
        the chain and its noise: it runs once for all users.

    .. note::
        We follow the authors' code: gradients of the diffusion loss reach the social
        encoder; the pairwise loss and the penalty are divided by :obj:`batch_size`,
        also in a smaller last batch; scoring runs all :math:`T` reverse steps whatever
        :obj:`num_noising_steps` is. Unlike there, :obj:`weighting='uniform'`,
        :obj:`num_noising_steps` and :obj:`noise_scale=0` work, and negatives are drawn
        anew for every batch.
    """

    flow = 'source_to_target'
    _without_ties = ', or set social=False'

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        num_layers: int = 2,
        num_social_layers: int = 2,
        layer_weight: bool = True,
        embedding_dropout: float = 0.0,
        edge_dropout: float = 0.0,
        social: bool = True,
        denoising: Denoising = 'diffusion',
        hidden_channels: Union[int, Sequence[int]] = 64,
        time_embedding_dim: int = 16,
        dropout: float = 0.5,
        num_timesteps: int = 20,
        noise_scale: float = 1.0,
        noise_min: float = 1e-4,
        noise_max: float = 0.01,
        weighting: str = 'snr',
        num_noising_steps: int = 0,
        noise_seed: int = 0,
        lr: float = 5e-3,
        denoiser_lr: float = 1e-3,
        lr_decay: float = 0.985,
        l2: float = 1e-2,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_items, num_users, lr=lr, l2=l2, **kwargs)
        name = self.__class__.__name__
        channels = self.embedding_dim
        options = (layer_weight, embedding_dropout, edge_dropout)
        self.encoder = UserItemEncoder(channels, num_layers, *options)
        self.social_encoder: Optional[SocialEncoder] = None
        self.denoiser: Optional[MLPDenoiser] = None
        self.diffusion: Optional[GaussianDiffusion] = None
        if social:
            self.social_encoder = SocialEncoder(channels, num_social_layers, *options)
        else:
            # No ties, which 'from_data' leaves as they are.
            rowptr, none = torch.zeros(num_users + 1).long(), torch.empty(0).long()
            self.ties = SparseRows(rowptr, none, num_cols=num_users)
        if social and denoising != 'none':
            self.denoiser = MLPDenoiser(
                channels, hidden_channels, time_embedding_dim, dropout, norm=True
            )
        if social and denoising == 'diffusion':
            self.diffusion = GaussianDiffusion(
                'linear-var',
                num_timesteps,
                noise_scale=noise_scale,
                noise_min=noise_min,
                noise_max=noise_max,
                weighting=weighting,
            )
        elif social and denoising == 'autoencoder':
            # With a single step, the reverse chain is the network itself.
            betas = torch.tensor([noise_scale * noise_max], dtype=torch.double)
            self.diffusion = GaussianDiffusion(betas)
        steps = 0 if self.diffusion is None else self.diffusion.num_timesteps
        if not 0 <= num_noising_steps <= steps:
            raise ValueError(
                f"'num_noising_steps' needs to lie in [0, {steps}] in '{name}' "
                f'(got {num_noising_steps})'
            )
        self.denoising = denoising if social else 'none'
        self.num_noising_steps = num_noising_steps
        self.noise_seed = noise_seed
        self.denoiser_lr = denoiser_lr
        self.lr_decay = lr_decay
        self._draw_embeddings()

    def reset_parameters(self) -> None:
        r"""Draws new embeddings and weights."""
        self._draw_embeddings()
        self.encoder.reset_parameters()
        for module in (self.social_encoder, self.denoiser, self.diffusion):
            if module is not None:
                module.reset_parameters()

    def phases(self) -> list[Phase]:
        (phase,) = super().phases()
        groups: list[dict[str, Any]] = []
        for is_denoiser, lr in ((False, self.lr), (True, self.denoiser_lr)):
            params = [
                param
                for name, param in self.named_parameters()
                if name.startswith('denoiser.') == is_denoiser
            ]
            groups.append({'params': params, 'lr': lr})
        optimizer = torch.optim.Adam(groups, fused=True)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, self.lr_decay)
        return [phase._replace(optimizer=optimizer, scheduler=scheduler)]

    def loss(
        self, batch: EdgeBatch, t: OptTensor = None, noise: OptTensor = None
    ) -> dict[str, Tensor]:
        r"""The loss of a batch of interactions and its parts; timesteps :math:`(B)`
        and noise :math:`(B, C)` are drawn if :obj:`None`."""
        # Every node of the batch is encoded once, however often it occurs.
        users, user_at = batch.user.unique(return_inverse=True)
        items, item_at = torch.cat([batch.positive, batch.negative]).unique(
            return_inverse=True
        )
        interactions, ties = self._graphs()
        user, item = self.learned_tables()
        out_user, out_item = self.encoder(user, item, interactions, users, items)
        out_user = out_user.index_select(0, user_at)  # [B, C]
        positive, negative = out_item.index_select(0, item_at).chunk(2)

        losses = {}
        if self.social_encoder is not None:
            social = self.social_encoder(user, ties, users).index_select(0, user_at)
            if self.denoiser is not None and self.diffusion is not None:
                terms = self.diffusion.training_losses(self.denoiser, social, t, noise)
                losses['diffusion'] = terms.loss.mean()
                social = terms.x_start
            out_user = out_user + social

        bpr = bpr_loss(
            (out_user * positive).sum(1), (out_user * negative).sum(1), batch.weight
        )
        losses['bpr'] = bpr * (len(batch.user) / self.batch_size)
        parts = [x.square().sum() for x in (out_user, positive, negative)]
        losses['l2'] = self.l2 * torch.stack(parts).sum() / self.batch_size
        return {'total': torch.stack(list(losses.values())).sum(), **losses}

    def graphs(self, interactions: SparseRows, ties: SparseRows) -> list[BipartiteAdj]:
        return [BipartiteAdj(interactions), BipartiteAdj(ties)]

    def tables(self) -> Tables:
        user, item = self._encode()
        social = self.social_embeddings()
        return user if social is None else user + social, item

    @torch.no_grad()
    def contributions(self, users: Tensor, items: Tensor) -> Contributions:
        r"""How much of the scores of items is due to the social embedding.

        .. math::
            \mathrm{score}_{u,i} = \mathbf{z}_u^{\top} \mathbf{z}_i +
            \hat{\mathbf{s}}_u^{\top} \mathbf{z}_i

        Args:
            users (torch.Tensor): The users :math:`(B)`, int64.
            items (torch.Tensor): Items of each of them :math:`(B, *)`, int64, such
                as those of :meth:`recommend`.

        Raises:
            ValueError: If a user or an item is unknown, or :obj:`items` does not have a
                row per user.
            TypeError: If a user or an item is no whole number.
        """
        name = f'{self.__class__.__name__}.contributions'
        index = check_ids('users', users, self.num_users, name)
        if items.dim() < 1 or items.size(0) != users.numel():
            raise ValueError(
                f"'items' needs one row for each of {users.numel()} users in '{name}' "
                f'(got shape {list(items.shape)})'
            )
        hint, size = 'leave out places that hold no item', self.num_items
        check_ids('items', items.reshape(-1), size, name, hint=hint)
        was_training = self.training
        try:
            self.eval()
            (user, item), social = self._encode(), self.social_embeddings()
        finally:
            self.train(was_training)
        users, items = index.to(user.device), items.to(user.device)
        item = item[items]  # [B, *, C]
        shape = (-1, *[1] * (items.dim() - 1), self.embedding_dim)
        rest = (user[users].view(shape) * item).sum(-1)
        if social is None:
            return Contributions(rest, torch.zeros_like(rest))
        part = (social[users].view(shape) * item).sum(-1)
        return Contributions(rest + part, part)

    def _draw_embeddings(self) -> None:
        for table in self.learned_tables():
            torch.nn.init.xavier_uniform_(table)

    def _encode(self) -> Tables:
        return self.encoder(*self.learned_tables(), self._graphs()[0])

    def social_embeddings(self) -> OptTensor:
        r"""The social embeddings that are scored :math:`(U, C)`: those of
        :attr:`social_encoder`, denoised if the model has a diffusion;
        :obj:`None` if it looks at no ties."""
        if self.social_encoder is None:
            return None
        social = self.social_encoder(self.user_embedding.weight, self._graphs()[1])
        if self.denoiser is None or self.diffusion is None:
            return social
        noise = None
        if self.num_noising_steps > 0:
            users = torch.arange(self.num_users, device=social.device)
            noise = counter_normal(
                self.noise_seed, 0, users, self.embedding_dim, social.dtype
            )
        return self.diffusion.p_sample_loop(
            self.denoiser, social, self.num_noising_steps, noise=noise
        )

    def __repr__(self) -> str:
        steps = 0 if self.diffusion is None else self.diffusion.num_timesteps
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_users={self.num_users}, embedding_dim={self.embedding_dim}, '
            f'social={self.social_encoder is not None}, '
            f"denoising='{self.denoising}', num_timesteps={steps})"
        )
