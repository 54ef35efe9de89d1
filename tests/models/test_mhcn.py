from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from toy import given_data, toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models.baselines import MostPopular, Planted, mhcn
from pyg_diffrec.models.baselines.mhcn import MHCN, hierarchy_loss, motif_adjacencies
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows

SMALL = {'embedding_dim': 8, 'batch_size': 64}


def random_graph(seed, share=0.4):
    """Weighted interactions and directed ties as matrices: user 0 has no interactions,
    user 1 no ties, user 2 neither, and nobody the last item."""
    generator = torch.Generator().manual_seed(seed)
    rated = torch.rand(9, 7, generator=generator, dtype=torch.double)
    rated = rated.masked_fill(rated < 0.6, 0.0)
    rated[[0, 2]], rated[:, -1] = 0.0, 0.0
    tied = torch.rand(9, 9, generator=generator) < share
    tied[[1, 2]], tied[:, [1, 2]] = False, False
    return rated, tied.fill_diagonal_(False)


def rows_of(dense):
    row, col = dense.nonzero().t()
    num_rows, num_cols = dense.shape
    value = dense[row, col].double()
    return SparseRows.from_coo(row, col, value, num_rows=num_rows, num_cols=num_cols)


def build(rated, tied, **kwargs):
    torch.manual_seed(0)
    num_users, num_items = rated.shape
    model = MHCN(num_items, num_users, embedding_dim=4, **kwargs)
    model.fit_history(rows_of(rated))
    model.fit_ties(tied.nonzero().t())
    model.tables()  # A cast has to build the graphs again.
    return model.double()


def mean_of(weight):
    """The rows of a matrix divided by their sums, zero where that is zero."""
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-9)


def counted(rated, tied):
    """Triangles of each kind that two users share, one by one."""
    num_users, num_items = rated.shape
    social, joint, purchase = torch.zeros(3, num_users, num_users, dtype=torch.double)
    either = tied | tied.t()
    for group in combinations(range(num_users), 3):
        if all(either[u, v] for u, v in combinations(group, 2)):
            for u, v in combinations(group, 2):
                social[u, v] += 1
                social[v, u] += 1
    for u in range(num_users):
        for v in range(num_users):
            kind = joint if either[u, v] else purchase
            for i in range(num_items):
                kind[u, v] += bool(rated[u, i] > 0 and rated[v, i] > 0)
    return social, joint, purchase


def paper_motifs(rated, tied):
    """The matrices of the ten motifs, from the paper's table."""
    r, s = (rated > 0).double(), tied.double()
    b = s * s.t()
    u = s - b
    half = [
        (u @ u) * u.t(),
        (b @ u) * u.t() + (u @ b) * u.t() + (u @ u) * b,
        (b @ b) * u + (b @ u) * b + (u @ b) * b,
        (b @ b) * b / 2,
        (u @ u) * u + (u @ u.t()) * u + (u.t() @ u) * u,
        ((u @ b) * u + (b @ u.t()) * u.t() + (u.t() @ u) * b) / 2,
        ((u.t() @ b) * u.t() + (b @ u) * u + (u @ u.t()) * b) / 2,
        (r @ r.t()) * b / 2,
        (r @ r.t()) * u,
        r @ r.t() / 2,
    ]
    return [x + x.t() for x in half]


def dense_tables(model, rated, tied):
    """All of the propagation by dense products."""
    user, item = model.learned_tables()
    channels = list(counted(rated, tied))
    channels[2] = channels[2] * (channels[2] >= model.min_common)
    degrees = (rated.sum(1, keepdim=True) * rated.sum(0)).sqrt()
    to_user = rated / degrees.clamp(min=1e-9)

    def total(layers):
        units = [x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) for x in layers[1:]]
        return torch.stack([layers[0], *units]).sum(0)

    gated = [user * (lin(user)).sigmoid() for lin in model.gates]
    layers = [[x] for x in gated[:3]]
    for adj, xs in zip(channels, layers):
        for _ in range(model.num_layers):
            xs.append(mean_of(adj) @ xs[-1])
    mixed = torch.stack([total(xs) for xs in layers])  # [3, U, C]
    score = (mixed @ model.lin_attention.weight.t()) @ model.attention.weight[0]
    alpha = score.exp() / score.exp().sum(0)
    from_items, items = [gated[3]], [item]
    for depth in range(model.num_layers):
        x = sum(alpha[c].unsqueeze(1) * layers[c][depth] for c in range(3))
        x = x + from_items[-1] / 2
        from_items.append(to_user @ items[-1])
        items.append(to_user.t() @ x)
    out = (alpha.unsqueeze(2) * mixed).sum(0) + total(from_items) / 2
    return out, total(items)


@pytest.mark.parametrize('num_layers', [1, 2])
def test_contract(num_layers):
    check_model(MHCN, toy_data(num_social=6), num_layers=num_layers, **SMALL)


@pytest.mark.parametrize('seed', [1, 5, 7])
def test_motifs_equal_counts_and_the_formulas_of_the_paper(seed, monkeypatch):
    rated, tied = random_graph(seed, share=0.6)
    monkeypatch.setattr(mhcn, '_BLOCK', 4)  # Of 9 users, so that blocks differ.
    actual = [x.to_dense() for x in motif_adjacencies(rows_of(rated), rows_of(tied))]
    one = paper_motifs(rated, tied)
    assert all(x.any() for x in one)
    joint = one[7] + one[8]
    formulas = (sum(one[:7]), joint, one[9] - joint)
    for x, count, formula in zip(actual, counted(rated, tied), formulas):
        assert torch.equal(x, count)
        assert torch.equal(x, formula)


