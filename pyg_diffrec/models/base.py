import copy
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data import (
    TemporalWeight,
    check_time_order,
    interaction_rows,
    resolve_temporal,
    validate,
)
from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.typing import Phase
from pyg_diffrec.utils.arguments import Checked
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.topk import masked_topk


class Recommendation(NamedTuple):
    r"""Top-K lists, best first.

    Args:
        item (torch.Tensor): The items :math:`(B, k)`, int64; :obj:`-1` where a user
            has fewer than :obj:`k` unseen items left.
        score (torch.Tensor): Their scores :math:`(B, k)`, no unit;
            :math:`-\infty` where there is no item.
    """

    item: Tensor
    score: Tensor


class Recommender(Checked, torch.nn.Module):
    r"""An abstract class for models that score all items for a user.

    What training and evaluation ask of a model: :meth:`from_data`, :meth:`phases`,
    a loss per phase, and :meth:`score`.

    Args:
        num_items (int): The number of items :math:`I`.

    Raises:
        ValueError: If :obj:`num_items` is not positive.
    """

    #: Hyper-parameters of a base that the model does not take.
    takes_no: tuple[str, ...] = ()
    #: Whether the model comes out the same whatever the seed.
    deterministic: bool = False

    def __init__(self, num_items: int) -> None:
        super().__init__()
        if num_items < 1:
            raise ValueError(
                f"'num_items' needs to be positive in "
                f"'{self.__class__.__name__}' (got {num_items})"
            )
        self.num_items = num_items
        #: The training interactions of the users known to the model.
        self.history: Optional[SparseRows] = None

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'Recommender':
        r"""Builds the model for a graph and takes over its training interactions.

        Args:
            data (HeteroData): A graph with a split, see
                :meth:`pyg_diffrec.data.validate`.
            **kwargs (optional): The hyper-parameters.

        Raises:
            ValueError: If the graph is invalid or a hyper-parameter out of range.
        """
        validate(data)
        model = cls(data['item'].num_nodes, **kwargs)
        model.fit_history(interaction_rows(data, 'train'))
        return model

    def fit_history(self, history: SparseRows) -> None:
        r"""Takes over the training interactions :math:`(U, I)`; models in closed
        form are solved here."""
        if history.num_cols != self.num_items:
            raise ValueError(
                f"'history' needs {self.num_items} columns in "
                f"'{self.__class__.__name__}' (got {history.num_cols})"
            )
        self.history = history

    def phases(self) -> list[Phase]:
        r"""What an epoch trains; empty for models in closed form."""
        return []

    @classmethod
    def scoring_arguments(cls, args: Mapping[str, Any]) -> list[str]:
        r"""The names of those hyper-parameters that, beside the others in
        :obj:`args`, change scores but neither weights nor training:
        :meth:`rescored` takes them."""
        return []

    def rescored(self, **kwargs: Any) -> 'Recommender':
        r"""The same model, with which it shares all weights, scoring with other
        :meth:`scoring_arguments`."""
        if kwargs:
            raise ValueError(
                f"'{self.__class__.__name__}' has no hyper-parameters of scoring "
                f'alone (got {sorted(kwargs)})'
            )
        return copy.copy(self)

    def score(self, users: Tensor, history: SparseRows) -> Any:
        r"""Scores of all items.

        Args:
            users (torch.Tensor): The users :math:`(B)`, int64.
            history (SparseRows): The interactions they are scored from
                :math:`(B, I)`.

        Shapes:
            - **output:** :math:`(B, I)`, higher is better, no unit; a tensor, or
              :class:`~pyg_diffrec.nn.AffineRows`, which yields it in blocks
        """
        raise NotImplementedError

    def recommend(
        self, users: Union[Tensor, Sequence[int]], k: int, batch_size: int = 1024
    ) -> Recommendation:
        r"""The best :obj:`k` items the users have not interacted with in training.

        Args:
            users (torch.Tensor or list): The users :math:`(B)`.
            k (int): The length of a list.
            batch_size (int, optional): The number of users scored at once; it does
                not change the result. (default: :obj:`1024`)

        Raises:
            ValueError: If a user is unknown, or :obj:`k` lies outside
                :math:`[1, I]`.
        """
        if self.history is None:
            raise ValueError(
                f"'{self.__class__.__name__}' knows no users yet: build it with "
                f"'from_data', or call 'fit_history' first"
            )
        users = torch.as_tensor(users, dtype=torch.long).view(-1).cpu()
        num_users = self.history.num_rows
        bad = users[(users < 0) | (users >= num_users)]
        if bad.numel() > 0:
            raise ValueError(
                f"'users' need to lie in [0, {num_users}) in "
                f"'{self.__class__.__name__}' (got {int(bad[0])}); for new users "
                f"call 'recommend_rows' with their interactions"
            )
        return self._recommend(users, self.history.index_select(users), k, batch_size)

    @torch.no_grad()
    def _recommend(
        self, users: Tensor, rows: SparseRows, k: int, batch_size: int
    ) -> Recommendation:
        was_training = self.training
        self.eval()
        items, scores = [], []
        for chunk in torch.arange(len(users)).split(batch_size):
            history = rows.index_select(chunk).to(self.device)
            score, item = masked_topk(
                self.score(users[chunk].to(self.device), history), k, exclude=history
            )
            scores.append(score.cpu())
            items.append(item.cpu())
        self.train(was_training)
        if not items:
            return Recommendation(torch.empty(0, k).long(), torch.empty(0, k))
        score = torch.cat(scores)
        item = torch.cat(items).masked_fill(score == float('-inf'), -1)
        return Recommendation(item, score)

    @property
    def device(self) -> torch.device:
        for tensor in [*self.parameters(), *self.buffers()]:
            return tensor.device
        return torch.device('cpu')

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items})'


