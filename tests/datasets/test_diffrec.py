import hashlib
import os
import random
import shutil
import stat
import subprocess
import time
import urllib.error

import numpy as np
import pytest
import torch
from limits import LimitedMemory

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.datasets import DiffRecDataset
from pyg_diffrec.datasets import _archive as archive_module
from pyg_diffrec.datasets import raw as raw_module

TRAIN = [[1, 3], [1, 0], [0, 2], [0, 4]]
VALID = [[0, 1], [1, 4]]
TEST = [[0, 0], [1, 2], [1, 5]]
FILES = {'train_list': TRAIN, 'valid_list': VALID, 'test_list': TEST}


def write(folder, **change):
    os.makedirs(folder, exist_ok=True)
    for name, pairs in {**FILES, **change}.items():
        np.save(folder / f'{name}.npy', np.array(pairs))
    return str(folder)


@pytest.fixture
def raw(tmp_path):
    return write(tmp_path / 'raw')


def load(tmp_path, raw, name='ml-1m_clean', **kwargs):
    return DiffRecDataset(str(tmp_path / 'root'), name, raw_dir=raw, **kwargs)


def masks(data):
    store = data[USER_ITEM]
    code = store.val_mask.long() + 2 * store.test_mask.long()
    assert torch.equal(code == 0, store.train_mask)
    return ''.join('tve'[c] for c in code.tolist())


@pytest.mark.parametrize(
    ('name', 'roles', 'split_order', 'item', 'split'),
    [
        # test_list lies between the other two, whatever part it plays.
        (
            'ml-1m_clean',
            'published',
            ('train', 'test', 'val'),
            '240130254',
            'ttevtteev',
        ),
        ('ml-1m_noisy', 'chronological', None, '240130254', 'ttvettvve'),
        ('yelp_clean', 'published', None, '241030425', 'ttvettvee'),
        ('amazon-book_noisy', 'chronological', None, '240130254', 'ttvettvve'),
    ],
)
def test_interactions_are_grouped_by_user_in_time_order(
    tmp_path, raw, name, roles, split_order, item, split
):
    if name == 'ml-1m_noisy':
        split_order = ('train', 'val', 'test')
    data = validate(load(tmp_path, raw, name, roles=roles)[0])
    assert (data['user'].num_nodes, data['item'].num_nodes) == (2, 6)
    assert data[USER_ITEM].edge_index[0].tolist() == [0] * 4 + [1] * 5
    assert ''.join(map(str, data[USER_ITEM].edge_index[1].tolist())) == item
    assert masks(data) == split
    assert (data.name, data.roles) == (name, roles)
    assert getattr(data, 'split_order', None) == split_order


def test_roles_have_processed_files_of_their_own(tmp_path, raw):
    published = load(tmp_path, raw)
    chronological = load(tmp_path, raw, roles='chronological')
    assert len(os.listdir(published.processed_dir)) == 2
    a, b = published[0][USER_ITEM], chronological[0][USER_ITEM]
    assert torch.equal(a.edge_index, b.edge_index)
    assert torch.equal(a.val_mask, b.test_mask)
    assert repr(published) == "DiffRecDataset('ml-1m_clean', roles='published')"


def test_processed_file_is_not_reused_for_other_raw_files(tmp_path, raw):
    load(tmp_path, raw)
    other = write(tmp_path / 'other', test_list=[[0, 3], [1, 2], [1, 5]])
    assert load(tmp_path, other)[0][USER_ITEM].edge_index[1, 2] == 3
    assert load(tmp_path, raw)[0][USER_ITEM].edge_index[1, 2] == 0


def test_pre_transforms_have_processed_files_of_their_own(tmp_path, raw):
    def rename(data):
        data.name = 'renamed'
        return data

    assert load(tmp_path, raw, pre_transform=rename)[0].name == 'renamed'
    assert load(tmp_path, raw)[0].name == 'ml-1m_clean'
    assert load(tmp_path, raw, transform=rename)[0].name == 'renamed'


