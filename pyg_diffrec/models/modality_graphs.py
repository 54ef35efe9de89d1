import torch
from torch import Tensor

from pyg_diffrec.products import kept
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.arguments import Checked
from pyg_diffrec.utils.keep import Kept
from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj
from pyg_diffrec.utils.sparse import SparseRows


class ModalityGraphs(Checked, torch.nn.Module):
    r"""One graph per modality, generated, randomly dropped from the interactions, or a
    mixture of both.

    .. math::
        \hat{\mathbf{G}}_m = r \, \mathrm{drop}_p(\hat{\mathbf{A}}(\mathrm{items}_m)) +
        (1 - r) \, \mathrm{drop}_{p'}(\hat{\mathbf{A}})

    with :math:`\hat{\mathbf{A}}` and the dropout of
    :class:`~pyg_diffrec.utils.self_loop_adj.SelfLoopAdj`. What is dropped is a function
    of a seed, so that a state dict holds the graphs.

    Args:
        num_modalities (int): The number :math:`M` of modalities.
        num_users (int): The number of users :math:`U`.
        k (int): The number of generated items per user.
        edge_dropout (float, optional): The share :math:`p`. (default: :obj:`0.5`)
        fusion_ratio (float, optional): The share :math:`r` of generated graphs; at 0
            nothing is generated. (default: :obj:`1.0`)
        random_edge_dropout (float, optional): The share :math:`p'`.
            (default: :obj:`0.5`)

    Raises:
        ValueError: If a share is out of range.
    """

    items: OptTensor
    seed: Tensor

    def __init__(
        self,
        num_modalities: int,
        num_users: int,
        k: int,
        edge_dropout: float = 0.5,
        fusion_ratio: float = 1.0,
        random_edge_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.num_modalities = num_modalities
        self.edge_dropout = edge_dropout
        self.fusion_ratio = fusion_ratio
        self.random_edge_dropout = random_edge_dropout
        items = None
        if fusion_ratio > 0:
            items = torch.full((num_modalities, num_users, k), -1)
        #: The generated items of each user :math:`(M, U, k)`; -1 before there are any.
        self.register_buffer('items', items)
        self.register_buffer('seed', torch.zeros(1, dtype=torch.long))
        self._kept, self._lack = Kept(), Kept()

    @property
    def lacks_items(self) -> bool:
        r"""Whether items have yet to be generated."""
        items = self.items
        if items is None:
            return False
        if not self.training:
            return bool((items < 0).any())
        # Looked up once, so that no training step waits for the device.
        return self._lack.get(lambda: bool((items < 0).any()), items, items._version)

    def reset_parameters(self) -> None:
        r"""Forgets the generated items."""
        if self.items is not None:
            self.items.fill_(-1)

    def redraw(self) -> None:
        r"""Draws anew what is dropped."""
        self.seed.random_(1 << 62)

    def forward(self, adj: SelfLoopAdj, dropped: bool) -> list[SelfLoopAdj]:
        r"""The graphs. In training they are kept until something changes that PyTorch
        counts, or :meth:`train` or :meth:`eval` is called; in evaluation mode within
        :meth:`~pyg_diffrec.nn.keep_products`.

        Args:
            adj (SelfLoopAdj): The interactions :math:`\hat{\mathbf{A}}`.
            dropped (bool): Whether entries are dropped.
        """

        def build() -> list[SelfLoopAdj]:
            return self._build(adj, dropped)

        made_of = [self.seed] if self.items is None else [self.seed, self.items]
        if not self.training:
            key, factors = ('graphs', id(self), dropped), [*made_of, adj.rows.value]
            return kept(key, factors, build, lasting=True)
        versions = [x._version for x in made_of]
        return self._kept.get(build, adj, dropped, *made_of, *versions)

    def train(self, mode: bool = True) -> 'ModalityGraphs':
        self._kept.forget()
        self._lack.forget()
        return super().train(mode)

    def _build(self, adj: SelfLoopAdj, dropped: bool) -> list[SelfLoopAdj]:
        generator = torch.Generator().manual_seed(int(self.seed))

        def drop(graph: SelfLoopAdj, p: float) -> SelfLoopAdj:
            return graph.dropout(p, generator) if dropped and p > 0 else graph

        graphs = []
        for i in range(self.num_modalities):
            if self.items is not None:
                graph = drop(_of_items(self.items[i], adj), self.edge_dropout)
                if self.fusion_ratio < 1:
                    random = drop(adj, self.random_edge_dropout)
                    graph = graph.mix(random, self.fusion_ratio)
            else:
                graph = drop(adj, self.random_edge_dropout)
            graphs.append(graph)
        return graphs


def _of_items(items: Tensor, adj: SelfLoopAdj) -> SelfLoopAdj:
    num_users, k = items.shape
    user = torch.arange(num_users, device=items.device).repeat_interleave(k)
    num_items = adj.num_nodes - num_users
    rows = SparseRows.from_coo(
        user, items.reshape(-1), num_rows=num_users, num_cols=num_items
    )
    return SelfLoopAdj(rows, adj.dtype)
