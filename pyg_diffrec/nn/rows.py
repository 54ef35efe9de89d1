from typing import Any, Iterator, Optional, Union

import torch
from torch import Tensor

from pyg_diffrec.nn.pooled_noise import PooledNoise
from pyg_diffrec.nn.readout import LinearReadout
from pyg_diffrec.products import kept
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.sparse import SparseRows

Noise = Union[Tensor, PooledNoise]
Scalar = Union[float, Tensor]


class AffineRows:
    r"""A batch of rows over all items that is never dense until asked: the form
    that every state of a reverse diffusion chain takes.

    .. math::
        \mathbf{x} = p \, \mathbf{x}_0 + r \, \boldsymbol{\epsilon} +
        \mathbf{s} \mathbf{W}^{\top} + q \, \mathbf{b}

    Here :math:`\mathbf{x}_0` are sparse interaction rows,
    :math:`\boldsymbol{\epsilon}` is an optional dense noise, and
    :math:`\mathbf{W}, \mathbf{b}` are the last layer of a denoiser. Rows of this
    form can be added, subtracted and scaled per row, and a denoiser needs them only
    through :meth:`project`, which costs :math:`K \cdot H` per row instead of
    :math:`I \cdot H`. The algebra is exact; :obj:`docs/exact.md` derives it.

    An :class:`AffineRows` is a value: nothing hidden in it goes stale. Products that a
    whole chain shares are kept by :meth:`~pyg_diffrec.nn.keep_products`, which reverse
    chains open.

    Args:
        start (SparseRows): The interaction rows :math:`\mathbf{x}_0` :math:`(B, I)`.
        p (float or torch.Tensor, optional): Their coefficient, a number or
            :math:`(B, 1)`. (default: :obj:`1.0`)
        readout (LinearReadout, optional): The last layer of a denoiser.
            (default: :obj:`None`)
        s (torch.Tensor, optional): The hidden states :math:`(B, K)`; requires
            :obj:`readout`. (default: :obj:`None`)
        q (float or torch.Tensor, optional): The coefficient of the bias.
            (default: :obj:`0.0`)
        noise (torch.Tensor or PooledNoise, optional): The noise :math:`(B, I)`.
            (default: :obj:`None`)
        r (float or torch.Tensor, optional): Its coefficient. (default: :obj:`0.0`)

    Raises:
        ValueError: If the parts do not fit each other, or two rows are combined that
            do not share their interactions, or that hold different noises or
            readouts.
    """

    def __init__(
        self,
        start: SparseRows,
        p: Scalar = 1.0,
        *,
        readout: Optional[LinearReadout] = None,
        s: OptTensor = None,
        q: Scalar = 0.0,
        noise: Optional[Noise] = None,
        r: Scalar = 0.0,
    ) -> None:
        size = start.shape
        if noise is not None and tuple(noise.shape) != size:
            raise ValueError(
                f"'noise' needs shape {list(size)}, that of the rows, in 'AffineRows' "
                f'(got {list(noise.shape)})'
            )
        if (s is None) != (readout is None):
            raise ValueError("'s' and 'readout' come together in 'AffineRows'")
        if s is not None and readout is not None:
            shape = size[0], readout.in_channels
            if s.shape != shape or readout.out_channels != size[1]:
                raise ValueError(
                    f"'s' needs shape [{size[0]}, K] and 'readout' K inputs and "
                    f"{size[1]} outputs in 'AffineRows' (got {list(s.shape)} and "
                    f'{readout})'
                )
        for name, x in (('p', p), ('q', q), ('r', r)):
            if isinstance(x, Tensor) and x.shape != (size[0], 1):
                raise ValueError(
                    f"'{name}' needs to be a number or to have shape [{size[0]}, 1] in "
                    f"'AffineRows' (got {list(x.shape)})"
                )
        self.start = start
        self.p = p
        self.readout = readout
        self.s = s
        self.q = q
        self.noise = noise
        self.r = r

    @property
    def shape(self) -> tuple[int, int]:
        return self.start.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.start.dtype

    @property
    def device(self) -> torch.device:
        return self.start.device

    @property
    def is_sparse(self) -> bool:
        r"""Whether these are scaled interaction rows and nothing else."""
        return self.s is None and self.noise is None

    def dim(self) -> int:
        return 2

    def with_state(self, readout: LinearReadout, h: Tensor) -> 'AffineRows':
        r"""The rows :math:`\mathbf{h} \mathbf{W}^{\top} + \mathbf{b}` over the same
        interactions: the output of a denoiser."""
        return AffineRows(self.start, 0.0, readout=readout, s=h, q=1.0)

    def __mul__(self, other: Scalar) -> 'AffineRows':
        return AffineRows(
            self.start,
            self.p * other,
            readout=self.readout,
            s=None if self.s is None else self.s * other,
            q=self.q * other,
            noise=self.noise,
            r=self.r * other,
        )

    __rmul__ = __mul__

    def __neg__(self) -> 'AffineRows':
        return self * -1.0

    def __add__(self, other: Any) -> 'AffineRows':
        if isinstance(other, (Tensor, PooledNoise)):
            other = AffineRows(self.start, 0.0, noise=other, r=1.0)
        if not isinstance(other, AffineRows):
            return NotImplemented
        if other.start is not self.start:
            raise ValueError(
                "'AffineRows' can only be combined if they come from the same "
                'interaction rows'
            )
        s = self.s
        if other.s is not None:
            s = other.s if s is None else s + other.s
        return AffineRows(
            self.start,
            self.p + other.p,
            readout=_common('readouts', self.readout, other.readout),
            s=s,
            q=self.q + other.q,
            noise=_common('noises', self.noise, other.noise),
            r=self.r + other.r,
        )

    __radd__ = __add__

    def __sub__(self, other: Any) -> 'AffineRows':
        return self + other * -1.0

    def project(self, weight: Tensor) -> Tensor:
        r"""The product :math:`\mathbf{x} \mathbf{X}` with a matrix :math:`(I, H)`,
        as :math:`(B, H)`.

        .. math::
            p \, (\mathbf{x}_0 \mathbf{X}) + r \, (\boldsymbol{\epsilon} \mathbf{X})
            + \mathbf{s} (\mathbf{W}^{\top} \mathbf{X})
            + q \, (\mathbf{b}^{\top} \mathbf{X})

        Raises:
            ValueError: If :obj:`weight` does not have one row per item.
        """
        if weight.dim() != 2 or weight.size(0) != self.shape[1]:
            raise ValueError(
                f"'weight' needs shape [{self.shape[1]}, *] in 'AffineRows.project' "
                f'(got {list(weight.shape)})'
            )
        if isinstance(self.p, float) and self.p == 0.0:
            out = weight.new_zeros(len(self.start), weight.size(1))
        else:
            out = self._product('start', weight) * self.p
        if self.noise is not None:
            out = out + self._product('noise', weight) * self.r
        if self.s is not None and self.readout is not None:
            product, bias_product = self.readout.product(weight)
            out = torch.addmm(out + self.q * bias_product, self.s, product)
        return out

    def square_norm(self) -> Tensor:
        r"""The squared length of every row :math:`(B)`, without building the row.

        Costs :math:`K^2` per row, and one pass over the noise if there is any.
        """
        start = self.start
        p, q, r = (_column(x) for x in (self.p, self.q, self.r))
        out = p.square() * start.row_sum(start.value.square())
        if self.s is not None and self.readout is not None:
            weight, bias = self.readout.weight, self.readout.bias
            gram, cross, bias_norm = self.readout.gram()
            out = out + ((self.s @ gram) * self.s).sum(1) + q.square() * bias_norm
            out = out + 2 * q * (self.s @ cross)
            start_state = (self._product('start', weight) * self.s).sum(1)
            out = out + 2 * p * (start_state + q * start.dot(bias))
        if self.noise is not None:
            noise = _columns(self.noise, 0, self.shape[1])
            out = out + r.square() * noise.square().sum(1)
            out = out + 2 * p * r * start.dot_dense(noise)
            if self.s is not None and self.readout is not None:
                noise_state = (self._product('noise', weight) * self.s).sum(1)
                out = out + 2 * r * (noise_state + q * (noise @ bias))
        # Round-off may leave a vanishing row slightly below zero.
        return out.clamp(min=0)

    def mean_square(self) -> Tensor:
        r"""The mean square over all items :math:`(B)`, by whichever of the dense
        and the hidden form takes fewer operations.

        The hidden form pays one :math:`(I, K^2)` product for the whole batch, so it
        wins once a batch has more rows than :math:`K`.
        """
        if self.noise is None and self.s is not None and len(self.s) > self.s.size(1):
            return self.square_norm() / self.shape[1]
        return self.to_dense().square().mean(1)

    def to_dense(self) -> Tensor:
        r"""The rows as a dense :math:`(B, I)` tensor."""
        return self._block(0, None)

    def blocks(self, block_size: int) -> Iterator[tuple[int, Tensor]]:
        r"""Yields the dense rows by blocks of items, as pairs of the first item and
        a :math:`(B, \mathrm{block\_size})` tensor."""
        check_whole('AffineRows.blocks', block_size=block_size)
        for start in range(0, self.shape[1], block_size):
            yield start, self._block(start, min(start + block_size, self.shape[1]))

    def _block(self, first: int, last: Optional[int]) -> Tensor:
        start, whole = self.start, first == 0 and last is None
        last = self.shape[1] if last is None else last
        if self.s is not None and self.readout is not None:
            out = self.readout(self.s, first, last, self.q)
        else:
            out = start.value.new_zeros(self.shape[0], last - first)
        if self.noise is not None:
            out = out + _columns(self.noise, first, last) * self.r
        row, col, value = start.row, start.col, start.value
        if isinstance(self.p, Tensor):
            value = value * self.p.view(-1)[row]
        elif self.p == 0.0:
            return out
        else:
            value = value * self.p
        if not whole:
            inside = (col >= first) & (col < last)
            row, col, value = row[inside], col[inside] - first, value[inside]
        return out.index_put_((row, col), value.to(out.dtype), accumulate=True)

    def _product(self, name: str, weight: Tensor) -> Tensor:
        part: Any = self.start if name == 'start' else self.noise
        if name == 'start':
            factors = [part.rowptr, part.col, part.value]
        else:
            pooled = isinstance(part, PooledNoise)
            factors = [part.mix, part.pool] if pooled else [part]
        # A batch has its own: one of a kind is kept, for as long as its chain runs.
        return kept(
            (name, id(weight)),
            [*factors, weight],
            lambda: part.matmul(weight),
            lasting=False,
        )

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({list(self.shape)})'


def _column(x: Scalar) -> Tensor:
    # A zero-dimensional double adapts to the dtype of what it multiplies.
    return x.view(-1) if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.double)


def _columns(noise: Noise, first: int, last: int) -> Tensor:
    if isinstance(noise, PooledNoise):
        return noise.columns(first, last)
    return noise[:, first:last]


def _common(name: str, left: Any, right: Any) -> Any:
    if left is None or right is None or left is right:
        return right if left is None else left
    raise ValueError(f"'AffineRows' with different {name} cannot be combined")
