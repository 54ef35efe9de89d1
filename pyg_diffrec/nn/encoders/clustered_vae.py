from itertools import pairwise
from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.nn.readout import LinearReadout
from pyg_diffrec.nn.sparse_linear import SparseLinear
from pyg_diffrec.typing import Activation
from pyg_diffrec.utils.activation import resolve_activation
from pyg_diffrec.utils.sparse import SparseRows


class Encoding(NamedTuple):
    r"""What :meth:`ClusteredVAE.encode` yields.

    Args:
        mean (torch.Tensor): The means :math:`(B, L)`, cluster by cluster.
        log_variance (torch.Tensor): The log variances :math:`(B, L)`.
        rows (SparseRows): The rows after dropout :math:`(B, I)`: what is to be
            reconstructed.
    """

    mean: Tensor
    log_variance: Tensor
    rows: SparseRows


def split_widths(sizes: Sequence[int], width: int) -> list[int]:
    r"""Divides a width among clusters in proportion to their sizes: every cluster
    but the last gets the integer part of its share, at least one, and the last the
    rest.

    Raises:
        ValueError: If nothing is left for the last.
    """
    total = sum(sizes)
    out = [max(int(size / total * width), 1) for size in sizes[:-1]]
    rest = width - sum(out)
    if rest < 1:
        raise ValueError(
            f'A width of {width} cannot be divided among {len(sizes)} clusters of '
            f'{list(sizes)} items: use a larger width or fewer clusters'
        )
    return [*out, rest]


def _linears(channels: Sequence[int]) -> list[torch.nn.Linear]:
    return [torch.nn.Linear(a, b) for a, b in pairwise(channels)]


