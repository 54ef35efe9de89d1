"""The contracts are shown broken code, each of a kind that they have to catch."""

import pytest
import torch
from toy import toy_data

from pyg_diffrec.data import USER_ITEM
from pyg_diffrec.diffusion import (
    GaussianDiffusion,
    TrainingTerms,
    UniformTimestepSampler,
    linear_beta_schedule,
)
from pyg_diffrec.models import MostPopular
from pyg_diffrec.nn import AffineRows, MLPDenoiser, RowMLPDenoiser
from pyg_diffrec.testing import (
    check_dataset,
    check_denoiser,
    check_model,
    check_process,
    check_schedule,
)
from pyg_diffrec.typing import Phase


def named(**cases):
    return pytest.mark.parametrize('case', cases.values(), ids=list(cases))


@named(
    single_precision=lambda n: linear_beta_schedule(n).float(),
    one_too_many=lambda n: linear_beta_schedule(n + 1),
    zero=lambda n: linear_beta_schedule(n, noise_scale=0.0),
    one=lambda n: torch.ones(n, dtype=torch.double),
    nan_for_one_step=lambda n: linear_beta_schedule(n) * (n - 1) / (n - 1 or torch.nan),
)
def test_broken_schedules_are_caught(case):
    check_schedule(linear_beta_schedule)
    with pytest.raises(AssertionError):
        check_schedule(case)


class Process(GaussianDiffusion):
    def __init__(self):
        super().__init__('linear', 4, noise_max=0.5)


class ForgetsTheStep(Process):
    def q_sample(self, x_start, t, noise=None, generator=None):
        return super().q_sample(x_start, t * 0, noise, generator)


class GoesBackwards(Process):
    def q_sample(self, x_start, t, noise=None, generator=None):
        t = self.num_timesteps - 1 - t
        return super().q_sample(x_start, t, noise, generator)


class ForgetsTheGenerator(Process):
    def q_sample(self, x_start, t, noise=None, generator=None):
        return super().q_sample(x_start, t, noise)


class PosteriorOfOneRow(Process):
    def q_posterior(self, x_start, x_t, t):
        mean, variance = super().q_posterior(x_start, x_t, t)
        return mean[:1], variance


class LeavesOutTheLastStep(Process):
    def p_sample_loop(self, denoiser, x_start, *, cond=None):
        t = torch.zeros(len(x_start)).long()
        for step in reversed(range(1, self.num_timesteps)):
            x_start = self.p_sample(denoiser, x_start, t + step, cond=cond)
        return x_start


class AsksTwice(Process):
    def p_sample_loop(self, denoiser, x_start, *, cond=None):
        super().p_sample_loop(denoiser, x_start, cond=cond)
        return super().p_sample_loop(denoiser, x_start, cond=cond)


class ChainInSinglePrecision(Process):
    def p_sample_loop(self, denoiser, x_start, *, cond=None):
        return super().p_sample_loop(denoiser, x_start, cond=cond).float()


class ChainWithoutCondition(Process):
    def p_sample_loop(self, denoiser, x_start, *, cond=None):
        return super().p_sample_loop(lambda x_t, t: denoiser(x_t, t, x_t), x_start)


class ReturnsATuple(Process):
    def training_losses(self, *args, **kwargs):
        return tuple(super().training_losses(*args, **kwargs))


class LossOfItsOwn(Process):
    def training_losses(self, *args, **kwargs):
        loss, estimate, t = super().training_losses(*args, **kwargs)
        return TrainingTerms(loss + 1, estimate, t)


class LossWithoutGradient(Process):
    def training_losses(self, *args, **kwargs):
        loss, estimate, t = super().training_losses(*args, **kwargs)
        return TrainingTerms(loss.detach().requires_grad_(), estimate, t)


class LossAsMean(Process):
    def training_losses(self, *args, **kwargs):
        loss, estimate, t = super().training_losses(*args, **kwargs)
        return TrainingTerms(loss.mean(), estimate, t)


class AnotherEstimate(Process):
    def training_losses(self, *args, **kwargs):
        loss, estimate, t = super().training_losses(*args, **kwargs)
        return TrainingTerms(loss, estimate + 1, t)


class TrainsWithoutCondition(Process):
    def training_losses(self, denoiser, x_start, t=None, noise=None, cond=None):
        def bare(x_t, t):
            return denoiser(x_t, t, x_t) if cond is not None else denoiser(x_t, t)

        return super().training_losses(bare, x_start, t, noise)


class CountsFromOne(Process):
    def __init__(self):
        super().__init__()
        self.timestep_sampler = Late(self.num_timesteps)

    def _check_timesteps(self, *args, **kwargs):
        pass

    def _q_sample(self, x_start, t, noise, generator=None):
        return super()._q_sample(x_start, t - 1, noise, generator)

    def training_losses(self, denoiser, x_start, t=None, noise=None, cond=None):
        terms = super().training_losses(denoiser, x_start, t, noise, cond)
        return terms if t is not None else terms._replace(t=terms.t + 1)


