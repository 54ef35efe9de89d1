from typing import Any

import torch

from pyg_diffrec.models.baselines.pairwise import PairwiseRecommender, Tables


class MFBPR(PairwiseRecommender):
    r"""Matrix factorisation learned from pairs of items, from the `"BPR: Bayesian
    Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_ paper.

    .. math::
        \mathrm{score}_{u,i} = \mathbf{e}_u^{\top} \mathbf{e}_i

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        **kwargs (optional): :obj:`embedding_dim`, :obj:`lr`, :obj:`l2`,
            :obj:`batch_size`, :obj:`negatives` and :obj:`temporal` of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range.

    .. note::
        The paper takes plain stochastic gradient steps, one pair at a time; we take
        Adam over batches, with one :math:`\lambda` for all embeddings instead of three.
    """

    def __init__(self, num_items: int, num_users: int = 0, **kwargs: Any) -> None:
        super().__init__(num_items, num_users, **kwargs)
        self.user_embedding = torch.nn.Embedding(num_users, self.embedding_dim)
        self.item_embedding = torch.nn.Embedding(num_items, self.embedding_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws embeddings of deviation 0.1."""
        torch.nn.init.normal_(self.user_embedding.weight, std=0.1)
        torch.nn.init.normal_(self.item_embedding.weight, std=0.1)

    def learned_tables(self) -> Tables:
        return self.user_embedding.weight, self.item_embedding.weight
