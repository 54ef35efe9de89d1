"""What takes a graph takes it where it is: on a device that stands for a GPU, and on a
GPU where there is one."""

import pytest
import torch
from fake_device import FakeDevice, moved
from toy import toy_data

from pyg_diffrec.data import USER_ITEM, USER_USER, interaction_rows, validate
from pyg_diffrec.data.temporal import is_item_ordered, resolve_temporal
from pyg_diffrec.loader import EdgeLoader, RowLoader, sample_negatives
from pyg_diffrec.models import LDiffRec
from pyg_diffrec.transforms import (
    AddRandomInteractions,
    CleanInteractions,
    CleanSocialEdges,
    KCore,
    RandomSplit,
    RewireSocialEdges,
    TemporalSplit,
)

TRANSFORMS = {
    'AddRandomInteractions': AddRandomInteractions(0.3, seed=1),
    'CleanInteractions': CleanInteractions(),
    'CleanInteractions, last': CleanInteractions('last'),
    'CleanSocialEdges': CleanSocialEdges(undirected=True),
    'KCore': KCore(9, 8),
    'RandomSplit': RandomSplit(seed=1),
    'RewireSocialEdges': RewireSocialEdges(0.3, seed=1),
    'TemporalSplit': TemporalSplit(),
    'TemporalSplit, leave_last': TemporalSplit(leave_last=1),
}


@pytest.fixture(params=['fake', 'cuda'])
def device(request):
    if request.param == 'cuda':
        if not torch.cuda.is_available():
            pytest.skip('no GPU')
        yield lambda data: data.clone().to('cuda')
    else:
        with FakeDevice():
            yield moved


def graph():
    data = toy_data(num_social=4, modalities={'image': (2, 2)})
    data['item'].title = [f'item {i}' for i in range(40)]
    data[USER_ITEM].edge_weight = torch.rand(data[USER_ITEM].edge_index.size(1)) + 0.5
    return data


def check_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            check_equal(actual[key], value)
        elif isinstance(value, torch.Tensor):
            assert actual[key].device.type == 'cuda', key
            assert torch.equal(actual[key].cpu(), value), key
        else:
            # PyG moves a tuple as a list.
            tuples = isinstance(value, tuple)
            assert (list(actual[key]) if tuples else actual[key]) == (
                list(value) if tuples else value
            ), key


def test_the_fake_device_refuses_what_a_gpu_refuses():
    with FakeDevice():
        x = torch.arange(3, device='cuda')
        assert x.device.type == (x + 1).sort().values.device.type == 'cuda'
        assert x.cpu().device.type == 'cpu'
        assert [int(i) for i in x[torch.tensor([2, 0])]] == [2, 0]
        for wrong in (
            lambda: x + torch.arange(3),
            lambda: torch.cat([x, torch.arange(3)]),
            lambda: torch.arange(3)[x],
            lambda: torch.rand(3, device='cuda', generator=torch.Generator()),
        ):
            with pytest.raises(RuntimeError):
                wrong()
        with pytest.raises(TypeError, match='numpy'):
            x.numpy()


@pytest.mark.parametrize('name', TRANSFORMS)
def test_transforms_stay_on_the_device_and_give_the_same(name, device):
    data = graph()
    expected = TRANSFORMS[name](data)
    actual = TRANSFORMS[name](device(data))
    check_equal(actual.to_dict(), expected.to_dict())


def test_checks_run_on_the_device(device):
    data = device(graph())
    assert validate(data, undirected_ties=True) is data
    assert not is_item_ordered(data)
    del data[USER_ITEM].time
    data[USER_ITEM].edge_index[:, 5] = data[USER_ITEM].edge_index[:, 9]
    with pytest.raises(ValueError, match='1 duplicates, the first is .* position 9'):
        validate(data)
    data[USER_USER].edge_index[:, 3] = data[USER_USER].edge_index[:, 1]
    with pytest.raises(ValueError, match='twice, the first is from .* position 3'):
        RewireSocialEdges(0.1)(data)


def test_rows_and_batches_are_on_the_device(device):
    data = graph()
    expected = resolve_temporal('linear')(interaction_rows(data, 'train+val'))
    rows = resolve_temporal('linear')(interaction_rows(device(data), 'train+val'))
    assert rows.device.type == rows.value.device.type == 'cuda'
    assert torch.equal(rows.to_dense().cpu(), expected.to_dense())
    for batch in RowLoader(rows, 7, shuffle=True):
        assert batch.user.device.type == batch.rows.device.type == 'cuda'
        one = expected.index_select(batch.user.cpu())
        assert torch.equal(batch.rows.col.cpu(), one.col)
    dense = expected.to_dense()
    for kwargs in ({}, {'generator': torch.Generator(), 'method': 'popularity'}):
        for batch in EdgeLoader(rows, 50, shuffle=True, weight=rows.value, **kwargs):
            assert {part.device.type for part in batch} == {'cuda'}
            user, positive, negative, weight = (part.cpu() for part in batch)
            assert torch.equal(dense[user, positive], weight)
            assert not dense[user, negative].any()


def test_a_seed_draws_the_same_negatives_everywhere(device):
    data = graph()
    user = torch.arange(60)
    draws = [
        sample_negatives(user, rows, generator=torch.Generator().manual_seed(3))
        for user, rows in (
            (user, interaction_rows(data)),
            (user.to('cuda'), interaction_rows(device(data))),
        )
    ]
    assert draws[1].device.type == 'cuda'
    assert torch.equal(draws[0], draws[1].cpu())


def test_item_embeddings_are_trained_from_a_graph_anywhere(device):
    expected = LDiffRec.from_data(graph(), num_clusters=2, embedding_epochs=1)
    torch.manual_seed(0)
    data = device(graph())
    model = LDiffRec.from_data(data, num_clusters=2, embedding_epochs=1)
    assert model.vae.cluster.shape == expected.vae.cluster.shape
    assert data[USER_ITEM].edge_index.device.type == 'cuda'  # It stays where it is.
