"""The two encoders of RecDiff, against reference values and a dense formulation."""

import pytest
import torch
import torch.nn.functional as F

from pyg_diffrec.nn.encoders.social import SocialEncoder
from pyg_diffrec.nn.encoders.user_item import UserItemEncoder
from pyg_diffrec.utils import BipartiteAdj, SparseRows

USERS, ITEMS = 7, 9
KEYS = ('shape', 'in_R', 'in_trust', 'out_ui_emb', 'out_uu_emb')
BOTH = pytest.mark.parametrize('cls', [UserItemEncoder, SocialEncoder])


def graph(dense):
    row, col = dense.nonzero().t()
    value = dense[row, col].double()
    num_rows, num_cols = dense.shape
    rows = SparseRows.from_coo(row, col, value, num_rows=num_rows, num_cols=num_cols)
    return BipartiteAdj(rows)


def random_graph(num_rows, num_cols):
    """Row 2 and column 4 have no edges."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(num_rows, num_cols, generator=generator) < 0.4
    dense[2], dense[:, 4] = False, False
    return graph(dense)


def inputs(cls):
    torch.manual_seed(0)
    sizes = (USERS, ITEMS) if cls is UserItemEncoder else (USERS,)
    x = [torch.randn(size, 5, dtype=torch.double) for size in sizes]
    adj = random_graph(USERS, ITEMS if cls is UserItemEncoder else USERS)
    return x, adj


@pytest.mark.parametrize('case', ['c0', 'c1', 'c2'])
def test_equal_reference_values(golden, case, assert_exact):
    file = golden('recdiff')
    values = {key: file[f'{case}_{key}'] for key in KEYS}
    weights = file.group(f'{case}_gcn_w_')
    _, _, channels, num_layers, num_social, weight, _ = values['shape'].tolist()
    encoder = UserItemEncoder(channels, num_layers, bool(weight)).double()
    social = SocialEncoder(channels, num_social, bool(weight)).double()
    if weight:
        for i, (user, item) in enumerate(zip(encoder.user_convs, encoder.item_convs)):
            # The authors' matrices belong to what is sent, and multiply from the right.
            item.lin.weight.data = weights[f'layers.{i}.u_w'].t()
            user.lin.weight.data = weights[f'layers.{i}.v_w'].t()
        for i, conv in enumerate(social.convs):
            conv.lin.weight.data = weights[f'uu_Layers.{i}.u_w'].t()
    else:
        assert not list(encoder.parameters()) + list(social.parameters())
    user = weights['embedding_dict.user_emb']
    item = weights['embedding_dict.item_emb']
    out = encoder(user, item, graph(values['in_R']))
    assert_exact(torch.cat(out), values['out_ui_emb'])
    # An edge goes from its row to its column.
    out = social(user, graph(values['in_trust'].t()))
    assert_exact(out, values['out_uu_emb'])


def dense_form(encoder, x, adj):
    """The formula of the docstring, on all nodes as one matrix."""
    matrix = adj.rows.to_dense()
    if isinstance(encoder, UserItemEncoder):
        user, item = x
        out = list(x)
        for to_user, to_item in zip(encoder.user_convs, encoder.item_convs):
            user, item = (
                F.leaky_relu(matrix @ (item @ to_user.lin.weight.t()), 0.5),
                F.leaky_relu(matrix.t() @ (user @ to_item.lin.weight.t()), 0.5),
            )
            out = [out[0] + F.normalize(user), out[1] + F.normalize(item)]
        return out
    out = h = x[0]
    for conv in encoder.convs:
        h = F.leaky_relu(matrix @ h @ conv.lin.weight.t(), 0.5)
        out = out + F.normalize(h)
    return [out]


@BOTH
@pytest.mark.parametrize('num_layers', [0, 1, 3])
def test_chosen_nodes_and_their_gradients(cls, num_layers):
    encoder = cls(5, num_layers).double()
    x, adj = inputs(cls)
    chosen = [torch.tensor([6, 2, 0]), torch.tensor([8, 4, 1, 0])][: len(x)]
    grads = []
    for fast in (True, False):
        leaves = [part.clone().requires_grad_() for part in x]
        if fast:
            out = encoder(*leaves, adj, *chosen)
            out = [out] if cls is SocialEncoder else out
        else:
            out = dense_form(encoder, leaves, adj)
            out = [part[index] for part, index in zip(out, chosen)]
        sum(part.pow(3).sum() for part in out).backward()
        weights = [p.grad for p in encoder.parameters() if p.grad is not None]
        grads.append([*out, *(leaf.grad for leaf in leaves), *weights])
        encoder.zero_grad(set_to_none=True)
    assert len(grads[0]) == len(grads[1])
    for fast, slow in zip(*grads):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)


@BOTH
def test_nodes_without_edges_keep_their_input(cls):
    x, adj = inputs(cls)
    x[0].requires_grad_()
    out = cls(5, 2).double()(*x, adj)
    user = out if cls is SocialEncoder else out[0]
    assert torch.equal(user[2], x[0][2])
    if cls is UserItemEncoder:
        assert torch.equal(out[1][4], x[1][4])
    user.pow(3).sum().backward()
    assert bool(x[0].grad.isfinite().all())
    empty = graph(torch.zeros(*adj.shape))
    out = cls(5, 2).double()(*x, empty)
    assert torch.equal(out if cls is SocialEncoder else out[0], x[0])


def test_ties_have_a_direction():
    x = torch.eye(2, dtype=torch.double)
    social = SocialEncoder(2, 1, weight=False)
    out = social(x, graph(torch.tensor([[0, 0], [1, 0]])))  # From user 0 to user 1.
    assert torch.equal(out, torch.tensor([[1.0, 0.0], [1.0, 1.0]]).double())


@BOTH
def test_dropout_acts_in_training_alone(cls):
    x, adj = inputs(cls)
    plain, edges = cls(5, 2).double(), cls(5, 2, edge_dropout=0.4).double()
    nodes = cls(5, 2, dropout=0.4).double()
    for encoder in (edges, nodes):
        encoder.load_state_dict(plain.state_dict())

    def run(encoder, adj=adj, **kwargs):
        out = encoder(*x, adj, **kwargs)
        return out if cls is SocialEncoder else torch.cat(out)

    assert torch.equal(run(edges.eval()), run(plain))
    assert torch.equal(run(nodes.eval()), run(plain))
    found = run(edges.train(), generator=torch.Generator().manual_seed(3))
    dropped = adj.dropout(0.4, torch.Generator().manual_seed(3))
    assert torch.equal(found, run(plain, dropped))
    torch.manual_seed(3)
    found = run(nodes.train())
    torch.manual_seed(3)
    x = [F.dropout(part, 0.4) for part in x]
    assert torch.equal(found, run(plain))


@BOTH
def test_repr_reset_and_errors(cls):
    encoder = cls(5, num_layers=2)
    assert repr(encoder) == f'{cls.__name__}(5, num_layers=2)'
    before = [p.clone() for p in encoder.parameters()]
    encoder.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, encoder.parameters()))
    with pytest.raises(ValueError, match="'channels' needs to be positive in"):
        cls(0, num_layers=1)
    with pytest.raises(ValueError, match="'num_layers' must not be negative in"):
        cls(1, num_layers=-1)
    for key in ('dropout', 'edge_dropout'):
        with pytest.raises(ValueError, match=rf"'{key}' needs to lie in \[0, 1\)"):
            cls(5, 1, **{key: 1.0})
    x, adj = inputs(cls)
    with pytest.raises(ValueError, match=r"'adj' needs shape \[6, "):
        cls(5, 1)(x[0][1:], *x[1:], adj)