def test_processed_file_is_read_where_raw_files_are_gone(tmp_path, raw):
    expected = load(tmp_path, raw)[0]
    shutil.rmtree(raw)
    data = load(tmp_path, raw)[0]
    assert torch.equal(data[USER_ITEM].edge_index, expected[USER_ITEM].edge_index)
    with pytest.raises(FileNotFoundError, match='does not hold'):
        load(tmp_path, raw, roles='chronological')
    with pytest.raises(FileNotFoundError, match='does not hold'):
        load(tmp_path, raw, force_reload=True)


def test_raw_folder_given_is_never_written_to(tmp_path, raw):
    before = {e.name: e.stat().st_mtime_ns for e in os.scandir(raw)}
    os.chmod(raw, stat.S_IRUSR | stat.S_IXUSR)
    load(tmp_path, raw)
    load(tmp_path, raw, force_reload=True)
    os.chmod(raw, stat.S_IRWXU)
    assert {e.name: e.stat().st_mtime_ns for e in os.scandir(raw)} == before


@pytest.mark.parametrize(
    ('pairs', 'got'),
    [
        (np.zeros((3, 2), dtype=np.int32), r'int64 .*n, 2.* .got int32 of shape .3, 2'),
        (np.zeros((3, 2)), r'int64 .* .got float64 of shape \[3, 2\]'),
        (np.zeros((3, 3), dtype=np.int64), r'got int64 of shape \[3, 3\]'),
        (np.zeros(6, dtype=np.int64), r'got int64 of shape \[6\]'),
        (np.zeros((0, 2), dtype=np.int64), 'got no row'),
        (np.array([[0, 1], [3, -1]]), r'ids from zero .got \[3, -1\] in row 1'),
        (np.array([[0, None]]), 'int64 .*Python objects'),
    ],
)
def test_bad_raw_files_are_named(tmp_path, raw, pairs, got):
    np.save(f'{raw}/valid_list.npy', pairs, allow_pickle=True)
    with pytest.raises(ValueError, match=f"valid_list.npy'.* expected .*{got}"):
        load(tmp_path, raw)
    assert os.listdir(tmp_path / 'root' / 'ml-1m_clean' / 'processed') == []


@pytest.mark.parametrize('size', [0, 4, 60, -8])
def test_truncated_raw_files_are_named(tmp_path, raw, size):
    path = tmp_path / 'raw' / 'train_list.npy'
    path.write_bytes(path.read_bytes()[:size])
    match = r"train_list.npy' is truncated .* expected an int64 array .*got '"
    with pytest.raises(ValueError, match=match):
        load(tmp_path, raw)


def test_archives_of_arrays_are_refused(tmp_path, raw):
    np.savez(f'{raw}/a.npz', a=np.zeros(1))
    os.replace(f'{raw}/a.npz', f'{raw}/test_list.npy')
    with pytest.raises(ValueError, match=r"test_list.npy'.* .got an '.npz' archive"):
        load(tmp_path, raw)


def test_duplicates_across_files_are_named(tmp_path):
    raw = write(tmp_path / 'raw', test_list=[[0, 2]])
    with pytest.raises(
        ValueError,
        match=r"test_list.npy' names user 0 and item 2 in row 0, as does row 2 of "
        r"'.*train_list.npy' \(1 duplicates\)",
    ):
        load(tmp_path, raw)


def test_unknown_name_and_roles_list_the_choices(tmp_path):
    with pytest.raises(ValueError, match=r"'ml-1m_clean', .*noisy'\] .*got 'ml-1m'"):
        DiffRecDataset(str(tmp_path), 'ml-1m')
    with pytest.raises(ValueError, match=r"\['published', 'chronological'\].*got 'x'"):
        DiffRecDataset(str(tmp_path), 'ml-1m_clean', roles='x')


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'root': 3}, r"'root' needs to be a path in 'DiffRecDataset' .*got 3"),
        ({'raw_dir': 3}, "'raw_dir' needs to be a path .*got 3"),
        ({'raw_dir': ['a']}, "'raw_dir' needs to be a path"),
        ({'transform': 3}, "'transform' needs to be callable .*got 3"),
        ({'pre_transform': 'x'}, "'pre_transform' needs to be callable .*got 'x'"),
    ],
)
def test_arguments_of_other_types_are_refused(tmp_path, raw, kwargs, match):
    kwargs = {'root': str(tmp_path), 'raw_dir': raw, **kwargs}
    with pytest.raises(TypeError, match=match):
        DiffRecDataset(name='ml-1m_clean', **kwargs)


