r"""Segment reductions. The only file that imports :obj:`torch_scatter`."""

import torch_scatter
from torch import Tensor


def segment_sum(src: Tensor, ptr: Tensor) -> Tensor:
    r"""Sums consecutive entries of :obj:`src` that share a segment.

    .. math::
        \mathrm{out}_i = \sum_{j=\mathrm{ptr}_i}^{\mathrm{ptr}_{i+1} - 1}
        \mathrm{src}_j

    Args:
        src (torch.Tensor): The values :math:`(E, *)`.
        ptr (torch.Tensor): The segment boundaries :math:`(N + 1)`, ascending.

    Shapes:
        - **output:** one sum per segment :math:`(N, *)`, zero where a segment
          is empty
    """
    return torch_scatter.segment_csr(src, ptr, reduce='sum')
