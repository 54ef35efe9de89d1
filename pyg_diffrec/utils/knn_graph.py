r"""Graphs that join each row of a table to the rows most similar to it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.sparse import SparseRows
from pyg_diffrec.utils.topk import masked_topk

# Similarities are computed for as many rows at once as fit into so many entries.
_BLOCK = 1 << 22

# Cosines are compared in steps of this size: their round-off is far smaller, so that
# those equal by rights are equal, whatever the device and the block.
_STEP = 2.0**-40


def knn_graph(x: Tensor, k: int) -> SparseRows:
    r"""The symmetrically normalised graph of the rows with the most similar
    directions, in which the `"Mining Latent Structures for Multimedia
    Recommendation" <https://arxiv.org/abs/2104.09036>`_ paper joins items.

    .. math::
        \hat{s}_{i,j} = \frac{s_{i,j}}{\sqrt{d_i d_j}}, \qquad
        s_{i,j} = \max \left( 0, \frac{\mathbf{x}_i \cdot \mathbf{x}_j}{\lVert
        \mathbf{x}_i \rVert \lVert \mathbf{x}_j \rVert} \right)
        \; \text{for} \; j \in N_k(i), \qquad d_i = \sum_j s_{i,j}

    The :math:`k` neighbours :math:`N_k(i)` start with the row itself; equally similar
    ones are ranked by their number. Rows of zeros have no neighbours, and are none.
    Edges are directed: one of two rows may be a neighbour of the other alone.
    Similarities are computed in float64 and by blocks of rows: of the :math:`N^2`
    products only a block exists at a time.

    Args:
        x (torch.Tensor): The rows :math:`(N, F)`.
        k (int): The number of neighbours of a row; all rows if there are fewer.

    Shapes:
        - **output:** :math:`\hat{\mathbf{S}}` :math:`(N, N)`, float64, at most
          :math:`k` entries per row, by column

    Raises:
        ValueError: If :obj:`k` is not positive, or :obj:`x` is not a table of finite
            numbers.
        TypeError: If :obj:`k` is not a whole number.
    """
    check_whole('knn_graph', k=k)
    if x.dim() != 2 or not bool(x.isfinite().all()):
        raise ValueError(
            f"'x' needs shape [N, F] and finite numbers in 'knn_graph' (got shape "
            f'{list(x.shape)})'
        )
    size = len(x)
    x = F.normalize(x.double())
    node = torch.arange(size, device=x.device)
    weights, neighbors = [], []
    for index in node.split(max(1, _BLOCK // size)):
        similarity = (x[index] @ x.t()).div_(_STEP).round_().mul_(_STEP)
        own = similarity[node[: len(index)], index]  # One, or zero for zeros.
        similarity[node[: len(index)], index] = 2 * own
        _, neighbor = masked_topk(similarity, min(k, size))
        neighbor = neighbor.sort(dim=1).values
        similarity[node[: len(index)], index] = own
        weights.append(similarity.gather(1, neighbor))
        neighbors.append(neighbor)
    weight, neighbor = torch.cat(weights), torch.cat(neighbors)  # [N, k]
    row, position = (weight > 0).nonzero().t()
    value, col = weight[row, position], neighbor[row, position]
    # Neighbours are similar to a row, so that they are no zeros, and have a degree.
    scale = weight.clamp(min=0).sum(1).rsqrt()
    value = scale[row] * value * scale[col]
    return SparseRows.from_coo(row, col, value, num_rows=size, num_cols=size)
