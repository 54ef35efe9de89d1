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
from pyg_diffrec.datasets import MultiModalDataset
from pyg_diffrec.datasets import raw as raw_module
from pyg_diffrec.testing import check_dataset
from pyg_diffrec.transforms import TemporalSplit

MATRICES = ['trnMat.pkl', 'valMat.pkl', 'tstMat.pkl']
IMAGE = np.array([[0.5, -2], [65504, 0], [0.1, 1], [6e-8, 3]], dtype=np.float16)
AUDIO = np.arange(12, dtype=np.float32).reshape(4, 3)


def matrix(pairs, shape=(3, 4), value=None):
    value = np.array(value or [1.0] * len(pairs))
    return scipy.sparse.coo_matrix((value, tuple(np.array(pairs).T)), shape=shape)


def put(folder, name, content):
    path = os.path.join(folder, name)
    if isinstance(content, bytes):
        with open(path, 'wb') as f:
            f.write(content)
    elif name.endswith('.pkl'):
        with open(path, 'wb') as f:
            pickle.dump(content, f)
    else:
        np.save(path, content, allow_pickle=True)


def write(folder, **change):
    files = {
        'trnMat.pkl': matrix([[2, 3], [0, 1], [1, 1], [0, 0]]),
        'valMat.pkl': matrix([[2, 2], [0, 2]]),
        'tstMat.pkl': matrix([[1, 3]]),
        'image_feat.npy': IMAGE,
        'audio_feat.npy': AUDIO,
    }
    os.makedirs(folder)
    for name, content in files.items():
        put(folder, name, change.get(name.split('.')[0], content))
    return str(folder)


@pytest.fixture
def raw(tmp_path):
    return write(tmp_path / 'raw')


def load(tmp_path, raw, name='tiktok', **kwargs):
    return MultiModalDataset(str(tmp_path / 'root'), name, raw_dir=raw, **kwargs)


def features(data):
    return [key for key in data['item'].keys() if key.startswith('x_')]  # noqa: SIM118


@pytest.mark.parametrize('name', MultiModalDataset.names)
def test_splits_and_features_are_those_of_the_files(tmp_path, raw, name):
    dataset = load(tmp_path, raw, name)
    data, store = dataset[0], dataset[0][USER_ITEM]
    check_dataset(data)
    assert (data['user'].num_nodes, data['item'].num_nodes) == (3, 4)
    assert store.edge_index.tolist() == [[2, 0, 1, 0, 2, 0, 1], [3, 1, 1, 0, 2, 2, 3]]
    assert store.train_mask.tolist() == [True] * 4 + [False] * 3
    assert store.val_mask.tolist() == [False] * 4 + [True, True, False]
    assert store.test_mask.tolist() == [False] * 6 + [True]
    for modality, expected in (('audio', AUDIO), ('image', IMAGE)):
        x = data['item'][f'x_{modality}']
        assert x.dtype == torch.float32
        assert np.array_equal(x.numpy(), expected.astype(np.float32))
    assert (data.name, data.roles) == (name, 'published')
    assert not hasattr(data, 'split_order')
    with pytest.raises(ValueError, match='time_ordered=False'):
        TemporalSplit()(data)
    assert repr(dataset) == f"MultiModalDataset('{name}', modalities=None)"


def test_modalities_are_what_is_there_or_what_is_asked_for(tmp_path, raw):
    assert features(load(tmp_path, raw)[0]) == ['x_audio', 'x_image']
    for names in (['image', 'audio'], ['image']):
        data = load(tmp_path, raw, modalities=names)[0]
        assert features(data) == [f'x_{name}' for name in names]
    # Neither a modality, nor a name that can be one.
    put(raw, '._image_feat.npy', b'resource fork')
    put(raw, 'item_emb.npy', AUDIO)
    put(raw, 'video_feat.npy', AUDIO[:, :1])
    assert features(load(tmp_path, raw)[0]) == ['x_audio', 'x_image', 'x_video']


