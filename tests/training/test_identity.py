import enum
import functools
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from line import Line
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch_geometric.data import Data, HeteroData
from toy import full_data, toy_data

from pyg_diffrec import models
from pyg_diffrec.models import MODELS, DiffRec
from pyg_diffrec.models.l_diffrec import Annealing
from pyg_diffrec.training import fit
from pyg_diffrec.training.identity import changing, differences, identity
from pyg_diffrec.typing import Phase

MULTI_MODAL = {'modalities': {'planted': 3, 'second': 3}, 'embedding_dim': 8}
SMALL = {
    'BM3': MULTI_MODAL,
    'DiffMM': {**MULTI_MODAL, 'hidden_channels': 8},
    'DiffRec': {'hidden_channels': [8, 4]},
    'GiffCF': {'embedding_dim': 6},
    'LATTICE': MULTI_MODAL,
    'LDiffRec': {'encoder_channels': [8], 'num_clusters': 2},
    'VBPR': MULTI_MODAL,
}


def data_of_all(**kwargs):
    data = full_data(**kwargs)
    data['item'].x_second = data['item'].planted.flip(0)
    return data


def settings(model, data=True):
    return identity(model, model.phases(), data)


def built(name, data=None, seed=0, **kwargs):
    torch.manual_seed(seed)
    kwargs = {**SMALL.get(name, {}), **kwargs}
    return getattr(models, name).from_data(data or data_of_all(), **kwargs)


TRAINED = [name for name in MODELS if built(name).phases()]

# Where the type of the default does not tell another value.
OTHER = {
    'act': ['relu'],
    'alpha': [[0.2, 0.8], [0.2, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4], 0.7],
    'annealing': [Annealing(kl_cap=0.1)],
    'anchor': ['modality'],
    'cold_items': ['modality'],
    'denoising': ['none', 'iterative'],
    'negatives': ['popularity'],
    'noise': ['pooled'],
    'prediction': ['noise'],
    'projection': ['matrix'],
    'schedule': ['cosine'],
    'temporal': ['linear', {'form': 'hyperbolic', 'h': 2.0}],
    'timestep_sampler': ['importance', 'uniform'],
    'weighting': ['uniform', 'snr'],
}


def others(name, default):
    if name in OTHER:
        return OTHER[name]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int):
        return [default + 1, default * 2, max(default - 1, 0)]
    if isinstance(default, float):
        return [default * 2 + 0.01, default / 2 + 0.01, default / 2]
    if isinstance(default, (list, tuple)):
        return [[6], [5, 3]]
    return [2, 0.5, [6]]


def hyper_parameters(cls):
    """The arguments of a class and its bases, with their defaults."""
    out = {}
    for base in reversed(cls.__mro__):
        if '__init__' in vars(base) and base.__module__.startswith('pyg_diffrec'):
            out |= inspect.signature(base).parameters
    ignored = {'num_items', 'num_users', 'modalities', 'kwargs'}
    return {name: x.default for name, x in out.items() if name not in ignored}


# What a base has and these refuse, or take from the data.
REFUSED = {
    'GiffCF': {'temporal_training'},
    'IALS': {'temporal_training'},
    'LDiffRec': {'cluster'},
    'SimGCL': {'alpha', 'edge_dropout'},
}


@pytest.mark.parametrize('name', TRAINED)
def test_every_hyper_parameter_is_a_setting(name):
    data = data_of_all()
    mine = settings(built(name, data))
    ignored = [x for x in mine if x in ('model.item',)]  # Drawn, then learned.
    assert differences(settings(built(name, data, seed=7)), mine, ignored) == []
    for key, default in hyper_parameters(getattr(models, name)).items():
        if key in REFUSED.get(name, ()):
            continue
        default, found, errors = SMALL.get(name, {}).get(key, default), [], []
        for value in others(key, default):
            try:
                other = built(name, data, **{key: value})
            except (TypeError, ValueError) as error:  # Not for this model.
                errors.append(error)
                continue
            found += differences(settings(other), mine, [])
        assert found, (key, default, errors)


