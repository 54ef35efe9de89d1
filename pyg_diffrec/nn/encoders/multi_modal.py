from typing import Any, Sequence

import torch
from torch import Tensor

from pyg_diffrec.config import Configured
from pyg_diffrec.nn.encoders.modality import ModalityEncoder, Projection
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.precision import normalize
from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj


class MultiModalEncoder(Configured, torch.nn.Module):
    r"""The encoder of users and items over their interactions and over one graph per
    modality, from the `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper.

    .. math::
        \mathbf{E}_m &= \hat{\mathbf{A}} \begin{pmatrix} \mathbf{U} \\ \mathbf{F}_m
        \end{pmatrix} + \hat{\mathbf{A}} \begin{pmatrix} {(\hat{\mathbf{A}} \, [
        \mathbf{U}; \mathbf{F}_m])}_{\mathrm{users}} \\ \mathbf{I} \end{pmatrix} +
        \lambda_g \hat{\mathbf{G}}_m \begin{pmatrix} \mathbf{U} \\ \mathbf{I}
        \end{pmatrix}, \qquad
        \mathbf{H} = \sum_m w_m \mathbf{E}_m

        \mathbf{Z} &= \sum_{l=0}^{L} \hat{\mathbf{A}}^l \mathbf{H} + \lambda_n
        \frac{\mathbf{H}}{\lVert \mathbf{H} \rVert}, \qquad
        \mathbf{V}_m = \sum_{l=0}^{L} \hat{\mathbf{A}}^l \hat{\mathbf{G}}_m
        \begin{pmatrix} \mathbf{U} \\ \mathbf{F}_m \end{pmatrix}

    with embeddings :math:`\mathbf{U}` and :math:`\mathbf{I}` of users and items, the
    interactions :math:`\hat{\mathbf{A}}`, the graph :math:`\hat{\mathbf{G}}_m` of
    modality :math:`m`, projected features :math:`\mathbf{F}_m` of unit length, and
    learned weights :math:`w = \mathrm{softmax}(\mathbf{a})`. As these sum to one and
    propagation is linear, :math:`\sum_m w_m \mathbf{F}_m` travels along
    :math:`\hat{\mathbf{A}}` instead of each :math:`\mathbf{F}_m`: the same embeddings
    for two products where the formula has two per modality.

    Args:
        in_channels (list): The number of features of each modality.
        out_channels (int): The width :math:`C` of an embedding.
        projections (list): The projection of each modality, see
            :class:`~pyg_diffrec.nn.encoders.modality.ModalityEncoder`.
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`1`)
        graph_weight (float, optional): The weight :math:`\lambda_g` of modality
            graphs. (default: :obj:`0.2`)
        norm_weight (float, optional): The weight :math:`\lambda_n` of embeddings of
            unit length. (default: :obj:`0.5`)

    Shapes:
        - **user, item:** :math:`\mathbf{U}` :math:`(U, C)` and :math:`\mathbf{I}`
          :math:`(I, C)`
        - **features:** :math:`\mathbf{F}_m` :math:`(I, C)` of each modality, from
          :meth:`features`
        - **present:** which item has features of which modality :math:`(I, M)`, bool;
          all if :obj:`None`
        - **output:** :math:`\mathbf{Z}`, users and then items :math:`(U + I, C)`

    Raises:
        ValueError: If there is no modality, a size is out of range, or features or
            graphs are not one per modality.

    .. note::
        Items that lack a modality take the softmax over those they have, and with
        none of them a zero vector in place of features.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        projections: Sequence[Projection],
        num_layers: int = 1,
        graph_weight: float = 0.2,
        norm_weight: float = 0.5,
    ) -> None:
        super().__init__()
        name = self.__class__.__name__
        if len(in_channels) == 0 or len(projections) != len(in_channels):
            raise ValueError(
                f"'{name}' needs at least one modality and one of 'projections' for "
                f'each (got {len(in_channels)} and {len(projections)})'
            )
        self.num_layers = num_layers
        self.graph_weight = graph_weight
        self.norm_weight = norm_weight
        self.encoders = torch.nn.ModuleList(
            ModalityEncoder(channels, out_channels, projection)
            for channels, projection in zip(in_channels, projections)
        )
        #: The logits :math:`\mathbf{a}` of the modality weights.
        self.logits = torch.nn.Parameter(torch.zeros(len(in_channels)))

    def reset_parameters(self) -> None:
        r"""Draws new projections, and gives all modalities the same weight."""
        for encoder in self.encoders:
            assert isinstance(encoder, ModalityEncoder)
            encoder.reset_parameters()
        torch.nn.init.zeros_(self.logits)

    def project(self, x: Sequence[Tensor], present: OptTensor = None) -> list[Tensor]:
        r"""The projected features of each modality :math:`(I, C)`, zero where an item
        has none."""
        self._check_count('x', x)
        out = [encoder(part) for encoder, part in zip(self.encoders, x)]
        if present is None:
            return out
        return [part * has.view(-1, 1) for part, has in zip(out, present.unbind(1))]

    def features(self, x: Sequence[Tensor], present: OptTensor = None) -> list[Tensor]:
        r"""The projected features of unit length :math:`(I, C)` of each modality."""
        return [normalize(part) for part in self.project(x, present)]

    def forward(
        self,
        user: Tensor,
        item: Tensor,
        features: Sequence[Tensor],
        adj: SelfLoopAdj,
        graphs: Sequence[SelfLoopAdj],
        present: OptTensor = None,
    ) -> Tensor:
        self._check_count('features', features)
        if self.graph_weight != 0:
            self._check_count('graphs', graphs)
        feature = self._fuse(features, present)
        x = adj.propagate(torch.cat([user, feature]))
        x = x + adj.propagate(torch.cat([x[: len(user)], item]))
        if self.graph_weight != 0:
            start = torch.cat([user, item])
            for weight, graph in zip(self.logits.softmax(0), graphs):
                x = torch.addcmul(
                    x, weight, graph.propagate(start), value=self.graph_weight
                )
        out = self._propagate(x, adj)
        return torch.add(out, normalize(x), alpha=self.norm_weight)

    def views(
        self,
        user: Tensor,
        features: Sequence[Tensor],
        adj: SelfLoopAdj,
        graphs: Sequence[SelfLoopAdj],
    ) -> Tensor:
        r"""The views :math:`\mathbf{V}_m` of users and items through each modality
        :math:`(U + I, M, C)`, which are contrasted."""
        self._check_count('features', features)
        self._check_count('graphs', graphs)
        views = [
            graph.propagate(torch.cat([user, feature]))
            for feature, graph in zip(features, graphs)
        ]
        # All modalities travel side by side: one product per layer.
        x = torch.cat(views, dim=1)  # [U + I, M * C]
        return self._propagate(x, adj).view(len(x), len(views), -1)

    def _check_count(self, key: str, given: Sequence[Any]) -> None:
        if len(given) != len(self.encoders):
            raise ValueError(
                f"'{key}' needs one entry for each of {len(self.encoders)} modalities "
                f"in '{self.__class__.__name__}' (got {len(given)})"
            )

    def _propagate(self, x: Tensor, adj: SelfLoopAdj) -> Tensor:
        out = x
        for _ in range(self.num_layers):
            x = adj.propagate(x)
            out = out + x
        return out

    def _fuse(self, features: Sequence[Tensor], present: OptTensor) -> Tensor:
        r"""The features of all modalities, weighted :math:`(I, C)`."""
        if present is None:
            weight = self.logits.softmax(0)
        else:
            logits = self.logits.masked_fill(~present, float('-inf'))  # [I, M]
            # There is no softmax without a finite logit; these have no features.
            logits = logits.masked_fill(~present.any(1, keepdim=True), 0.0)
            weight = logits.softmax(1).t().unsqueeze(2)  # [M, I, 1]
        out = features[0] * weight[0]
        for feature, w in zip(features[1:], weight[1:]):
            out = torch.addcmul(out, feature, w)
        return out

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({list(self.encoders)}, '
            f'num_layers={self.num_layers})'
        )
