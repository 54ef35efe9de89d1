from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data import validate
from pyg_diffrec.data.interactions import rows_of_valid
from pyg_diffrec.typing import History, Split
from pyg_diffrec.utils.sparse import SparseRows

EmptyUsers = Literal['skip', 'zero']

# What users already have when a split is ranked.
_SEEN: dict[Split, History] = {'val': 'train', 'test': 'train+val'}


@dataclass(frozen=True)
class Protocol:
    r"""How a number was obtained. Two numbers compare only under one protocol.

    Args:
        history (str, optional): The interactions from which test scores are
            computed: :obj:`'train'` or :obj:`'train+val'`. On validation it is
            always :obj:`'train'`. (default: :obj:`'train'`)
        empty_users (str, optional): What becomes of users without relevant items:
            :obj:`'skip'` leaves them out of the mean, :obj:`'zero'` counts them as
            zero. (default: :obj:`'skip'`)
        allow_future_history (bool, optional): Whether :obj:`'train+val'` is allowed
            where validation lies *after* test in time. (default: :obj:`False`)

    Raises:
        ValueError: If an option has an unknown value.

    .. note::
        All items are ranked. Seen items are left out: those of training on
        validation, those of training and validation on test, whatever the history.
    """

    history: History = 'train'
    empty_users: EmptyUsers = 'skip'
    allow_future_history: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ('history', get_args(History)),
            ('empty_users', get_args(EmptyUsers)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"'{name}' needs to be one of {list(choices)} in 'Protocol' "
                    f"(got '{getattr(self, name)}')"
                )

    def history_rows(self, data: HeteroData, split: Split) -> SparseRows:
        r"""The interactions that scores are computed from :math:`(U, I)`.

        Raises:
            ValueError: If the graph breaks the schema, :obj:`split` is unknown, or
                they would tell the model about the time after the test interactions.
        """
        validate(data)
        return rows_of_valid(data, self.sources(data, split)[0])

    def seen_rows(self, data: HeteroData, split: Split) -> SparseRows:
        r"""The interactions that are left out of the ranking :math:`(U, I)`.

        Raises:
            ValueError: If the graph breaks the schema, or :obj:`split` is unknown.
        """
        validate(data)
        check_split(split)
        return rows_of_valid(data, _SEEN[split])

    def users(self, data: HeteroData, split: Split) -> Tensor:
        r"""The users that count :math:`(N)`.

        Raises:
            ValueError: If the graph breaks the schema, or :obj:`split` is unknown.
        """
        validate(data)
        check_split(split)
        return self.counted_users(rows_of_valid(data, split))

    def sources(self, data: HeteroData, split: Split) -> tuple[History, History]:
        r"""The names of the interactions that scores are computed from, and of those
        that are left out of the ranking, for a graph known to be valid.

        Raises:
            ValueError: If :obj:`split` is unknown, or the former would tell the model
                about the time after the test interactions.
        """
        check_split(split)
        self.check(data)
        return self.history if split == 'test' else 'train', _SEEN[split]

    def counted_users(self, targets: SparseRows) -> Tensor:
        r"""The users that count :math:`(N)`, given their held-out interactions
        :math:`(U, I)`."""
        if self.empty_users == 'zero':
            return torch.arange(targets.num_rows, device=targets.device)
        return (targets.rowptr.diff() > 0).nonzero().view(-1)

    def check(self, data: HeteroData) -> None:
        r"""Refuses a history that leaks the future."""
        order = getattr(data, 'split_order', None)
        if self.history == 'train' or self.allow_future_history or not order:
            return
        if order.index('val') > order.index('test'):
            raise ValueError(
                f"history='train+val' leaks the future on "
                f"'{getattr(data, 'name', 'the graph')}' with "
                f"roles='{getattr(data, 'roles', None)}': its validation interactions "
                f"come after its test interactions. Use roles='chronological', or "
                f'allow_future_history=True to do it all the same'
            )

    def describe(self, data: HeteroData) -> str:
        r"""One line that belongs beside every number."""
        validate(data)
        roles = getattr(data, 'roles', None) or 'given'
        empty = {'skip': 'left out', 'zero': 'counted as zero'}[self.empty_users]
        leak = ''
        if self.allow_future_history and self.history == 'train+val':
            leak = ' (future history allowed)'
        return (
            f'roles = {roles}, history = {self.history}{leak}, all '
            f'{data["item"].num_nodes:,} items ranked, training and validation items '
            f'masked at test, users without relevant items {empty}'
        )


def check_split(split: Split) -> None:
    r"""Refuses a split that nothing is measured on.

    Raises:
        ValueError: If it is neither :obj:`'val'` nor :obj:`'test'`.
    """
    if split not in get_args(Split):
        raise ValueError(
            f"'split' needs to be one of {list(get_args(Split))} (got {split!r})"
        )


def check_request(
    data: HeteroData, split: Split, protocol: Protocol, name: str
) -> None:
    r"""Checks what everything that :obj:`name` does relies on.

    Raises:
        ValueError: If the graph breaks the schema, or :obj:`split` is unknown.
        TypeError: If an argument is of another type.
    """
    if not isinstance(protocol, Protocol):
        raise TypeError(
            f"'protocol' needs to be a 'Protocol' in '{name}' (got '{type(protocol)}')"
        )
    check_split(split)
    validate(data)
