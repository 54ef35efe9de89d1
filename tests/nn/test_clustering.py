import torch

from pyg_diffrec.nn import cluster_items


def test_separated_points_come_out_as_their_clusters():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(3, (90,), generator=generator)
    points = 10 * torch.eye(3)[label] + 0.1 * torch.randn(90, 3, generator=generator)
    found = cluster_items(points, 3, seed=1)
    assert len(set(zip(label.tolist(), found.tolist()))) == 3
    assert torch.equal(found, cluster_items(points, 3, seed=1))
    assert cluster_items(points, 1).unique().tolist() == [0]
