import copy
import itertools
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.config import Configured
from pyg_diffrec.data import (
    USER_ITEM,
    TemporalWeight,
    check_time_order,
    interaction_rows,
    resolve_temporal,
    validate,
)
from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.products import keep_products
from pyg_diffrec.typing import Phase
from pyg_diffrec.utils.checks import check_ids, check_whole
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.topk import masked_topk

if TYPE_CHECKING:
    from typing_extensions import Self

Exclude = Union[Literal['known', 'train'], SparseRows, Sequence[Sequence[int]], None]


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


class Recommender(Configured, torch.nn.Module):
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
    #: Whether the model knows the answer, so that others are not compared with it.
    oracle: bool = False

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.num_items = int(num_items)
        #: The training interactions of the users known to the model.
        self.history: Optional[SparseRows] = None
        #: All that is known of these users, held-out interactions too, if that is more.
        self.seen: Optional[SparseRows] = None

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'Self':
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
        model.fit_data(data)
        return model

    def fit_data(self, data: HeteroData) -> None:
        r"""Takes over the training interactions of a valid graph, and which others are
        known of its users."""
        self.fit_history(interaction_rows(data, 'train'))
        store = data[USER_ITEM]
        if not bool(store.train_mask.all()):
            row, col = store.edge_index.cpu()
            self.seen = SparseRows.from_coo(
                row,
                col,
                num_rows=data['user'].num_nodes,
                num_cols=data['item'].num_nodes,
            )

    def fit_history(self, history: SparseRows) -> None:
        r"""Takes over the training interactions :math:`(U, I)`; models in closed
        form are solved here."""
        if history.num_cols != self.num_items:
            raise ValueError(
                f"'history' needs {self.num_items} columns in "
                f"'{self.__class__.__name__}' (got {history.num_cols})"
            )
        self.history, self.seen = history, None

    def _check_trainable(self, history: SparseRows) -> None:
        if history.nnz == 0:
            raise ValueError(
                f"'{self.__class__.__name__}' has no interactions to train on (0 of "
                f"{history.num_rows} users): give the graph a 'train_mask' that holds "
                f'some'
            )

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
        self,
        users: Union[Tensor, Sequence[int]],
        k: int,
        batch_size: int = 1024,
        exclude: Exclude = 'known',
    ) -> Recommendation:
        r"""The best :obj:`k` items for users of the graph.

        Args:
            users (torch.Tensor or list): The users :math:`(B)`.
            k (int): The length of a list.
            batch_size (int, optional): The number of users scored at once; it changes
                scores by no more than round-off. (default: :obj:`1024`)
            exclude (str or SparseRows or list, optional): What is left out: all that is
                known of the users, the held-out interactions of the graph included
                (:obj:`'known'`), their training interactions alone (:obj:`'train'`),
                as in an evaluation, nothing (:obj:`None`), or given items, as rows
                :math:`(B, I)` or one list per user. (default: :obj:`'known'`)

        Raises:
            ValueError: If a user is unknown, :obj:`k` lies outside :math:`[1, I]`, or
                :obj:`exclude` does not suit the users or the items.
            TypeError: If a user, :obj:`k` or :obj:`batch_size` is no whole number.

        .. note::
            Scores come from training interactions. To serve from all that is known,
            train on it, for as many epochs as a split has shown to be best: set
            :obj:`train_mask` to all interactions and the other masks to none. A
            :class:`RowRecommender` can also score all of them as they are
            (:meth:`~RowRecommender.recommend_rows`).
        """
        name, history = self.__class__.__name__, self.history
        if history is None:
            raise ValueError(
                f"'{name}' knows no users yet: build it with 'from_data', or call "
                f"'fit_history' first"
            )
        hint = 'it knows the users of its training alone'
        if hasattr(self, 'recommend_rows'):
            hint = "for new users call 'recommend_rows' with their interactions"
        users = check_ids('users', users, history.num_rows, name, hint=hint)
        seen = history if self.seen is None else self.seen
        rows = history.index_select(users)
        known = {'known': seen.index_select(users), 'train': rows}
        return self._recommend(users, rows, k, batch_size, exclude, known)

    @torch.no_grad()
    @keep_products()
    def _recommend(
        self,
        users: Tensor,
        rows: SparseRows,
        k: int,
        batch_size: int,
        exclude: Exclude,
        known: Mapping[str, SparseRows],
    ) -> Recommendation:
        check_whole(self.__class__.__name__, k=k, batch_size=batch_size)
        if k > self.num_items:
            raise ValueError(
                f"'k' needs to lie in [1, {self.num_items}], the number of items, in "
                f"'{self.__class__.__name__}' (got {k})"
            )
        left_out = self._left_out(exclude, known, len(users))
        if len(users) == 0:
            return Recommendation(torch.empty(0, k).long(), torch.empty(0, k))
        was_training = self.training
        items, scores = [], []
        try:
            self.eval()
            for chunk in torch.arange(len(users)).split(batch_size):
                history = rows.index_select(chunk).to(self.device)
                out = self.score(users[chunk].to(self.device), history)
                hidden = None if left_out is None else left_out.index_select(chunk)
                score, item = masked_topk(out, k, exclude=hidden)
                scores.append(score.cpu())
                items.append(item.cpu())
        finally:
            self.train(was_training)
        return Recommendation(torch.cat(items), torch.cat(scores))

    def _left_out(
        self, exclude: Exclude, known: Mapping[str, SparseRows], num_users: int
    ) -> Optional[SparseRows]:
        if exclude is None:
            return None
        name = self.__class__.__name__
        if isinstance(exclude, str):
            if exclude not in known:
                raise ValueError(
                    f"'exclude' needs to be one of {[*known, None]} or items for each "
                    f"user in '{name}' (got '{exclude}')"
                )
            return known[exclude]
        rows = self._rows_of('exclude', exclude)
        if rows.num_rows != num_users:
            raise ValueError(
                f"'exclude' needs items for each of {num_users} users in '{name}' (got "
                f'{rows.num_rows})'
            )
        return rows

    def _rows_of(
        self, key: str, rows: Union[SparseRows, Sequence[Sequence[int]]]
    ) -> SparseRows:
        r"""Rows over the items on the CPU, or an error that says which entry is
        wrong."""
        name, size = self.__class__.__name__, self.num_items
        if not isinstance(rows, SparseRows):
            lists = _lists(key, rows, name)
            try:
                item = check_ids(key, itertools.chain(*lists), size, name)
            except (TypeError, ValueError):
                for i, ids in enumerate(lists):  # The same error, with its row.
                    check_ids(f'{key}[{i}]', ids, size, name)
                raise
            count = torch.tensor([len(row) for row in lists], dtype=torch.long)
            user = torch.arange(len(lists)).repeat_interleave(count)
            rows = SparseRows.from_coo(user, item, num_rows=len(lists), num_cols=size)
        if rows.num_cols != size:
            raise ValueError(
                f"'{key}' need {size} columns in '{name}' (got {rows.num_cols})"
            )
        rows = rows.to('cpu')
        user, item = rows.row, rows.col
        bad = ((item < 0) | (item >= size) | ~rows.value.isfinite()).nonzero().view(-1)
        if bad.numel() > 0:
            place = int(bad[0])
            raise ValueError(
                f"'{key}' need items in [0, {size}) and finite values in '{name}' "
                f'(row {int(user[place])} holds item {int(item[place])} with value '
                f'{float(rows.value[place])})'
            )
        unique, times = (user * size + item).unique(return_counts=True)
        if unique.numel() < item.numel():
            twice = int(unique[times > 1][0])
            raise ValueError(
                f"'{key}' need each item once per user in '{name}' (row "
                f'{twice // size} lists item {twice % size} more than once)'
            )
        return rows

    def _check_users(self, users: Tensor, num_users: int) -> None:
        # A look at values would wait for a device: on a CPU it costs nothing.
        if users.dtype != torch.long:
            raise TypeError(
                f"'users' needs to be a 'torch.long' tensor in "
                f"'{self.__class__.__name__}.score' (got '{users.dtype}')"
            )
        if users.device.type == 'cpu':
            check_ids('users', users, num_users, f'{self.__class__.__name__}.score')

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
    def from_data(cls, data: HeteroData, **kwargs: Any) -> 'Self':
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
        known = self.scoring_arguments({})
        if not kwargs.keys() <= set(known):
            raise ValueError(
                f"'{self.__class__.__name__}' has {known} as hyper-parameters of "
                f'scoring alone (got {sorted(kwargs)})'
            )
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
            ValueError: If the model does not know them yet, or there are none.
        """
        if self.history is None:
            raise ValueError(
                f"'{self.__class__.__name__}' has no interactions to train on: build "
                f"it with 'from_data', or call 'fit_history' first"
            )
        self._check_trainable(self.history)
        if self.weighs_training and self.temporal_training:
            return self.weigh(self.history)
        return self.history

    def recommend_rows(
        self,
        rows: Union[SparseRows, Sequence[Sequence[int]]],
        k: int,
        batch_size: int = 1024,
        exclude: Exclude = 'known',
    ) -> Recommendation:
        r"""The best :obj:`k` items for given interactions.

        Args:
            rows (SparseRows or list): The interactions :math:`(B, I)`, or one list
                of items per user; oldest first where time matters.
            k (int): The length of a list.
            batch_size (int, optional): The number of users scored at once; it changes
                scores by no more than round-off. (default: :obj:`1024`)
            exclude (str or SparseRows or list, optional): What is left out: the
                interactions (:obj:`'known'`), nothing (:obj:`None`), or given items, as
                rows :math:`(B, I)` or one list per user. (default: :obj:`'known'`)

        Raises:
            ValueError: If an item is unknown or listed twice for a user, a value is not
                finite, :obj:`k` lies outside :math:`[1, I]`, or :obj:`exclude` does not
                suit the rows or the items.
            TypeError: If an item, :obj:`k` or :obj:`batch_size` is no whole number.
        """
        rows = self._rows_of('rows', rows)
        users = torch.arange(rows.num_rows)
        return self._recommend(users, rows, k, batch_size, exclude, {'known': rows})


def _lists(key: str, rows: Any, name: str) -> list[list]:
    try:
        return [
            list(row.tolist() if isinstance(row, (Tensor, np.ndarray)) else row)
            for row in rows
        ]
    except TypeError:
        raise TypeError(
            f"'{key}' needs 'SparseRows' or one list of items per user in '{name}' "
            f'(got {rows!r})'
        ) from None
