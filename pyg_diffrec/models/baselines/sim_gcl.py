from typing import Any

import torch
from torch import Tensor

from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines.light_gcn import LightGCN
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.nn.losses import info_nce_loss
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.precision import normalize


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
            (default: :obj:`0.02`)
        lr (float, optional): The learning rate of Adam. (default: :obj:`1e-2`)
        batch_size (int, optional): The number of interactions per training batch.
            However small it is, a step propagates over the whole graph: an epoch
            of few large ones is the faster. (default: :obj:`16384`)
        **kwargs (optional): Further arguments of
            :class:`~pyg_diffrec.models.LightGCN`, without its layer weights and
            dropout.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range.
        TypeError: If layer weights or a dropout are given.

    .. note::
        As in the authors' code the layers are averaged without the first. The
        perturbed propagations share one backward pass with the plain one, of which
        they differ by constants.
    """

    takes_no = ('alpha', 'edge_dropout')

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        num_layers: int = 2,
        eps: float = 0.1,
        temperature: float = 0.2,
        contrast: float = 0.02,
        lr: float = 1e-2,
        batch_size: int = 16384,
        **kwargs: Any,
    ) -> None:
        for key in self.takes_no:
            if key in kwargs:
                raise TypeError(
                    f"'{self.__class__.__name__}' takes no '{key}': it averages its "
                    f'layers and perturbs them instead'
                )
        super().__init__(
            num_items, num_users, num_layers, lr=lr, batch_size=batch_size, **kwargs
        )
        check_whole(self.__class__.__name__, num_layers=num_layers)
        self.num_layers = num_layers
        self.eps = eps
        self.temperature = temperature
        self.contrast = contrast

    def tables(self) -> Tables:
        return _mean(self._layers())

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The loss of LightGCN, and the contrast of a batch."""
        layers = self._layers()
        tables = _mean(layers)
        losses = self._pair_losses(batch, tables)
        contrasts = []
        for table, offset, node in zip(
            tables, self._offsets(layers), (batch.user, batch.positive)
        ):
            index = node.unique()
            plain, offset = table.index_select(0, index), offset.index_select(0, index)
            first, second = (plain.unsqueeze(1) + offset).unbind(1)  # [N, 2, C]
            contrasts.append(info_nce_loss(first, second, self.temperature))
        contrast = self.contrast * torch.stack(contrasts).sum()
        return {
            **losses,
            'total': losses['total'] + contrast,
            'contrast': contrast,
        }

    def _layers(self) -> list[Tables]:
        adj, tables = self._graph(), self.learned_tables()
        layers = []
        for _ in range(self.num_layers):
            tables = adj.propagate(*tables)
            layers.append(tables)
        return layers

    @torch.no_grad()
    def _offsets(self, layers: list[Tables]) -> Tables:
        r"""How far two perturbed propagations end from the plain one
        :math:`(U, 2, C)` and :math:`(I, 2, C)`."""
        # Perturbations have no gradient and propagation is linear: what they change
        # propagates on its own, and the plain layers alone go backward.
        user, item = (x.new_zeros(len(x), 2, x.size(1)) for x in layers[0])
        perturbed = []
        for depth, layer in enumerate(layers):
            if depth > 0:
                both = self._graph().propagate(user.flatten(1), item.flatten(1))
                user, item = both[0].view_as(user), both[1].view_as(item)
            user, item = self._perturb(user, layer[0]), self._perturb(item, layer[1])
            perturbed.append((user, item))
        return _mean(perturbed)

    def _perturb(self, offset: Tensor, layer: Tensor) -> Tensor:
        sign = (layer.unsqueeze(1) + offset).sign_()
        noise = normalize(torch.rand_like(offset), dim=2)
        return torch.addcmul(offset, sign, noise, value=self.eps)


def _mean(layers: list[Tables]) -> Tables:
    users, items = zip(*layers)
    return torch.stack(users).mean(0), torch.stack(items).mean(0)