class RowRecommender(Recommender):
    r"""An abstract class for models that score items from a row of interactions
    alone, and so serve users never seen in training.

    Args:
        num_items (int): The number of items :math:`I`.
        temporal (str or dict or TemporalWeight, optional): How much recent
            interactions of a row count more, see
            :meth:`pyg_diffrec.data.resolve_temporal`. (default: :obj:`None`)
        temporal_training (bool, optional): Whether training uses them too, or
            scoring alone; without meaning where :attr:`weighs_training` is false.
            (default: :obj:`True`)
    """

    #: Whether training may use temporal weights; otherwise scoring alone does.
    weighs_training: bool = False

    def __init__(
        self,
        num_items: int,
        temporal: Optional[Temporal] = None,
        temporal_training: bool = True,
    ) -> None:
        super().__init__(num_items)
        self.temporal: Optional[TemporalWeight] = resolve_temporal(temporal)
        self.temporal_training = temporal_training

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'Recommender':
        check_time_order(data, kwargs.get('temporal'), cls.__name__)
        return super().from_data(data, **kwargs)

    @classmethod
    def scoring_arguments(cls, args: Mapping[str, Any]) -> list[str]:
        trained = cls.weighs_training and args.get('temporal_training', True)
        if trained and args.get('temporal') is not None:
            return []
        return ['temporal', 'temporal_training']

    def rescored(self, **kwargs: Any) -> 'RowRecommender':
        r"""The same model, with which it shares all weights, scoring with other
        temporal weights.

        Args:
            **kwargs: :obj:`temporal`; :obj:`temporal_training` is taken over.
        """
        out = copy.copy(self)
        out.temporal = resolve_temporal(kwargs.get('temporal'))
        out.temporal_training = kwargs.get('temporal_training', True)
        return out

    def weigh(self, rows: SparseRows) -> SparseRows:
        r"""The rows with their temporal weights, if the model has any."""
        return rows if self.temporal is None else self.temporal(rows)

    def training_rows(self) -> SparseRows:
        r"""The training interactions :math:`(U, I)`, weighted if training uses
        temporal weights.

        Raises:
            ValueError: If the model does not know them yet.
        """
        if self.history is None:
            raise ValueError(
                f"'{self.__class__.__name__}' has no interactions to train on: build "
                f"it with 'from_data', or call 'fit_history' first"
            )
        if self.weighs_training and self.temporal_training:
            return self.weigh(self.history)
        return self.history

    def recommend_rows(
        self,
        rows: Union[SparseRows, Sequence[Sequence[int]]],
        k: int,
        batch_size: int = 1024,
    ) -> Recommendation:
        r"""The best :obj:`k` items for given interactions, which are left out.

        Args:
            rows (SparseRows or list): The interactions :math:`(B, I)`, or one list
                of items per user; oldest first where time matters.
            k (int): The length of a list.
            batch_size (int, optional): The number of users scored at once; it does
                not change the result. (default: :obj:`1024`)

        Raises:
            ValueError: If an item is unknown or listed twice for a user, or
                :obj:`k` lies outside :math:`[1, I]`.
        """
        if not isinstance(rows, SparseRows):
            rows = self._rows_of(rows)
        if rows.num_cols != self.num_items:
            raise ValueError(
                f"'rows' need {self.num_items} columns in "
                f"'{self.__class__.__name__}' (got {rows.num_cols})"
            )
        users = torch.arange(rows.num_rows)
        return self._recommend(users, rows.to('cpu'), k, batch_size)

    def _rows_of(self, rows: Sequence[Sequence[int]]) -> SparseRows:
        count = torch.tensor([len(row) for row in rows], dtype=torch.long)
        item = torch.tensor([i for row in rows for i in row], dtype=torch.long)
        user = torch.arange(len(rows)).repeat_interleave(count)
        bad = item[(item < 0) | (item >= self.num_items)]
        if bad.numel() > 0:
            raise ValueError(
                f"'rows' need items in [0, {self.num_items}) in "
                f"'{self.__class__.__name__}' (got {int(bad[0])})"
            )
        key = user * self.num_items + item
        unique, seen = key.unique(return_counts=True)
        if unique.numel() < key.numel():
            twice = int(unique[seen > 1][0])
            raise ValueError(
                f"'rows' need each item once per user (row "
                f'{twice // self.num_items} lists item {twice % self.num_items} '
                f'more than once)'
            )
        return SparseRows.from_coo(
            user, item, num_rows=len(rows), num_cols=self.num_items
        )
