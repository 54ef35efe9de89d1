import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_diffrec.config import Configured
from pyg_diffrec.data.schema import (
    USER_USER,
    check_edges,
    check_mask,
    check_ties,
    num_nodes,
)
from pyg_diffrec.data.social import find_opposites
from pyg_diffrec.transforms._user_split import (
    rounded_share,
)
from pyg_diffrec.utils.sampling import sample_distinct


@functional_transform('rewire_social_edges')
class RewireSocialEdges(Configured, BaseTransform):
    r"""Replaces a share of the ties between users by fake ones, to see how a model
    bears them (functional name: :obj:`rewire_social_edges`).

    Of :math:`n` true ties, :math:`\lfloor n \cdot \mathrm{ratio} + 1/2 \rfloor`,
    drawn uniformly, give way to pairs of different users, drawn uniformly from those
    that are no tie of the graph, each once. A fake tie stands where the true one
    stood and takes over whatever else has one entry per tie.

    If every tie has its opposite, ties are counted, replaced and drawn in pairs, so
    that the graph stays symmetric. Otherwise a tie goes one way, and a fake tie may
    be the opposite of a true one.

    Sets :obj:`fake_mask` of the ties. Ties that it already marks are no true ties,
    and stay.

    Args:
        ratio (float): The share of true ties that is replaced.
        seed (int, optional): The seed; the global random state is neither read nor
            changed. (default: :obj:`0`)

    Raises:
        ValueError: If :obj:`ratio` is not in :math:`[0, 1]`, the graph has no ties
            or such that break the schema, or too few pairs of users are no tie.
        TypeError: If :obj:`ratio` or :obj:`seed` is of another type.
    """

    def __init__(self, ratio: float, seed: int = 0) -> None:
        self.ratio = ratio
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        num_users = num_nodes(data, 'user')
        check_ties(data)
        store = data[USER_USER]
        device = store.edge_index.device
        # Drawn on the CPU, so that a seed means the same ties on every device.
        edge_index = check_edges(data, USER_USER, check_range=False).cpu().clone()
        row, col = edge_index
        fake_mask = torch.zeros_like(row, dtype=torch.bool)
        if 'fake_mask' in store:
            fake_mask |= check_mask(store, 'fake_mask', store.edge_index, 'tie').cpu()

        opposite = find_opposites(edge_index, num_users)
        undirected = bool((opposite >= 0).all())
        # One of a pair stands for both.
        tie = row < col if undirected else torch.ones_like(fake_mask)
        known = (row * num_users + col)[tie]
        tie = (tie & ~fake_mask).nonzero().view(-1)
        num_fake = rounded_share(torch.tensor([tie.numel()]), self.ratio)
        num_pairs = num_users * (num_users - 1) // (2 if undirected else 1)
        if int(num_fake) > num_pairs - known.numel():
            raise ValueError(
                f'Only {num_pairs - known.numel()} pairs of users are no tie, too few '
                f"for {int(num_fake)} fake ones in '{self.__class__.__name__}': use a "
                f"smaller 'ratio'"
            )

        generator = torch.Generator().manual_seed(self.seed)
        fake = self._draw(num_users, num_fake, known, undirected, generator)
        place = torch.randperm(tie.numel(), generator=generator)[: int(num_fake)]
        place = tie[place]
        edge_index[:, place] = fake
        fake_mask[place] = True
        if undirected:
            edge_index[:, opposite[place]] = fake.flip(0)
            fake_mask[opposite[place]] = True
        store.edge_index = edge_index.to(device)
        store.fake_mask = fake_mask.to(device)
        return data

    def _draw(
        self,
        num_users: int,
        count: Tensor,
        known: Tensor,
        undirected: bool,
        generator: torch.Generator,
    ) -> Tensor:
        def draw(row: Tensor) -> Tensor:
            left = torch.randint(num_users, row.shape, generator=generator)
            step = torch.randint(1, num_users, row.shape, generator=generator)
            right = (left + step) % num_users
            if undirected:
                left, right = torch.minimum(left, right), torch.maximum(left, right)
            return left * num_users + right

        def prob(row: Tensor) -> Tensor:
            # Asked for only if nearly all pairs are ties.
            pairs = torch.ones(num_users, num_users)
            pairs = pairs.triu(1) if undirected else pairs.fill_diagonal_(0)
            return pairs.view(1, -1)

        _, key = sample_distinct(draw, prob, count, known, num_users**2, generator)
        return torch.stack([key // num_users, key % num_users])

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.ratio}, seed={self.seed})'
