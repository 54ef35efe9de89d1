import hashlib
import os
import pickle
import shutil
import stat
import urllib.error
import zipfile

import numpy as np
import pytest
import scipy.sparse
import torch
from limits import LimitedMemory

from pyg_diffrec.data import USER_ITEM
from pyg_diffrec.data.schema import USER_USER, validate
from pyg_diffrec.datasets import raw as raw_module
from pyg_diffrec.datasets.social import SocialDataset
from pyg_diffrec.testing import check_dataset
from pyg_diffrec.transforms import TemporalSplit
from pyg_diffrec.transforms.clean_social_edges import CleanSocialEdges


def matrix(pairs, shape, value=None):
    value = np.array(value or [1] * len(pairs), dtype=np.int32)
    return scipy.sparse.coo_matrix((value, tuple(np.array(pairs).T)), shape=shape)


def arrays(**change):
    return {
        'userCount': 3,
        'itemCount': 4,
        'categoryCount': 1,
        'train': matrix([[2, 3], [0, 1], [1, 1], [0, 0]], (3, 4)),
        'val': matrix([[0, 2], [2, 2]], (3, 4)),
        'test': matrix([[0, 3]], (3, 4)),
        'trust': matrix([[0, 1], [1, 0], [2, 0]], (3, 3)),
        'category': matrix([[0, 0]], (4, 1)),
        **change,
    }


def write(folder, content):
    os.makedirs(folder, exist_ok=True)
    if not isinstance(content, bytes):
        content = pickle.dumps(content)
    with zipfile.ZipFile(folder / 'dataset.pkl.zip', 'w') as archive:
        archive.writestr('dataset.pkl', content)
        archive.writestr('__MACOSX/._dataset.pkl', b'resource fork')
    return str(folder)


@pytest.fixture
def raw(tmp_path):
    return write(tmp_path / 'raw', arrays())


def load(tmp_path, raw, name='ciao', **kwargs):
    return SocialDataset(str(tmp_path / 'root'), name, raw_dir=raw, **kwargs)


@pytest.mark.parametrize('name', SocialDataset.names)
def test_splits_and_ties_are_those_of_the_file(tmp_path, raw, name):
    dataset = load(tmp_path, raw, name)
    data, store = dataset[0], dataset[0][USER_ITEM]
    check_dataset(data)
    assert (data['user'].num_nodes, data['item'].num_nodes) == (3, 4)
    assert store.edge_index.tolist() == [[2, 0, 1, 0, 0, 2, 0], [3, 1, 1, 0, 2, 2, 3]]
    assert store.train_mask.tolist() == [True] * 4 + [False] * 3
    assert store.val_mask.tolist() == [False] * 4 + [True, True, False]
    assert store.test_mask.tolist() == [False] * 6 + [True]
    assert data[USER_USER].edge_index.tolist() == [[0, 1, 2], [1, 0, 0]]
    assert (data.name, data.roles) == (name, 'published')
    assert not hasattr(data, 'split_order')
    with pytest.raises(ValueError, match='time_ordered=False'):
        TemporalSplit()(data)
    assert repr(dataset) == f"SocialDataset('{name}')"


def test_entries_count_whatever_their_format_and_value(tmp_path):
    # The last is stored, and zero.
    train = matrix([[0, 0], [0, 1], [1, 1], [2, 3], [1, 2]], (3, 4), [5, -1, 2, 1, 0])
    trust = scipy.sparse.csr_array(arrays()['trust'])
    change = {'train': train.tocsc(), 'trust': trust}
    data = load(tmp_path, write(tmp_path / 'raw', arrays(**change)))[0]
    store = data[USER_ITEM]
    pairs = store.edge_index[:, store.train_mask]
    assert pairs.tolist() == [[0, 0, 1, 2], [0, 1, 1, 3]]
    assert data[USER_USER].edge_index.tolist() == [[0, 1, 2], [1, 0, 0]]


def test_repeated_entries_count_once_as_their_sum(tmp_path):
    # Repeated indices of a row pointer format stay repeated in its pickle.
    train = scipy.sparse.csr_matrix(
        (np.array([1, 1, 1, -1]), np.array([3, 3, 1, 1]), np.array([0, 2, 4, 4])),
        shape=(3, 4),
    )
    trust = matrix([[1, 2], [0, 1], [1, 2], [0, 1], [2, 0]], (3, 3), [1, 1, 1, -1, 1])
    raw = write(
        tmp_path / 'raw',
        arrays(train=train, trust=trust, test=matrix([[1, 0], [1, 0]], (3, 4))),
    )
    data = load(tmp_path, raw)[0]
    check_dataset(data)
    assert data[USER_ITEM].edge_index.tolist() == [[0, 0, 2, 1], [3, 2, 2, 0]]
    assert data[USER_USER].edge_index.tolist() == [[1, 2], [2, 0]]


