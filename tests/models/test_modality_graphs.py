import pytest
import torch

from pyg_diffrec.models.modality_graphs import ModalityGraphs
from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj

USER, ITEM = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 3, 1, 3])


def rows(user=USER, item=ITEM):
    return SparseRows.from_coo(user, item, num_rows=3, num_cols=4)


ADJ = SelfLoopAdj(rows())


def dense(adj):
    return adj.rows.to_dense()


def build(**kwargs):
    graphs = ModalityGraphs(2, 3, 1, **kwargs)
    if graphs.items is not None:
        assert graphs.lacks_items
        graphs.items.copy_(torch.tensor([[[1], [1], [2]], [[0], [3], [3]]]))
    assert not graphs.lacks_items
    return graphs


def test_whole_graphs_are_those_of_the_generated_items():
    users = torch.arange(3)
    expected = [
        SelfLoopAdj(rows(users, torch.tensor(items)))
        for items in ([1, 1, 2], [0, 3, 3])
    ]
    for graph, whole in zip(build()(ADJ, dropped=False), expected):
        assert torch.equal(dense(graph), dense(whole))
    for graph, whole in zip(build(fusion_ratio=0.3)(ADJ, dropped=False), expected):
        mixture = 0.3 * dense(whole) + 0.7 * dense(ADJ)
        torch.testing.assert_close(dense(graph), mixture)
    for graph in build(fusion_ratio=0.0)(ADJ, dropped=False):
        assert torch.equal(dense(graph), dense(ADJ))


@pytest.mark.parametrize('fusion_ratio', [1.0, 0.5, 0.0])
def test_dropped_graphs_are_a_function_of_the_seed(fusion_ratio):
    graphs = build(fusion_ratio=fusion_ratio, edge_dropout=0.3)
    first = [dense(graph) for graph in graphs(ADJ, dropped=True)]
    whole = [dense(graph) for graph in graphs(ADJ, dropped=False)]
    assert not torch.equal(first[0] > 0, first[1] > 0)
    for part, full in zip(first, whole):
        assert bool((full[part > 0] > 0).all())
        assert not torch.equal(part, full)
    twin = ModalityGraphs(2, 3, 1, 0.3, fusion_ratio)
    twin.load_state_dict(graphs.state_dict())
    for part, again in zip(first, twin(ADJ, dropped=True)):
        assert torch.equal(part, dense(again))
    graphs.redraw()
    assert not torch.equal(first[0], dense(graphs(ADJ, dropped=True)[0]))


def test_shares_are_dropped_on_average():
    graphs = build(edge_dropout=0.2, fusion_ratio=0.6, random_edge_dropout=0.6)
    mean = torch.zeros_like(dense(ADJ))
    for seed in range(600):
        graphs.seed.fill_(seed)
        mean += dense(graphs(ADJ, dropped=True)[0]) / 600
    whole = dense(graphs(ADJ, dropped=False)[0])
    torch.testing.assert_close(mean, whole, rtol=0, atol=0.07)
    only_random = build(fusion_ratio=0.0, random_edge_dropout=0.0)
    assert only_random(ADJ, dropped=True) == [ADJ, ADJ]


def test_graphs_are_kept_until_something_changes():
    graphs = build()
    first = graphs(ADJ, dropped=True)
    assert graphs(ADJ, dropped=True) is first
    assert graphs(ADJ, dropped=False) is not first
    first = graphs(ADJ, dropped=False)
    graphs.items[0, 0, 0] = 2
    second = graphs(ADJ, dropped=False)
    assert second is not first
    assert graphs(SelfLoopAdj(rows()), dropped=False) is not second
    graphs.reset_parameters()
    assert graphs.lacks_items


def test_scoring_follows_what_pytorch_does_not_see_change():
    graphs = build().eval()
    first = dense(graphs(ADJ, dropped=False)[0])
    graphs.items.data.copy_((graphs.items + 1) % 4)
    assert not torch.equal(first, dense(graphs(ADJ, dropped=False)[0]))
    graphs.items.data.fill_(-1)
    assert graphs.lacks_items
    graphs = build()  # In training, once it begins or goes on.
    first = dense(graphs(ADJ, dropped=False)[0])
    graphs.items.data.copy_((graphs.items + 1) % 4)
    assert not torch.equal(first, dense(graphs.train()(ADJ, dropped=False)[0]))


def test_bad_arguments_are_refused():
    for options, message in (
        ({'edge_dropout': 1.0}, r"'edge_dropout' needs to lie in \[0, 1\)"),
        ({'random_edge_dropout': -0.1}, r"'random_edge_dropout' needs .*got -0.1"),
        ({'fusion_ratio': 1.1}, r"'fusion_ratio' needs to lie in \[0, 1\] .*1.1"),
    ):
        with pytest.raises(ValueError, match=message):
            ModalityGraphs(1, 3, 1, **options)
