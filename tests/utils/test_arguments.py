import inspect
import math
from typing import Any, Literal, Mapping, NamedTuple, Optional, Sequence, Union

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_diffrec import data, diffusion, loader, models, nn, transforms
from pyg_diffrec.datasets import SyntheticInteractions
from pyg_diffrec.diffusion import GaussianDiffusion, ImportanceTimestepSampler
from pyg_diffrec.models import DiffRec, LightGCN, MultiVAE
from pyg_diffrec.models.l_diffrec import Annealing
from pyg_diffrec.nn import (
    AffineRows,
    LightGCNEncoder,
    MLPDenoiser,
    PooledNoise,
    SocialEncoder,
)
from pyg_diffrec.training import fit
from pyg_diffrec.utils.arguments import (
    Checked,
    check_argument,
    checked,
    constructor_hints,
)
from pyg_diffrec.utils.sparse import SparseRows

WHERE = "'Model'"
HUGE = 10**400  # An integer beyond the floats.

# Made by the package itself, often, of parts that were checked.
VALUES = (AffineRows, PooledNoise, models.Recommendation)


@pytest.mark.parametrize(
    ('hint', 'good', 'bad', 'words'),
    [
        (int, [0, -3, np.int64(2)], [True, 1.0, '1', None, []], 'a whole number'),
        (float, [0, 1.5, np.float32(2)], [False, '1', None, [1.0]], 'a number'),
        (bool, [True, False], [0, 1, 'yes', None, []], 'true or false'),
        (str, ['a', ''], [1, None, ['a'], b'a'], 'a string'),
        (Optional[float], [None, 1.0], [True, 'a'], 'a number'),
        (Literal['a', 'b'], ['a'], [1, None, ['a']], r"one of \['a', 'b'\]"),
        (Sequence[int], [[], [1], (1, 2)], ['12', 1, [1.5], [True]], 'a list of whole'),
        (Union[int, Sequence[int]], [1, [1]], [0.5, [0.5]], 'whole number or a list'),
        (
            Mapping[str, int],
            [{}, {'a': 1}],
            [{'a': 'b'}, {1: 1}, []],
            'a dictionary of',
        ),
        (tuple[int, str], [(1, 'a')], [(1,), ('a', 1), [1, 'a']], 'a list of'),
        (Tensor, [torch.ones(1)], [[1.0], 1.0], "a 'Tensor'"),
        (Any, [None, [], 1j], [], ''),
    ],
)
def test_types_are_those_of_the_annotation(hint, good, bad, words):
    for value in good:
        check_argument('x', value, hint, WHERE)
    for value in bad:
        with pytest.raises(TypeError, match=f"'x' needs to be .*{words}.* in 'Model'"):
            check_argument('x', value, hint, WHERE)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_numbers_are_finite_wherever_they_stand(value):
    for hint, given in (
        (float, value),
        (Optional[float], value),
        (Sequence[float], [0.0, value]),
        (Mapping[str, float], {'a': value}),
    ):
        with pytest.raises(ValueError, match="'x' needs to be finite in 'Model'"):
            check_argument('x', given, hint, WHERE)


@pytest.mark.parametrize(
    ('key', 'hint', 'value', 'needed'),
    [
        ('lr', float, 0.0, 'needs to be positive'),
        ('lr', float, math.nan, 'needs to be positive'),
        ('l2', float, -1e-9, 'must not be negative'),
        ('dropout', float, 1.0, r'needs to lie in \[0, 1\)'),
        ('fusion_ratio', float, 1.1, r'needs to lie in \[0, 1\]'),
        ('num_layers', int, 10**9, 'needs to be at most 100'),
        ('num_timesteps', int, 0, 'needs to be positive'),
        ('hidden_channels', Sequence[int], [5, 10**9], 'needs to be at most 16384'),
        ('alpha', float, HUGE, 'needs to be within 3.0e.38 of zero'),
        ('alpha', float, -1e300, 'needs to be within 3.0e.38 of zero'),
        ('alpha', float, 2**63, r'needs to lie in .*2\^63\)'),
        ('cluster_seed', int, -1, 'must not be negative'),
        ('noise_seed', int, HUGE, r'needs to lie in .*2\^63\)'),
        ('anchor', Literal['a', 'b'], 'c', r"needs to be one of \['a', 'b'\]"),
    ],
)
def test_values_are_in_range(key, hint, value, needed):
    with pytest.raises(ValueError, match=f"'{key}' {needed} in 'Model'"):
        check_argument(key, value, hint, WHERE)


