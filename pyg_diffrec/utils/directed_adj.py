r"""Propagation along directed edges whose backward pass transposes nothing."""

from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.utils.propagation import BipartiteAdj, Product
from pyg_diffrec.utils.sparse import SparseRows


class DirectedAdj(NamedTuple):
    r"""The weights of edges from :math:`M` sources to :math:`N` destinations, and
    their transpose: what a layer multiplies with that passes messages one way.

    Args:
        rows (SparseRows): The weights by destination :math:`(N, M)`.
        rows_t (SparseRows): The same by source :math:`(M, N)`.
    """

    rows: SparseRows
    rows_t: SparseRows

    @classmethod
    def of(cls, adj: BipartiteAdj) -> 'DirectedAdj':
        r"""The edges of a graph from its columns to its rows."""
        return cls(adj.rows, adj.rows_t)

    @classmethod
    def from_rows(cls, rows: SparseRows) -> 'DirectedAdj':
        r"""The edges with weights by destination :math:`(N, M)`."""
        return cls(rows, rows.t())

    def to(
        self,
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> 'DirectedAdj':
        r"""Returns the edges on :obj:`device`, with weights as :obj:`dtype`."""
        return DirectedAdj(*(rows.to(device, dtype) for rows in self))

    def t(self) -> 'DirectedAdj':
        r"""The same edges the other way round."""
        return DirectedAdj(self.rows_t, self.rows)

    def index_select(self, index: Tensor) -> 'DirectedAdj':
        r"""The edges into the destinations :obj:`index`, each named once, which are
        numbered anew in that order."""
        rows_t = self.rows_t.select_columns(index)
        return DirectedAdj(self.rows.index_select(index), rows_t)

    def propagate(self, x: Tensor) -> Tensor:
        r"""What the sources :math:`(M, C)` send to the destinations :math:`(N, C)`,
        differentiable at the cost of one product more."""
        return Product.apply(x, self.rows, self.rows_t)
