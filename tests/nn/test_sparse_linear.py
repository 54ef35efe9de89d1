import pytest
import torch

from pyg_diffrec.nn import SparseLinear
from pyg_diffrec.utils import SparseRows


def test_sparse_rows_give_what_dense_rows_give():
    torch.manual_seed(0)
    layer = SparseLinear(5, 3)
    torch.nn.init.normal_(layer.bias)
    rows = SparseRows(torch.tensor([0, 2, 2]), torch.tensor([4, 1]), num_cols=5)
    out = layer(rows)
    expected = rows.to_dense() @ layer.weight + layer.bias
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(layer(rows.to_dense()), expected)
    assert str(layer) == 'SparseLinear(5, 3)'


def test_bad_arguments_are_refused():
    layer = SparseLinear(5, 3)
    rows = SparseRows(torch.tensor([0, 1]), torch.tensor([1]), num_cols=4)
    for x in (rows, rows.to_dense(), torch.rand(5)):
        with pytest.raises(ValueError, match=r"'x' needs shape \[B, 5\] in 'SparseL"):
            layer(x)
    with pytest.raises(ValueError, match="'out_channels' needs to be positive"):
        SparseLinear(5, 0)