def test_modality_asked_for_and_missing_is_an_error(tmp_path, raw):
    load(tmp_path, raw)
    match = r"raw' does not hold \['text_feat.npy'\]: put .* or ask for other 'modal"
    with pytest.raises(FileNotFoundError, match=match):
        load(tmp_path, raw, modalities=['image', 'audio', 'text'])
    os.remove(f'{raw}/image_feat.npy')
    os.remove(f'{raw}/audio_feat.npy')
    match = r"does not hold \['<modality>_feat.npy'\]: put .* and at least one '<modal"
    with pytest.raises(FileNotFoundError, match=match):
        load(tmp_path, raw, force_reload=True)


@pytest.mark.parametrize('names', ['image', [], ['image', 'image'], ['../image'], [1]])
def test_modalities_that_are_no_list_of_names_are_refused(tmp_path, raw, names):
    with pytest.raises(ValueError, match="'modalities' needs to be a list of diff"):
        load(tmp_path, raw, modalities=names)


def test_entries_count_whatever_their_format_and_value(tmp_path):
    # The last is stored, and zero.
    train = matrix([[0, 0], [0, 1], [1, 1], [2, 3], [1, 2]], value=[5, -1, 2, 0.1, 0])
    data = load(tmp_path, write(tmp_path / 'raw', trnMat=train.tocsr()))[0]
    store = data[USER_ITEM]
    pairs = store.edge_index[:, store.train_mask]
    assert pairs.tolist() == [[0, 0, 1, 2], [0, 1, 1, 3]]


def test_repeated_entries_count_once_as_their_sum(tmp_path):
    # What SciPy, and so the authors' code, sees: (0, 0) twice, (1, 1) once, and
    # nothing at (2, 3), whose entries add up to zero.
    pairs = [[2, 3], [0, 0], [1, 1], [0, 0], [2, 3]]
    train = matrix(pairs, value=[1, 1, 1, 1, -1])
    raw = write(tmp_path / 'raw', trnMat=train, tstMat=matrix([[2, 1]] * 3))
    data = load(tmp_path, raw)[0]
    check_dataset(data)
    store = data[USER_ITEM]
    assert store.edge_index.tolist() == [[0, 1, 2, 0, 2], [0, 1, 2, 2, 1]]
    assert store.train_mask.tolist() == [True, True, False, False, False]
    seen = (train.tocsr() != 0).tocoo()
    assert sorted(zip(seen.row, seen.col, strict=True)) == [(0, 0), (1, 1)]


def test_features_of_any_float_format_become_float32(tmp_path):
    formats = [AUDIO.astype('>f8'), np.asfortranarray(AUDIO), AUDIO.astype(np.float16)]
    for i, audio in enumerate(formats):
        raw = write(tmp_path / f'raw{i}', audio_feat=audio)
        x = load(tmp_path, raw)[0]['item'].x_audio
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert x.tolist() == AUDIO.tolist()


def changed(dtype, value):
    x = np.ones((4, 2), dtype=dtype)
    x[2:, 1] = value
    return x


@pytest.mark.parametrize(
    ('x', 'got'),
    [
        (changed(np.float16, np.inf), r'\(got inf in row 2, column 1; 2 such rows\)'),
        (changed(np.float32, np.nan), r'\(got nan in row 2, column 1; 2 such rows\)'),
        (changed(np.float64, -1e39), r'\(got -1e\+39 in row 2, column 1; 2 such rows'),
        (AUDIO[:3], r'shape \[4, F\].*got float32 of shape \[3, 3\]'),
        (AUDIO[0], r'shape \[4, F\].*got float32 of shape \[3\]'),
        (AUDIO[:, :0], r'with F > 0.*got float32 of shape \[4, 0\]'),
        (AUDIO.astype(np.int64), r'float array.*got int64 of shape \[4, 3\]'),
        (AUDIO.astype(object), r'\(got .*Python objects'),
        (b'nonsense', r'\(got .*pickled'),
        (b'', r'\(got .*No data left'),
    ],
)
@pytest.mark.filterwarnings('error')
def test_bad_features_are_named(tmp_path, x, got):
    raw = write(tmp_path / 'raw', audio_feat=x)
    with pytest.raises(ValueError, match=f"audio_feat.npy'.* modality 'audio'.*{got}"):
        load(tmp_path, raw)
    assert os.listdir(tmp_path / 'root' / 'tiktok' / 'processed') == []


