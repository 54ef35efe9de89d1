import pytest
import torch
from torch_geometric.utils import to_torch_csr_tensor

from pyg_diffrec.nn.conv.rec_diff_conv import RecDiffConv
from pyg_diffrec.utils import BipartiteAdj, SparseRows
from pyg_diffrec.utils.directed_adj import DirectedAdj

SOURCES, TARGETS = 6, 4


def build(weighted=False, flip=False):
    """Source 5 and destination 3 have no edges, source 4 one of weight zero."""
    edge_index = torch.tensor([[0, 0, 1, 2, 3, 4], [0, 2, 0, 1, 1, 2]])
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(6, generator=generator, dtype=torch.double)
    weight[5] = 0.0
    x = [
        torch.rand(size, 3, generator=generator, dtype=torch.double)
        for size in (SOURCES, TARGETS)
    ]
    if flip:
        edge_index, x = edge_index.flip(0), x[::-1]
    return tuple(x), edge_index, weight if weighted else None


def prepared(edge_index, weight, sizes):
    """The same edges, normalised once."""
    value = torch.ones(6).double() if weight is None else weight
    rows = SparseRows.from_coo(
        edge_index[1], edge_index[0], value, num_rows=sizes[1], num_cols=sizes[0]
    )
    return DirectedAdj.of(BipartiteAdj(rows))


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('weight', [False, True])
def test_equals_a_loop_over_edges(weight, weighted, flip):
    x, edge_index, edge_weight = build(weighted, flip)
    torch.manual_seed(0)
    conv = RecDiffConv(3, 3, weight).double()
    matrix = conv.lin.weight if weight else torch.eye(3).double()
    value = [1.0] * 6 if edge_weight is None else edge_weight.tolist()
    edges = list(zip(*edge_index.tolist(), value))
    expected = torch.zeros(x[1].size(0), 3).double()
    for u, v, e in edges:
        out_degree = sum(w for a, _, w in edges if a == u)
        in_degree = sum(w for _, b, w in edges if b == v)
        if e > 0:
            expected[v] += e / (out_degree * in_degree) ** 0.5 * (matrix @ x[0][u])
    expected = torch.where(expected > 0, expected, expected / 2)
    for out in (
        conv(x, edge_index, edge_weight),
        conv(x, prepared(edge_index, edge_weight, (len(x[0]), len(x[1])))),
    ):
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    lonely = 5 if flip else 3
    assert bool((out[lonely] == 0).all())


@pytest.mark.parametrize('flip', [False, True])
def test_prepared_graph_gives_the_same_gradients(flip):
    x, edge_index, weight = build(True, flip)
    conv = RecDiffConv(3, 5).double()
    adj = prepared(edge_index, weight, (len(x[0]), len(x[1])))
    grads = []
    for args in ((edge_index, weight), (adj,)):
        source = x[0].clone().requires_grad_()
        conv((source, x[1]), *args).pow(3).sum().backward()
        grads.append((source.grad, conv.lin.weight.grad.clone()))
        conv.zero_grad()
    for fast, slow in zip(*grads):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings('ignore:Sparse')
@pytest.mark.parametrize('weighted', [False, True])
def test_takes_a_transposed_sparse_matrix(weighted):
    x, edge_index, weight = build(weighted)
    conv = RecDiffConv(3, 2).double()
    value = torch.ones(6).double() if weight is None else weight
    size = (TARGETS, SOURCES)
    adj_t = torch.sparse_coo_tensor(edge_index.flip(0), value, size).coalesce()
    expected = conv(x, edge_index, weight)
    for adj in (adj_t, to_torch_csr_tensor(edge_index.flip(0), value, size)):
        torch.testing.assert_close(conv(x, adj), expected)


def test_edges_of_one_node_type_have_a_direction():
    conv = RecDiffConv(1, 1, weight=False, negative_slope=0.1)
    x = torch.tensor([[1.0], [-2.0], [5.0]])
    # 0 -> 1, 0 -> 2, 1 -> 2: node 0 has two edges out, node 2 two edges in.
    out = conv(x, torch.tensor([[0, 0, 1], [1, 2, 2]]))
    low = 0.1 * (0.5 - 2 / 2**0.5)
    torch.testing.assert_close(out, torch.tensor([[0.0], [0.5**0.5], [low]]))


def test_repr_reset_and_error():
    conv = RecDiffConv(3, 5)
    assert repr(conv) == 'RecDiffConv(3, 5)'
    before = conv.lin.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.lin.weight)
    assert conv.lin.weight.abs().max() <= (6 / 8) ** 0.5
    RecDiffConv(3, 3, weight=False).reset_parameters()
    with pytest.raises(ValueError, match=r"'out_channels' needs to be 3.*\(got 5\)"):
        RecDiffConv(3, 5, weight=False)
