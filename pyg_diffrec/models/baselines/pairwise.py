from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data import interaction_rows, validate
from pyg_diffrec.loader.edge_loader import EdgeBatch, EdgeLoader
from pyg_diffrec.loader.negative_sampling import NegativeMethod
from pyg_diffrec.models.base import Recommender
from pyg_diffrec.nn.losses import bpr_loss
from pyg_diffrec.typing import Phase
from pyg_diffrec.utils.sparse import SparseRows

Tables = tuple[Tensor, Tensor]


def _gather(tables: Tables, batch: EdgeBatch) -> list[Tensor]:
    user, item = tables
    # `F.embedding` rather than indexing: its backward pass is the faster one.
    return [
        F.embedding(batch.user, user),
        F.embedding(batch.positive, item),
        F.embedding(batch.negative, item),
    ]


class PairwiseRecommender(Recommender):
    r"""An abstract class for models that score by the inner product of a user's and
    an item's embedding, and learn from pairs of a positive and a negative item.

    .. math::
        \mathcal{L} = \mathcal{L}_{\mathrm{BPR}} + \frac{\lambda}{2 B}
        \sum_{(u, i, j)} {\lVert \mathbf{e}_u \rVert}^2 +
        {\lVert \mathbf{e}_i \rVert}^2 + {\lVert \mathbf{e}_j \rVert}^2

    A subclass tells which embeddings it learns (:meth:`learned_tables`), and may
    derive from them those that are scored (:meth:`tables`).

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        embedding_dim (int, optional): The length :math:`C` of an embedding.
            (default: :obj:`64`)
        lr (float, optional): The learning rate of Adam. (default: :obj:`1e-3`)
        l2 (float, optional): The weight :math:`\lambda` on the learned embeddings
            of a batch. (default: :obj:`1e-4`)
        batch_size (int, optional): The number of interactions per training batch.
            (default: :obj:`2048`)
        negatives (str, optional): How negatives are drawn, :obj:`'uniform'` or
            :obj:`'popularity'`. (default: :obj:`'uniform'`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: users are known by
          their embeddings
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, or the interactions are
            not those of :obj:`num_users` users.

    .. note::
        In evaluation mode and under :meth:`torch.no_grad` the scored embeddings are
        kept until a weight changes, a pass with gradients comes through, or
        :meth:`train` or :meth:`eval` is called: an evaluation derives them once.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        embedding_dim: int = 64,
        lr: float = 1e-3,
        l2: float = 1e-4,
        batch_size: int = 2048,
        negatives: NegativeMethod = 'uniform',
    ) -> None:
        super().__init__(num_items)
        name = self.__class__.__name__
        if num_users < 0 or l2 < 0:
            key, value = ('num_users', num_users) if num_users < 0 else ('l2', l2)
            raise ValueError(f"'{key}' must not be negative in '{name}' (got {value})")
        for key, value in (
            ('embedding_dim', embedding_dim),
            ('lr', lr),
            ('batch_size', batch_size),
        ):
            if value <= 0:
                raise ValueError(
                    f"'{key}' needs to be positive in '{name}' (got {value})"
                )
        self.num_users = num_users
        self.embedding_dim = embedding_dim
        self.lr = lr
        self.l2 = l2
        self.batch_size = batch_size
        self.negatives = negatives
        self._kept: Optional[tuple[tuple, Tables]] = None

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'PairwiseRecommender':
        validate(data)
        kwargs.setdefault('num_users', data['user'].num_nodes)
        model = cls(data['item'].num_nodes, **kwargs)
        model.fit_history(interaction_rows(data, 'train'))
        return model

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        if history.num_rows != self.num_users:
            self.history = None
            raise ValueError(
                f"'history' needs {self.num_users} rows in "
                f"'{self.__class__.__name__}' (got {history.num_rows}): set "
                f"'num_users', or build the model with 'from_data'"
            )
        self._kept = None

    def learned_tables(self) -> Tables:
        r"""The embeddings that are parameters, of all users :math:`(U, C)` and
        items :math:`(I, C)`."""
        raise NotImplementedError

    def tables(self) -> Tables:
        r"""The embeddings that are scored, of all users :math:`(U, C)` and items
        :math:`(I, C)`; the learned ones, unless a subclass knows better."""
        return self.learned_tables()

    def phases(self) -> list[Phase]:
        history = self._known_history()
        loader = EdgeLoader(
            history, self.batch_size, shuffle=True, method=self.negatives
        )
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, fused=True)
        return [Phase('pairs', loader, optimizer)]

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The pairwise loss of a batch, and the penalty on what it touches."""
        if torch.is_grad_enabled():
            self._kept = None
        learned, scored = self.learned_tables(), self.tables()
        parts = _gather(learned, batch)
        user, positive, negative = (
            parts if scored[0] is learned[0] else _gather(scored, batch)
        )
        bpr = bpr_loss((user * positive).sum(1), (user * negative).sum(1))
        square = torch.stack([part.square().sum() for part in parts]).sum()
        l2 = self.l2 * 0.5 * square / len(batch.user)
        return {'total': bpr + l2, 'bpr': bpr, 'l2': l2}

    def score(self, users: Tensor, history: SparseRows) -> Any:
        user, item = self._scored_tables()
        return user[users] @ item.t()

    def train(self, mode: bool = True) -> 'PairwiseRecommender':
        self._kept = None
        return super().train(mode)

    def _scored_tables(self) -> Tables:
        if torch.is_grad_enabled() or self.training:
            self._kept = None
            return self.tables()
        key = tuple((x.data_ptr(), x.dtype, x._version) for x in self.learned_tables())
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self.tables())
        return self._kept[1]

    def _known_history(self) -> SparseRows:
        if self.history is None:
            raise ValueError(
                f"'{self.__class__.__name__}' has no interactions yet: build it with "
                f"'from_data', or call 'fit_history' first"
            )
        return self.history

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_users={self.num_users}, embedding_dim={self.embedding_dim})'
        )