def test_truncated_features_and_archives_of_arrays_are_refused(tmp_path, raw):
    path = tmp_path / 'raw' / 'audio_feat.npy'
    content = path.read_bytes()
    # What a file claims is not believed, and no memory is reserved for it.
    huge = content.replace(b'(4, 3), }' + b' ' * 12, b'(4, 3000000000000), }')
    assert len(huge) == len(content)
    assert huge != content
    for wrong in (content[:-4], huge):
        path.write_bytes(wrong)
        match = r"audio_feat.npy' is truncated .*modality 'audio'"
        with pytest.raises(ValueError, match=match):
            load(tmp_path, raw)
    np.savez(f'{raw}/a.npz', a=AUDIO)
    os.replace(f'{raw}/a.npz', path)
    with pytest.raises(ValueError, match=r"audio_feat.npy'.* .got an '.npz' archive"):
        load(tmp_path, raw)


@pytest.mark.parametrize(
    ('name', 'content', 'got'),
    [
        ('valMat', matrix([[2, 2]], (3, 5)), r'shape \[3, 4\], .*got \[3, 5\]'),
        ('tstMat', matrix([[2, 2]], (4, 4)), r'shape \[3, 4\], .*got \[4, 4\]'),
        ('trnMat', {'train': matrix([[2, 2]])}, 'one sparse matrix .*dict'),
        ('valMat', np.ones((3, 4)), 'one sparse matrix .*ndarray'),
        (
            'valMat',
            matrix([[0, 2], [2, 2]], value=[1, np.nan]),
            r'nan for user 2 and item 2 \(1 such entries\)',
        ),
        ('tstMat', b'cos\nsystem\n(S"exit 1"\ntR.', "asks for 'os.system'"),
        ('trnMat', b'nonsense', 'is damaged'),
        (
            'trnMat',
            matrix([[2, 2]], (2**61, 4)),
            r'shape \[3, 4\], which .*got \[2305843009213693952, 4\]',
        ),
    ],
)
def test_bad_matrices_are_named(tmp_path, name, content, got):
    raw = write(tmp_path / 'raw', **{name: content})
    with pytest.raises(ValueError, match=f"{name}.pkl' .*{got}"):
        load(tmp_path, raw)


@pytest.mark.parametrize('users', [10**5, 10**9, 10**12])
def test_users_are_compared_with_what_is_there(tmp_path, users):
    shape = (users, 4)
    raw = write(
        tmp_path / 'raw',
        trnMat=matrix([[0, 0]], shape),
        valMat=matrix([[1, 1]], shape),
        tstMat=matrix([[2, 2]], shape),
    )
    match = rf"trnMat.pkl': the number of users is {users}, while all .* have 3 entries"
    with LimitedMemory(), pytest.raises(ValueError, match=match):
        load(tmp_path, raw)


def test_items_without_interactions_need_features_alone(tmp_path):
    shape, image = (3, 5000), np.ones((5000, 2), dtype=np.float32)
    raw = write(
        tmp_path / 'raw',
        trnMat=matrix([[0, 0]], shape),
        valMat=matrix([[1, 1]], shape),
        tstMat=matrix([[2, 2]], shape),
        image_feat=image,
        audio_feat=image,
    )
    assert load(tmp_path, raw)[0]['item'].num_nodes == 5000
    os.remove(f'{raw}/audio_feat.npy')
    put(raw, 'image_feat.npy', image[:4])
    with pytest.raises(ValueError, match=r"image_feat.npy'.* \[5000, F\].*shape \[4,"):
        load(tmp_path, raw)


def test_interactions_in_two_splits_are_named(tmp_path):
    raw = write(tmp_path / 'raw', tstMat=matrix([[1, 1]]))
    match = r"'tstMat.pkl', .* in '.*raw' .*1 duplicates.* user 1, item 1 at position 6"
    with pytest.raises(ValueError, match=match):
        load(tmp_path, raw)


def test_processed_file_belongs_to_raw_files_and_modalities(tmp_path, raw):
    assert features(load(tmp_path, raw)[0]) == ['x_audio', 'x_image']
    # The same contents under another name.
    os.rename(f'{raw}/image_feat.npy', f'{raw}/text_feat.npy')
    assert features(load(tmp_path, raw)[0]) == ['x_audio', 'x_text']
    put(raw, 'audio_feat.npy', AUDIO + 1)
    data = load(tmp_path, raw, modalities=['audio'])[0]
    assert data['item'].x_audio.tolist() == (AUDIO + 1).tolist()


