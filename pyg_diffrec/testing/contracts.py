r"""What every schedule, diffusion, denoiser, model and dataset has to fulfil."""

from typing import Any, Callable, Optional

import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import interaction_rows, validate
from pyg_diffrec.diffusion import DiffusionProcess, TrainingTerms
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


def check_process(process: DiffusionProcess, num_items: int) -> None:
    r"""Goes further from clean rows at later steps, asks the denoiser once per step on
    the way back, passes conditions on, and ends at the clean rows if the denoiser knows
    them; a right denoiser has no loss, others have one with gradients."""
    steps = process.num_timesteps
    x_start = torch.rand(steps, num_items, dtype=torch.double)
    t = torch.arange(steps)
    one = x_start[:1].expand(steps, -1)
    distance = (process.q_sample(one, t, noise=-one) - one).norm(dim=1)
    assert bool((distance.diff() > 0).all())
    generators = (torch.Generator().manual_seed(0) for _ in range(2))
    same = [process.q_sample(x_start, t, generator=seeded) for seeded in generators]
    assert torch.equal(*same)
    assert process.q_posterior(x_start, x_start, t)[0].shape == x_start.shape

    asked = []

    def denoiser(x_t: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        assert x_t.shape == x_start.shape
        asked.append(t.tolist())
        return cond

    out = process.p_sample_loop(denoiser, x_start, cond=x_start)
    assert out.dtype == x_start.dtype
    torch.testing.assert_close(out, x_start)
    assert asked == [[i] * steps for i in reversed(range(steps))]
    out = process.p_sample(denoiser, x_start, t * 0, cond=x_start)
    assert out.shape == x_start.shape

    terms = process.training_losses(denoiser, x_start, t, cond=x_start)
    assert isinstance(terms, TrainingTerms)
    assert not bool(terms.loss.any())
    assert torch.equal(terms.x_start, x_start)
    factor = torch.full((), 0.5, dtype=torch.double, requires_grad=True)
    terms = process.training_losses(lambda x_t, t: factor * x_t, x_start)
    assert terms.loss.shape == terms.t.shape == (steps,)
    assert bool(((terms.t >= 0) & (terms.t < steps)).all())
    terms.loss.sum().backward()
    assert bool(factor.grad)
    process.reset_parameters()


def check_denoiser(
    denoiser: Denoiser, num_items: int, affine: bool, cond: Optional[Any] = None
) -> None:
    r"""Keeps shape and type, depends on rows, timestep and condition, refuses a
    condition that it does not use, passes gradients to all parameters, and computes the
    same on both kinds of rows.

    Args:
        denoiser (Denoiser): The denoiser.
        num_items (int): The length :math:`I` of a row.
        affine (bool): Whether it takes :class:`~pyg_diffrec.nn.AffineRows`.
        cond (torch.Tensor or tuple, optional): The condition of 4 rows, float64, or
            several that belong together; :obj:`None` if it has none.
            (default: :obj:`None`)
    """
    denoiser = denoiser.double().eval()

    def denoise(x_t: Any, t: torch.Tensor) -> Any:
        return denoiser(x_t, t) if cond is None else denoiser(x_t, t, cond)

    x_t = torch.rand(4, num_items, dtype=torch.double)
    t = torch.tensor([0, 1, 2, 3])
    out = denoise(x_t, t)
    assert (out.shape, out.dtype) == (x_t.shape, x_t.dtype)
    assert not torch.equal(out, denoise(x_t + 1, t))
    assert not torch.equal(out, denoise(x_t, t + 1))
    if cond is None:
        assert _refuses(lambda: denoiser(x_t, t, x_t)), 'ignores its condition'
    else:
        parts = [cond] if isinstance(cond, torch.Tensor) else list(cond)
        for i, part in enumerate(parts):
            other = [*parts[:i], part + 1, *parts[i + 1 :]]
            changed = other[0] if isinstance(cond, torch.Tensor) else tuple(other)
            assert not torch.equal(out, denoiser(x_t, t, changed))
    out.sum().backward()
    assert all(p.grad is not None for p in denoiser.parameters())
    denoiser.zero_grad()
    if affine:
        row, col = x_t.nonzero().t()
        rows = SparseRows.from_coo(
            row, col, x_t[row, col], num_rows=4, num_cols=num_items
        )
        torch.testing.assert_close(denoise(AffineRows(rows), t).to_dense(), out)


def _refuses(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (TypeError, ValueError):
        return True
    return False


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
    for key in ('name', 'roles'):
        assert data.get(key), f"'data.{key}' needs to say where it is from"