def test_processed_file_belongs_to_the_raw_file(tmp_path, raw):
    expected = load(tmp_path, raw)[0]
    changed = arrays(trust=matrix([[1, 2]], (3, 3)))
    other = write(tmp_path / 'other', changed)
    assert load(tmp_path, other)[0][USER_USER].edge_index.tolist() == [[1], [2]]
    shutil.rmtree(other)
    data = load(tmp_path, raw)[0]
    assert torch.equal(data[USER_USER].edge_index, expected[USER_USER].edge_index)
    # Two files fit now, and nothing says which.
    with pytest.raises(FileNotFoundError, match=r"hold \['dataset.pkl.zip'\]: put"):
        load(tmp_path, other)


def test_processed_file_is_read_where_the_raw_file_is_gone(tmp_path, raw):
    load(tmp_path, raw)
    shutil.rmtree(raw)
    assert load(tmp_path, raw)[0][USER_USER].edge_index.size(1) == 3
    with pytest.raises(FileNotFoundError, match='does not hold'):
        load(tmp_path, raw, force_reload=True)


def test_raw_folder_given_is_never_written_to(tmp_path, raw):
    os.chmod(raw, stat.S_IRUSR | stat.S_IXUSR)
    load(tmp_path, raw)
    load(tmp_path, raw, force_reload=True)
    os.chmod(raw, stat.S_IRWXU)
    assert os.listdir(raw) == ['dataset.pkl.zip']


def test_ties_that_break_the_schema_are_named_and_can_be_cleaned(tmp_path):
    trust = matrix([[0, 1], [2, 2], [0, 1]], (3, 3))
    raw = write(tmp_path / 'raw', arrays(trust=trust))
    with pytest.raises(ValueError, match=r'user 2 at position 1: .*CleanSocialEdges'):
        load(tmp_path, raw)
    data = load(tmp_path, raw, pre_transform=CleanSocialEdges(undirected=True))[0]
    assert data[USER_USER].edge_index.tolist() == [[0, 1], [1, 0]]
    data = load(tmp_path, raw, pre_transform=CleanSocialEdges())[0]
    assert data[USER_USER].edge_index.tolist() == [[0], [1]]


def test_interactions_in_two_splits_are_named(tmp_path):
    raw = write(tmp_path / 'raw', arrays(val=matrix([[1, 1]], (3, 4))))
    match = r"dataset.pkl.zip'\] in '.*raw' .*1 duplicates.* item 1 at position 4"
    with pytest.raises(ValueError, match=match):
        load(tmp_path, raw)
    assert os.listdir(tmp_path / 'root' / 'ciao' / 'processed') == []


@pytest.mark.parametrize(
    ('content', 'got'),
    [
        ([1, 2], r"hold a dictionary with \['train', 'val', 'test', 'trust', 'userCo"),
        ({'train': 1}, r"dictionary with .*got \['train'\]"),
        (arrays(userCount=0), "'userCount' needs to be a positive whole .*got 0"),
        (arrays(itemCount=4.0), "'itemCount' needs to be a positive whole .*got 4.0"),
        (arrays(userCount=-(2**80)), 'a number of 81 bits'),
        (arrays(userCount=4), r"'train' needs .*\[4, 4\] \(got shape \[3, 4\]\)"),
        (
            arrays(trust=scipy.sparse.coo_matrix(([np.nan], ([1], [2])), (3, 3))),
            r"'trust' holds nan for user 1 and user 2 \(1 such entries\)",
        ),
        (arrays(val=3), r"'val' needs to be a sparse matrix .*<class 'int'>"),
        (arrays(test=np.ones((3, 4))), "'test' needs .*ndarray"),
        (
            arrays(trust=matrix([[0, 3]], (3, 4))),
            r"'trust' needs .*\[3, 3\] .*\[3, 4\]",
        ),
        (b'cos\nsystem\n(S"exit 1"\ntR.', r"/dataset.pkl' asks for 'os.system'"),
        (b'nonsense', r"/dataset.pkl' is damaged"),
    ],
)
def test_bad_files_are_named(tmp_path, content, got):
    raw = write(tmp_path / 'raw', content)
    with pytest.raises(ValueError, match=f'dataset.pkl.zip.*{got}'):
        load(tmp_path, raw)


@pytest.mark.parametrize('users', [10**5, 10**7, 10**9, 10**12])
def test_counts_are_compared_with_what_is_there(tmp_path, users):
    value = arrays(userCount=users)
    for key in ('train', 'val', 'test', 'trust'):
        size = value[key].shape[1] if key != 'trust' else users
        value[key].resize(users, size)
    raw = write(tmp_path / 'raw', value)
    match = rf"dataset.pkl.zip': 'userCount' is {users}, while all .* have 10 entries"
    with LimitedMemory(), pytest.raises(ValueError, match=match):
        load(tmp_path, raw)
    items = arrays(itemCount=users)
    for key in ('train', 'val', 'test'):
        items[key].resize(3, users)
    raw = write(tmp_path / 'other', items)
    with LimitedMemory(), pytest.raises(ValueError, match="'itemCount' is 10*, while"):
        load(tmp_path, raw)


