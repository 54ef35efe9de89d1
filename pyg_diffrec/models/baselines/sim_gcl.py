from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines.light_gcn import LightGCN
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.nn.losses import info_nce_loss


class SimGCL(LightGCN):
    r"""LightGCN with a contrast between two randomly perturbed propagations, from the
    `"Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for
    Recommendation" <https://arxiv.org/abs/2112.08679>`_ paper.

    .. math::
        \mathbf{E}^{(l)} = \hat{\mathbf{A}} \mathbf{E}^{(l-1)} \; \left( + \;
        \epsilon \, \mathrm{sign}(\mathbf{E}^{(l)}) \odot \frac{\boldsymbol{\Delta}}
        {\lVert \boldsymbol{\Delta} \rVert} \right), \qquad
        \mathbf{E} = \tfrac{1}{L} \sum_{l=1}^{L} \mathbf{E}^{(l)}

        \mathcal{L} = \mathcal{L}_{\mathrm{LightGCN}} + \lambda_{c} \left(
        \mathrm{InfoNCE}_{\mathrm{users}} + \mathrm{InfoNCE}_{\mathrm{items}} \right)

    with uniform :math:`\boldsymbol{\Delta}`, and the contrast among the users and
    positive items of a batch, each once.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`2`)
        eps (float, optional): The length :math:`\epsilon` of a perturbation.
            (default: :obj:`0.1`)
        temperature (float, optional): The temperature of InfoNCE.
            (default: :obj:`0.2`)
        contrast (float, optional): The weight :math:`\lambda_c`.
            (default: :obj:`0.1`)
        **kwargs (optional): Further arguments of
            :class:`~pyg_diffrec.models.LightGCN`, without its layer weights and
            dropout.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range.

    .. note::
        As in the authors' code the layers are averaged without the first.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        num_layers: int = 2,
        eps: float = 0.1,
        temperature: float = 0.2,
        contrast: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_items, num_users, num_layers, **kwargs)
        if num_layers < 1 or eps < 0 or temperature <= 0 or contrast < 0:
            raise ValueError(
                f"'num_layers' and 'temperature' need to be positive, 'eps' and "
                f"'contrast' non-negative in '{self.__class__.__name__}' (got "
                f'{num_layers}, {temperature}, {eps} and {contrast})'
            )
        self.num_layers = num_layers
        self.eps = eps
        self.temperature = temperature
        self.contrast = contrast

    def tables(self) -> Tables:
        return self._propagate(eps=0.0)

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The loss of LightGCN, and the contrast of a batch."""
        losses = super().loss(batch)
        nodes = batch.user.unique(), batch.positive.unique()
        views = [self._propagate(self.eps) for _ in range(2)]
        contrast = torch.stack(
            [
                info_nce_loss(first[index], second[index], self.temperature)
                for first, second, index in zip(*views, nodes)
            ]
        ).sum()
        contrast = self.contrast * contrast
        return {
            **losses,
            'total': losses['total'] + contrast,
            'contrast': contrast,
        }

    def _propagate(self, eps: float) -> Tables:
        adj, tables = self._graph(), self.learned_tables()
        layers = []
        for _ in range(self.num_layers):
            tables = adj.propagate(*tables)
            if eps > 0:
                tables = _perturb(tables[0], eps), _perturb(tables[1], eps)
            layers.append(tables)
        users, items = zip(*layers)
        return torch.stack(users).mean(0), torch.stack(items).mean(0)


def _perturb(x: Tensor, eps: float) -> Tensor:
    return x + eps * x.sign() * F.normalize(torch.rand_like(x))
