import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse

from pyg_diffrec.bench import load_suite, run_suite
from pyg_diffrec.bench.data import build_dataset, check_dataset, dataset_names
from pyg_diffrec.bench.report import table
from pyg_diffrec.data import USER_ITEM
from pyg_diffrec.data.schema import USER_USER, validate


@pytest.fixture
def raw(tmp_path):
    """A folder of raw files that holds a small `ciao` and a small `tiktok`."""
    shape = {'userCount': 3, 'itemCount': 3}
    item = {'train': [0, 1, 2], 'val': [1, 2, 0], 'test': [2, 0, 1]}
    splits = {
        split: scipy.sparse.coo_matrix(([1] * 3, (range(3), items)), shape=(3, 3))
        for split, items in item.items()
    }
    trust = scipy.sparse.coo_matrix(([1, 1], ([0, 1], [1, 0])), shape=(3, 3))
    (tmp_path / 'ciao').mkdir()
    with zipfile.ZipFile(tmp_path / 'ciao' / 'dataset.pkl.zip', 'w') as archive:
        content = pickle.dumps({**shape, **splits, 'trust': trust})
        archive.writestr('dataset.pkl', content)
    (tmp_path / 'tiktok').mkdir()
    for file, matrix in zip(('trn', 'val', 'tst'), splits.values()):
        matrix.resize(3, 4)
        (tmp_path / 'tiktok' / f'{file}Mat.pkl').write_bytes(pickle.dumps(matrix))
    for modality in ('image', 'audio'):
        path = tmp_path / 'tiktok' / f'{modality}_feat.npy'
        np.save(path, np.ones((4, 2), dtype=np.float16))
    return tmp_path


def test_social_datasets_are_known():
    assert {'ciao', 'epinions', 'yelp'} <= set(dataset_names())
    assert len(dataset_names()) == len(set(dataset_names()))
    check_dataset({'name': 'ciao', 'random_share': 0.1, 'rewired_share': 0.2})
    check_dataset({'name': 'synthetic', 'rewired_share': 0.2, 'rewired_seed': 1})


@pytest.mark.parametrize(
    ('spec', 'match'),
    [
        ({'name': 'caio'}, "Unknown dataset 'caio'. Did you mean 'ciao'"),
        ({'name': 'ciao', 'roles': 'published'}, "key of dataset 'ciao' 'roles'"),
        ({'name': 'ml-1m_clean', 'rewired_share': 0.1}, "'rewired_share'"),
        ({'name': 'tiktok', 'modality': []}, "'modality'. Did you mean 'modalities'"),
        ({'name': 'tiktok', 'roles': 'published'}, "key of dataset 'tiktok' 'roles'"),
        ({'name': 'baby', 'rewired_share': 0.1}, "'rewired_share'"),
        ({'name': 'yelp', 'rewired_seed': 1}, "says nothing without 'rewired_share'"),
    ],
)
def test_mistakes_are_named(spec, match):
    with pytest.raises(ValueError, match=match):
        check_dataset(spec)


def test_social_dataset_is_built_and_rewired(raw, tmp_path):
    def build(**spec):
        return validate(build_dataset({'name': 'ciao', **spec}, raw, tmp_path / 'c'))

    assert build()[USER_USER].edge_index.tolist() == [[0, 1], [1, 0]]
    assert 'fake_mask' not in build()[USER_USER]
    rewired = [build(rewired_share=1.0, rewired_seed=seed) for seed in range(6)]
    assert all(data[USER_USER].fake_mask.all() for data in rewired)
    ties = {str(data[USER_USER].edge_index.tolist()) for data in rewired}
    assert ties == {'[[0, 2], [2, 0]]', '[[1, 2], [2, 1]]'}
    with pytest.raises(FileNotFoundError, match="has no folder 'yelp'"):
        build(name='yelp')


def test_ties_of_synthetic_data_can_be_rewired(tmp_path):
    spec = {'name': 'synthetic', 'num_users': 50, 'num_social': 4, 'rewired_share': 0.5}
    data = build_dataset(spec, None, tmp_path)
    assert data[USER_USER].fake_mask.float().mean() == 0.5


def test_multi_modal_dataset_is_built_with_the_modalities_of_its_table(raw, tmp_path):
    def build(**spec):
        spec = {'name': 'tiktok', **spec}
        check_dataset(spec)
        return validate(build_dataset(spec, raw, tmp_path / 'c'))

    assert {'tiktok', 'baby', 'sports'} <= set(dataset_names())
    data = build(random_share=0.5)
    assert {'x_audio', 'x_image'} <= set(data['item'])
    assert data[USER_ITEM].noise_mask.sum() == 3
    data = build(modalities=['image'])
    assert 'x_audio' not in data['item']
    assert 'noise_mask' not in data[USER_ITEM]
    with pytest.raises(FileNotFoundError, match='text_feat.npy'):
        build(modalities=['image', 'audio', 'text'])
    with pytest.raises(ValueError, match=r"'modalities' needs .*got 'image'"):
        build(modalities='image')


SUITE = """
metric = 'Recall@2'
metrics = ['Recall@2']

[[datasets]]
name = 'tiktok'
modalities = ['image']

[[datasets]]
name = 'tiktok'
modalities = ['image', 'audio']

[[models]]
name = 'MostPopular'
"""


def test_datasets_that_differ_in_their_modalities_are_told_apart(raw, tmp_path):
    (tmp_path / 'modalities.toml').write_text(SUITE)
    suite = load_suite(str(tmp_path / 'modalities.toml'))
    run_suite(suite, tmp_path, data_root=raw, progress=False)
    # Finished runs are recognised in the file of results.
    messages = []
    records, _ = run_suite(
        suite, tmp_path, data_root=raw, progress=False, echo=messages.append
    )
    assert [record['dataset'] for record in records] == suite.datasets
    assert len({record['key'] for record in records}) == 2
    assert all(message.endswith('already there') for message in messages)
    assert "MostPopular on tiktok ['image'], seed 1" in messages[0]
    assert table(suite, records).count('## tiktok') == 2
