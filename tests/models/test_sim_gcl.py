import pytest
import torch
import torch.nn.functional as F
from toy import toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import LightGCN, MostPopular, Planted, SimGCL
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows

SMALL = {'embedding_dim': 8, 'batch_size': 64}


@pytest.mark.parametrize('num_layers', [1, 3])
def test_contract(num_layers):
    check_model(SimGCL, toy_data(), num_layers=num_layers, **SMALL)


def test_tables_are_the_mean_of_the_propagated_layers():
    torch.manual_seed(0)
    model = SimGCL.from_data(toy_data(), num_layers=2, **SMALL)
    twin = LightGCN.from_data(toy_data(), num_layers=2, alpha=[0, 0.5, 0.5], **SMALL)
    twin.load_state_dict(model.state_dict())
    for actual, expected in zip(model.tables(), twin.tables()):
        torch.testing.assert_close(actual, expected)


def test_perturbed_views_keep_signs_and_distance():
    torch.manual_seed(0)
    model = SimGCL.from_data(toy_data(), num_layers=1, eps=0.3, **SMALL)
    with torch.no_grad():
        offsets = model._offsets(model._layers())
        for table, offset in zip(model.tables(), offsets):
            first, second = offset.unbind(1)
            assert not torch.equal(first, second)
            for view in (first, second):
                moved = view.norm(dim=1)
                assert (moved <= 0.3 + 1e-5).all()
                assert moved.max() == pytest.approx(0.3, rel=1e-4)
                assert (view * table >= 0).all()


def plain_loss(model, batch, tables):
    """Each view propagated on its own over the whole graph, with gradients."""
    num_users, num_layers = model.num_users, model.num_layers
    adj = model._graph().rows.to_dense()
    draws = [
        [torch.rand(len(x), 2, x.size(1), dtype=x.dtype) for x in tables]
        for _ in range(num_layers)
    ]
    means = []
    for view in (None, 0, 1):
        user, item = tables
        total = [0.0, 0.0]
        for noises in draws:
            x = torch.cat([adj @ item, adj.t() @ user])
            if view is not None:
                noise = torch.cat([noise[:, view] for noise in noises])
                noise = noise / noise.norm(dim=1, keepdim=True)
                x = x + model.eps * x.sign() * noise
            user, item = x[:num_users], x[num_users:]
            total = [total[0] + user / num_layers, total[1] + item / num_layers]
        means.append(total)
    (user, item), *views = means
    positive = (user[batch.user] * item[batch.positive]).sum(1)
    negative = (user[batch.user] * item[batch.negative]).sum(1)
    loss = -F.logsigmoid(positive - negative).mean()
    for x, index in zip((0, 1, 1), batch[:3]):
        square = tables[x][index].square().sum()
        loss = loss + model.l2 / 2 * square / len(batch.user)
    for side, nodes in enumerate((batch.user, batch.positive)):
        index = torch.tensor(sorted(set(nodes.tolist())))
        first, second = (F.normalize(view[side][index]) for view in views)
        logits = first @ second.t() / model.temperature
        target = torch.arange(len(index))
        loss = loss + model.contrast * F.cross_entropy(logits, target)
    return loss


@pytest.mark.parametrize('num_layers', [1, 2, 3])
def test_loss_and_gradients_equal_three_plain_propagations(num_layers):
    torch.manual_seed(0)
    model = SimGCL.from_data(
        toy_data(), num_layers=num_layers, eps=0.2, contrast=0.5, l2=0.1, **SMALL
    ).double()
    batch = next(iter(model.phases()[0].loader))
    torch.manual_seed(1)
    losses = model.loss(batch)
    tables = model.learned_tables()
    torch.manual_seed(1)
    expected = plain_loss(model, batch, tables)
    torch.testing.assert_close(losses['total'], expected, rtol=1e-10, atol=0)
    parts = losses['bpr'] + losses['l2'] + losses['contrast']
    torch.testing.assert_close(losses['total'], parts)
    grads = [torch.autograd.grad(x, tables) for x in (losses['total'], expected)]
    for actual, plain in zip(*grads):
        tolerance = 1e-10 * plain.abs().max().item()
        torch.testing.assert_close(actual, plain, rtol=0, atol=tolerance)


def test_a_step_propagates_views_forward_alone_and_both_at_once(monkeypatch):
    model = SimGCL.from_data(toy_data(), num_layers=3, **SMALL)
    batch = next(iter(model.phases()[0].loader))
    widths = []
    matmul = SparseRows.matmul

    def counted(self, other):
        widths.append(other.size(1))
        return matmul(self, other)

    monkeypatch.setattr(SparseRows, 'matmul', counted)
    losses = model.loss(batch)
    # Three layers to either side, and two with both views side by side.
    assert sorted(widths) == [8] * 6 + [16] * 4
    losses['total'].backward()
    assert sorted(widths) == [8] * 12 + [16] * 4


def test_learns_the_planted_groups():
    data = toy_data(300, 60, interactions_per_user=15)
    torch.manual_seed(0)
    model = SimGCL.from_data(
        data, embedding_dim=16, batch_size=256, lr=1e-2, contrast=0.01
    )
    fit(model, epochs=20, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    assert 0.4 < (recall(model) - popular) / (best - popular) < 1


def test_bad_arguments_are_refused():
    for options, message in (
        ({'num_layers': 0}, "'num_layers' needs to be positive in 'SimGCL'"),
        ({'eps': -1.0}, "'eps' must not be negative in 'SimGCL'"),
        ({'temperature': 0.0}, "'temperature' needs to be positive in 'SimGCL'"),
    ):
        with pytest.raises(ValueError, match=message):
            SimGCL(5, num_users=3, **options)
    for option in ({'alpha': [0.0, 1.0, 0.0]}, {'edge_dropout': 0.1}):
        with pytest.raises(TypeError, match=f"takes no '{next(iter(option))}'"):
            SimGCL(5, num_users=3, **option)
