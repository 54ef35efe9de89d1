r"""What every schedule, denoiser, model and dataset has to fulfil."""

from typing import Any, Callable

import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import interaction_rows, validate
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.nn import AffineRows, Denoiser
from pyg_diffrec.utils.sparse import SparseRows


def check_schedule(schedule: Callable[[int], torch.Tensor]) -> None:
    r"""Float64 betas of the asked number, in :math:`(0, 1)`, for one step or many."""
    for num_timesteps in (1, 2, 50):
        betas = schedule(num_timesteps)
        assert betas.dtype == torch.double
        assert betas.shape == (num_timesteps,)
        assert bool(((betas > 0) & (betas < 1)).all())


def check_denoiser(denoiser: Denoiser, num_items: int, affine: bool) -> None:
    r"""Keeps shape and type, depends on rows and timestep, passes gradients to all
    parameters, and computes the same on both kinds of rows."""
    denoiser = denoiser.double().eval()
    x_t = torch.rand(4, num_items, dtype=torch.double)
    t = torch.tensor([0, 1, 2, 3])
    out = denoiser(x_t, t)
    assert (out.shape, out.dtype) == (x_t.shape, x_t.dtype)
    assert not torch.equal(out, denoiser(x_t + 1, t))
    assert not torch.equal(out, denoiser(x_t, t + 1))
    out.sum().backward()
    assert all(p.grad is not None for p in denoiser.parameters())
    denoiser.zero_grad()
    if affine:
        row, col = x_t.nonzero().t()
        rows = SparseRows.from_coo(
            row, col, x_t[row, col], num_rows=4, num_cols=num_items
        )
        torch.testing.assert_close(denoiser(AffineRows(rows), t).to_dense(), out)


def check_model(cls: Any, data: HeteroData, **kwargs: Any) -> None:
    r"""Scores every item for every user, the same whatever the batch; recommends
    unseen items only; trains through its phases; and survives its state dict."""
    torch.manual_seed(0)
    model = cls.from_data(data, **kwargs)
    for phase in model.phases():
        batch = next(iter(phase.loader))
        losses = getattr(model, phase.method)(batch)
        assert bool(losses['total'].isfinite())
        if phase.optimizer is not None:
            losses['total'].backward()
            phase.optimizer.step()

    num_users, num_items = data['user'].num_nodes, data['item'].num_nodes
    history = interaction_rows(data)
    lists = model.recommend(range(num_users), k=5)
    assert lists.item.shape == lists.score.shape == (num_users, 5)
    seen = history.to_dense().bool()
    real = lists.item >= 0
    assert not bool(seen.gather(1, lists.item.clamp(min=0))[real].any())
    assert int(lists.item.max()) < num_items
    one = model.recommend([num_users - 1], k=5, batch_size=1)
    assert torch.equal(one.item[0], lists.item[-1])

    results = [evaluate(model, data, 'val', batch_size=size) for size in (1, 7, 10000)]
    assert results[0] == results[1] == results[2]

    twin = cls.from_data(data, **kwargs)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.recommend(range(num_users), k=5).item, lists.item)


def check_dataset(data: HeteroData) -> None:
    r"""Follows the schema, is split, and says where it comes from."""
    validate(data)
    assert interaction_rows(data).nnz > 0
    assert data.name
    assert data.roles