def test_unknown_name_and_missing_file(tmp_path, raw):
    with pytest.raises(ValueError, match=r"\['ciao', 'epinions', 'yelp'\].*got 'y'"):
        load(tmp_path, raw, 'y')
    os.remove(f'{raw}/dataset.pkl.zip')
    match = r"raw' does not hold .*: put \['dataset.pkl.zip'\] of 'yelp' into '.*raw'"
    with pytest.raises(FileNotFoundError, match=match):
        load(tmp_path, raw, 'yelp')


def test_download(tmp_path, raw, monkeypatch):
    urls = []

    def download_url(url, folder):
        urls.append(url.removeprefix(f'{SocialDataset.url}/'))
        return shutil.copy(f'{raw}/dataset.pkl.zip', folder)

    monkeypatch.setattr(raw_module, 'download_url', download_url)
    # The sum of one file is known, and so is a revision that holds it.
    with pytest.raises(RuntimeError, match=r"zip' as downloaded .* not be7cbc46"):
        SocialDataset(str(tmp_path / 'root'), 'ciao')
    assert os.listdir(tmp_path / 'root' / 'ciao') == []
    content = (tmp_path / 'raw' / 'dataset.pkl.zip').read_bytes()
    sums = {'ciao': {'dataset.pkl.zip': hashlib.sha256(content).hexdigest()}}
    monkeypatch.setattr(SocialDataset, 'checksums', sums)
    left = tmp_path / 'root' / 'ciao' / 'download-killed'
    (left / 'unpacked').mkdir(parents=True)
    os.utime(left, (0, 0))
    dataset = SocialDataset(str(tmp_path / 'root'), 'ciao')
    assert urls == [f'{SocialDataset.revision}/datasets/ciao/dataset.pkl.zip'] * 2
    assert dataset[0][USER_USER].edge_index.size(1) == 3
    home = tmp_path / 'root' / 'ciao'
    assert sorted(os.listdir(home)) == ['processed', 'raw']
    assert os.listdir(home / 'raw') == ['dataset.pkl.zip']


def test_download_that_fails_says_what_to_do_and_leaves_nothing(
    tmp_path, raw, monkeypatch
):
    root = str(tmp_path / 'root')
    advice = r"put \['dataset.pkl.zip'\] of 'yelp' into '.*yelp.raw'"

    def download_url(url, folder):
        path = os.path.join(folder, 'dataset.pkl.zip')
        with open(path, 'w') as f:
            f.write('<html>')
        return path

    monkeypatch.setattr(raw_module, 'download_url', download_url)
    with pytest.raises(
        RuntimeError, match=f'is damaged, or no zip archive.*: {advice}'
    ):
        SocialDataset(root, 'yelp')

    def other(url, folder):
        assert url == f'{SocialDataset.url}/HEAD/datasets/yelp/dataset.pkl.zip'
        write(tmp_path / 'other', {'train': 1})
        return shutil.copy(tmp_path / 'other' / 'dataset.pkl.zip', folder)

    monkeypatch.setattr(raw_module, 'download_url', other)
    with pytest.raises(RuntimeError, match=f'needs to hold a dictionary.*: {advice}'):
        SocialDataset(root, 'yelp')

    def offline(url, folder):
        raise urllib.error.HTTPError(url, 404, 'Not Found', {}, None)

    monkeypatch.setattr(raw_module, 'download_url', offline)
    with pytest.raises(
        RuntimeError, match=f'not download.*yelp.*Not Found.*: {advice}'
    ):
        SocialDataset(root, 'yelp')
    assert os.listdir(tmp_path / 'root' / 'yelp') == []


# The real file #######################################################################

DATA = os.environ.get('PYG_DIFFREC_DATA', '')


def test_real_file_of_ciao(tmp_path):
    raw = os.path.join(DATA, 'ciao')
    if not DATA or not os.path.isdir(raw):
        pytest.skip("'PYG_DIFFREC_DATA' holds no 'ciao'")
    with open(f'{raw}/dataset.pkl.zip', 'rb') as file:
        found = hashlib.sha256(file.read()).hexdigest()
    assert SocialDataset.checksums == {'ciao': {'dataset.pkl.zip': found}}
    data = validate(load(tmp_path, raw)[0], undirected_ties=True)
    store = data[USER_ITEM]
    assert (data['user'].num_nodes, data['item'].num_nodes) == (1925, 15053)
    masks = [store[f'{split}_mask'] for split in ('train', 'val', 'test')]
    assert [int(mask.sum()) for mask in masks] == [23223, 3317, 6635]
    users = [store.edge_index[0, mask].unique() for mask in masks]
    assert [1925 - len(user) for user in users] == [0, 739, 426]
    train, _, test = (store.edge_index[1, mask].unique() for mask in masks)
    assert (15053 - len(train), len(test)) == (3188, 4681)
    assert int(torch.isin(test, train, invert=True).sum()) == 2230
    assert data[USER_USER].edge_index.shape == (2, 65084)
    assert data[USER_USER].edge_index[0].unique().numel() == 1925
