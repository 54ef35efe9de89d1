from typing import Any, Optional, Sequence

import torch
from torch import Tensor

from pyg_diffrec.models.baselines.multi_dae import MultiDAE
from pyg_diffrec.utils.sparse import SparseRows


class MultiVAE(MultiDAE):
    r"""The variational autoencoder with a multinomial likelihood, from the
    `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_ paper.

    .. math::
        \mathbf{z} = \boldsymbol{\mu} + \boldsymbol{\sigma} \odot
        \boldsymbol{\epsilon}, \qquad
        \mathcal{L} = \mathrm{NLL} + \beta \, \mathrm{KL} \left(
        \mathcal{N}(\boldsymbol{\mu}, \boldsymbol{\sigma}^2) \,\Vert\,
        \mathcal{N}(0, 1) \right)

    with :math:`\beta` rising on a line over the first training batches. Scores come
    from the mean.

    Args:
        num_items (int): The number of items :math:`I`.
        hidden_channels (list, optional): The hidden widths before the latent.
            (default: :obj:`(600,)`)
        beta (float, optional): What :math:`\beta` rises to. (default: :obj:`0.2`)
        anneal_batches (int, optional): The batches in which it would reach one.
            (default: :obj:`2000`)
        weight_decay (float, optional): The weight decay of AdamW.
            (default: :obj:`0.0`)
        **kwargs (optional): :obj:`latent_channels`, :obj:`dropout`, :obj:`lr`,
            :obj:`batch_size`, :obj:`temporal` and :obj:`temporal_training` of
            :class:`~pyg_diffrec.models.MultiDAE`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, logits

    Raises:
        ValueError: If a hyper-parameter is out of range.
    """

    _num_codes = 2
    num_batches: Tensor

    def __init__(
        self,
        num_items: int,
        hidden_channels: Sequence[int] = (600,),
        beta: float = 0.2,
        anneal_batches: int = 2000,
        weight_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_items, hidden_channels, weight_decay=weight_decay, **kwargs
        )
        if beta < 0:
            raise ValueError(
                f"'beta' needs to be non-negative in '{self.__class__.__name__}' "
                f'(got {beta})'
            )
        self.beta = beta
        self.anneal_batches = anneal_batches
        # Counts training batches: the annealing is part of the state.
        self.register_buffer('num_batches', torch.zeros((), dtype=torch.long))

    def latent(self, rows: SparseRows) -> tuple[Tensor, Optional[Tensor]]:
        mean, log_variance = self.encode(rows).chunk(2, dim=1)
        if not self.training:
            return mean, None
        terms = 1 + log_variance - mean.square() - log_variance.exp()
        beta = (self.num_batches / self.anneal_batches).clamp(max=self.beta)
        self.num_batches.add_(1)
        noise = torch.randn_like(mean) * (0.5 * log_variance).exp()
        return mean + noise, beta * -0.5 * terms.sum(1).mean()