def test_few_common_items_are_left_out_without_a_tie():
    rated, tied = random_graph(0)
    args = rows_of(rated), rows_of(tied)
    every, some = motif_adjacencies(*args), motif_adjacencies(*args, min_common=2)
    purchase = every[2].to_dense()
    assert (purchase == 1).any()
    assert (every[1].to_dense() == 1).any()
    assert torch.equal(some[2].to_dense(), purchase * (purchase > 1))
    assert some[2].nnz == int((purchase > 1).sum())
    assert torch.equal(some[1].to_dense(), every[1].to_dense())


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('num_layers', [1, 3])
def test_propagation_equals_the_dense_formula(seed, num_layers, assert_exact):
    rated, tied = random_graph(seed)
    model = build(rated, tied, num_layers=num_layers)
    for actual, expected in zip(model.tables(), dense_tables(model, rated, tied)):
        assert_exact(actual, expected)


def test_self_supervision_equals_a_loop(assert_exact):
    torch.manual_seed(0)
    node, ego, corrupted = torch.randn(3, 5, 4, dtype=torch.double)
    whole, expected = ego.mean(0), torch.zeros((), dtype=torch.double)
    for p, z, other in zip(node, ego, corrupted):
        expected -= (p @ z - p @ other).sigmoid().log()
        expected -= (z @ whole - other @ whole).sigmoid().log()
    assert_exact(hierarchy_loss(node, ego, corrupted), expected)


@pytest.mark.parametrize('num_layers', [1, 2])
def test_loss_and_gradients_equal_the_dense_formula(num_layers, assert_exact):
    rated, tied = random_graph(1)
    model = build(rated, tied, num_layers=num_layers, self_supervision=0.3, l2=0.1)
    for lin in [*model.gates, *model.supervision_gates]:
        torch.nn.init.normal_(lin.bias)
    batch = EdgeBatch(*torch.tensor([[3, 5, 0, 3], [1, 2, 1, 0], [4, 0, 6, 1]]))
    torch.manual_seed(7)
    losses = model.loss(batch)

    torch.manual_seed(7)
    user, item = dense_tables(model, rated, tied)
    channels = list(counted(rated, tied))
    channels[2] = channels[2] * (channels[2] >= 2)
    supervision = 0.0
    for adj, lin in zip(channels, model.supervision_gates):
        node = user * lin(user).sigmoid()
        ego = mean_of(adj) @ node
        rows, columns = torch.randperm(9), torch.randperm(4)
        supervision += hierarchy_loss(node, ego, ego[rows][:, columns])
    score = user @ item.t()
    margin = score[batch.user, batch.positive] - score[batch.user, batch.negative]
    bpr = -F.logsigmoid(margin).mean()
    tables = model.learned_tables()
    picked = tables[0][batch.user], tables[1][batch.positive], tables[1][batch.negative]
    l2 = 0.1 / 2 * sum(x.square().sum() for x in picked) / 4
    supervision = 0.3 * supervision / 4
    assert_exact(losses['bpr'], bpr)
    assert_exact(losses['l2'], l2)
    assert_exact(losses['self_supervision'], supervision)
    assert_exact(losses['total'], bpr + l2 + supervision)
    params = list(model.parameters())
    actual = torch.autograd.grad(losses['total'], params)
    for one, other in zip(actual, torch.autograd.grad(bpr + l2 + supervision, params)):
        assert (other != 0).any()
        assert_exact(one, other)


def test_weighs_no_self_supervision_if_there_is_none():
    rated, tied = random_graph(1)
    model = build(rated, tied, self_supervision=0.0)
    index = torch.tensor([3, 5])
    losses = model.loss(EdgeBatch(index, index, index - 1))
    assert losses.keys() == {'total', 'bpr', 'l2'}


def test_nobody_without_neighbours_breaks_scores_or_gradients():
    rated, tied = random_graph(0)
    model = build(rated, tied).float()
    index = torch.tensor([0, 1, 2, 5])
    model.loss(EdgeBatch(index, index, index + 1))['total'].backward()
    assert all(param.grad.isfinite().all() for param in model.parameters())
    assert model.score(torch.arange(9), model.history).isfinite().all()


def test_learns_the_planted_groups():
    data = toy_data(300, 60, interactions_per_user=15, num_social=6)
    torch.manual_seed(0)
    model = MHCN.from_data(
        data, num_layers=1, embedding_dim=16, batch_size=512, lr=1e-2, l2=1e-2
    )
    fit(model, epochs=8, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    assert 0.4 < (recall(model) - popular) / (best - popular) < 1


def test_bad_arguments_are_refused():
    for options in ({'self_supervision': -1.0}, {'min_common': 0}):
        with pytest.raises(ValueError, match="'self_supervision' must not be negative"):
            MHCN(5, num_users=3, **options)
    with pytest.raises(ValueError, match="'num_layers' needs to be positive in 'MHCN'"):
        MHCN(5, num_users=3, num_layers=0)
    data = given_data([[0, 1], [1]], [[], [0]], [[2], []], 3)
    with pytest.raises(ValueError, match="'MHCN' needs ties between users"):
        MHCN.from_data(data)
    assert repr(MHCN(3)).startswith('MHCN(3, ')


def test_graphs_leave_the_order_of_interactions_as_it_is():
    model = MHCN.from_data(toy_data(num_social=4), embedding_dim=8, temporal='linear')
    loader, history = model.phases()[0].loader, model.history
    pairs = [loader.user, loader.item, loader.weight, history.col, history.value]
    before = [x.clone() for x in pairs]
    model.loss(next(iter(loader)))
    assert all(map(torch.equal, pairs, before))
