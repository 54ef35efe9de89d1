import os
import random
import zipfile

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM
from pyg_diffrec.datasets.base import InteractionDataset


class Toy(InteractionDataset):
    def __init__(self, root, pre_transform=None, force_reload=False):
        self.num_processed = 0
        super().__init__(root, None, pre_transform, force_reload=force_reload)
        self.load(self.processed_paths[0])

    @property
    def processed_file_names(self):
        return 'data.pt'

    def process(self):
        self.num_processed += 1
        data = HeteroData()
        data['user'].num_nodes = data['item'].num_nodes = 2
        data[USER_ITEM].edge_index = torch.tensor([[0, 1], [1, 0]])
        data.name, data.split_order = 'toy', ('train', 'val')
        data.informative = {'image': torch.tensor([True, False])}
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        self.save([data], self.processed_paths[0])


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


def test_dataset_round_trip(tmp_path):
    dataset = Toy(str(tmp_path))
    data = dataset[0]
    assert len(dataset) == 1
    assert data[USER_ITEM].edge_index.tolist() == [[0, 1], [1, 0]]
    assert (data.name, data.split_order) == ('toy', ('train', 'val'))
    assert data.informative['image'].tolist() == [True, False]
    assert Toy(str(tmp_path)).num_processed == 0
    assert Toy(str(tmp_path), force_reload=True).num_processed == 1
    assert os.listdir(tmp_path / 'processed') == ['data.pt']


def test_processed_file_is_a_plain_mapping(tmp_path):
    Toy(str(tmp_path))
    mapping = torch.load(tmp_path / 'processed' / 'data.pt', weights_only=True)
    assert mapping['user'] == {'num_nodes': 2}


@pytest.mark.parametrize('name', ['data.pt', 'pre_transform.pt', 'pre_filter.pt'])
def test_dataset_never_runs_code_stored_in_a_file(tmp_path, name):
    Toy(str(tmp_path))
    trap = tmp_path / 'trap'
    torch.save(Bomb(str(trap)), tmp_path / 'processed' / name)
    if name == 'data.pt':
        with pytest.raises(ValueError, match=r"data.pt' is damaged or holds more than"):
            Toy(str(tmp_path))
    else:
        Toy(str(tmp_path))
    assert not trap.exists()
    torch.load(tmp_path / 'processed' / name, weights_only=False)
    assert trap.exists()  # The trap works.


@pytest.mark.parametrize('size', [0, 100])
def test_load_names_a_truncated_file(tmp_path, size):
    Toy(str(tmp_path))
    path = tmp_path / 'processed' / 'data.pt'
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"data.pt' is damaged"):
        Toy(str(tmp_path))


def test_load_finds_every_damage_of_a_file(tmp_path):
    Toy(str(tmp_path))
    path = tmp_path / 'processed' / 'data.pt'
    content = path.read_bytes()
    generator, refused = random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            data = Toy(str(tmp_path))[0]
        except ValueError as error:
            refused += str(error).startswith(f"'{path}' is damaged")
        else:  # The damage lies in what nobody reads.
            assert data[USER_ITEM].edge_index.tolist() == [[0, 1], [1, 0]]
            assert data.informative['image'].tolist() == [True, False]
            refused += 1
    assert refused == 300


@pytest.mark.parametrize(
    ('content', 'got'),
    [
        ([1, 2], 'list'),
        ({'user': 3}, 'mapping'),
        ({'user': {'num_nodes': 2}}, 'no .*interacts'),
    ],
)
def test_load_refuses_other_contents(tmp_path, content, got):
    Toy(str(tmp_path))
    torch.save(content, tmp_path / 'processed' / 'data.pt')
    with pytest.raises(ValueError, match=f"data.pt' is damaged or .*{got}"):
        Toy(str(tmp_path))


def test_load_unpacks_nothing(tmp_path):
    Toy(str(tmp_path))
    path = tmp_path / 'processed' / 'data.pt'
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    with pytest.raises(ValueError, match=r"data.pt' is damaged .* not what was saved"):
        Toy(str(tmp_path))


def test_save_that_fails_leaves_the_old_file(tmp_path):
    def add_what_cannot_be_saved(data):
        data.function = lambda: None
        return data

    Toy(str(tmp_path))
    with pytest.raises(Exception, match='pickle'):
        Toy(str(tmp_path), add_what_cannot_be_saved, force_reload=True)
    assert os.listdir(tmp_path / 'processed') == ['data.pt']
    assert Toy(str(tmp_path))[0].name == 'toy'


def test_what_a_killed_process_left_behind_is_removed(tmp_path):
    Toy(str(tmp_path))
    processed = tmp_path / 'processed'
    names = ['data.pt.0f.tmp', 'other.pt.1f.tmp', 'mine.tmp']
    for name in names:
        (processed / name).write_bytes(b'half')
    Toy(str(tmp_path), force_reload=True)
    # They might be of a process that still runs.
    assert sorted(os.listdir(processed)) == sorted(['data.pt', *names])
    for name in names:
        os.utime(processed / name, (0, 0))
    Toy(str(tmp_path), force_reload=True)
    assert sorted(os.listdir(processed)) == ['data.pt', 'mine.tmp']


def test_save_refuses_more_than_one_graph(tmp_path):
    with pytest.raises(ValueError, match=r"'Toy' holds one graph .got 2 to save"):
        Toy.save([HeteroData(), HeteroData()], str(tmp_path / 'data.pt'))