def test_missing_file_in_a_given_folder_is_named(tmp_path, raw):
    os.remove(f'{raw}/test_list.npy')
    match = r"raw' does not hold \['test_list.npy'\]: put .*'train_list.npy'.* into"
    with pytest.raises(FileNotFoundError, match=match):
        load(tmp_path, raw)


# A damaged number ####################################################################

NUM_USERS, NUM_ITEMS = 300, 200


@pytest.fixture
def lists(tmp_path):
    """Lists in which every user and every item occurs, and a table of the items."""
    generator = np.random.default_rng(0)
    pair = generator.permutation(NUM_USERS * NUM_ITEMS)[:6000]
    pairs = np.stack([pair // NUM_ITEMS, pair % NUM_ITEMS], axis=1)
    train, valid, test = np.split(pairs, [4000, 5000])
    raw = write(tmp_path / 'raw', train_list=train, valid_list=valid, test_list=test)
    np.save(f'{raw}/item_emb.npy', np.ones((NUM_ITEMS, 2), dtype=np.float32))
    return raw


def flip(raw, name, row, column, bit):
    pairs = np.load(f'{raw}/{name}.npy')
    pairs[row, column] ^= np.int64(1) << bit
    np.save(f'{raw}/{name}.npy', pairs)
    return pairs[row, column]


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('column', [0, 1])
@pytest.mark.parametrize('bit', [9, 14, 24, 33, 40, 61, 62])
def test_a_flipped_bit_is_found_in_its_file_and_row(
    tmp_path, lists, monkeypatch, name, column, bit
):
    number = flip(lists, name, 17, column, bit)
    what = ('user', 'item')[column]
    # Nothing is counted before the numbers are known to be sound.
    monkeypatch.setattr(torch, 'bincount', None)
    match = rf"^'[^']*{name}.npy' names {what} {number} in row 17, but none of the"
    with pytest.raises(ValueError, match=match):
        load(tmp_path, lists)


@pytest.mark.parametrize('bit', [6, 7])
def test_a_number_beyond_the_table_is_found_in_its_list(tmp_path, lists, bit):
    pairs = np.load(f'{lists}/valid_list.npy')
    row = int((pairs[:, 1] ^ (1 << bit) >= NUM_ITEMS + 20).argmax())
    number = flip(lists, 'valid_list', row, 1, bit)
    assert number >= NUM_ITEMS + 20
    match = (
        rf"^'[^']*valid_list.npy' names item {number} in row {row}, but only 1 of .*"
        r"item_emb.npy' has 200 rows: repair that row"
    )
    with pytest.raises(ValueError, match=match):
        load(tmp_path, lists)


def test_a_table_that_is_too_short_is_not_blamed_on_a_list(tmp_path, lists):
    np.save(f'{lists}/item_emb.npy', np.ones((150, 2), dtype=np.float32))
    with pytest.raises(ValueError, match=r"^'[^']*item_emb.npy'.*largest item is 199"):
        load(tmp_path, lists)


@pytest.mark.parametrize(
    ('column', 'number'), [(0, 10**7), (1, 10**7), (0, 10**12), (1, 2**63 - 1)]
)
def test_numbers_that_are_mostly_unused_reserve_no_memory(tmp_path, column, number):
    pairs = np.stack([np.arange(200), np.arange(200) % 50], axis=1)
    pairs[5, column] = number
    raw = write(
        tmp_path / 'raw', train_list=pairs, valid_list=[[0, 9]], test_list=[[0, 8]]
    )
    with LimitedMemory(), pytest.raises(ValueError, match=rf'{number} in row 5, but'):
        load(tmp_path, raw)


def test_numbers_may_have_small_gaps(tmp_path):
    train = [[0, 3 * item] for item in range(300)] + [[90, 1]]
    raw = write(
        tmp_path / 'raw', train_list=train, valid_list=[[0, 2]], test_list=[[1, 1]]
    )
    data = load(tmp_path, raw)[0]
    assert (data['user'].num_nodes, data['item'].num_nodes) == (91, 898)
    # Evenly spread, and still nearly all of them unused.
    raw = write(
        tmp_path / 'spread',
        train_list=[[user, 90 * user] for user in range(100)],
        valid_list=[[0, 1]],
        test_list=[[1, 1]],
    )
    with pytest.raises(ValueError, match=r'names item .*\(101 different items do'):
        load(tmp_path, raw)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('name', ['train_list', 'item_emb'])
def test_every_damage_of_a_file_names_it(tmp_path, lists, name):
    path = tmp_path / 'raw' / f'{name}.npy'
    content = path.read_bytes()
    generator, messages = random.Random(0), []
    for place in [*range(0, 128, 3), *generator.sample(range(128, len(content)), 9)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            data = validate(load(tmp_path, lists)[0])
        except ValueError as error:
            messages.append(str(error))
        else:
            assert data['user'].num_nodes < 2 * NUM_USERS
            assert data['item'].num_nodes < 2 * NUM_ITEMS
    assert len(messages) > 20
    assert all(message.startswith(f"'{path}'") for message in messages)


def test_repeats_within_a_list_are_named(tmp_path):
    raw = write(tmp_path / 'raw', train_list=[[0, 1], [1, 3], [0, 1], [0, 2]])
    with pytest.raises(
        ValueError, match=r"train_list.npy' names .* 1 in row 2, as does row 0 of '.*n_"
    ):
        load(tmp_path, raw)


def test_lists_sorted_by_item_claim_no_order_in_time(tmp_path, lists):
    assert load(tmp_path, lists)[0].time_ordered
    for name in FILES:
        pairs = np.load(f'{lists}/{name}.npy')
        np.save(f'{lists}/{name}.npy', pairs[np.lexsort(pairs.T[::-1])])
    data = load(tmp_path, lists)[0]
    assert not hasattr(data, 'time_ordered')
    assert not hasattr(data, 'split_order')


def test_graph_keeps_to_the_schema_after_a_pre_transform(tmp_path, raw):
    def break_it(data):
        data['user'].num_nodes = 1
        return data

    match = r"'train_list.npy'.* in '.*raw', after .*break_it.* names user 1 at pos"
    with pytest.raises(ValueError, match=match):
        load(tmp_path, raw, pre_transform=break_it)
    assert os.listdir(tmp_path / 'root' / 'ml-1m_clean' / 'processed') == []


# Downloads ###########################################################################


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive to 'download', packed from a folder the test fills, and 'bsdtar'."""
    contents, tools, urls = tmp_path / 'contents', tmp_path / 'tools', []
    write(contents / 'ml-1m_clean')
    os.makedirs(tools)
    tar = shutil.which('tar')
    (tools / 'bsdtar').write_text(
        f'#!/bin/sh\nexec {tar} -x -f "$3" -C "$5" --no-same-owner\n'
    )
    os.chmod(tools / 'bsdtar', 0o755)
    monkeypatch.setenv('PATH', str(tools))

    def download_url(url, folder):
        assert url.startswith(f'{DiffRecDataset.url}/')
        urls.append(url.removeprefix(f'{DiffRecDataset.url}/'))
        path = os.path.join(folder, 'ml-1m_clean.rar')
        subprocess.run([tar, '-c', '-f', path, '-C', contents, '.'], check=True)
        return path

    monkeypatch.setattr(raw_module, 'download_url', download_url)
    monkeypatch.setattr(DiffRecDataset, 'checksums', {})
    return contents, urls


def test_downloads_are_of_a_known_revision_and_sum(tmp_path, archive, monkeypatch):
    contents, urls = archive
    root = str(tmp_path / 'root')
    np.save(contents / 'ml-1m_clean' / 'item_emb.npy', np.ones((6, 2)))
    sums = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (contents / 'ml-1m_clean').iterdir()
    }
    monkeypatch.setattr(DiffRecDataset, 'checksums', {'ml-1m_clean': sums})
    DiffRecDataset(root, 'ml-1m_clean')
    assert urls == [f'{DiffRecDataset.revision}/datasets/ml-1m_clean.rar']
    for name in sums:
        shutil.rmtree(root)
        wrong = {'ml-1m_clean': {**sums, name: '0' * 64}}
        monkeypatch.setattr(DiffRecDataset, 'checksums', wrong)
        match = rf"'{name}' as downloaded is not .* {sums[name]}, and not 0{{64}}: put"
        with pytest.raises(RuntimeError, match=match):
            DiffRecDataset(root, 'ml-1m_clean')
        assert os.listdir(f'{root}/ml-1m_clean') == []


def test_download_that_holds_no_lists_is_refused(tmp_path, archive):
    contents, urls = archive
    (contents / 'ml-1m_clean' / 'valid_list.npy').write_bytes(b'<html>')
    with pytest.raises(RuntimeError, match=r"valid_list.npy' is truncated .*: put"):
        DiffRecDataset(str(tmp_path / 'root'), 'ml-1m_clean')
    assert urls == ['HEAD/datasets/ml-1m_clean.rar']
    assert os.listdir(tmp_path / 'root' / 'ml-1m_clean') == []


def test_download_moves_the_optional_file_first(tmp_path, archive, monkeypatch):
    contents, _ = archive
    np.save(contents / 'ml-1m_clean' / 'item_emb.npy', np.ones((6, 2)))
    moved = []

    def replace(source, target):
        moved.append(os.path.basename(target))
        if len(moved) == 3:
            raise InterruptedError  # Stands for a kill.

    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(InterruptedError):
        DiffRecDataset(str(tmp_path / 'root'), 'ml-1m_clean')
    assert moved[0] == 'item_emb.npy'


@pytest.mark.parametrize(
    ('script', 'limit', 'got'),
    [
        ('sleep 60', 0.2, 'bsdtar: took more than 0.2 seconds'),
        ('exec sleep 60', 0.2, 'bsdtar: took more than 0.2 seconds'),
        ('head -c 2000000 /dev/zero > "$5/a"; sleep 60', 10, 'unpacked more than 1000'),
    ],
)
def test_unpacking_is_bounded(tmp_path, archive, monkeypatch, script, limit, got):
    monkeypatch.setattr(archive_module, '_TIME_LIMIT', limit)
    monkeypatch.setattr(archive_module, '_MOST_AT_LEAST', 1000)
    monkeypatch.setattr(archive_module, '_MOST_TIMES', 0)
    path = tmp_path / 'tools' / 'bsdtar'
    path.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n')
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=f'Could not unpack .*{got}.*: put'):
        DiffRecDataset(str(tmp_path / 'root'), 'ml-1m_clean')
    assert time.monotonic() - start < 30
    path.write_text('no program')
    with pytest.raises(RuntimeError, match=r'Could not unpack .*Exec format error'):
        DiffRecDataset(str(tmp_path / 'root'), 'ml-1m_clean')


def test_download_takes_known_files_and_nothing_else(tmp_path, archive):
    archive, _ = archive
    np.save(archive / 'ml-1m_clean' / 'other.npy', np.zeros(3))
    np.save(archive / 'ml-1m_clean' / 'item_emb.npy', np.ones((6, 2)))
    (archive / 'run.sh').write_text('exit 1')
    dataset = DiffRecDataset(str(tmp_path / 'root'), 'ml-1m_clean')
    assert masks(dataset[0]) == 'ttevtteev'
    assert dataset[0]['item'].embedding.sum() == 12
    home = tmp_path / 'root' / 'ml-1m_clean'
    assert sorted(os.listdir(home)) == ['processed', 'raw']
    names = [*FILES, 'item_emb']
    assert sorted(os.listdir(home / 'raw')) == sorted(f'{name}.npy' for name in names)


def test_download_refuses_links_and_ambiguous_archives(tmp_path, archive):
    root = str(tmp_path / 'root')
    archive, _ = archive
    path = archive / 'ml-1m_clean' / 'test_list.npy'
    os.replace(path, tmp_path / 'outside.npy')
    with pytest.raises(RuntimeError, match=r"one 'test_list.npy' \(found 0\): put"):
        DiffRecDataset(root, 'ml-1m_clean')
    os.symlink(tmp_path / 'outside.npy', path)
    with pytest.raises(RuntimeError, match=r"'test_list.npy' .* is a link"):
        DiffRecDataset(root, 'ml-1m_clean')
    os.remove(path)
    os.symlink('train_list.npy', path)
    with pytest.raises(RuntimeError, match=r"'test_list.npy' .* is a link"):
        DiffRecDataset(root, 'ml-1m_clean')
    os.remove(path)
    write(archive / 'other')
    os.replace(tmp_path / 'outside.npy', path)
    with pytest.raises(RuntimeError, match=r"one 'train_list.npy' \(found 2\): put"):
        DiffRecDataset(root, 'ml-1m_clean')
    assert os.listdir(tmp_path / 'root' / 'ml-1m_clean') == []


def test_download_without_a_tool_or_network_says_what_to_do(
    tmp_path, archive, monkeypatch
):
    root = str(tmp_path / 'root')
    advice = (
        r"put \['train_list.npy', .*, 'test_list.npy'\] of 'ml-1m_clean' into '.*raw'"
    )

    def offline(url, folder):
        raise urllib.error.URLError('no route to host')

    (tmp_path / 'tools' / 'bsdtar').write_text('#!/bin/sh\necho no rar >&2\nexit 1\n')
    with pytest.raises(RuntimeError, match=f'Could not unpack.*no rar.*: {advice}'):
        DiffRecDataset(root, 'ml-1m_clean')
    monkeypatch.setattr(raw_module, 'download_url', offline)
    with pytest.raises(RuntimeError, match=f'not download.*no route.*: {advice}'):
        DiffRecDataset(root, 'ml-1m_clean')
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(RuntimeError, match=f"without one of .'bsdtar'.*, or {advice}"):
        DiffRecDataset(root, 'ml-1m_clean')


# The real files ######################################################################

DATA = os.environ.get('PYG_DIFFREC_DATA', '')


@pytest.mark.parametrize(
    ('name', 'num_items', 'num_edges'),
    [
        ('ml-1m_clean', 2810, (403277, 110722, 57532)),
        ('ml-1m_noisy', 3494, (429993, 130772, 57532)),
    ],
)
def test_real_files(tmp_path, name, num_items, num_edges):
    raw = os.path.join(DATA, name)
    if not DATA or not os.path.isdir(raw):
        pytest.skip(f"'PYG_DIFFREC_DATA' holds no '{name}'")
    data = validate(DiffRecDataset(str(tmp_path), name, raw_dir=raw)[0])
    store = data[USER_ITEM]
    assert (data['user'].num_nodes, data['item'].num_nodes) == (5949, num_items)
    splits = ('train', 'val', 'test')
    masks = [store[f'{split}_mask'] for split in splits]
    assert tuple(int(mask.sum()) for mask in masks) == num_edges
    for file, mask in zip(('train', 'valid', 'test'), masks, strict=True):
        pairs = torch.from_numpy(np.load(os.path.join(raw, f'{file}_list.npy')))
        assert torch.equal(store.edge_index[:, mask].t(), pairs)
        assert store.edge_index[0, mask].unique().numel() == 5949

    for file, expected in DiffRecDataset.checksums[name].items():
        with open(os.path.join(raw, file), 'rb') as f:
            assert hashlib.sha256(f.read()).hexdigest() == expected

    # Within a user: all of train, then all of test, then all of validation.
    code = store.test_mask.long() + 2 * store.val_mask.long()
    user = store.edge_index[0]
    assert bool((user[1:] >= user[:-1]).all())
    assert bool(((code[1:] >= code[:-1]) | (user[1:] > user[:-1])).all())


def test_item_embeddings_beside_the_lists_are_read(tmp_path):
    raw = tmp_path / 'raw'
    raw.mkdir()
    for name, item in (('train', 0), ('valid', 1), ('test', 2)):
        np.save(raw / f'{name}_list.npy', np.array([[0, item]]))

    def load():
        root = str(tmp_path / 'root')
        return DiffRecDataset(root, 'ml-1m_clean', raw_dir=str(raw))[0]

    assert 'embedding' not in load()['item']
    embedding = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(raw / 'item_emb.npy', embedding)
    assert load()['item'].embedding.tolist() == embedding.tolist()
    np.save(raw / 'item_emb.npy', embedding[:2])
    with pytest.raises(
        ValueError,
        match=r"^'.*item_emb.npy'.*\[3, F\].*got float32 of .*2, in row 0 of '.*test_l",
    ):
        load()
    (raw / 'item_emb.npy').write_bytes(b'nonsense')
    with pytest.raises(ValueError, match='item_emb.npy.*is truncated or no'):
        load()
