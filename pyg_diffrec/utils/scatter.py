r"""Segment reductions."""

from torch import Tensor
from torch_geometric.utils import segment


def segment_sum(src: Tensor, ptr: Tensor) -> Tensor:
    r"""Sums consecutive entries of :obj:`src` that share a segment: PyG's
    :meth:`~torch_geometric.utils.segment`, which takes :obj:`torch_scatter` where it
    is installed and PyTorch elsewhere.

    .. math::
        \mathrm{out}_i = \sum_{j=\mathrm{ptr}_i}^{\mathrm{ptr}_{i+1} - 1}
        \mathrm{src}_j

    Args:
        src (torch.Tensor): The values :math:`(E, *)`, floating point.
        ptr (torch.Tensor): The segment boundaries :math:`(N + 1)`, ascending.

    Shapes:
        - **output:** one sum per segment :math:`(N, *)`, zero where a segment
          is empty
    """
    return segment(src, ptr, reduce='sum')
