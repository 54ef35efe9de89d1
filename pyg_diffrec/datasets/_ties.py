r"""Ties between users of the same group, and fake ones between groups."""

from typing import Callable

import torch
from torch import Tensor

from pyg_diffrec.utils.sampling import first_occurrences


def _sample_keys(
    draw: Callable[[int], Tensor], count: int, where: str, num_rounds: int = 100
) -> Tensor:
    key = torch.empty(0, dtype=torch.long)
    for _ in range(num_rounds):
        lack = count - key.numel()
        if lack == 0:
            return key
        key = torch.cat([key, draw(lack + lack // 4 + 16)])
        key = key[first_occurrences(key)][:count]
    if key.numel() < count:
        raise ValueError(
            f'Found only {key.numel()} of {count} ties {where}: lower '
            f"'num_social', or change 'fake_social_share' or 'num_groups'"
        )
    return key


def sample_ties(
    group: Tensor, num_inside: int, num_across: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    r"""Draws distinct symmetric ties without self-ties.

    A tie inside a group has a uniform user and a uniform other user of the group; a
    tie across is a uniform pair of users of different groups.

    Args:
        group (torch.Tensor): The group of each user :math:`(U)`.
        num_inside (int): The number of ties inside of groups.
        num_across (int): The number of ties across groups.
        generator (torch.Generator): The source of randomness.

    Shapes:
        - **output:** edges :math:`(2, 2T)`, both directions of each tie, sorted;
          and whether an edge is across :math:`(2T)`

    Raises:
        ValueError: If there are too few pairs of users.
    """
    num_users = group.numel()
    size = torch.bincount(group)
    start = (size.cumsum(0) - size)[group]
    size = size[group]
    members = group.argsort(stable=True)
    place = torch.empty_like(members)
    place[members] = torch.arange(num_users)

    def key(left: Tensor, right: Tensor) -> Tensor:
        return torch.minimum(left, right) * num_users + torch.maximum(left, right)

    def draw_inside(num: int) -> Tensor:
        left = torch.randint(num_users, (num,), generator=generator)
        left = left[size[left] > 1]
        # Any other member: go on by 1 to size - 1 places, round the group.
        step = torch.rand(left.numel(), generator=generator, dtype=torch.double)
        step = (step * (size[left] - 1)).long() + 1
        right = start[left] + (place[left] - start[left] + step) % size[left]
        return key(left, members[right])

    def draw_across(num: int) -> Tensor:
        pair = torch.randint(num_users, (2, num), generator=generator)
        left, right = pair[:, group[pair[0]] != group[pair[1]]]
        return key(left, right)

    tie = torch.cat(
        [
            _sample_keys(draw_inside, num_inside, 'inside of groups'),
            _sample_keys(draw_across, num_across, 'across groups'),
        ]
    )
    across = torch.arange(tie.numel()) >= num_inside
    left, right = tie // num_users, tie % num_users
    edge_index = torch.stack([torch.cat([left, right]), torch.cat([right, left])])
    perm = (edge_index[0] * num_users + edge_index[1]).argsort()
    return edge_index[:, perm], across.repeat(2)[perm]
