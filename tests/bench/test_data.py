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


SYNTHETIC = 'synthetic'


@pytest.mark.parametrize('build', [check_dataset, lambda x: build_dataset(x, None, '')])
@pytest.mark.parametrize(
    ('spec', 'match'),
    [
        (3, r"needs to be a table with the 'name' of one of .* \(got 3\)"),
        ('ciao', "needs to be a table .*got 'ciao'"),
        (['ciao'], 'needs to be a table'),
        ({}, 'needs to be a table'),
        ({'name': 3}, "needs to be a table .*got {'name': 3}"),
        ({'name': ['ciao']}, 'needs to be a table'),
        ({'name': 'ciao', 3: 3}, "Unknown key of dataset 'ciao' '3'"),
        ({'name': SYNTHETIC, 'num_users': '9'}, "'num_users' .*'synthetic' .*got '9'"),
        ({'name': SYNTHETIC, 'num_users': 9.5}, "'num_users' .*'synthetic' .*got 9.5"),
        ({'name': SYNTHETIC, 'num_items': True}, "'num_items' needs .*got True"),
        ({'name': SYNTHETIC, 'num_groups': []}, "'num_groups' needs to be a whole"),
        ({'name': SYNTHETIC, 'num_users': 10**9}, "'num_users' .* at most 100000000"),
        ({'name': SYNTHETIC, 'seed': None}, "'seed' needs to be a whole number"),
        ({'name': SYNTHETIC, 'sharpness': 'x'}, "'sharpness' needs to be a number"),
        (
            {'name': SYNTHETIC, 'noise_share': 2},
            r"'noise_share' needs to lie in \[0, 1",
        ),
        (
            {'name': SYNTHETIC, 'modalities': ['a']},
            "'modalities' needs to be a dictionary",
        ),
        (
            {'name': SYNTHETIC, 'modalities': {'a': 1}},
            "'modalities' needs to be a dictionary",
        ),
        (
            {'name': SYNTHETIC, 'val_ratio': 0.9},
            "'val_ratio' and 'test_ratio' .* below",
        ),
        ({'name': SYNTHETIC, 'transform': 1}, "key of dataset 'synthetic' 'transform'"),
        ({'name': 'tiktok', 'modalities': 3}, "'modalities' needs .*'tiktok' .*got 3"),
        ({'name': 'baby', 'modalities': {'a': 1}}, "'modalities' needs .*'baby' .*'a'"),
        ({'name': 'baby', 'modalities': ['a', 'a']}, 'list of different names.*Multi'),
        ({'name': 'baby', 'modalities': [['a']]}, 'a list of strings'),
        (
            {'name': 'ml-1m_noisy', 'roles': 'x'},
            r"'roles' .*published.*noisy' .*got 'x'",
        ),
        ({'name': 'yelp_clean', 'roles': 3}, "'roles' needs .*'yelp_clean' .*got 3"),
        ({'name': 'yelp_clean', 'roles': ['published']}, "'roles' needs to be one of"),
        ({'name': 'ciao', 'random_share': '1'}, "'random_share' .*'ciao' .*got '1'"),
        ({'name': 'ciao', 'random_share': float('nan')}, "'random_share' .*nan"),
        ({'name': 'ciao', 'random_share': 1e30}, r"'random_share' .* \[0, 1000\]"),
        (
            {'name': 'ciao', 'random_share': 10**400},
            "'random_share' needs to be within .*'ciao'",
        ),
        ({'name': 'ciao', 'random_share': -1}, "'random_share' .*got -1"),
        ({'name': 'ciao', 'rewired_share': True}, "'rewired_share' .*got True"),
        ({'name': 'ciao', 'rewired_share': 1.5}, r"'rewired_share' .* \[0, 1\]"),
        (
            {'name': 'ciao', 'rewired_share': 1, 'rewired_seed': 0.5},
            "'rewired_seed' needs to be a whole number .*'ciao' .*got 0.5",
        ),
    ],
)
def test_values_of_any_type_are_named(spec, match, build):
    with pytest.raises(ValueError, match=match):
        build(spec)


def test_dataset_that_cannot_be_downloaded_is_a_missing_file(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    match = r"Dataset 'ml-1m_clean' is not there: Cannot unpack .* install one, or put"
    with pytest.raises(FileNotFoundError, match=match):
        build_dataset({'name': 'ml-1m_clean'}, None, tmp_path)


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