class ClusteredVAE(Configured, torch.nn.Module):
    r"""A variational autoencoder of interaction rows with an encoder, and optionally
    a decoder, per cluster of items, from the `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_ paper (L-DiffRec).

    .. math::
        [\boldsymbol{\mu}_c \Vert \log \boldsymbol{\sigma}^2_c] =
        \mathrm{enc}_c(\mathrm{dropout}(\mathbf{x})_c), \qquad
        \hat{\mathbf{x}} = \mathrm{dec}(\mathbf{z}_1 \Vert \ldots \Vert \mathbf{z}_C)

    The widths of all layers are divided among the clusters by
    :meth:`split_widths`. The first layer of an encoder is a sparse product. Scores
    come out in the order of the items, not of the clusters.

    Args:
        cluster (torch.Tensor): The cluster of each item :math:`(I)`, int64 in
            :math:`[0, C)`.
        encoder_channels (list, optional): The widths of the encoders over all
            clusters; the last is the latent size :math:`L`.
            (default: :obj:`(300,)`)
        decoder_channels (list, optional): The hidden widths of the decoders over
            all clusters. Without any, one linear layer maps all latents to all
            items. (default: :obj:`()`)
        dropout (float, optional): Dropout on the entries of the rows.
            (default: :obj:`0.1`)
        act (str or Callable, optional): The activation. (default: :obj:`'tanh'`)

    Shapes:
        - **rows:** interaction rows :math:`(B, I)`, sparse
        - **latent:** :math:`(B, L)`
        - **output:** logits of a multinomial over the items :math:`(B, I)`

    Raises:
        ValueError: If a cluster is empty, a width cannot be divided, or rows or
            latents are of another length.
        TypeError: If :obj:`cluster` is not int64.

    .. note::
        As in the authors' code the activation follows every layer of the encoders,
        the last included, so that mean and log variance are squashed.
        Their decoders with hidden layers lose the last layers with leaky ReLU, and
        ignore the given widths for more than one cluster, where they mirror the
        encoder instead: pass the mirrored hidden widths to get that.
    """

    cluster: Tensor
    order: Tensor
    rank: Tensor

    def __init__(
        self,
        cluster: Tensor,
        encoder_channels: Sequence[int] = (300,),
        decoder_channels: Sequence[int] = (),
        dropout: float = 0.1,
        act: Activation = 'tanh',
    ) -> None:
        super().__init__()
        if cluster.dtype != torch.long:
            raise TypeError(
                f"'cluster' needs to be a 'torch.long' tensor in "
                f"'{self.__class__.__name__}' (got '{cluster.dtype}')"
            )
        if cluster.dim() != 1 or cluster.numel() == 0 or int(cluster.min()) < 0:
            raise ValueError(
                f"'cluster' needs shape [I], with one cluster from 0 up for each item, "
                f"in '{self.__class__.__name__}' (got {list(cluster.shape)})"
            )
        if len(encoder_channels) == 0:
            raise ValueError(
                f"'encoder_channels' needs at least one width in "
                f"'{self.__class__.__name__}', the last that of the latent space"
            )
        sizes = torch.bincount(cluster).tolist()
        if min(sizes) == 0:
            raise ValueError(
                f"Cluster {sizes.index(0)} of 'cluster' has no item in "
                f"'{self.__class__.__name__}' (sizes {sizes}): use fewer clusters"
            )
        self.sizes = sizes
        self.act = resolve_activation(act)
        self.dropout = torch.nn.Dropout(dropout)
        self.register_buffer('cluster', cluster)
        self.register_buffer('order', None, persistent=False)
        self.register_buffer('rank', None, persistent=False)
        self._sort()

        widths = [split_widths(sizes, width) for width in encoder_channels]
        self.latent_sizes = widths[-1]
        self.latent_channels = sum(self.latent_sizes)
        self.encoders = torch.nn.ModuleList()
        for index, size in enumerate(sizes):
            channels = [size, *(width[index] for width in widths)]
            channels[-1] *= 2  # Mean and log variance.
            first = SparseLinear(*channels[:2])
            self.encoders.append(torch.nn.ModuleList([first, *_linears(channels[1:])]))

        self.decoders = torch.nn.ModuleList()
        if decoder_channels:
            hidden = [split_widths(sizes, width) for width in decoder_channels]
            for index, size in enumerate(sizes):
                channels = [self.latent_sizes[index]]
                channels += [*(width[index] for width in hidden), size]
                self.decoders.append(torch.nn.ModuleList(_linears(channels)))
            self.readout = None
        else:
            self.readout = LinearReadout(self.latent_channels, len(cluster))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws Glorot-normal weights; biases are zero."""
        for module in self.modules():
            if isinstance(module, (torch.nn.Linear, SparseLinear, LinearReadout)):
                torch.nn.init.xavier_normal_(module.weight)
                torch.nn.init.zeros_(module.bias)

    def encode(self, rows: SparseRows) -> Encoding:
        r"""Means and log variances of the latents."""
        if rows.num_cols != len(self.cluster):
            raise ValueError(
                f"'rows' needs {len(self.cluster)} columns in "
                f"'{self.__class__.__name__}' (got {rows.num_cols})"
            )
        rows = rows.with_value(self.dropout(rows.value))
        means, log_variances = [], []
        for items, encoder in zip(self.order.split(self.sizes), self.encoders):
            h: Any = rows.select_columns(items)
            for layer in encoder:  # type: ignore[attr-defined]
                h = self.act(layer(h))
            mean, log_variance = h.chunk(2, dim=1)
            means.append(mean)
            log_variances.append(log_variance)
        return Encoding(torch.cat(means, 1), torch.cat(log_variances, 1), rows)

    def decode(self, latent: Tensor) -> Tensor:
        r"""Logits of all items :math:`(B, I)` from latents :math:`(B, L)`."""
        if latent.dim() != 2 or latent.size(1) != self.latent_channels:
            raise ValueError(
                f"'latent' needs shape [B, {self.latent_channels}] in "
                f"'{self.__class__.__name__}' (got {list(latent.shape)})"
            )
        if self.readout is not None:
            return self.readout(latent)
        out = []
        for h, decoder in zip(latent.split(self.latent_sizes, 1), self.decoders):
            layers = list(decoder)  # type: ignore[call-overload]
            for layer in layers[:-1]:
                h = self.act(layer(h))
            out.append(layers[-1](h))
        return torch.cat(out, 1)[:, self.rank]  # Cluster order -> item order.

    def _sort(self) -> None:
        self.order = self.cluster.argsort(stable=True)
        self.rank = self.order.argsort()

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._sort()  # Other items may have come into a cluster.

    @staticmethod
    def kl_divergence(encoding: Encoding) -> Tensor:
        r"""The mean divergence from a standard normal,
        :math:`-\tfrac{1}{2} \sum (1 + \log \sigma^2 - \mu^2 - \sigma^2)`."""
        mean, log_variance, _ = encoding
        terms = 1 + log_variance - mean.square() - log_variance.exp()
        return -0.5 * terms.sum(1).mean()

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.sizes}, '
            f'latent_channels={self.latent_channels})'
        )
