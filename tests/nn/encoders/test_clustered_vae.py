import pytest
import torch

from pyg_diffrec.nn import ClusteredVAE
from pyg_diffrec.utils import SparseRows


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="'cluster' needs to be a 'torch.long'"):
        ClusteredVAE(torch.zeros(3))
    for cluster in (torch.zeros(2, 2), torch.zeros(0), torch.tensor([0, -1])):
        with pytest.raises(ValueError, match=r"'cluster' needs shape \[I\]"):
            ClusteredVAE(cluster.long())
    vae = ClusteredVAE(torch.tensor([0, 1, 0]), (4,))
    rows = SparseRows(torch.tensor([0, 1]), torch.tensor([1]), num_cols=4)
    with pytest.raises(ValueError, match="'rows' needs 3 columns .*got 4"):
        vae.encode(rows)
    with pytest.raises(ValueError, match=r"'latent' needs shape \[B, 4\].*1, 3"):
        vae.decode(torch.rand(1, 3))
