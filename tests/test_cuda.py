"""What runs on a GPU gives what a CPU gives; these tests need one."""

import pytest
import torch
from toy import SMALL, full_data

from pyg_diffrec import models
from pyg_diffrec.data import interaction_rows, validate
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import MODELS
from pyg_diffrec.training import fit
from pyg_diffrec.transforms import (
    AddRandomInteractions,
    CleanSocialEdges,
    KCore,
    RandomSplit,
    RewireSocialEdges,
    TemporalSplit,
)
from pyg_diffrec.utils import SparseRows

DEVICE = 'cuda'
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='PyTorch sees no GPU'
)


def test_sparse_products_go_through_torch_sparse():
    torch_sparse = pytest.importorskip('torch_sparse')
    called = []
    matmul = torch_sparse.matmul

    def counted(*args):
        called.append(1)
        return matmul(*args)

    rows = interaction_rows(full_data()).to(DEVICE)
    other = torch.randn(rows.num_cols, 8, device=DEVICE, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_sparse, 'matmul', counted)
        out = rows.matmul(other)
    assert called == [1]
    expected = rows.to('cpu').matmul(other.detach().cpu())
    torch.testing.assert_close(out.cpu(), expected)
    (grad,) = torch.autograd.grad(out.sum(), other)
    expected = rows.to_dense().sum(0).cpu()[:, None].expand(-1, 8)
    torch.testing.assert_close(grad.cpu(), expected)


@pytest.mark.parametrize('name', MODELS)
def test_models_score_on_a_gpu_as_on_a_cpu(name):
    data = full_data()
    torch.manual_seed(0)
    model = getattr(models, name).from_data(data, **SMALL.get(name, {}))
    fit(model, epochs=2, device=DEVICE, progress=False)
    users, rows = torch.arange(60), interaction_rows(data)
    parameters = list(model.parameters())
    if parameters:
        assert all(p.is_cuda for p in parameters)
    with torch.no_grad():
        on_gpu = model.score(users.to(DEVICE), rows.to(DEVICE))
        on_gpu = on_gpu if isinstance(on_gpu, torch.Tensor) else on_gpu.to_dense()
        on_gpu = on_gpu.cpu()
    metrics = evaluate(model, data, 'test', ['Recall@10', 'NDCG@10', 'Coverage@10'])
    lists = model.recommend([3, 1], 5).item
    model.cpu()
    with torch.no_grad():
        on_cpu = model.score(users, rows)
        on_cpu = on_cpu if isinstance(on_cpu, torch.Tensor) else on_cpu.to_dense()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)
    expected = evaluate(model, data, 'test', ['Recall@10', 'NDCG@10', 'Coverage@10'])
    assert metrics == pytest.approx(expected, abs=0.02)
    assert lists.device.type == 'cpu'


@pytest.mark.parametrize(
    'transform',
    [
        AddRandomInteractions(0.2),
        CleanSocialEdges(),
        KCore(2, 2),
        RandomSplit(0.1, 0.2),
        RewireSocialEdges(0.3),
        TemporalSplit(0.1, 0.2),
    ],
    ids=lambda x: type(x).__name__,
)
def test_transforms_leave_a_graph_on_its_device(transform):
    torch.manual_seed(0)
    expected = transform(full_data())
    torch.manual_seed(0)
    out = transform(full_data().to(DEVICE))
    for store, other in zip(out.edge_stores, expected.edge_stores):
        assert store.edge_index.is_cuda
        assert torch.equal(store.edge_index.cpu(), other.edge_index)
        for key in ('train_mask', 'val_mask', 'test_mask'):
            if key in other:
                assert store[key].is_cuda
                assert torch.equal(store[key].cpu(), other[key])


def test_a_graph_on_a_gpu_is_validated_trained_on_and_measured():
    data = full_data().to(DEVICE)
    validate(data)
    assert interaction_rows(data).device.type == 'cuda'
    for name in ('EASE', 'DiffRec', 'LightGCN', 'RecDiff', 'DiffMM'):
        model = getattr(models, name).from_data(data, **SMALL.get(name, {}))
        fit(model, epochs=1, device=DEVICE, progress=False)
        metrics = ['Recall@5', 'Coverage@5', 'Personalization@5', 'AveragePopularity@5']
        on_gpu = evaluate(model, data, 'test', metrics)
        assert on_gpu == pytest.approx(evaluate(model, full_data(), 'test', metrics))
        model.recommend([0], 3)


@pytest.mark.parametrize('precision', ['bf16-mixed', '16-mixed'])
@pytest.mark.parametrize('name', ['DiffRec', 'LightGCN', 'RecDiff', 'DiffMM'])
def test_mixed_precision_trains(name, precision):
    model = getattr(models, name).from_data(full_data(), **SMALL.get(name, {}))
    out = fit(model, epochs=2, device=DEVICE, precision=precision, progress=False)
    assert out.num_epochs == 2
    assert model.recommend([0], 3).score.isfinite().all()
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_empty_rows_and_selections():
    rows = SparseRows.from_coo(
        torch.tensor([], dtype=torch.long),
        torch.tensor([], dtype=torch.long),
        num_rows=2,
        num_cols=3,
    ).to(DEVICE)
    assert rows.matmul(torch.ones(3, 2, device=DEVICE)).tolist() == [[0, 0], [0, 0]]
    assert rows.row_sum().tolist() == [0, 0]