def test_settings_are_the_same_in_another_process():
    script = (
        'import json, sys; sys.path[:0] = sys.argv[1:3]\n'
        'from test_identity import TRAINED, built, settings\n'
        'print(json.dumps({x: settings(built(x)) for x in TRAINED}))'
    )
    here = Path(__file__).parent
    out = subprocess.run(
        [sys.executable, '-c', script, str(here), str(here.parent)],
        env={**os.environ, 'PYTHONHASHSEED': '5', 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        check=True,
    )
    theirs = json.loads(out.stdout)
    for name in TRAINED:
        assert differences(settings(built(name)), theirs[name], []) == []
    assert len(theirs) > 10


@pytest.mark.parametrize('name', TRAINED)
def test_a_model_goes_on_where_it_is(name, tmp_path):
    options = {'checkpoint': tmp_path / 'run.pt', 'progress': False}
    model, whole = built(name), built(name)
    torch.manual_seed(1)
    fit(model, epochs=1, **options)
    fit(model, epochs=2, resume=True, **options)
    torch.manual_seed(1)
    fit(whole, epochs=2, progress=False)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


@pytest.mark.parametrize('name', TRAINED)
def test_other_interactions_are_other_data(name):
    mine, data = settings(built(name)), data_of_all()
    store = data['user', 'interacts', 'item']
    # Two users swap an item of their training rows.
    user, item = store.edge_index
    train = store.train_mask.nonzero().view(-1)
    rows = {u: set(item[train[user[train] == u]].tolist()) for u in (0, 1)}
    first, second = min(rows[0] - rows[1]), min(rows[1] - rows[0])
    at = [
        int(train[(user[train] == u) & (item[train] == i)][0])
        for u, i in ((0, first), (1, second))
    ]
    store.edge_index[1, at] = store.edge_index[1, at[::-1]]
    found = differences(settings(built(name, data)), mine, [])
    assert any(x.startswith('model.history.col is ') for x in found)


def test_features_and_ties_are_data():
    for name, change in (('VBPR', 'x_planted'), ('DiffNet', 'ties'), ('MHCN', 'ties')):
        data = data_of_all()
        if change == 'ties':
            store = data['user', 'trusts', 'user']
            store.edge_index = store.edge_index[:, 2:]
        else:
            data['item'].x_planted[3, 1] += 0.1
        assert differences(settings(built(name, data)), settings(built(name)), [])


def test_another_run_is_refused_with_what_differs(tmp_path):
    data, path = toy_data(), tmp_path / 'run.pt'
    options = {'checkpoint': path, 'progress': False}
    fit(DiffRec.from_data(data, hidden_channels=4), epochs=1, **options)
    changes = {'lr': 0.5, 'noise_scale': 0.9, 'dropout': 0.0, 'prediction': 'noise'}
    for name, value in changes.items():
        model = DiffRec.from_data(data, hidden_channels=4, **{name: value})
        before = model.denoiser.weight.clone()
        where = {'noise_scale': r'diffusion\.\w+'}.get(name, name)
        with pytest.raises(ValueError, match=rf'another run: .*{where}\S* is .*, was'):
            fit(model, epochs=2, resume=True, **options)
        assert torch.equal(before, model.denoiser.weight)
    model = DiffRec.from_data(toy_data(seed=5), hidden_channels=4)
    with pytest.raises(
        ValueError, match=r'model\.history\.\w+ is .*the same hyper-par'
    ):
        fit(model, epochs=2, resume=True, **options)
    for name, value in (('metric', 'NDCG@10'), ('precision', '64-true')):
        model = DiffRec.from_data(data, hidden_channels=4)
        with pytest.raises(ValueError, match=f'another run: {name} is '):
            fit(model, epochs=2, resume=True, **{name: value}, **options)
    model = DiffRec.from_data(data, hidden_channels=4)
    assert fit(model, epochs=2, resume=True, **options).num_epochs == 2


class Rows(Dataset):
    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]


class Mode(enum.Enum):
    slow = 1
    fast = 2


class Config:
    __slots__ = ('rate',)

    def __init__(self, rate):
        self.rate = rate


class Foreign(Line):
    """A module of someone else, with a setting, and batches, of any kind."""

    def __init__(self, setting=None, loader=None):
        super().__init__()
        if isinstance(setting, torch.Tensor):
            self.register_buffer('setting', setting)
        else:
            self.setting = setting
        self.loader = loader

    def phases(self):
        (phase,) = super().phases()
        return [phase if self.loader is None else phase._replace(loader=self.loader)]


def graph(x):
    data = HeteroData()
    data['item'].x = torch.tensor([[x]])
    return data


PAIRS = {
    'partial': [functools.partial(torch.clamp, min=x) for x in (0.1, 0.2)],
    'function': [torch.relu, torch.tanh],
    'enum': [Mode.slow, Mode.fast],
    'set': [{'a', 'b'}, {'a', 'c'}],
    'slots': [Config(0.1), Config(0.2)],
    'nested': [{'a': [Config(0.1)]}, {'a': [Config(0.3)]}],
    'buffer': [torch.arange(20.0), torch.arange(20.0).flip(0)],
    'integers': [torch.arange(20), torch.arange(20) + 1],
    'sparse': [torch.eye(5).to_sparse(), 2 * torch.eye(5).to_sparse()],
    'array': [np.arange(30), np.arange(1, 31)],
    'objects': [np.array(['a', None]), np.array(['b', None])],
    'long list': [list(range(1000)), [*range(999), 0]],
    'many tensors': [[torch.ones(2)] * 300, [*([torch.ones(2)] * 299), torch.zeros(2)]],
    'many numbers': [dict.fromkeys(range(500), x) for x in (1.0, 2.0)],
    'number': [1, 2],
    'kind': [None, False],
    'empty': [{}, []],
}


@pytest.mark.parametrize('kind', PAIRS)
def test_settings_of_any_module(kind):
    first, second = PAIRS[kind]
    mine = settings(Foreign(first))
    assert differences(settings(Foreign(first)), mine, []) == []
    found = differences(settings(Foreign(second)), mine, [])
    assert found
    assert all(x.startswith('model.setting') for x in found)


