import inspect
import math
import re
from collections.abc import Mapping
from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.config import Configured
from pyg_diffrec.data.interactions import USER_ITEM
from pyg_diffrec.data.schema import USER_USER, validate
from pyg_diffrec.datasets._ties import sample_ties
from pyg_diffrec.datasets.base import InteractionDataset
from pyg_diffrec.transforms._user_split import (
    check_ratios,
    position_in_row,
    rounded_share,
)
from pyg_diffrec.transforms.temporal_split import TemporalSplit
from pyg_diffrec.utils.arguments import argument_hints, check_argument
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.sampling import RowSampler, sample_distinct

# What is drawn is kept in memory, several times over for a moment.
_MOST_NUMBERS = 200_000_000

Modalities = Mapping[str, Sequence[int]]


def _mixture(
    num_rows: int, num_groups: int, sharpness: float, generator: torch.Generator
) -> Tensor:
    z = torch.randn(num_rows, num_groups, generator=generator, dtype=torch.double)
    return (sharpness * z).softmax(1)


def _power_law(group: Tensor, num_groups: int, skew: float, order: Tensor) -> Tensor:
    count = torch.bincount(group, minlength=num_groups)
    rank = position_in_row(group, count, order) + 1
    return rank.double() ** -skew


class SyntheticInteractions(Configured, InteractionDataset):
    r"""Interactions drawn from a known distribution, so that the best possible
    ranking is known. Nothing is downloaded, and no file is written.

    Users and items belong to latent groups. User :math:`u` has a mixture
    :math:`\boldsymbol{\pi}_u` over the groups, and each group :math:`g` a
    distribution :math:`\boldsymbol{\phi}_g` over the items:

    .. math::
        P(i \mid u) = \sum_g \pi_{u,g} \, \phi_{g,i}, \qquad
        \boldsymbol{\pi}_u = \mathrm{softmax}(s \, \mathbf{z}_u), \qquad
        \phi_{g,i} \propto \mathrm{softmax}(s \, \mathbf{z}_i)_g \, r_i^{-a}

    with standard normal :math:`\mathbf{z}`, sharpness :math:`s`, and the rank
    :math:`r_i` of an item, random, among the items of its dominant group. The
    interactions of a user are drawn from :math:`P` one after the other without
    replacement, and :obj:`time` counts them. Given the clean interactions so far,
    the next is therefore distributed as :math:`P` over the items still left: to
    rank the unseen items by :math:`P` is optimal. Between half and one and a half
    times :obj:`interactions_per_user` are drawn for a user.

    The graph holds, beside what all graphs hold:

    - :obj:`data['user'].planted` :math:`(U, G)` and :obj:`data['item'].planted`
      :math:`(I, G)`, float32, with :math:`P(i \mid u)` as their inner product.
    - :obj:`noise_mask` of the interactions: training interactions whose item was
      replaced by one drawn uniformly from those that the user never had.
      Validation and test stay clean.
    - :obj:`('user', 'trusts', 'user')` if :obj:`num_social` is positive: symmetric
      ties, stored in both directions, between users of the same dominant group,
      and fake ones, marked in :obj:`fake_mask`, between users of different ones.
    - :obj:`data['item'].x_<name>` of each modality: informative columns, a random
      linear map of the item's group vector (its row of :obj:`planted`, normalised)
      scaled to unit variance, plus noise of standard deviation :math:`0.1`; then
      standard normal columns. :obj:`data.informative[name]` marks the informative
      ones.

    The parts have their own streams of random numbers: graphs that differ in
    their noise share only have the same clean interactions.

    Args:
        num_users (int, optional): The number of users. (default: :obj:`1000`)
        num_items (int, optional): The number of items. (default: :obj:`500`)
        num_groups (int, optional): The number of groups. (default: :obj:`8`)
        interactions_per_user (int, optional): The mean number of interactions of
            a user. (default: :obj:`30`)
        popularity_skew (float, optional): The exponent :math:`a` of popularity
            within a group. (default: :obj:`1.0`)
        sharpness (float, optional): How strongly users and items lean to their
            dominant group: at zero all are alike. (default: :obj:`3.0`)
        noise_share (float, optional): The share of each user's training
            interactions that is replaced. (default: :obj:`0.0`)
        num_social (float, optional): The mean number of ties of a user.
            (default: :obj:`0`)
        fake_social_share (float, optional): The share of fake ties.
            (default: :obj:`0.0`)
        modalities (dict, optional): The numbers of informative and noisy columns
            of each modality, e.g. :obj:`{'image': (16, 16)}`.
            (default: :obj:`None`)
        val_ratio (float, optional): See
            :class:`~pyg_diffrec.transforms.TemporalSplit`. (default: :obj:`0.1`)
        test_ratio (float, optional): Likewise. (default: :obj:`0.2`)
        seed (int, optional): The seed of the graph; the global random state is
            neither read nor changed. (default: :obj:`0`)
        transform (callable, optional): Applied to the graph on every access.
            (default: :obj:`None`)

    Raises:
        ValueError: If an argument is out of range, what is asked for takes too much
            memory, or there are too few items or pairs of users for it.
        TypeError: If an argument is of another type.
    """

    def __init__(
        self,
        num_users: int = 1000,
        num_items: int = 500,
        num_groups: int = 8,
        interactions_per_user: int = 30,
        popularity_skew: float = 1.0,
        sharpness: float = 3.0,
        noise_share: float = 0.0,
        num_social: float = 0,
        fake_social_share: float = 0.0,
        modalities: Optional[Modalities] = None,
        val_ratio: float = 0.1,
        test_ratio: float = 0.2,
        seed: int = 0,
        transform: Optional[Callable[[HeteroData], HeteroData]] = None,
    ) -> None:
        self.num_users = num_users
        self.num_items = num_items
        self.num_groups = num_groups
        self.interactions_per_user = interactions_per_user
        self.popularity_skew = popularity_skew
        self.sharpness = sharpness
        self.noise_share = noise_share
        self.num_social = num_social
        self.fake_social_share = fake_social_share
        self.modalities = modalities or {}
        self.val_ratio = val_ratio
        self.test_ratio = test_ratio
        self.seed = seed
        self.transform = transform
        self._check_arguments()
        self.modalities = dict(self.modalities)
        self.split = TemporalSplit(val_ratio, test_ratio)
        super().__init__(None, transform)
        self.data, self.slices = self._build(), None

    @classmethod
    def check(cls, **kwargs: Any) -> None:
        r"""Raises the errors of the constructor that need no graph.

        Args:
            **kwargs: The arguments of the constructor.
        """
        bound = inspect.signature(cls.__init__).bind(None, **kwargs)
        hints = argument_hints(cls.__init__)
        for key, value in kwargs.items():
            check_argument(key, value, hints[key], f"'{cls.__name__}'")
        bound.apply_defaults()
        self = cls.__new__(cls)
        for key, value in list(bound.arguments.items())[1:]:
            setattr(self, key, value)
        self.modalities = self.modalities or {}
        self._check_arguments()

    def _check_arguments(self) -> None:
        name = self.__class__.__name__
        check_whole(name, num_users=self.num_users)
        for key in ('popularity_skew', 'sharpness', 'num_social'):
            value = getattr(self, key)
            if value < 0:
                raise ValueError(
                    f"'{key}' needs to be finite and non-negative in '{name}' (got "
                    f'{value})'
                )
        check_ratios(self.val_ratio, self.test_ratio, name)
        self._check_modalities()
        self._check_sizes()
        most = 3 * self.interactions_per_user // 2
        needed = most + math.ceil(most * self.noise_share)
        if needed > self.num_items:
            raise ValueError(
                f'A user may need {needed} different items in '
                f"'{name}' (got num_items={self.num_items}): raise "
                f"'num_items' or lower 'interactions_per_user'"
            )

    def _check_modalities(self) -> None:
        name = self.__class__.__name__
        form = (
            f"'modalities' needs to be of the form {{'name': (informative, noisy)}}, "
            f"with numbers of columns, in '{name}' (got {self.modalities!r})"
        )
        if not isinstance(self.modalities, Mapping):
            raise TypeError(form)
        for key, columns in self.modalities.items():
            is_name = isinstance(key, str) and re.fullmatch(r'\w+', key)
            if not is_name or not isinstance(columns, (list, tuple)):
                raise TypeError(form)
            if not all(type(count) is int for count in columns):
                raise TypeError(form)
            if len(columns) != 2 or min(columns) < 0 or sum(columns) == 0:
                raise ValueError(form)
            if columns[0] > 0 and min(self.num_groups, self.num_items) < 2:
                raise ValueError(
                    f"Informative columns in 'modalities' need at least two groups "
                    f"and items in '{name}'"
                )
            if columns[0] > 0 and self.sharpness == 0:
                raise ValueError(
                    f"'sharpness' needs to be positive for informative columns in "
                    f"'modalities' of '{name}' (got {self.sharpness})"
                )

    def _check_sizes(self) -> None:
        columns = sum(map(sum, self.modalities.values()))
        for key, other, count in (
            ('num_users', "'num_groups'", self.num_groups),
            ('num_items', "'num_groups'", self.num_groups),
            ('num_users', "'interactions_per_user'", self.interactions_per_user),
            ('num_users', "'num_social'", self.num_social),
            ('num_items', "all columns of 'modalities'", columns),
        ):
            size = getattr(self, key)
            # Compared as whole numbers: floats overflow.
            if size * math.ceil(count) > _MOST_NUMBERS:
                raise ValueError(
                    f"'{key}' ({size}) times {other} ({count}) needs to be at most "
                    f"{_MOST_NUMBERS} in '{self.__class__.__name__}': lower one of them"
                )

    def _build(self) -> HeteroData:
        # Own streams, so that one part does not depend on the size of another.
        main = torch.Generator().manual_seed(self.seed)
        seeds = torch.randint(2**62, (5,), generator=main).tolist()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]

        planted_user, planted_item = self._plant(generators[0])
        data = HeteroData()
        data['user'].num_nodes = self.num_users
        data['item'].num_nodes = self.num_items
        data['user'].planted = planted_user.float()
        data['item'].planted = planted_item.float()
        data.name = data.roles = 'synthetic'

        self._add_interactions(data, planted_user, planted_item, generators[1])
        data = self.split(data)
        self._add_noise(data, generators[2])
        if self.num_social > 0:
            self._add_social(data, planted_user.argmax(1), generators[3])
        if self.modalities:
            self._add_modalities(data, planted_item, generators[4])
        return validate(data)

    def _plant(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        user = _mixture(self.num_users, self.num_groups, self.sharpness, generator)
        item = _mixture(self.num_items, self.num_groups, self.sharpness, generator)
        order = torch.randperm(self.num_items, generator=generator)
        popularity = _power_law(
            item.argmax(1), self.num_groups, self.popularity_skew, order
        )
        item = item * popularity.view(-1, 1)
        total = item.sum(0)
        if bool((total == 0).any()):
            raise ValueError(
                f'{int((total == 0).sum())} groups without a single item came out in '
                f"'{self.__class__.__name__}': lower 'sharpness' or 'num_groups', or "
                f"raise 'num_items'"
            )
        return user, item / total

    def _add_interactions(
        self,
        data: HeteroData,
        planted_user: Tensor,
        planted_item: Tensor,
        generator: torch.Generator,
    ) -> None:
        group_of_user = RowSampler(planted_user)
        item_of_group = RowSampler(planted_item.t())
        low = (self.interactions_per_user + 1) // 2
        high = 3 * self.interactions_per_user // 2
        count = torch.randint(low, high + 1, (self.num_users,), generator=generator)
        user, item = sample_distinct(
            lambda row: item_of_group(group_of_user(row, generator), generator),
            lambda rows: planted_user[rows] @ planted_item.t(),
            count,
            known=torch.empty(0, dtype=torch.long),
            num_cols=self.num_items,
            generator=generator,
        )
        data[USER_ITEM].edge_index = torch.stack([user, item])
        data[USER_ITEM].time = torch.arange(user.numel()) - (
            count.cumsum(0) - count
        ).repeat_interleave(count)

    def _add_noise(self, data: HeteroData, generator: torch.Generator) -> None:
        store = data[USER_ITEM]
        user, item = store.edge_index
        train = store.train_mask.nonzero().view(-1)
        num_train = torch.bincount(user[train], minlength=self.num_users)
        num_noise = rounded_share(num_train, self.noise_share)
        order = torch.randperm(train.numel(), generator=generator)
        position = position_in_row(user[train], num_train, order)
        noise = train[position < num_noise[user[train]]]

        _, new_item = sample_distinct(
            lambda row: torch.randint(
                self.num_items, (row.numel(),), generator=generator
            ),
            lambda rows: torch.ones(rows.numel(), self.num_items),
            num_noise,
            known=user * self.num_items + item,
            num_cols=self.num_items,
            generator=generator,
        )
        # Both lists are grouped by user, so that their entries correspond.
        store.edge_index[1, noise] = new_item
        store.noise_mask = torch.zeros_like(store.train_mask)
        store.noise_mask[noise] = True

    def _add_social(
        self, data: HeteroData, group: Tensor, generator: torch.Generator
    ) -> None:
        num_ties = round(self.num_users * self.num_social / 2)
        num_fake = round(num_ties * self.fake_social_share)
        edge_index, fake_mask = sample_ties(
            group, num_ties - num_fake, num_fake, generator
        )
        data[USER_USER].edge_index = edge_index
        data[USER_USER].fake_mask = fake_mask

    def _add_modalities(
        self, data: HeteroData, planted_item: Tensor, generator: torch.Generator
    ) -> None:
        group = planted_item / planted_item.sum(1, keepdim=True)
        data.informative = {}
        for name, (num_informative, num_noisy) in self.modalities.items():
            num_columns = num_informative + num_noisy
            weight = torch.randn(
                self.num_groups, num_informative, generator=generator
            ).double()
            noise = torch.randn(self.num_items, num_columns, generator=generator)
            signal = group @ weight
            # As wide as the noisy columns, so that scale gives nothing away.
            signal = signal - signal.mean(0)
            deviation = signal.square().mean(0).sqrt()
            if bool((deviation == 0).any()):
                raise ValueError(
                    f'By their groups, all items are alike in '
                    f"'{self.__class__.__name__}', which leaves nothing for "
                    f"informative columns: lower 'sharpness', or raise 'num_items'"
                )
            signal = signal / deviation
            x = noise.clone()
            x[:, :num_informative] = signal.float() + 0.1 * noise[:, :num_informative]
            data['item'][f'x_{name}'] = x
            data.informative[name] = torch.arange(num_columns) < num_informative

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(num_users={self.num_users}, '
            f'num_items={self.num_items}, num_groups={self.num_groups}, '
            f'interactions_per_user={self.interactions_per_user}, seed={self.seed})'
        )
