from itertools import pairwise
from typing import Any, Optional, Sequence

import torch
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.loader.row_loader import RowLoader
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.nn.losses import multinomial_loss
from pyg_diffrec.nn.readout import LinearReadout
from pyg_diffrec.nn.rows import AffineRows
from pyg_diffrec.nn.sparse_linear import SparseLinear
from pyg_diffrec.typing import Phase, RowBatch
from pyg_diffrec.utils.precision import at_least_float
from pyg_diffrec.utils.sparse import SparseRows


class MultiDAE(RowRecommender):
    r"""The denoising autoencoder with a multinomial likelihood, from the
    `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_ paper.

    .. math::
        \mathbf{z} = \mathrm{enc}(\mathrm{dropout}(\mathbf{x} /
        \lVert \mathbf{x} \rVert)), \qquad
        \mathcal{L} = - \sum_i x_i \log \mathrm{softmax}{(\mathrm{dec}(\mathbf{z}))}_i

    The hidden widths are passed through and back, with tanh after every layer but
    the last. The first layer is a sparse product, and scores are decoded in blocks
    of items.

    Args:
        num_items (int): The number of items :math:`I`.
        hidden_channels (list, optional): The hidden widths before the latent.
            (default: :obj:`()`)
        latent_channels (int, optional): The latent size. (default: :obj:`200`)
        dropout (float, optional): Dropout on interactions. (default: :obj:`0.5`)
        lr (float, optional): The learning rate of AdamW. (default: :obj:`1e-3`)
        weight_decay (float, optional): The weight decay of AdamW.
            (default: :obj:`0.01`)
        batch_size (int, optional): The number of users per training batch.
            (default: :obj:`500`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions. (default: :obj:`None`)
        temporal_training (bool, optional): Whether training uses them too, or
            scoring alone. (default: :obj:`True`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, logits

    Raises:
        ValueError: If a width, the learning rate or the batch size is not positive,
            or :obj:`dropout` lies outside :math:`[0, 1)`.

    .. note::
        The authors penalise the squared weights; here weight decay is decoupled.
    """

    weighs_training = True

    def __init__(
        self,
        num_items: int,
        hidden_channels: Sequence[int] = (),
        latent_channels: int = 200,
        dropout: float = 0.5,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        batch_size: int = 500,
        temporal: Optional[Temporal] = None,
        temporal_training: bool = True,
    ) -> None:
        super().__init__(num_items, temporal, temporal_training)
        self.dropout = torch.nn.Dropout(dropout)
        self.latent_channels = latent_channels
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        channels = [num_items, *hidden_channels, self._num_codes * latent_channels]
        self.encoder = torch.nn.ModuleList([SparseLinear(*channels[:2])])
        self.encoder.extend(torch.nn.Linear(a, b) for a, b in pairwise(channels[1:]))
        back = [latent_channels, *reversed(hidden_channels)]
        self.decoder = torch.nn.ModuleList(
            torch.nn.Linear(a, b) for a, b in pairwise(back)
        )
        self.readout = LinearReadout(back[-1], num_items)
        self.reset_parameters()

    #: How many vectors of the latent size the encoder yields.
    _num_codes = 1

    def reset_parameters(self) -> None:
        r"""Draws Glorot-normal weights and biases of deviation 0.001."""
        for layer in [*self.encoder, *self.decoder, self.readout]:
            torch.nn.init.xavier_normal_(layer.weight)
            torch.nn.init.normal_(layer.bias, std=1e-3)

    def encode(self, rows: SparseRows) -> Tensor:
        r"""The output of the last encoder layer, before its activation."""
        value = at_least_float(rows.value)
        norm = rows.row_sum(value.square()).sqrt().clamp(min=1e-12)
        value = (value / norm[rows.row]).to(rows.dtype)
        h: Any = rows.with_value(self.dropout(value))
        *hidden, last = list(self.encoder)
        for layer in hidden:
            h = layer(h).tanh()
        return last(h)

    def latent(self, rows: SparseRows) -> tuple[Tensor, Optional[Tensor]]:
        r"""The latent :math:`(B, L)`, and what its form costs beside the
        reconstruction."""
        return self.encode(rows).tanh(), None

    def decode(self, latent: Tensor) -> Tensor:
        r"""The hidden state that the last layer reads :math:`(B, K)`."""
        for layer in self.decoder:
            latent = layer(latent).tanh()
        return latent

    def phases(self) -> list[Phase]:
        loader = RowLoader(self.training_rows(), self.batch_size, shuffle=True)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        return [Phase('autoencoder', loader, optimizer)]

    def loss(self, batch: RowBatch) -> dict[str, Tensor]:
        r"""The negative log-likelihood of a batch of users, and what the latent
        costs."""
        rows = batch.rows.to(dtype=self.readout.weight.dtype)
        latent, cost = self.latent(rows)
        nll = multinomial_loss(self.readout(self.decode(latent)), rows)
        if cost is None:
            return {'total': nll}
        return {'total': nll + cost, 'reconstruction': nll, 'kl': cost}

    def score(self, users: Tensor, history: SparseRows) -> Any:
        rows = self.weigh(history.to(dtype=self.readout.weight.dtype))
        latent, _ = self.latent(rows)
        return AffineRows(rows, 0.0).with_state(self.readout, self.decode(latent))

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'latent_channels={self.latent_channels})'
        )
