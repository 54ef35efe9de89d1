r"""Negative items for pairwise losses, drawn exactly and without rejection."""

from typing import Literal, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.utils.arguments import Checked
from pyg_diffrec.utils.sparse import SparseRows

NegativeMethod = Literal['uniform', 'popularity']


class NegativeSampler(Checked):
    r"""Draws items that a user has not interacted with.

    .. math::
        P(j \mid u) = \frac{w_j}{\sum_{i \notin S_u} w_i} \quad (j \notin S_u),
        \qquad w_j = 1 \text{ or } |\{v : j \in S_v\}|

    as in the `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_ paper for :math:`w_j = 1`. A point is drawn
    on the mass that the user's positives leave, and shifted past the mass of all
    positives before it: no draw is ever rejected, so a batch costs one search per
    entry, however dense a user's row is.

    Args:
        history (SparseRows): The known positives :math:`(U, I)`.
        method (str, optional): :obj:`'uniform'`, or :obj:`'popularity'` for items
            in proportion to their number of interactions, never one without any.
            (default: :obj:`'uniform'`)

    Shapes:
        - **user:** :math:`(B)`, int64; a user may occur several times
        - **output:** one item per entry of :obj:`user` :math:`(B)`, int64

    Raises:
        ValueError: If :obj:`method` is unknown, an item comes twice in a row, a user
            lies outside :math:`[0, U)`, or has interacted with every item that can be
            drawn.
        TypeError: If :obj:`history` are no :class:`SparseRows`, :obj:`user` is no int64
            tensor, or :obj:`generator` no :class:`torch.Generator`.
    """

    def __init__(self, history: SparseRows, method: NegativeMethod = 'uniform') -> None:
        num_items, rowptr = history.num_cols, history.rowptr
        self.method = method
        self.num_users = history.num_rows
        self.rowptr = rowptr
        if method == 'uniform':
            weight = torch.ones(num_items, dtype=torch.long, device=history.device)
        else:
            weight = torch.bincount(history.col, minlength=num_items)
        # Item i takes the points [end[i] - weight[i], end[i]) of [0, total).
        self.end = weight.cumsum(0)
        total = int(self.end[-1]) if num_items > 0 else 0

        row = history.row
        key = (row * num_items + history.col).sort().values
        twice = (key[1:] == key[:-1]).nonzero().view(-1)
        if twice.numel() > 0:
            user, item = divmod(int(key[twice[0]]), num_items)
            raise ValueError(
                f"'history' needs each item of a user once in "
                f"'{self.__class__.__name__}' (got item {item} of user {user} twice)"
            )
        col = key - row * num_items
        # Positives before each entry, as mass and within its own user.
        before = F.pad(weight[col].cumsum(0), (1, 0))
        before_user = before[:-1] - before[rowptr[:-1]][row]
        # The mass of the negatives before each positive, ascending per user.
        gap = self.end[col] - weight[col] - before_user
        self.stride = total + 1
        self.key = row * self.stride + gap
        self.before = before
        #: How much mass is left to draw from for each user :math:`(U)`; where it is
        #: zero there is no negative.
        self.free = total - (before[rowptr[1:]] - before[rowptr[:-1]])

    @property
    def what(self) -> str:
        r"""What a user without a negative has interacted with, in words."""
        some = ' of non-zero popularity' if self.method == 'popularity' else ''
        return f'every item{some}'

    def check(self, user: Tensor) -> None:
        r"""Raises what drawing for :obj:`user` would raise, without drawing."""
        name = self.__class__.__name__
        if not isinstance(user, Tensor) or user.dtype != torch.long:
            got = user.dtype if isinstance(user, Tensor) else type(user)
            raise TypeError(
                f"'user' needs to be a 'torch.long' tensor in '{name}' (got '{got}')"
            )
        if user.device != self.free.device:
            raise ValueError(
                f"'user' needs to be on device '{self.free.device}' in '{name}', where "
                f"the history is (got '{user.device}')"
            )
        bad = user[(user < 0) | (user >= self.num_users)]
        if bad.numel() > 0:
            raise ValueError(
                f"'user' needs to lie in [0, {self.num_users}) in '{name}' "
                f'(got {int(bad[0])})'
            )
        full = user[self.free[user] == 0]
        if full.numel() > 0:
            raise ValueError(
                f'User {int(full[0])} has interacted with {self.what}, so there is no '
                f"negative to draw: leave the user out, as 'EdgeLoader' does"
            )

    def __call__(
        self, user: Tensor, generator: Optional[torch.Generator] = None
    ) -> Tensor:
        self.check(user)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(
                f"'generator' needs to be a 'torch.Generator' in "
                f"'{self.__class__.__name__}' (got '{type(generator)}')"
            )
        return self.draw(user, generator)

    def draw(self, user: Tensor, generator: Optional[torch.Generator] = None) -> Tensor:
        r"""Draws for users that :meth:`check` has passed, without looking again."""
        device = user.device if generator is None else generator.device
        u = torch.rand(
            user.shape, generator=generator, dtype=torch.double, device=device
        ).to(user.device)
        # In float64, u * n rounds below n for all u < 1.
        point = (u * self.free[user]).long()
        # Skip the positives whose gap the point has reached or passed.
        last = torch.searchsorted(self.key, user * self.stride + point, right=True)
        point = point + self.before[last] - self.before[self.rowptr[user]]
        if self.method == 'uniform':
            return point  # Every item takes one point.
        return torch.searchsorted(self.end, point, right=True)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.num_users}, method='{self.method}')"


def sample_negatives(
    user: Tensor,
    history: SparseRows,
    method: NegativeMethod = 'uniform',
    generator: Optional[torch.Generator] = None,
) -> Tensor:
    r"""Draws one item per entry of :obj:`user` that this user has not interacted
    with. :class:`NegativeSampler` says how; to draw many batches from the same
    history, keep one, which sorts the history only once.

    Args:
        user (torch.Tensor): The users :math:`(B)`, int64.
        history (SparseRows): The known positives :math:`(U, I)`.
        method (str, optional): :obj:`'uniform'` or :obj:`'popularity'`.
            (default: :obj:`'uniform'`)
        generator (torch.Generator, optional): The source of random numbers.
            (default: :obj:`None`)

    Shapes:
        - **output:** items :math:`(B)`, int64

    Raises:
        ValueError: If :obj:`method` is unknown, an item comes twice in a row, a user
            lies outside :math:`[0, U)`, or has interacted with every item that can be
            drawn.
        TypeError: If :obj:`history` are no :class:`SparseRows`, :obj:`user` is no int64
            tensor, or :obj:`generator` no :class:`torch.Generator`.
    """
    return NegativeSampler(history, method)(user, generator)
