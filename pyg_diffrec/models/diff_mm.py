import copy
import itertools
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Union,
    get_args,
)

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data import interaction_rows, validate
from pyg_diffrec.loader.edge_loader import EdgeBatch, EdgeLoader
from pyg_diffrec.loader.row_loader import RowLoader
from pyg_diffrec.models.baselines.multi_modal import MultiModalRecommender
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.models.modality_graph_diffusion import (
    ModalityGraphDiffusion,
    NoiseKind,
)
from pyg_diffrec.models.modality_graphs import ModalityGraphs
from pyg_diffrec.nn.encoders.modality import Projection
from pyg_diffrec.nn.encoders.multi_modal import MultiModalEncoder
from pyg_diffrec.nn.losses import bpr_loss
from pyg_diffrec.nn.node_contrast import node_contrast_loss
from pyg_diffrec.typing import Phase, RowBatch
from pyg_diffrec.utils.keep import Kept
from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj
from pyg_diffrec.utils.sparse import SparseRows

if TYPE_CHECKING:
    from typing_extensions import Self

Anchor = Literal['main', 'modality']
ColdItems = Literal['modality', 'embedding']


class DiffMM(MultiModalRecommender):
    r"""The multi-modal recommender that generates a user-item graph per modality by
    diffusion, from the `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper.

    .. math::
        \mathrm{score}_{u,i} = \mathbf{z}_u^{\top} \mathbf{z}_i, \qquad
        \mathcal{L} = \mathcal{L}_{\mathrm{BPR}} + \lambda_c \left(
        \mathrm{InfoNCE}_{\mathrm{users}} + \mathrm{InfoNCE}_{\mathrm{items}} \right) +
        \lambda \left( {\lVert \mathbf{U} \rVert}^2 + {\lVert \mathbf{I} \rVert}^2
        \right)

    :class:`~pyg_diffrec.nn.encoders.multi_modal.MultiModalEncoder` derives
    :math:`\mathbf{z}` and the contrasted views from embeddings, features, interactions
    and generated graphs. An epoch trains
    :class:`~pyg_diffrec.models.modality_graph_diffusion.ModalityGraphDiffusion`,
    which generates the graphs, then generates and drops them anew, then trains the
    embeddings.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        modalities (dict, optional): The number of features of each modality.
            :meth:`from_data` also takes names, and all :obj:`x_<modality>` of the
            items if :obj:`None`. (default: :obj:`None`)
        projection (str or dict, optional): :obj:`'linear'` or :obj:`'matrix'`, for
            all modalities or by modality, see
            :class:`~pyg_diffrec.nn.encoders.modality.ModalityEncoder`.
            (default: :obj:`'linear'`)
        num_layers (int, optional): The number of layers. (default: :obj:`1`)
        graph_weight (float, optional): The weight of generated graphs in
            :math:`\mathbf{z}`. (default: :obj:`0.2`)
        norm_weight (float, optional): The weight of embeddings of unit length in
            :math:`\mathbf{z}`. (default: :obj:`0.5`)
        rebuild_k (int, optional): The number of items per user in a generated graph.
            (default: :obj:`1`)
        edge_dropout (float, optional): The share of a generated graph that is
            dropped, anew in every epoch. (default: :obj:`0.5`)
        fusion_ratio (float, optional): The share of generated graphs in the graph of
            a modality; the rest is the graph of interactions, randomly dropped. At 0
            there is no diffusion. (default: :obj:`1.0`)
        random_edge_dropout (float, optional): The share of the interactions that is
            dropped from that graph. (default: :obj:`0.5`)
        drop_when_scoring (bool, optional): Whether scoring takes the dropped graphs
            of the last epoch, as the authors' code does, or whole ones.
            (default: :obj:`False`)
        signal (float, optional): The weight of the modality signal in the loss of the
            diffusion; 0 switches it off. (default: :obj:`0.1`)
        contrast (float, optional): The weight :math:`\lambda_c` of the contrast; 0
            switches it off. (default: :obj:`1e-2`)
        temperature (float, optional): The temperature of the contrast.
            (default: :obj:`0.5`)
        anchor (str, optional): What is contrasted with the view of a modality:
            :math:`\mathbf{z}` (:obj:`'main'`), or the view of every modality before
            it (:obj:`'modality'`). (default: :obj:`'main'`)
        cold_items (str, optional): Whether items without training interactions are
            scored from their embedding too, which has learned from negatives alone
            (:obj:`'embedding'`, as in the authors' code), or from their features only
            (:obj:`'modality'`), which brings them into the lists.
            (default: :obj:`'embedding'`)
        hidden_channels (int or list, optional): The hidden widths of a denoiser.
            (default: :obj:`1000`)
        time_embedding_dim (int, optional): The length of the timestep code.
            (default: :obj:`10`)
        dropout (float, optional): Dropout on the noised row. (default: :obj:`0.5`)
        num_timesteps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)
        noise_scale (float, optional): Factor on the noise bounds; 0 switches noise
            off, and needs :obj:`weighting='uniform'`. (default: :obj:`0.1`)
        noise_min (float, optional): The lower noise bound. (default: :obj:`1e-4`)
        noise_max (float, optional): The upper noise bound. (default: :obj:`0.02`)
        weighting (str, optional): :obj:`'snr'` or :obj:`'uniform'` weights of the
            diffusion loss. (default: :obj:`'snr'`)
        num_noising_steps (int, optional): Forward steps before the reverse chain.
            (default: :obj:`0`)
        noise (str, optional): :obj:`'dense'` or :obj:`'pooled'` noise in training.
            (default: :obj:`'dense'`)
        pool_size (int, optional): The number of rows of the pool.
            (default: :obj:`64`)
        lr (float, optional): The learning rate of embeddings and encoder.
            (default: :obj:`1e-3`)
        denoiser_lr (float, optional): The learning rate of the denoisers.
            (default: :obj:`1e-3`)
        l2 (float, optional): The weight :math:`\lambda`. (default: :obj:`1e-4`)
        batch_size (int, optional): The number of interactions, or users, per training
            batch. (default: :obj:`1024`)
        **kwargs (optional): :obj:`embedding_dim`, :obj:`negatives` and
            :obj:`temporal` of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: users are known by
          their embeddings
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, features are missing or not
            finite, or a modality has the name of a relation.

    .. note::
        Items may lack a modality: :obj:`data['item'].has_<modality>` :math:`(I)`, bool,
        tells which have it, or :meth:`fit_features` is called with other masks, also
        of a trained model. The features of the others are ignored.

    .. note::
        We follow the authors' code: the pairwise loss is divided by
        :obj:`batch_size`, also in a smaller last batch; the penalty is on all
        embeddings in every batch; generated graphs may hold training interactions;
        edges are dropped in each direction on their own, and loops too, once per
        epoch; features are of unit length, but not in the modality signal. Weighted
        interactions enter graphs and rows with their weights. Unlike there, three
        modalities may have mixed projections, one is enough, and only the contrast
        that is in the loss is computed.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        modalities: Optional[Mapping[str, int]] = None,
        projection: Union[Projection, Mapping[str, Projection]] = 'linear',
        num_layers: int = 1,
        graph_weight: float = 0.2,
        norm_weight: float = 0.5,
        rebuild_k: int = 1,
        edge_dropout: float = 0.5,
        fusion_ratio: float = 1.0,
        random_edge_dropout: float = 0.5,
        drop_when_scoring: bool = False,
        signal: float = 0.1,
        contrast: float = 1e-2,
        temperature: float = 0.5,
        anchor: Anchor = 'main',
        cold_items: ColdItems = 'embedding',
        hidden_channels: Union[int, Sequence[int]] = 1000,
        time_embedding_dim: int = 10,
        dropout: float = 0.5,
        num_timesteps: int = 5,
        noise_scale: float = 0.1,
        noise_min: float = 1e-4,
        noise_max: float = 0.02,
        weighting: str = 'snr',
        num_noising_steps: int = 0,
        noise: NoiseKind = 'dense',
        pool_size: int = 64,
        lr: float = 1e-3,
        denoiser_lr: float = 1e-3,
        l2: float = 1e-4,
        batch_size: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_items,
            num_users,
            modalities,
            lr=lr,
            l2=l2,
            batch_size=batch_size,
            **kwargs,
        )
        name, channels = self.__class__.__name__, self.modalities
        if isinstance(projection, str):
            projection = dict.fromkeys(channels, projection)
        if projection.keys() != channels.keys():
            raise ValueError(
                f"'projection' needs one entry for each of {list(channels)} in "
                f"'{name}' (got {list(projection)})"
            )
        if rebuild_k > num_items:
            raise ValueError(
                f"'rebuild_k' needs to lie in [1, {num_items}], the number of items, "
                f"in '{name}' (got {rebuild_k})"
            )
        if anchor == 'modality' and contrast > 0 and len(channels) < 2:
            raise ValueError(
                f"anchor='modality' of '{name}' contrasts modalities with each other "
                f"(got {list(channels)} alone): set anchor='main' or contrast=0"
            )
        self.rebuild_k = rebuild_k
        self.signal = signal
        self.contrast = contrast
        self.temperature = temperature
        self.anchor = anchor
        self.denoiser_lr = denoiser_lr
        self.user_embedding = torch.nn.Embedding(num_users, self.embedding_dim)
        self.item_embedding = torch.nn.Embedding(num_items, self.embedding_dim)
        self.encoder = MultiModalEncoder(
            list(channels.values()),
            self.embedding_dim,
            [projection[key] for key in channels],
            num_layers,
            graph_weight,
            norm_weight,
        )
        self.graphs = ModalityGraphs(
            len(channels),
            num_users,
            rebuild_k,
            edge_dropout,
            fusion_ratio,
            random_edge_dropout,
        )
        self.generator: Optional[ModalityGraphDiffusion] = None
        if fusion_ratio > 0:
            self.generator = ModalityGraphDiffusion(
                num_items,
                len(channels),
                hidden_channels,
                time_embedding_dim,
                dropout,
                num_timesteps,
                noise_scale,
                noise_min,
                noise_max,
                weighting=weighting,
                num_noising_steps=num_noising_steps,
                noise=noise,
                pool_size=pool_size,
            )
        self._adj = Kept()
        self._set_scoring(drop_when_scoring, cold_items)
        self._draw_embeddings()

    @classmethod
    def from_data(
        cls,
        data: HeteroData,
        modalities: Union[Sequence[str], Mapping[str, int], None] = None,
        **kwargs: Any,
    ) -> 'Self':
        model = super().from_data(data, modalities, **kwargs)
        _check_relations(data, list(model.modalities))
        return model

    def fit_features(
        self,
        features: Mapping[str, Tensor],
        present: Optional[Mapping[str, Tensor]] = None,
    ) -> None:
        # As they are: the encoder scales what it makes of them.
        weight = self.item_embedding.weight
        self.item_features.fit(features, present, weight.dtype)
        self.item_features.to(weight.device)

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        self.graphs.reset_parameters()

    @classmethod
    def scoring_arguments(cls, args: Mapping[str, Any]) -> list[str]:
        return ['drop_when_scoring', 'cold_items']

    def rescored(self, **kwargs: Any) -> 'DiffMM':
        r"""The same model, with which it shares all weights, scoring with other
        :obj:`drop_when_scoring` and :obj:`cold_items`."""
        out = copy.copy(self)
        out._set_scoring(**kwargs)
        return out

    def reset_parameters(self) -> None:
        r"""Draws new embeddings and weights."""
        self._draw_embeddings()
        for module in (self.encoder, self.generator, self.graphs):
            if module is not None:
                module.reset_parameters()

    @property
    def modality_weights(self) -> dict[str, float]:
        r"""The learned weight :math:`w_m` of each modality; they sum to one."""
        return dict(zip(self.modalities, self.encoder.logits.softmax(0).tolist()))

    def learned_tables(self) -> Tables:
        return self.user_embedding.weight, self.item_embedding.weight

    def tables(self) -> Tables:
        user, item = self.learned_tables()
        if self.cold_items == 'modality':
            item = item.masked_fill(self._cold_items().view(-1, 1), 0.0)
        return self._split(self._encode(user, item)[0])

    def phases(self) -> list[Phase]:
        history = self._known_history()
        self._check_trainable(history)
        loader = EdgeLoader(
            history,
            self.batch_size,
            shuffle=True,
            method=self.negatives,
            weight=self._pair_weight(history),
        )
        own = [*self.learned_tables(), *self.encoder.parameters()]
        optimizer = torch.optim.Adam(own, lr=self.lr, fused=True)
        everyone = RowBatch(torch.arange(self.num_users), history)
        phases = [
            Phase('graphs', [everyone], None, 'rebuild'),
            Phase('pairs', loader, optimizer),
        ]
        if self.generator is not None:
            rows = RowLoader(history, self.batch_size, shuffle=True)
            denoisers = self.generator.parameters()
            optimizer = torch.optim.Adam(denoisers, lr=self.denoiser_lr, fused=True)
            phases.insert(0, Phase('diffusion', rows, optimizer, 'diffusion_loss'))
        return phases

    def diffusion_loss(self, batch: RowBatch) -> dict[str, Tensor]:
        r"""The loss of the diffusion, and its two terms by modality."""
        generator, features, item = self._generator(), None, None
        if self.signal > 0:
            item = self.item_embedding.weight.detach()
            with torch.no_grad():
                features = self.encoder.project(*self.item_features())
        rows = batch.rows.to(dtype=self.item_embedding.weight.dtype)
        terms = {}
        for name, loss in zip(self.modalities, generator.losses(rows, features, item)):
            terms[name] = loss.diffusion.mean()
            if self.signal > 0:
                terms[f'{name}_signal'] = self.signal * loss.signal.mean()
        return {'total': torch.stack(list(terms.values())).sum(), **terms}

    @torch.no_grad()
    def rebuild(self, batch: RowBatch) -> dict[str, Tensor]:
        r"""Generates the graphs of the modalities anew, and draws which entries are
        dropped from them.

        Args:
            batch (RowBatch): All users.

        Returns:
            Nothing to minimise, and the share of generated edges that are training
            interactions.
        """
        self.graphs.redraw()
        zero = self.encoder.logits.new_zeros(())
        if self.generator is None or self.graphs.items is None:
            return {'total': zero}
        rows = batch.rows.to(dtype=self.item_embedding.weight.dtype)
        _, item = self.generator.generate(rows, self.rebuild_k)
        self.graphs.items.copy_(item)
        user = torch.arange(self.num_users, device=item.device).view(1, -1, 1)
        seen = torch.isin(
            user * self.num_items + item, rows.row * self.num_items + rows.col
        )
        return {'total': zero, 'seen': seen.to(zero.dtype).mean()}

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The loss of a batch of interactions and its parts."""
        user, item = self.learned_tables()
        out, features = self._encode(user, item)
        scored_user, scored_item = self._split(out)
        anchor = scored_user.index_select(0, batch.user)  # [B, C]
        positive = scored_item.index_select(0, batch.positive)
        negative = scored_item.index_select(0, batch.negative)
        bpr = bpr_loss(
            (anchor * positive).sum(1), (anchor * negative).sum(1), batch.weight
        )
        losses = {
            'bpr': bpr * (len(batch.user) / self.batch_size),
            'l2': self.l2 * (user.square().sum() + item.square().sum()),
        }
        if self.contrast > 0:
            views = self.encoder.views(user, features, self._graph(), self._graphs())
            losses['contrast'] = self.contrast * self._contrast(out, views, batch)
        return {'total': torch.stack(list(losses.values())).sum(), **losses}

    def generate_graphs(self, data: HeteroData) -> HeteroData:
        r"""The graph with a relation :obj:`('user', '<modality>', 'item')` for each
        modality, generated from its training interactions; its users need not be
        those of training.

        Args:
            data (HeteroData): A graph with a split, over the items of the model.

        Returns:
            A copy of :obj:`data`, in which each of these relations has
            :obj:`edge_index` :math:`(2, U k)`, the :obj:`rebuild_k` items of each user
            best first, and their scores as :obj:`edge_weight` :math:`(U k)`, which are
            unbounded.

        Raises:
            ValueError: If the graph has other items, or a relation of the name of a
                modality already, or the model has no diffusion.
        """
        validate(data)
        _check_relations(data, list(self.modalities))
        rows = interaction_rows(data, 'train')
        if rows.num_cols != self.num_items:
            raise ValueError(
                f"'data' needs {self.num_items} items in '{self.__class__.__name__}' "
                f'(got {rows.num_cols})'
            )
        weight = self.item_embedding.weight
        rows = rows.to(weight.device, weight.dtype)
        score, item = self._generator().generate(rows, self.rebuild_k)
        user = torch.arange(rows.num_rows).repeat_interleave(self.rebuild_k)
        out = copy.copy(data)
        for i, name in enumerate(self.modalities):
            store = out['user', name, 'item']
            store.edge_index = torch.stack([user, item[i].view(-1).cpu()])
            store.edge_weight = score[i].view(-1).cpu()
        return out

    def _set_scoring(
        self, drop_when_scoring: bool = False, cold_items: ColdItems = 'embedding'
    ) -> None:
        if cold_items not in get_args(ColdItems):
            raise ValueError(
                f"'cold_items' needs to be one of {list(get_args(ColdItems))} in "
                f"'{self.__class__.__name__}' (got '{cold_items}')"
            )
        self.drop_when_scoring = drop_when_scoring
        self.cold_items = cold_items

    def _encode(self, user: Tensor, item: Tensor) -> tuple[Tensor, list[Tensor]]:
        r"""The embeddings :math:`\mathbf{z}`, and the features they are made of."""
        x, present = self.item_features()
        features = self.encoder.features(x, present)
        adj, graphs = self._graph(), self._graphs()
        return self.encoder(user, item, features, adj, graphs, present), features

    def _contrast(self, out: Tensor, views: Tensor, batch: EdgeBatch) -> Tensor:
        parts = views.unbind(1)
        if self.anchor == 'main':
            pairs = [(out, part) for part in parts]
        else:
            pairs = list(itertools.combinations(parts, 2))
        nodes = (batch.user, batch.positive)
        return torch.stack(
            [
                node_contrast_loss(first, second, node, self.temperature)
                for pair in pairs
                for first, second, node in zip(*map(self._split, pair), nodes)
            ]
        ).sum()

    def _split(self, x: Tensor) -> Tables:
        user, item = x.split((self.num_users, self.num_items))
        return user, item

    def _draw_embeddings(self) -> None:
        for table in self.learned_tables():
            torch.nn.init.xavier_uniform_(table)

    def _generator(self) -> ModalityGraphDiffusion:
        if self.generator is None:
            raise ValueError(
                f"'{self.__class__.__name__}' has no diffusion with fusion_ratio=0: "
                f'set it to what generated graphs shall have'
            )
        return self.generator

    def _cold_items(self) -> Tensor:
        r"""The items that are known by their features alone, as a mask :math:`(I)`."""
        count = torch.bincount(self._known_history().col, minlength=self.num_items)
        _, present = self.item_features()
        cold = (count == 0).to(self.item_embedding.weight.device)
        return cold if present is None else cold & present.any(1)

    def _graph(self) -> SelfLoopAdj:
        weight, history = self.item_embedding.weight, self._known_history()

        def build() -> SelfLoopAdj:
            rows = history.to(weight.device, torch.double)
            if self.temporal is not None:
                rows = self.temporal(rows)
            return SelfLoopAdj(rows, weight.dtype)

        return self._adj.get(build, history, self.temporal, weight.device, weight.dtype)

    def _graphs(self) -> list[SelfLoopAdj]:
        r"""The graphs of the modalities, dropped in training."""
        if self.graphs.lacks_items:
            rows = self._known_history().to(self.item_embedding.weight.device)
            self.rebuild(RowBatch(torch.arange(self.num_users), rows))
        dropped = self.training or self.drop_when_scoring
        return self.graphs(self._graph(), dropped)


def _check_relations(data: HeteroData, modalities: Sequence[str]) -> None:
    for name in modalities:
        if ('user', name, 'item') in data.edge_types:
            raise ValueError(
                f"Modality '{name}' has the name of the relation ('user', '{name}', "
                f"'item'), in which its generated graph belongs: rename the features, "
                f'or remove the relation'
            )
