import pytest
import torch
import torch.nn.functional as F
from diff_mm_case import Case, cases

from pyg_diffrec.nn.encoders.modality import ModalityEncoder
from pyg_diffrec.nn.encoders.multi_modal import MultiModalEncoder
from pyg_diffrec.utils import SelfLoopAdj, SparseRows


@pytest.fixture
def case(golden, m, trans):
    return Case(golden, m, trans)


@cases
def test_projections_equal_reference_values(case, assert_exact):
    for i, part in enumerate(case.encoder.project(case.x)):
        assert_exact(part, case[f'out_feats{i}'])


@cases
def test_graphs_equal_reference_values(case, assert_exact):
    assert_exact(case.adj.rows.to_dense(), case['in_adj'])
    for i, graph in enumerate(case.graphs):
        assert_exact(graph.rows.to_dense(), case[f'in_modal_adj{i}'])


@cases
def test_embeddings_equal_reference_values(case, assert_exact):
    features = case.encoder.features(case.x)
    out = case.encoder(case.user, case.item, features, case.adj, case.graphs)
    assert_exact(out[: len(case.user)], case['out_user'])
    assert_exact(out[len(case.user) :], case['out_item'])


@cases
def test_views_equal_reference_values(case, assert_exact):
    features = case.encoder.features(case.x)
    views = case.encoder.views(case.user, features, case.adj, case.graphs)
    for i, view in enumerate(views.unbind(1)):
        assert_exact(view[: len(case.user)], case[f'out_cl_user{i}'])
        assert_exact(view[len(case.user) :], case[f'out_cl_item{i}'])


def naive(case, weights, features):
    """The sums of the paper, one modality after the other, on dense graphs."""
    adj, encoder = case.adj.rows.to_dense(), case.encoder
    num_users, x = len(case.user), 0.0
    start = torch.cat([case.user, case.item])
    for weight, feature, graph in zip(weights, features, case.graphs):
        first = adj @ torch.cat([case.user, feature])
        part = first + adj @ torch.cat([first[:num_users], case.item])
        part = part + encoder.graph_weight * graph.rows.to_dense() @ start
        x = x + weight * part
    out, layer = x + encoder.norm_weight * F.normalize(x), x
    for _ in range(encoder.num_layers):
        layer = adj @ layer
        out = out + layer
    return out


# The authors' code cannot compute three modalities with mixed projections.
def test_three_modalities_with_mixed_projections(golden, assert_exact):
    case = Case(golden, 3, 2)
    assert f'{case.prefix}out_user' not in case.values.arrays
    features = []
    for i, name in enumerate(case.names):
        if name == 'text':
            weight, bias = case['w_text_trans.weight'], case['w_text_trans.bias']
            features.append(F.normalize(case.x[i] @ weight.t() + bias))
        else:
            out = case.x[i] @ case[f'w_{name}_trans']
            features.append(F.normalize(torch.where(out > 0, out, 0.2 * out)))
    expected = naive(case, case['w_modal_weight'].softmax(0), features)
    actual = case.encoder.features(case.x)
    out = case.encoder(case.user, case.item, actual, case.adj, case.graphs)
    assert_exact(out, expected)


def test_items_without_features_share_the_weights_of_the_others(golden):
    case = Case(golden, 3, 1)
    present = torch.ones(len(case.item), 3, dtype=torch.bool)
    user, item, graphs = case.user, case.item, case.graphs
    full = case.encoder.features(case.x)
    expected = case.encoder(user, item, full, case.adj, graphs)
    out = case.encoder(
        user, item, case.encoder.features(case.x, present), case.adj, graphs, present
    )
    torch.testing.assert_close(out, expected)

    present[0, 1] = present[1, 0] = present[1, 2] = False
    present[2] = False
    features = case.encoder.features(case.x, present)
    assert bool((features[1][0] == 0).all())
    weights = case.encoder.logits.softmax(0)
    fused = case.encoder._fuse(features, present)
    first = (weights[0] * full[0][0] + weights[2] * full[2][0]) / (1 - weights[1])
    torch.testing.assert_close(fused[0], first)
    torch.testing.assert_close(fused[1], full[1][1])
    assert bool((fused[2] == 0).all())
    out = case.encoder(user, item, features, case.adj, graphs, present)
    grad = torch.autograd.grad(out.sum(), list(case.encoder.parameters()))
    assert all(bool(g.isfinite().all()) for g in grad)


def test_one_modality_and_no_layers(golden):
    case = Case(golden, 2, 1)
    sizes = case.x[0].size(1), case.user.size(1)
    encoder = MultiModalEncoder(sizes[:1], sizes[1], ['linear'], 0, 0.0, 0.0).double()
    (feature,) = encoder.features(case.x[:1])
    out = encoder(case.user, case.item, [feature], case.adj, case.graphs[:1])
    adj, num_users = case.adj.rows.to_dense(), len(case.user)
    first = adj @ torch.cat([case.user, feature])
    expected = first + adj @ torch.cat([first[:num_users], case.item])
    torch.testing.assert_close(out, expected)


def test_reset_repr_and_bad_arguments():
    torch.manual_seed(0)
    encoder = MultiModalEncoder([3, 2], 4, ['linear', 'matrix'])
    before = [encoder.encoders[i].lin.weight.clone() for i in range(2)]
    torch.nn.init.ones_(encoder.logits)
    encoder.reset_parameters()
    for i in range(2):
        assert not torch.equal(encoder.encoders[i].lin.weight, before[i])
    assert encoder.logits.tolist() == [0, 0]
    text = "[ModalityEncoder(3, 4, projection='linear'), "
    text += "ModalityEncoder(2, 4, projection='matrix')]"
    assert str(encoder) == f'MultiModalEncoder({text}, num_layers=1)'
    with pytest.raises(ValueError, match='at least one modality'):
        MultiModalEncoder([], 4, [])
    with pytest.raises(ValueError, match='one of .projections. for each .*2 and 1'):
        MultiModalEncoder([3, 2], 4, ['linear'])
    with pytest.raises(ValueError, match="'num_layers' must not be negative"):
        MultiModalEncoder([3], 4, ['linear'], num_layers=-1)
    with pytest.raises(ValueError, match=r"'projection' needs .*'linear'.*'cubic'"):
        ModalityEncoder(3, 4, 'cubic')
    with pytest.raises(ValueError, match="'in_channels' and 'out_channels'"):
        ModalityEncoder(0, 4)


def test_inputs_of_other_modalities_are_refused():
    encoder = MultiModalEncoder([3, 2], 4, ['linear', 'matrix'])
    adj = SelfLoopAdj(SparseRows(torch.tensor([0, 1]), torch.tensor([1]), num_cols=2))
    x = [torch.rand(2, 3), torch.rand(2, 2)]
    features, user, item = encoder.features(x), torch.rand(1, 4), torch.rand(2, 4)
    for call, message in (
        (lambda: encoder.project(x[:1]), "'x' needs one entry for each of 2 .*got 1"),
        (lambda: encoder.project(x[::-1]), r"'x' needs shape \[I, 3\] in 'Modality"),
        (lambda: encoder(user, item, features[:1], adj, [adj] * 2), "'features' needs"),
        (lambda: encoder(user, item, features, adj, [adj] * 3), "'graphs' .*got 3"),
        (lambda: encoder.views(user, features, adj, [adj]), "'graphs' needs one"),
        (lambda: encoder.views(user, features * 2, adj, [adj] * 2), "'features' .*4"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