def test_processed_file_is_read_where_raw_files_are_gone(tmp_path, raw):
    load(tmp_path, raw)
    shutil.rmtree(raw)
    assert features(load(tmp_path, raw)[0]) == ['x_audio', 'x_image']
    with pytest.raises(FileNotFoundError, match='does not hold'):
        load(tmp_path, raw, modalities=['image'])
    with pytest.raises(FileNotFoundError, match='does not hold'):
        load(tmp_path, raw, force_reload=True)


def test_raw_folder_given_is_never_written_to(tmp_path, raw):
    before = sorted(os.listdir(raw))
    os.chmod(raw, stat.S_IRUSR | stat.S_IXUSR)
    load(tmp_path, raw)
    load(tmp_path, raw, force_reload=True)
    os.chmod(raw, stat.S_IRWXU)
    assert sorted(os.listdir(raw)) == before


def test_pre_transform_comes_before_the_check(tmp_path):
    raw = write(tmp_path / 'raw', tstMat=matrix([[1, 1]]))

    def drop_last(data):
        store = data[USER_ITEM]
        store.edge_index = store.edge_index[:, :-1]
        for split in ('train', 'val', 'test'):
            store[f'{split}_mask'] = store[f'{split}_mask'][:-1]
        return data

    data = load(tmp_path, raw, pre_transform=drop_last)[0]
    assert data[USER_ITEM].edge_index.size(1) == 6