class Late(UniformTimestepSampler):
    def sample(self, *args, **kwargs):
        return super().sample(*args, **kwargs).fill_(self.num_timesteps - 1)


@named(
    forgets_the_step=ForgetsTheStep,
    goes_backwards=GoesBackwards,
    forgets_the_generator=ForgetsTheGenerator,
    posterior_of_one_row=PosteriorOfOneRow,
    leaves_out_the_last_step=LeavesOutTheLastStep,
    asks_twice=AsksTwice,
    chain_in_single_precision=ChainInSinglePrecision,
    chain_without_condition=ChainWithoutCondition,
    returns_a_tuple=ReturnsATuple,
    loss_of_its_own=LossOfItsOwn,
    loss_without_gradient=LossWithoutGradient,
    loss_as_mean=LossAsMean,
    another_estimate=AnotherEstimate,
    trains_without_condition=TrainsWithoutCondition,
    counts_from_one=CountsFromOne,
)
def test_broken_processes_are_caught(case):
    torch.manual_seed(0)
    check_process(Process(), 5)
    with pytest.raises(AssertionError):
        check_process(case(), 5)


class Wrapped(RowMLPDenoiser):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(5, 3)


class OneRow(Wrapped):
    def forward(self, x_t, t, cond=None):
        return super().forward(x_t, t, cond).mean(0, keepdim=True)


class SinglePrecision(Wrapped):
    def forward(self, x_t, t, cond=None):
        return super().forward(x_t, t, cond).float()


class ForgetsRows(Wrapped):
    def forward(self, x_t, t, cond=None):
        return super().forward(x_t * 0, t, cond)


class ForgetsTimesteps(Wrapped):
    def forward(self, x_t, t, cond=None):
        return super().forward(x_t, t * 0, cond)


class ForgetsItsCondition(Wrapped):
    def forward(self, x_t, t, cond=None):
        return super().forward(x_t, t)


class UnusedWeight(Wrapped):
    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))


class OtherOnAffineRows(Wrapped):
    def _read(self, x_t, h):
        return super()._read(x_t, h * 2 if isinstance(x_t, AffineRows) else h)


@named(
    one_row=OneRow,
    single_precision=SinglePrecision,
    forgets_rows=ForgetsRows,
    forgets_timesteps=ForgetsTimesteps,
    forgets_its_condition=ForgetsItsCondition,
    unused_weight=UnusedWeight,
    other_on_affine_rows=OtherOnAffineRows,
)
def test_broken_denoisers_are_caught(case):
    check_denoiser(Wrapped(), 5, affine=True)
    with pytest.raises(AssertionError):
        check_denoiser(case(), 5, affine=True)


class HalfACondition(MLPDenoiser):
    def __init__(self):
        super().__init__(5, 3, cond_channels=2)

    def forward(self, x_t, t, cond=None):
        return super().forward(x_t, t, cond[0])


def test_a_condition_that_is_used_in_part_is_caught():
    pair = (torch.rand(4, 2).double(), torch.rand(4, 2).double())
    with pytest.raises(AssertionError):
        check_denoiser(HalfACondition(), 5, affine=False, cond=pair)


class CountsTheBatch(MostPopular):
    def score(self, users, history):
        return super().score(users, history) * torch.randn(self.num_items).exp()


class OnlySeen(MostPopular):
    def recommend(self, users, k, **kwargs):
        lists = super().recommend(users, k, **kwargs)
        lists.item[0, 0] = self.history.col[0]
        return lists


class ShortLists(MostPopular):
    def recommend(self, users, k, **kwargs):
        return super().recommend(users, k - 1, **kwargs)


class StateOfItsOwn(MostPopular):
    def __init__(self, num_items):
        super().__init__(num_items)
        self.taste = torch.randn(num_items) * 100

    def score(self, users, history):
        return super().score(users, history) + self.taste


class Diverges(MostPopular):
    def phases(self):
        return [Phase('diverging', [None], None)]

    def loss(self, batch):
        return {'total': torch.tensor(float('nan'))}


@named(
    counts_the_batch=CountsTheBatch,
    only_seen=OnlySeen,
    short_lists=ShortLists,
    state_of_its_own=StateOfItsOwn,
    diverges=Diverges,
)
def test_broken_models_are_caught(case):
    data = toy_data()
    check_model(MostPopular, data)
    with pytest.raises(AssertionError):
        check_model(case, data)


def without_interactions(data):
    data[USER_ITEM].train_mask = torch.zeros_like(data[USER_ITEM].train_mask)


def without_name(data):
    data.name = ''


def without_roles(data):
    data.roles = None


def without_split(data):
    del data[USER_ITEM].test_mask


def with_unknown_items(data):
    data['item'].num_nodes = 3


@named(
    without_interactions=without_interactions,
    without_name=without_name,
    without_roles=without_roles,
    without_split=without_split,
    with_unknown_items=with_unknown_items,
)
def test_broken_datasets_are_caught(case):
    data = toy_data()
    check_dataset(data)
    case(data)
    with pytest.raises((AssertionError, ValueError)):
        check_dataset(data)