def test_bounds_themselves():
    for key, hint, value in (
        ('dropout', float, 0.0),
        ('fusion_ratio', float, 1.0),
        ('num_layers', int, 0),
        ('num_layers', int, 100),
        ('l2', float, 0),
    ):
        check_argument(key, value, hint, WHERE)


# What no annotation of the package may let through, to the class that is told so.
WRONG = [
    (DiffRec, {'lr': True}, 'lr'),
    (DiffRec, {'lr': 'abc'}, 'lr'),
    (DiffRec, {'dropout': True}, 'dropout'),
    (DiffRec, {'norm': -1}, 'norm'),
    (DiffRec, {'act': 3.0}, 'act'),
    (DiffRec, {'act': None}, 'act'),
    (DiffRec, {'noise_seed': []}, 'noise_seed'),
    (DiffRec, {'hidden_channels': []}, 'hidden_channels'),
    (DiffRec, {'temporal_training': []}, 'temporal_training'),
    (DiffRec, {'temporal': {'form': 'hyperbolic', 'h': math.inf}}, 'h'),
    (DiffRec, {'temporal': {'form': 'linear', 'rescale': 1}}, 'rescale'),
    (DiffRec, {'num_timesteps': 10**9}, 'num_timesteps'),
    (DiffRec, {'weight_decay': -0.1}, 'weight_decay'),
    (LightGCN, {'num_users': 3, 'embedding_dim': True}, 'embedding_dim'),
    (LightGCN, {'num_users': 3, 'num_layers': 0.5}, 'num_layers'),
    (LightGCN, {'num_users': 3, 'num_layers': 10**9}, 'num_layers'),
    (MultiVAE, {'weight_decay': math.nan}, 'weight_decay'),  # Of its base.
    (models.DiffNet, {'num_users': 3, 'layer_weight': 'abc'}, 'layer_weight'),
    (models.SimGCL, {'num_users': 3, 'temperature': math.inf}, 'temperature'),
    (models.LDiffRec, {'annealing': Annealing(elbo_epochs=0)}, 'elbo_epochs'),
    (models.LDiffRec, {'annealing': 0.5}, 'annealing'),
    (MLPDenoiser, {'hidden_channels': 3, 'norm': 'yes'}, 'norm'),
    (SocialEncoder, {'num_layers': 2.0}, 'num_layers'),
    (nn.RecDiffConv, {'out_channels': 5, 'negative_slope': math.nan}, 'negative_slope'),
    (ImportanceTimestepSampler, {'history_size': 1.5}, 'history_size'),
    (SyntheticInteractions, {'num_items': 'many'}, 'num_items'),
    (transforms.KCore, {'k_item': 2.5}, 'k_item'),
]


@pytest.mark.parametrize(('cls', 'kwargs', 'key'), WRONG)
def test_wrong_arguments_are_named_with_their_class(cls, kwargs, key):
    with pytest.raises((TypeError, ValueError), match=f"'{key}'.* in '") as caught:
        cls(5, **kwargs)
    assert 'unexpected keyword' not in str(caught.value)