# Downloads ###########################################################################


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder whose files can be 'downloaded', and the list of those that were."""
    folder, asked = tmp_path / 'server', []
    write(folder)
    put(folder, 'text_feat.npy', AUDIO)

    def download_url(url, target):
        head, name = url.rsplit('/', 1)
        assert head.startswith(f'{MultiModalDataset.url}/')
        asked.append(name)
        if not (folder / name).exists():
            raise urllib.error.HTTPError(url, 404, 'Not Found', {}, None)
        return shutil.copy(folder / name, target)

    monkeypatch.setattr(raw_module, 'download_url', download_url)
    monkeypatch.setattr(MultiModalDataset, 'checksums', {})
    return folder, asked


def test_downloads_are_of_a_known_revision_and_sum(tmp_path, server, monkeypatch):
    folder, asked = server
    download_url, urls = raw_module.download_url, []
    monkeypatch.setattr(
        raw_module,
        'download_url',
        lambda url, target: urls.append(url) or download_url(url, target),
    )
    sums = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (*MATRICES, 'image_feat.npy')
    }
    monkeypatch.setattr(MultiModalDataset, 'checksums', {'tiktok': sums})
    MultiModalDataset(str(tmp_path / 'root'), 'tiktok')
    for name in asked:
        revision = MultiModalDataset.revision if name in sums else 'HEAD'
        assert f'{MultiModalDataset.url}/{revision}/Datasets/tiktok/{name}' in urls
    shutil.rmtree(tmp_path / 'root')
    sums['valMat.pkl'] = '0' * 64
    with pytest.raises(RuntimeError, match=r"'valMat.pkl' as downloaded .*not 000"):
        MultiModalDataset(str(tmp_path / 'root'), 'tiktok')
    assert os.listdir(tmp_path / 'root' / 'tiktok') == []


def test_download_fetches_all_that_is_published(tmp_path, server):
    dataset = MultiModalDataset(str(tmp_path / 'root'), 'tiktok')
    assert features(dataset[0]) == ['x_audio', 'x_image', 'x_text']
    home = tmp_path / 'root' / 'tiktok'
    assert sorted(os.listdir(home)) == ['processed', 'raw']
    names = [*MATRICES, 'audio_feat.npy', 'image_feat.npy', 'text_feat.npy']
    assert sorted(os.listdir(home / 'raw')) == sorted(names)


def test_download_fetches_what_is_asked_for_and_missing(tmp_path, server):
    root, asked = str(tmp_path / 'root'), server[1]
    MultiModalDataset(root, 'tiktok', ['image'])
    assert sorted(asked) == ['image_feat.npy', *sorted(MATRICES)]
    asked.clear()
    data = MultiModalDataset(root, 'tiktok', ['text', 'image'])[0]
    assert features(data) == ['x_text', 'x_image']
    assert asked == ['text_feat.npy']


def test_download_unpacks_what_is_zipped(tmp_path, server):
    folder, asked = server
    with zipfile.ZipFile(folder / 'image_feat.npy.zip', 'w') as archive:
        archive.write(folder / 'image_feat.npy', 'baby/image_feat.npy')
        archive.writestr('__MACOSX/baby/._image_feat.npy', b'resource fork')
        archive.writestr('../run.sh', 'exit 1')
    dataset = MultiModalDataset(str(tmp_path / 'root'), 'baby')
    assert features(dataset[0]) == ['x_image', 'x_text']
    assert asked == ['image_feat.npy.zip', 'text_feat.npy', *MATRICES]
    names = [*MATRICES, 'image_feat.npy', 'text_feat.npy']
    assert sorted(os.listdir(dataset.raw_dir)) == sorted(names)
    assert dataset[0]['item'].x_image.tolist() == IMAGE.tolist()


def test_download_that_fails_says_what_to_do_and_leaves_nothing(tmp_path, server):
    root, folder = str(tmp_path / 'root'), server[0]

    def check(match, name='tiktok', modalities=None):
        with pytest.raises(RuntimeError, match=match):
            MultiModalDataset(root, name, modalities)
        home = tmp_path / 'root' / name
        assert not home.exists() or os.listdir(home) == []

    check(r"hold 'sports', but .*drive.google.com.*: put .*_feat.npy' of 'sp", 'sports')
    check(r"not download '.*/baby/image_feat.npy.zip' .*Not Found.*: put ", 'baby')
    put(folder, 'image_feat.npy.zip', b'<html>')
    check("image_feat.npy.zip' is damaged, or no zip archive.*: put ", 'baby')
    zipfile.ZipFile(folder / 'image_feat.npy.zip', 'w').close()
    check(r"hold exactly one 'image_feat.npy' \(got \[\]\): put ", 'baby')
    put(folder, 'text_feat.npy', b'<html>')
    check("text_feat.npy' is truncated or no .*: put .* into '.*tiktok.raw'")
    put(folder, 'tstMat.pkl', b'<html>')
    check("tstMat.pkl' is damaged.* or ask for other 'mod", modalities=['image'])


# The real files ######################################################################

DATA = os.environ.get('PYG_DIFFREC_DATA', '')


def test_real_files_of_tiktok(tmp_path):
    raw = os.path.join(DATA, 'tiktok')
    if not DATA or not os.path.isdir(raw):
        pytest.skip("'PYG_DIFFREC_DATA' holds no 'tiktok'")
    data = load(tmp_path, raw, modalities=['image', 'audio'])[0]
    check_dataset(data)
    store = data[USER_ITEM]
    assert (data['user'].num_nodes, data['item'].num_nodes) == (9308, 6710)
    masks = [store[f'{split}_mask'] for split in ('train', 'val', 'test')]
    assert [int(mask.sum()) for mask in masks] == [59541, 3051, 6130]

    # One item for each user of validation, and one for each user of test; no user is
    # in both.
    train, val, test = (
        torch.bincount(store.edge_index[0, mask], minlength=9308) for mask in masks
    )
    assert (int(val.max()), int(test.max()), int((val + test).max())) == (1, 1, 1)
    assert [int((count == 0).sum()) for count in (train, val + test)] == [10, 127]
    assert (int((train > 4).sum()), int(train[train > 4].sum())) == (103, 42009)

    item = [store.edge_index[1, mask] for mask in masks]
    assert 6710 - item[0].unique().numel() == 465
    cold = [int(torch.isin(x, item[0], invert=True).sum()) for x in item[1:]]
    assert cold == [223, 449]
    for name, expected in MultiModalDataset.checksums['tiktok'].items():
        with open(f'{raw}/{name}', 'rb') as file:
            assert hashlib.sha256(file.read()).hexdigest() == expected
    for modality in ('image', 'audio'):
        x = data['item'][f'x_{modality}']
        expected = np.load(f'{raw}/{modality}_feat.npy', allow_pickle=False)
        assert (x.dtype, x.shape) == (torch.float32, (6710, 128))
        assert np.array_equal(x.numpy(), expected)
