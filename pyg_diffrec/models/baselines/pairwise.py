from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data import (
    TemporalWeight,
    check_time_order,
    resolve_temporal,
    validate,
)
from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.loader.edge_loader import EdgeBatch, EdgeLoader
from pyg_diffrec.loader.negative_sampling import NegativeMethod
from pyg_diffrec.models.base import Recommender
from pyg_diffrec.nn.losses import bpr_loss
from pyg_diffrec.products import kept
from pyg_diffrec.typing import OptTensor, Phase
from pyg_diffrec.utils.sparse import SparseRows

if TYPE_CHECKING:
    from typing_extensions import Self

Tables = tuple[Tensor, Tensor]


def _gather(tables: Tables, batch: EdgeBatch) -> list[Tensor]:
    user, item = tables
    # `index_select` rather than indexing or `F.embedding`: its backward pass is the
    # fastest of the three on a CPU.
    return [
        user.index_select(0, batch.user),
        item.index_select(0, batch.positive),
        item.index_select(0, batch.negative),
    ]


def _squares(tables: Tables, batch: EdgeBatch) -> Tensor:
    r"""The sum of squares over the embeddings of a batch, each as often as it occurs.
    It costs as much as the tables are long, however large the batch."""
    user, item = tables
    item_index = torch.cat([batch.positive, batch.negative])
    counts = (
        torch.bincount(batch.user, minlength=len(user)),
        torch.bincount(item_index, minlength=len(item)),
    )
    squares = (x.square().sum(1) for x in tables)
    return torch.stack([x @ n.to(x.dtype) for x, n in zip(squares, counts)]).sum()


class PairwiseRecommender(Recommender):
    r"""An abstract class for models that score by the inner product of a user's and
    an item's embedding, and learn from pairs of a positive and a negative item.

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{(u, i, j)} \frac{w_{u,i}}{\bar{w}} \log
        \sigma (s_{u,i} - s_{u,j}) + \frac{\lambda}{2 B} \sum_{(u, i, j)}
        {\lVert \mathbf{e}_u \rVert}^2 + {\lVert \mathbf{e}_i \rVert}^2 +
        {\lVert \mathbf{e}_j \rVert}^2

    with the temporal weights :math:`w` and their mean :math:`\bar{w}` over all
    training interactions, so that an epoch weighs the same with and without them. A
    subclass tells which embeddings it learns (:meth:`learned_tables`), and may derive
    from them those that are scored (:meth:`tables`).

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
        temporal (str or dict or TemporalWeight, optional): How much recent
            interactions count more in training, see
            :meth:`pyg_diffrec.data.resolve_temporal`. Without its :obj:`rescale`,
            forms that look back from the latest give a long history less weight
            than a short one, per interaction. (default: :obj:`None`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: users are known by
          their embeddings
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, the interactions are not
            those of :obj:`num_users` users, or :obj:`temporal` meets interactions
            that are not known to be in time order.

    .. note::
        The scored embeddings are derived anew for every score, and once for an
        evaluation or a :meth:`recommend`, within
        :meth:`~pyg_diffrec.nn.keep_products`.
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
        temporal: Optional[Temporal] = None,
    ) -> None:
        super().__init__(num_items)
        self.num_users = num_users
        self.embedding_dim = embedding_dim
        self.lr = lr
        self.l2 = l2
        self.batch_size = batch_size
        self.negatives = negatives
        self.temporal: Optional[TemporalWeight] = resolve_temporal(temporal)

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'Self':
        validate(data)
        check_time_order(data, kwargs.get('temporal'), cls.__name__)
        kwargs.setdefault('num_users', data['user'].num_nodes)
        model = cls(data['item'].num_nodes, **kwargs)
        model.fit_data(data)
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
        self._check_trainable(history)
        loader = EdgeLoader(
            history,
            self.batch_size,
            shuffle=True,
            method=self.negatives,
            weight=self._pair_weight(history),
        )
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, fused=True)
        return [Phase('pairs', loader, optimizer)]

    def loss(self, batch: EdgeBatch) -> dict[str, Tensor]:
        r"""The pairwise loss of a batch, and the penalty on what it touches."""
        return self._pair_losses(batch, self.tables())

    def _pair_losses(self, batch: EdgeBatch, scored: Tables) -> dict[str, Tensor]:
        learned, parts = self.learned_tables(), _gather(scored, batch)
        user, positive, negative = parts
        bpr = bpr_loss((user * positive).sum(1), (user * negative).sum(1), batch.weight)
        few = 3 * len(batch.user) < self.num_users + self.num_items
        if few and scored[0] is learned[0]:
            square = torch.stack([part.square().sum() for part in parts]).sum()
        else:
            square = _squares(learned, batch)
        l2 = self.l2 * 0.5 * square / len(batch.user)
        return {'total': bpr + l2, 'bpr': bpr, 'l2': l2}

    def score(self, users: Tensor, history: SparseRows) -> Any:
        self._check_users(users, self.num_users)
        user, item = self._scored_tables()
        return user[users] @ item.t()

    def _scored_tables(self) -> Tables:
        if self.training:  # They may be drawn anew.
            return self.tables()
        made_of = [*self.parameters(), *self.buffers()]
        return kept(('tables', id(self)), made_of, self.tables, lasting=True)

    def _pair_weight(self, history: SparseRows) -> OptTensor:
        if self.temporal is None:
            return None
        ones = torch.ones_like(history.value, dtype=torch.double)
        weight = self.temporal(history.with_value(ones)).value
        return (weight / weight.mean()).to(history.dtype)

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
