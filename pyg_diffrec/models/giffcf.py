from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.diffusion.smoothing import GraphSmoothing
from pyg_diffrec.loader.row_loader import RowLoader
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.nn.denoisers.giffcf import GiffCFDenoiser
from pyg_diffrec.nn.item_graph import ItemGraph
from pyg_diffrec.typing import Phase, RowBatch
from pyg_diffrec.utils.sparse import SparseRows


class GiffCF(RowRecommender):
    r"""The recommender that smooths interaction rows over the item-item graph and
    learns to refine and sharpen them, from the `"Graph Signal Diffusion Model for
    Collaborative Filtering" <https://arxiv.org/abs/2311.08744>`_ paper.

    .. math::
        \mathcal{L} = \mathbb{E}_t \left[ {\lVert \mathbf{x}_0 -
        \mathrm{denoiser}(\mathbf{z}_t, t, \mathbf{c}, \mathbf{S} \mathbf{c})
        \rVert}^2 \right], \qquad \mathbf{z}_t = \mathbf{x}_0 + \alpha
        \tfrac{t + 1}{T} (\mathbf{S} \mathbf{x}_0 - \mathbf{x}_0), \qquad
        \mathbf{c} = \mathrm{dropout}(\mathbf{x}_0)

    The score is :math:`\mathbf{x}_0` after the reverse chain of
    :class:`~pyg_diffrec.diffusion.GraphSmoothing`, conditioned on the whole row. The
    operator :math:`\mathbf{S}` of the training interactions
    (:class:`~pyg_diffrec.nn.ItemGraph`) is two sparse products.

    Args:
        num_items (int): The number of items :math:`I`.
        embedding_dim (int, optional): The width :math:`H` of the item embeddings.
            (default: :obj:`200`)
        mixer_channels (int, optional): The hidden width of the mixers.
            (default: :obj:`2`)
        time_embedding_dim (int, optional): The length of the timestep code.
            (default: :obj:`20`)
        dropout (float, optional): Dropout on the condition. (default: :obj:`0.5`)
        num_timesteps (int, optional): The number of steps :math:`T`.
            (default: :obj:`3`)
        alpha (float, optional): The smoothing strength at the last step.
            (default: :obj:`1.5`)
        noise_scale (float, optional): The deviation of the noise at the last step,
            in training. (default: :obj:`0.0`)
        decay (float, optional): The factor per reverse step on what the denoiser
            did not explain. (default: :obj:`0.5`)
        timestep_sampler (str, optional): :obj:`'uniform'` or :obj:`'importance'`.
            (default: :obj:`'uniform'`)
        lr (float, optional): The learning rate of Adam. (default: :obj:`1e-3`)
        batch_size (int, optional): The number of users per training batch.
            (default: :obj:`100`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions in the rows that are scored; training and the graph are
            those of unweighted rows. (default: :obj:`None`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, or the model scores or
            trains before it knows its training interactions.

    .. note::
        The graph comes from :meth:`fit_history` (which :meth:`from_data` calls) and is
        part of the state, so that a model can be served from its state alone.
        Training and scoring need :math:`O(B I + B U)` numbers besides the
        :math:`O(I H + \mathrm{nnz})` of weights and graph; nothing is of size
        :math:`I \times I` or :math:`U \times I`.

    .. note::
        We follow the authors' code, where :math:`\mathbf{S}` holds
        :math:`\mathbf{D}_U^{-1/2}`, and its released settings without noise; the
        optional ideal low-pass filter beside :math:`\mathbf{S}` is left out, since
        they switch it off for ml-1m.
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 200,
        mixer_channels: int = 2,
        time_embedding_dim: int = 20,
        dropout: float = 0.5,
        num_timesteps: int = 3,
        alpha: float = 1.5,
        noise_scale: float = 0.0,
        decay: float = 0.5,
        timestep_sampler: str = 'uniform',
        lr: float = 1e-3,
        batch_size: int = 100,
        temporal: Optional[Temporal] = None,
    ) -> None:
        super().__init__(num_items, temporal)
        self.diffusion = GraphSmoothing(
            self._smooth, num_timesteps, alpha, noise_scale, decay, timestep_sampler
        )
        self.denoiser = GiffCFDenoiser(
            num_items, embedding_dim, mixer_channels, time_embedding_dim
        )
        self.graph: Optional[ItemGraph] = None
        self.dropout = dropout
        self.lr = lr
        self.batch_size = batch_size

    def reset_parameters(self) -> None:
        r"""Draws new weights and forgets the loss history."""
        self.denoiser.reset_parameters()
        self.diffusion.reset_parameters()

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        self.graph = ItemGraph(history).to(self.device)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        if self.graph is None and f'{prefix}graph.rowptr' in state_dict:
            # Of the right number of items; the rest comes with the state.
            zero = torch.zeros(1, dtype=torch.long)
            rows = SparseRows.from_coo(zero, zero, num_rows=1, num_cols=self.num_items)
            self.graph = ItemGraph(rows).to(self.device)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def phases(self) -> list[Phase]:
        loader = RowLoader(self.training_rows(), self.batch_size, shuffle=True)
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, fused=True)
        return [Phase('diffusion', loader, optimizer)]

    def loss(self, batch: RowBatch) -> dict[str, Tensor]:
        r"""The diffusion loss of a batch of users."""
        rows = batch.rows.to(dtype=self.denoiser.weight.dtype)
        x_start = rows.to_dense()
        c = F.dropout(x_start, self.dropout, self.training)
        # Both in one pass over the graph.
        smoothed, c_smoothed = self._smooth(torch.cat([x_start, c])).chunk(2)
        terms = self.diffusion.training_losses(
            self.denoiser, x_start, cond=(c, c_smoothed), smoothed=smoothed
        )
        return {'total': terms.loss.mean()}

    def score(self, users: Tensor, history: SparseRows) -> Any:
        rows = self.weigh(history.to(dtype=self.denoiser.weight.dtype))
        x = rows.to_dense()
        smoothed = self._smooth(x)
        return self.diffusion.p_sample_loop(
            self.denoiser, x, cond=(x, smoothed), smoothed=smoothed
        )

    def _smooth(self, x: Tensor) -> Tensor:
        if self.graph is None:
            raise ValueError(
                f"'{self.__class__.__name__}' has no item graph yet: build it with "
                f"'from_data', or call 'fit_history' first"
            )
        return self.graph(x)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'embedding_dim={self.denoiser.embedding_dim}, '
            f'num_timesteps={self.diffusion.num_timesteps})'
        )
