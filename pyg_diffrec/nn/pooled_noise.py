from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class PooledNoise:
    r"""Noise rows that are mixed from a pool of rows and take no :math:`(B, I)`
    numbers, for :class:`~pyg_diffrec.nn.AffineRows`.

    .. math::
        \boldsymbol{\epsilon} = \mathbf{Z} \mathbf{P}

    With independent normal :math:`\mathbf{P}` and rows :math:`\mathbf{Z}` of unit
    length each row is standard normal, but not independent of the others.

    Args:
        mix (torch.Tensor): The mixtures :math:`\mathbf{Z}` :math:`(B, R)`.
        pool (torch.Tensor): The pool :math:`\mathbf{P}` :math:`(R, I)`.

    Raises:
        ValueError: If the parts do not fit each other.
    """

    mix: Tensor
    pool: Tensor

    def __post_init__(self) -> None:
        mix, pool = self.mix, self.pool
        if mix.dim() != 2 or pool.dim() != 2 or mix.size(1) != pool.size(0):
            raise ValueError(
                f"'mix' and 'pool' need shapes [B, R] and [R, I] in 'PooledNoise' "
                f'(got {list(mix.shape)} and {list(pool.shape)})'
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.mix.size(0), self.pool.size(1)

    def matmul(self, weight: Tensor) -> Tensor:
        r"""The product with a matrix :math:`(I, H)`, as :math:`(B, H)`."""
        return self.mix @ (self.pool @ weight)

    def columns(self, first: int, last: int) -> Tensor:
        r"""The items from :obj:`first` up to :obj:`last`, dense."""
        return self.mix @ self.pool[:, first:last]
