from typing import TYPE_CHECKING, Any, ClassVar, Literal, Optional, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data.schema import USER_USER
from pyg_diffrec.models.baselines.pairwise import PairwiseRecommender, Tables
from pyg_diffrec.utils.checks import check_ids
from pyg_diffrec.utils.keep import Kept
from pyg_diffrec.utils.sparse import SparseRows

if TYPE_CHECKING:
    from typing_extensions import Self

Flow = Literal['source_to_target', 'target_to_source']


def row_mean(rows: SparseRows) -> SparseRows:
    r"""The weights of a mean over the entries of each row: what :obj:`rows`, all
    positive, become when divided by their sums. Empty rows stay empty."""
    return rows.with_value(rows.value / rows.row_sum()[rows.row])


class SocialRecommender(PairwiseRecommender):
    r"""An abstract class for pairwise models that know ties between users beside
    interactions. A subclass tells along which graphs it propagates (:meth:`graphs`),
    and which way ties pass messages (:attr:`flow`).

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        **kwargs (optional): Further arguments of
            :class:`~pyg_diffrec.models.baselines.pairwise.PairwiseRecommender`.

    Raises:
        ValueError: If a hyper-parameter is out of range, or there are no ties.
    """

    #: Which of its two users a tie lets receive, as in
    #: :class:`torch_geometric.nn.conv.MessagePassing`.
    flow: ClassVar[Flow] = 'target_to_source'
    #: How to do without ties, at the end of the message that there are none.
    _without_ties: ClassVar[str] = ''

    def __init__(self, num_items: int, num_users: int = 0, **kwargs: Any) -> None:
        super().__init__(num_items, num_users, **kwargs)
        self.user_embedding = torch.nn.Embedding(num_users, self.embedding_dim)
        self.item_embedding = torch.nn.Embedding(num_items, self.embedding_dim)
        #: The ties :math:`(U, U)`, by the user that receives.
        self.ties: Optional[SparseRows] = None
        self._kept_graphs = Kept()

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'Self':
        model = super().from_data(data, **kwargs)
        if model.ties is None:
            ties = torch.empty(2, 0, dtype=torch.long)
            if USER_USER in data.edge_types:
                ties = data[USER_USER].edge_index
            model.fit_ties(ties)
        return model

    def fit_ties(self, edge_index: Tensor) -> None:
        r"""Takes over the ties between users.

        Args:
            edge_index (torch.Tensor): The ties :math:`(2, E)`, each once, from its
                first to its second user.

        Raises:
            ValueError: If there is no tie, one is of an unknown user or there twice, or
                the shape is another.
            TypeError: If a user is no whole number.
        """
        name, size = self.__class__.__name__, self.num_users
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ValueError(
                f"'edge_index' needs shape [2, num_ties] in '{name}.fit_ties' (got "
                f'{list(edge_index.shape)})'
            )
        if edge_index.numel() == 0:
            raise ValueError(
                f"'{name}' needs ties between users (got none): put them into "
                f"'data[{USER_USER}].edge_index'{self._without_ties}"
            )
        source, target = (
            check_ids('edge_index', users, size, f'{name}.fit_ties')
            for users in edge_index
        )
        unique, times = (source * size + target).unique(return_counts=True)
        if unique.numel() < source.numel():
            twice = int(unique[times > 1][0])
            raise ValueError(
                f"'edge_index' needs each tie once in '{name}.fit_ties' (got that from "
                f'user {twice // size} to user {twice % size} more than once)'
            )
        if self.flow == 'source_to_target':
            source, target = target, source
        self.ties = SparseRows.from_coo(source, target, num_rows=size, num_cols=size)

    def graphs(self, interactions: SparseRows, ties: SparseRows) -> Sequence[Any]:
        r"""What is propagated along, such as
        :class:`~pyg_diffrec.utils.directed_adj.DirectedAdj`; asked for once, and then
        moved to where the embeddings are.

        Args:
            interactions (SparseRows): The training interactions :math:`(U, I)`, in
                float64 and on the CPU.
            ties (SparseRows): The ties :math:`(U, U)` by the user that receives, ones
                in float64 and on the CPU.
        """
        raise NotImplementedError

    def learned_tables(self) -> Tables:
        return self.user_embedding.weight, self.item_embedding.weight

    def _graphs(self) -> Sequence[Any]:
        weight, history, ties = (
            self.item_embedding.weight,
            self._known_history(),
            self.ties,
        )
        if ties is None:
            raise ValueError(
                f"'{self.__class__.__name__}' has no ties yet: build it with "
                f"'from_data', or call 'fit_ties' first"
            )
        where = weight.device, weight.dtype

        def build() -> Sequence[Any]:
            # From the history, as a cast of the graphs would keep lost digits lost.
            rows = history.to('cpu', torch.double)
            if self.temporal is not None:
                rows = self.temporal(rows)
            graphs = self.graphs(rows, ties.to('cpu', torch.double))
            return [graph.to(*where) for graph in graphs]

        return self._kept_graphs.get(build, history, ties, self.temporal, *where)
