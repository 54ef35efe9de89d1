from typing import Any, Optional

import torch
from torch import Tensor

from pyg_diffrec.data.temporal import Temporal
from pyg_diffrec.models.base import RowRecommender
from pyg_diffrec.utils.checks import check_positive
from pyg_diffrec.utils.memory import available_memory
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.state import adopt_sizes


class EASE(RowRecommender):
    r"""The linear item-item model with zero diagonal, in closed form, from the
    `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_ paper.

    .. math::
        \mathbf{P} = {(\mathbf{X}^{\top} \mathbf{X} + \lambda \mathbf{I})}^{-1},
        \qquad \mathbf{B} = \mathbf{I} - \mathbf{P} \,
        \mathrm{diag}{(\mathbf{P})}^{-1}, \qquad
        \mathrm{score} = \mathbf{x} \mathbf{B}

    Args:
        num_items (int): The number of items :math:`I`.
        l2 (float, optional): The regularisation :math:`\lambda`, in interactions.
            (default: :obj:`500.0`)
        memory_limit (int, optional): The bytes the solution may take; what the
            machine, or the container, has available if :obj:`None`.
            (default: :obj:`None`)
        temporal (str or dict or TemporalWeight, optional): Weights of recent
            interactions in the rows that are scored; the solution itself is that of
            unweighted rows. (default: :obj:`None`)

    Shapes:
        - **history:** interaction rows :math:`(B, I)`
        - **score:** :math:`(B, I)`, no unit

    Raises:
        ValueError: If :obj:`l2` is not positive.
        MemoryError: If the :math:`(I, I)` solution does not fit.

    .. note::
        Solving takes :math:`24 I^2` bytes at its peak and :math:`O(I^3)` operations,
        in float64; the weights are kept in float32.
    """

    deterministic = True
    weight: Tensor

    def __init__(
        self,
        num_items: int,
        l2: float = 500.0,
        memory_limit: Optional[int] = None,
        temporal: Optional[Temporal] = None,
    ) -> None:
        super().__init__(num_items, temporal)
        check_positive(self.__class__.__name__, l2=l2)
        self.l2 = l2
        self.memory_limit = memory_limit
        self.register_buffer('weight', torch.empty(0, 0))

    def fit_history(self, history: SparseRows) -> None:
        super().fit_history(history)
        self._check_memory()
        rows = history.to_scipy()
        gram = torch.from_numpy((rows.T @ rows).toarray())
        gram.diagonal().add_(self.l2)
        try:
            factor = torch.linalg.cholesky(gram)
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"'l2' is too small for these interactions in "
                f"'{self.__class__.__name__}' (got {self.l2}): use a larger one"
            ) from error
        del gram
        precision = torch.cholesky_inverse(factor)
        weight = precision / -precision.diagonal()
        self.weight = weight.fill_diagonal_(0).to(self.weight).contiguous()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        size = self.num_items
        adopt_sizes(self, state_dict, prefix, weight=(size, size))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_memory(self) -> None:
        needed = 24 * self.num_items**2
        limit = self.memory_limit
        limit = available_memory() if limit is None else limit
        if limit is not None and needed > limit:
            raise MemoryError(
                f"'{self.__class__.__name__}' needs {needed / 2**30:.1f} GiB for "
                f'{self.num_items} items, {limit / 2**30:.1f} GiB are available: '
                f"leave out rare items, e.g. with 'pyg_diffrec.transforms.KCore'"
            )

    def score(self, users: Tensor, history: SparseRows) -> Any:
        if self.weight.numel() == 0:
            raise ValueError(
                f"'{self.__class__.__name__}' has no solution yet: build it with "
                f"'from_data', or load the state of a model that was"
            )
        return self.weigh(history).matmul(self.weight)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items}, l2={self.l2})'
