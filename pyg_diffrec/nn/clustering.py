r"""Clusters of items."""

import torch
from scipy.cluster.vq import ClusterError, kmeans2
from torch import Tensor


def cluster_items(embedding: Tensor, num_clusters: int, seed: int = 0) -> Tensor:
    r"""Clusters items by k-means on their embeddings, with SciPy's
    :meth:`~scipy.cluster.vq.kmeans2` from k-means++ starts.

    Args:
        embedding (torch.Tensor): The embeddings :math:`(I, F)`.
        num_clusters (int): The number of clusters :math:`C`.
        seed (int, optional): The seed of the start. (default: :obj:`0`)

    Shapes:
        - **output:** the cluster of each item :math:`(I)`, int64 in
          :math:`[0, C)`

    Raises:
        ValueError: If there are more clusters than items, an embedding is not
            finite, or a cluster comes out empty.
    """
    num_items = embedding.size(0)
    if embedding.dim() != 2 or not 1 <= num_clusters <= num_items:
        raise ValueError(
            f"'num_clusters' needs to lie in [1, {num_items}], the number of items, "
            f"and 'embedding' needs shape [num_items, *] (got {num_clusters} and "
            f'{list(embedding.shape)})'
        )
    finite = embedding.isfinite().all(1)
    if not bool(finite.all()):
        raise ValueError(
            f"'embedding' needs to be finite (item {int((~finite).nonzero()[0])} is "
            f'not)'
        )
    if num_clusters == 1:
        return torch.zeros(num_items, dtype=torch.long)
    points = embedding.detach().double().cpu().numpy()
    try:
        _, label = kmeans2(
            points, num_clusters, iter=50, minit='++', missing='raise', seed=seed
        )
    except ClusterError as error:
        raise ValueError(
            f'k-means left one of {num_clusters} clusters empty ({error}): use fewer '
            f'clusters or another seed'
        ) from error
    return torch.from_numpy(label).long()