LOADERS = {
    'tensors': lambda x: DataLoader(TensorDataset(torch.tensor([3.0, x]))),
    'private': lambda x: DataLoader(Rows([3.0, x])),
    'graphs': lambda x: [Data(x=torch.tensor([x])), Data(x=torch.ones(1))],
    'typed graphs': lambda x: [graph(x)],
    'batches': lambda x: [torch.tensor(x)],
    'batch size': lambda x: DataLoader(range(9), batch_size=int(x)),
    'shuffled': lambda x: DataLoader(range(9), shuffle=x > 1),
}


@pytest.mark.parametrize('kind', LOADERS)
def test_data_of_any_loader(kind):
    make = LOADERS[kind]
    mine = settings(Foreign(loader=make(1.0)))
    assert differences(settings(Foreign(loader=make(1.0))), mine, []) == []
    assert differences(settings(Foreign(loader=make(2.0))), mine, [])


def test_many_entries_are_one_setting():
    many = {f'{i}': [torch.ones(9) * i] for i in range(1000)}
    mine = settings(Foreign(many))
    assert len(mine) == len(settings(Foreign(3)))
    many['7'] = [torch.ones(9)]
    (found,) = differences(settings(Foreign(many)), mine, [])
    assert found.startswith('model.setting is ')


def test_what_makes_a_loader_fast_is_no_setting():
    loaders = [DataLoader(range(9), pin_memory=x, timeout=0) for x in (False, True)]
    mine, other = (settings(Foreign(loader=x)) for x in loaders)
    assert mine == other


def test_optimizers_and_schedules_are_settings():
    def phases(model, optimizer, scheduler=None):
        scheduler = scheduler and scheduler(optimizer)
        return [Phase('line', [1.0], optimizer, scheduler=scheduler)]

    model, parts = Line(), [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    model.parts = torch.nn.ModuleList(parts)
    decay, step = (
        functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5),
        functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2),
    )
    runs = [
        phases(model, torch.optim.SGD(parts[0].parameters(), lr=0.1)),
        phases(model, torch.optim.SGD(parts[1].parameters(), lr=0.1)),
        phases(model, torch.optim.SGD(parts[0].parameters(), lr=0.2)),
        phases(model, torch.optim.SGD(parts[0].parameters(), lr=0.1, momentum=0.1)),
        phases(model, torch.optim.Adam(parts[0].parameters(), lr=0.1)),
        phases(model, torch.optim.SGD(parts[0].parameters(), lr=0.1), decay),
        phases(model, torch.optim.SGD(parts[0].parameters(), lr=0.1), step),
        [phases(model, None)[0]],
    ]
    found = [identity(model, x) for x in runs]
    for i, mine in enumerate(found):
        for other in found[:i]:
            assert differences(mine, other, [])


def test_one_and_one_point_zero_are_the_same():
    for first, second in ((1, 1.0), (np.float64(0.5), 0.5), ([1, 2], (1.0, 2.0))):
        assert settings(Foreign(first)) == settings(Foreign(second))
    assert settings(Foreign(1)) != settings(Foreign(True))


def test_a_device_is_no_setting():
    mine, other = (settings(Foreign(torch.device(x))) for x in ('cpu', 'cuda:1'))
    assert mine == other


def test_round_off_of_derived_tensors_makes_no_difference():
    x = torch.rand(1_500_000, dtype=torch.double)
    for size in (5, 5000, len(x)):
        mine = settings(Foreign(x[:size]))
        noisy = x[:size] * (1 + 1e-7 * torch.randn(size))
        assert differences(settings(Foreign(noisy)), mine, []) == []
        one = x[:size].clone()
        one[3] += 0.01
        swapped = x[:size].clone()
        swapped[[1, 2]] = swapped[[2, 1]]
        moved = x[:size].roll(max(size // 2, 1))
        for other in (one, swapped, moved, x[:size].float(), x[:size].view(1, -1)):
            assert differences(settings(Foreign(other)), mine, [])


class Growing(Foreign):
    """Keeps in public what happens in training."""

    def loss(self, batch):
        self.last, self.seen = batch, [*getattr(self, 'seen', []), self.steps]
        return super().loss(batch)


def test_what_training_changes_is_no_setting(tmp_path):
    model, path = Growing([1, 2]), tmp_path / 'run.pt'
    before = settings(model)
    fit(model, epochs=1, checkpoint=path, progress=False)
    names = changing(before, settings(model, data=False))
    assert names == ['model.steps', 'model.last', 'model.seen']
    for again in (model, Growing([1, 2])):
        again.setting = [1, 3]
        with pytest.raises(ValueError, match=r'setting is \[1, 3\], was \[1, 2\]'):
            fit(again, epochs=2, checkpoint=path, resume=True, progress=False)
        again.setting = [1, 2]
        fit(again, epochs=2, checkpoint=path, resume=True, progress=False)
        assert again.weight.item() == pytest.approx(3 * (1 - 0.8**4))