def test_what_builds_from_data_checks_before_it_begins(monkeypatch):
    graph = SyntheticInteractions(30, 20, num_groups=2, interactions_per_user=6)[0]
    from pyg_diffrec.models import l_diffrec

    monkeypatch.setattr(l_diffrec, '_light_gcn_embedding', None)  # Would be called.
    for kwargs, message in (
        ({'lr': 'abc'}, "'lr' needs to be a number in 'LDiffRec'"),
        ({'num_clusters': '2'}, "'num_clusters' needs to be a whole number"),
        ({'cluster_seed': -1}, "'cluster_seed' must not be negative in 'LDiffRec'"),
        ({'embedding_epochs': 10**9}, "'embedding_epochs' needs to be at most 10000"),
        ({'item_embedding': [1.0]}, "'item_embedding' needs to be a 'Tensor'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            models.LDiffRec.from_data(graph, **kwargs)
    with pytest.raises(TypeError, match="'modalities' needs to be .* in 'BM3'"):
        models.BM3.from_data(graph, modalities=3)


def test_values_that_leave_no_solution_are_named():
    graph = SyntheticInteractions(30, 20, num_groups=2, interactions_per_user=6)[0]
    same = SparseRows.from_coo(
        torch.zeros(2).long(), torch.tensor([0, 1]), num_rows=1, num_cols=2
    )
    with pytest.raises(ValueError, match="'l2' is too small .* in 'EASE'"):
        models.EASE(2, l2=1e-320).fit_history(same)
    model = models.IALS.from_data(graph, l2=1e-320)
    with pytest.raises(ValueError, match="'l2' or 'alpha0' is too small .* 'IALS'"):
        fit(model, epochs=1, progress=False)
    with pytest.raises(ValueError, match="'encoder_channels' needs at least one"):
        models.LDiffRec.from_data(graph, num_clusters=1, encoder_channels=[])


def test_schedules_check_what_is_passed_through():
    for name, value in (('noise_scale', 'x'), ('noise_max', math.nan)):
        with pytest.raises((TypeError, ValueError), match=f"'{name}'"):
            GaussianDiffusion('linear', 5, **{name: value})
    with pytest.raises(TypeError, match="'num_timesteps' needs to be a whole number"):
        diffusion.linear_beta_schedule(2.5)


def public_classes():
    for module in (models, nn, diffusion, loader, transforms):
        for name in module.__all__:
            cls = getattr(module, name)
            if inspect.isclass(cls) and not issubclass(cls, tuple):
                yield cls
    yield from data.temporal.FORMS.values()


@pytest.mark.parametrize('cls', sorted(public_classes(), key=lambda cls: cls.__name__))
def test_every_public_constructor_is_checked(cls):
    assert issubclass(cls, Checked) or cls in VALUES


@pytest.mark.parametrize('name', models.MODELS)
def test_every_argument_of_a_model_has_an_annotation(name):
    hints = constructor_hints(getattr(models, name))
    assert Any not in hints.values(), hints


def test_arguments_of_a_model_are_those_of_its_bases_too():
    hints = constructor_hints(MultiVAE)
    assert hints['beta'] is float
    assert hints['latent_channels'] is int
    assert 'temporal_training' in hints
    assert constructor_hints(models.EASE)['l2'] is float
    assert 'temporal_training' not in constructor_hints(models.EASE)
    assert constructor_hints(models.LDiffRec)['num_clusters'] is int


def test_calls_stay_what_they_were():
    @checked
    def add(first: int, *others: int, scale: float = math.nan, **named: float) -> float:
        r"""Adds."""
        return first + sum(others) + sum(named.values())

    assert add(1, 2, 3, x=0.5) == 6.5
    assert add.__doc__ == 'Adds.'
    assert next(iter(inspect.signature(add).parameters)) == 'first'
    with pytest.raises(TypeError, match="missing 1 required .* 'first'"):
        add()
    with pytest.raises(TypeError, match=r"'others\[1\]' needs to be a whole number"):
        add(1, 2, 0.5)
    with pytest.raises(TypeError, match="'x' needs to be a number in 'add'"):
        add(1, x='a')
    with pytest.raises(ValueError, match="'scale' needs to be finite in 'add'"):
        add(1, scale=math.inf)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        DiffRec(5, colour=1)


def test_fields_of_a_named_tuple_are_arguments():
    class Pair(NamedTuple):
        lr: float = 0.1
        name: str = ''

    check_argument('pair', Pair(), Pair, WHERE)
    with pytest.raises(ValueError, match="'lr' needs to be positive in 'Model'"):
        check_argument('pair', Pair(lr=-1.0), Pair, WHERE)


def test_what_does_not_fit_into_memory_is_said(monkeypatch):
    def refuse(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(torch.nn.Embedding, '__init__', refuse)
    with pytest.raises(MemoryError, match="does not fit into memory: .*'num_users': 7"):
        LightGCNEncoder(7, 5, 4, 2)


def test_annotations_that_only_a_type_checker_knows_are_left_out():
    def later(x: 'Unknown', y: int) -> None:  # noqa: F821
        pass

    checked(later)('anything', 1)
