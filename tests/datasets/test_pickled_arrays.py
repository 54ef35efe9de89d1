import copyreg
import io
import os
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest
import scipy.sparse
from limits import LimitedMemory

from pyg_diffrec.datasets._pickled_arrays import load_arrays, load_zipped_arrays

DENSE = np.array([[0, 2, 0], [1, 0, 3]])
INT = np.int32


class Pickler(pickle.Pickler):
    """Pickles sparse matrices with another state than their own."""

    def __init__(self, file, protocol, **state):
        super().__init__(file, protocol)
        self.state = state

    def reducer_override(self, value):
        if not scipy.sparse.issparse(value):
            return NotImplemented
        return copyreg.__newobj__, (type(value),), {**vars(value), **self.state}


def dumps(value, protocol=4, **state):
    file = io.BytesIO()
    Pickler(file, protocol, **state).dump(value)
    return file.getvalue()


def loads(content, name='a.pkl'):
    return load_arrays(io.BytesIO(content), name)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return eval, (f'open({str(self.path)!r}, "w")',)


@pytest.mark.parametrize('protocol', [3, 4, 5])
@pytest.mark.parametrize('kind', ['matrix', 'array'])
@pytest.mark.parametrize('form', ['coo', 'csr', 'csc'])
def test_sparse_matrices_come_as_coo(form, kind, protocol):
    value = getattr(scipy.sparse, f'{form}_{kind}')(DENSE)
    matrix = loads(pickle.dumps(value, protocol))
    assert type(matrix) is scipy.sparse.coo_matrix
    assert matrix.dtype == DENSE.dtype
    assert matrix.toarray().tolist() == DENSE.tolist()


@pytest.mark.parametrize('protocol', [3, 4, 5])
@pytest.mark.parametrize('dtype', ['bool', 'i1', 'u2', 'i4', '>i8', 'f2', 'f4', 'f8'])
def test_arrays_and_scalars(dtype, protocol):
    array = np.array([[0, 1, 2], [3, 4, 0]]).astype(dtype)
    value = [array, np.asfortranarray(array), array[:, ::2], array[:0], array[1, 0]]
    loaded = loads(pickle.dumps(value, protocol))
    for actual, expected in zip(loaded[:-1], value[:-1], strict=True):
        assert actual.tolist() == expected.tolist()
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype.newbyteorder('=')
        assert actual.dtype.isnative
        assert actual.flags.writeable
    assert loaded[-1] == array[1, 0].item()
    assert type(loaded[-1]) is type(array[1, 0].item())


@pytest.mark.parametrize('numpy', [b'numpy.core', b'numpy._core'])
@pytest.mark.parametrize(
    'module', [b'scipy.sparse.coo', b'scipy.sparse._coo', b'scipy.sparse._arrays']
)
@pytest.mark.parametrize('names', [('row', 'col'), ('coords',)])
def test_spellings_of_other_versions(numpy, module, names):
    value = scipy.sparse.coo_matrix(DENSE)
    row, col = DENSE.nonzero()
    values = (row, col) if len(names) == 2 else ((row, col),)
    for key in ('row', 'col', 'coords'):
        vars(value).pop(key, None)
    content = dumps(value, 3, **dict(zip(names, values, strict=True)))
    content = content.replace(b'cscipy.sparse._coo\n', b'c' + module + b'\n')
    for core in (b'numpy.core', b'numpy._core'):
        content = content.replace(b'c' + core + b'.multi', b'c' + numpy + b'.multi')
    assert module + b'\n' in content
    assert numpy + b'.multiarray\n' in content
    assert loads(content).toarray().tolist() == DENSE.tolist()


def test_dictionaries_and_files(tmp_path):
    value = {'mat': scipy.sparse.csr_matrix(DENSE), 'count': 5, 'x': (1.5, None, 'a')}
    with pytest.raises(ValueError, match="it holds a '<class 'tuple'>'"):
        loads(pickle.dumps(value))
    value['x'] = True
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(value))
    with open(path, 'rb') as file:
        for loaded in (load_arrays(path), load_arrays(str(path)), load_arrays(file)):
            assert list(loaded) == ['mat', 'count', 'x']
            assert (loaded['count'], loaded['x']) == (5, True)
            assert loaded['mat'].toarray().tolist() == DENSE.tolist()
    assert loads(pickle.dumps((1, 2.5, None, 'a'))) == [1, 2.5, None, 'a']


@pytest.mark.parametrize('where', ['alone', 'in a list', 'in a matrix', 'as a key'])
def test_code_is_refused_and_never_runs(tmp_path, where):
    bomb = Bomb(tmp_path / 'trap')
    content = {
        'alone': lambda: pickle.dumps(bomb),
        'in a list': lambda: pickle.dumps([np.ones(2), bomb]),
        'in a matrix': lambda: dumps(scipy.sparse.coo_matrix(DENSE), data=bomb),
        'as a key': lambda: pickle.dumps({bomb: 1}),
    }[where]()
    with pytest.raises(ValueError, match="'a.pkl' asks for 'builtins.eval', which is"):
        loads(content)
    assert not (tmp_path / 'trap').exists()
    pickle.loads(content)
    assert (tmp_path / 'trap').exists()  # The trap works.


@pytest.mark.parametrize(
    ('content', 'name'),
    [
        (b'cos\nsystem\n.', 'os.system'),
        (b'cnumpy\nload\n.', 'numpy.load'),
        (b'cnumpy\nndarray.tofile\n.', 'numpy.ndarray.tofile'),
        (b'\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.', 'numpy.ndarray.tofile'),
        (b'cscipy.sparse._dok\ndok_matrix\n.', 'scipy.sparse._dok.dok_matrix'),
        (b'c_codecs\nencode\n.', '_codecs.encode'),
        (b'ccopy_reg\n_reconstructor\n.', 'copy_reg._reconstructor'),
    ],
)
def test_refused_globals_are_named(content, name):
    with pytest.raises(ValueError, match=f"'a.pkl' asks for '{name}'.* COO, CSR or"):
        loads(content)


@pytest.mark.parametrize(
    ('form', 'state', 'got'),
    [
        ('coo', {'row': np.array([0, 1, 2], INT)}, r'outside of \[0, 2\)'),
        ('coo', {'col': np.array([0, 1, 3], INT)}, r'outside of \[0, 3\)'),
        ('coo', {'row': np.array([0, 1, -1], INT)}, r'outside of \[0, 2\)'),
        ('coo', {'col': np.array([0, -5, 1], INT)}, r'outside of \[0, 3\)'),
        ('coo', {'col': np.array([0, 1], INT)}, 'more indices than values or less'),
        ('coo', {'data': np.ones((3, 2))}, 'more indices than values or less'),
        ('coo', {'row': np.array([0.0, 1.0, 1.0])}, 'no whole numbers'),
        ('coo', {'row': np.zeros((3, 1), INT)}, 'no whole numbers'),
        ('coo', {'row': [0, 1, 1]}, 'need to be arrays'),
        ('coo', {'_shape': (2,)}, r'has shape \(2,\)'),
        ('coo', {'_shape': (2, 3.0)}, r'has shape \(2, 3.0\)'),
        ('coo', {'_shape': (-2, 3)}, r'outside of \[0, -2\)'),
        ('coo', {'data': np.array([None] * 3)}, r"of type '\|O8'"),
        ('csr', {'indptr': np.array([0, 4, 3], INT)}, r'pointers .* are \[0 4 3\]'),
        ('csr', {'indptr': np.array([1, 1, 3], INT)}, r'pointers .* are \[1 1 3\]'),
        ('csr', {'indptr': np.array([0, 3], INT)}, r'pointers .* are \[0 3\]'),
        ('csr', {'indptr': np.array([0.0, 1.0, 3.0])}, 'pointers of a sparse'),
        # SciPy 1.17 takes this one, and writes out of bounds.
        ('csr', {'indptr': np.array([0, 143, -3], INT)}, 'pointers of a sparse'),
        ('csr', {'indptr': np.array([0, 1, 9], INT)}, 'more indices than its rows'),
        ('csr', {'indices': np.array([0, 1, 3], INT)}, r'outside of \[0, 3\)'),
        ('csr', {'indices': np.array([0, 1, -1], INT)}, r'outside of \[0, 3\)'),
        ('csr', {'indices': np.array([0, 1, 1], np.float32)}, 'no whole numbers'),
        ('csr', {'data': np.ones(2)}, 'more indices than values or less'),
        ('csc', {'indices': np.array([0, 1, 2], INT)}, r'outside of \[0, 2\)'),
    ],
)
def test_matrices_that_contradict_themselves_are_refused(form, state, got):
    value = getattr(scipy.sparse, f'{form}_matrix')(DENSE)
    if form == 'coo':
        state = {'row': value.row, 'col': value.col, **state}
        vars(value).pop('coords', None)
    with pytest.raises(ValueError, match=f"'a.pkl' is damaged, or no.*{got}"):
        loads(dumps(value, **state))


@pytest.mark.parametrize(
    ('value', 'got'),
    [
        (np.array([None]), r"of type '\|O8'"),
        (np.array(['a']), "of type '<U1'"),
        (np.zeros(2, dtype=[('a', 'i4')]), r"of type '\|V4'"),
        (np.array(['2020'], dtype='M8[D]'), 'M8'),
        ([[1]], "it holds a '<class 'list'>'"),
        ({1, 2}, "it holds a '<class 'set'>'"),
        (np.ndarray, 'it holds a'),
    ],
)
def test_other_values_are_refused(value, got):
    with pytest.raises(ValueError, match=f'is damaged, or no pickle.*{got}'):
        loads(pickle.dumps(value))


def test_damaged_pickles_raise_nothing_but_value_errors():
    value = {'a': scipy.sparse.coo_matrix(DENSE), 'b': np.ones(3), 'n': 5}
    content = pickle.dumps(value, 4)
    generator = random.Random(0)
    for size in range(0, len(content), 7):
        with pytest.raises(ValueError, match="'a.pkl' is damaged"):
            loads(content[:size])
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] = generator.randrange(256)
        try:
            loads(bytes(damaged))
        except ValueError as error:
            refused += str(error).startswith("'a.pkl' ")
    assert refused > 200


@pytest.mark.parametrize(
    ('content', 'got'),
    [
        (b'Nr\xff\xff\xff\x03.', 'numbers operation 1 as 67108863'),
        (b'Np67108863\n.', 'numbers operation 1 as 67108863'),
        (b'\x80\x05\x96' + b'\xff' * 4 + b'\x00' * 4 + b'a.', 'expected 4294967295'),
    ],
)
def test_claims_of_more_than_there_is_reserve_no_memory(content, got):
    resource = pytest.importorskip('resource')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f'is damaged.*{got}'):
        loads(content)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 2**18  # A quarter of a gigabyte, in kilobytes.


def test_what_is_named_often_is_built_once():
    array = np.arange(2**18)
    value = scipy.sparse.coo_matrix(np.ones((30, 1000)))
    content = pickle.dumps([array] * 1200 + [value] * 1200, 4)
    with LimitedMemory():
        loaded = loads(content)
    assert len({id(x) for x in loaded}) == 2
    assert loaded[0].tolist() == array.tolist()
    assert loaded[-1].nnz == 30_000


@pytest.mark.parametrize('kind', ['array', 'coo', 'csr'])
def test_bytes_that_many_share_are_not_built_for_each(kind):
    data, index = np.ones(2**16), np.zeros(2**16, INT)
    if kind == 'array':

        class Shared(pickle.Pickler):
            def reducer_override(self, value):
                if not isinstance(value, np.ndarray):
                    return NotImplemented
                args = raw, data.dtype, data.shape, 'C'
                return data.__reduce_ex__(5)[0], args

        raw, file = data.tobytes(), io.BytesIO()
        Shared(file, 4).dump([data + i for i in range(300)])
        content = file.getvalue()
    else:
        form = getattr(scipy.sparse, f'{kind}_matrix')
        value = [form((4, 4)) for _ in range(300)]
        file = io.BytesIO()
        state = {'row': index, 'col': index, 'data': data, 'indices': index}
        state['indptr'] = np.array([0, *[2**16] * 4], INT)
        pickler = Pickler(file, 4, **state)
        for matrix in value:
            vars(matrix).pop('coords', None)
        pickler.dump(value)
        content = file.getvalue()
    assert len(content) < 2**21
    with LimitedMemory(), pytest.raises(ValueError, match=r'same bytes over and over'):
        loads(content)


def test_matrices_may_share_what_they_need():
    index, shape = np.arange(500, dtype=INT), (500, 500)
    value = {}
    for form in ('coo', 'csr', 'csc'):
        for i in range(3):
            matrix = scipy.sparse.coo_matrix(
                (np.ones(500, bool), (index, index)), shape
            )
            value[f'{form}{i}'] = matrix.asformat(form)
    assert len(loads(pickle.dumps(value, 4))) == 9


def nested(depth, kind):
    """Operations for a list, or tuple, of two lists of two lists, and so on."""
    level = {'tuple': b'h%ch%c\x86', 'list': b'(h%ch%cl'}[kind]
    out = b')\x940'
    for i in range(depth):
        out += level.replace(b'%c', bytes([i])) + b'\x940'
    return out + b'h' + bytes([depth])


@pytest.mark.parametrize(
    ('content', 'got'),
    [
        # As the key of a dictionary, and where a shape or a type is expected.
        (b'\x80\x04}' + nested(60, 'tuple') + b'Ns.', 'same tuples over and over'),
        (b'\x80\x04}' + b')' + b'2\x86' * 60 + b'Ns.', 'same tuples over and over'),
        (b'\x80\x04' + nested(60, 'list') + b'.', "it holds a '<class 'list'>'"),
        (
            b'\x80\x04cnumpy._core.numeric\n_frombuffer\n('
            b'C\x04abcdcnumpy\ndtype\nX\x02\x00\x00\x00i4\x85R(K\x03X\x01\x00\x00\x00<'
            b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
            + nested(60, 'list')
            + b'X\x01\x00\x00\x00CtR.',
            r'an array has shape \[\[\[.*\.\.\.',
        ),
        (b'\x80\x04' + b'N0' * 600_000 + b'N.', 'more than 1000000 operations'),
        (b'\x80\x04\x8a\xff' + b'\x7f' * 255 + b'.', 'a number of 2039 bits'),
    ],
)
def test_pickles_that_would_take_for_ever_are_refused(content, got):
    with pytest.raises(ValueError, match=f"'a.pkl' is damaged.*{got}"):
        loads(content)


# Archives ############################################################################


def zipped(path, entries):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return str(path)


PICKLE = pickle.dumps({'a': np.arange(3)})


def test_the_one_pickle_of_an_archive(tmp_path):
    entries = [
        ('folder/dataset.pkl', PICKLE),
        ('folder/README.md', b'text'),
        ('__MACOSX/folder/._dataset.pkl', b'fork'),
        ('__MACOSX/dataset.pkl', b'fork'),
        ('folder/._other.pkl', b'fork'),
    ]
    path = zipped(tmp_path / 'a.zip', entries)
    assert load_zipped_arrays(path)['a'].tolist() == [0, 1, 2]
    assert os.listdir(tmp_path) == ['a.zip']


@pytest.mark.parametrize(
    'name',
    ['../a.pkl', '/a.pkl', 'x/../../a.pkl', '..\\a.pkl', 'C:\\a.pkl', '../note.txt'],
)
def test_entries_that_point_outside_are_refused(tmp_path, name):
    path = zipped(tmp_path / 'a.zip', [('b.pkl', PICKLE), (name, PICKLE)])
    with pytest.raises(ValueError, match=r"a.zip' is refused, because its entry '.*"):
        load_zipped_arrays(path)


def test_archives_without_exactly_one_pickle_are_refused(tmp_path):
    path = zipped(tmp_path / 'a.zip', [('__MACOSX/._a.pkl', PICKLE), ('a.txt', b'')])
    with pytest.raises(ValueError, match=r"exactly one '.pkl' file \(got \[\]\)"):
        load_zipped_arrays(path)
    path = zipped(tmp_path / 'b.zip', [('a.pkl', PICKLE), ('x/b.pkl', PICKLE)])
    with pytest.raises(ValueError, match=r"\(got \['a.pkl', 'x/b.pkl'\]\)"):
        load_zipped_arrays(path)


def test_damaged_archives_are_named(tmp_path):
    path = tmp_path / 'a.zip'
    zipped(path, [('a.pkl', b'no pickle')])
    with pytest.raises(ValueError, match=r"a.zip/a.pkl' is damaged, or no pickle"):
        load_zipped_arrays(str(path))
    content = path.read_bytes()
    place = content.index(b'a.pkl') + 6  # Behind the name is what was compressed.
    other = content[:place] + b'?' + content[place + 1 :]
    for damaged in (b'', content[:-30], b'<html>', other):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.zip' is damaged, or no zip archive"):
            load_zipped_arrays(str(path))


def test_archives_with_a_password_are_named(tmp_path):
    path = tmp_path / 'a.zip'
    zipped(path, [('a.pkl', PICKLE)])
    content = bytearray(path.read_bytes())
    content[6] |= 1  # The bit that says so, in the entry and in the list of entries.
    content[content.index(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'is damaged, .* encrypted'):
        load_zipped_arrays(str(path))


@pytest.mark.parametrize(
    ('method', 'got'),
    [
        (zipfile.ZIP_DEFLATED, r'of 3000000 bytes in an archive of \d+, where at most'),
        (zipfile.ZIP_BZIP2, r"compressed by 'bzip2': pack it again with 'deflate'"),
        (zipfile.ZIP_LZMA, r"compressed by 'lzma': pack it again with 'deflate'"),
    ],
)
def test_archives_of_zeros_are_not_unpacked(tmp_path, method, got):
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w', method) as archive:
        archive.writestr('a.pkl', bytes(3_000_000))
    with pytest.raises(ValueError, match=f"a.zip' holds 'a.pkl' {got}"):
        load_zipped_arrays(str(path))


def test_archives_whose_sizes_lie_are_not_unpacked(tmp_path):
    path = tmp_path / 'a.zip'
    zipped(path, [('a.pkl', bytes(2**28))])
    content = path.read_bytes()
    for claim in (900, 2**32 - 2):
        # In the list of entries, which is what counts.
        place = content.index(b'PK\x01\x02') + 24
        path.write_bytes(
            content[:place] + struct.pack('<I', claim) + content[place + 4 :]
        )
        match = "a.zip' is damaged|a.zip' holds 'a.pkl' of 4294967294 bytes"
        with LimitedMemory(2**27), pytest.raises(ValueError, match=match):
            load_zipped_arrays(str(path))


@pytest.mark.parametrize(
    'method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]
)
def test_every_damage_of_an_archive_names_it(tmp_path, method):
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w', method) as archive:
        archive.writestr('a.pkl', PICKLE)
    content, messages = path.read_bytes(), []
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x91
        path.write_bytes(damaged)
        try:
            assert load_zipped_arrays(str(path))['a'].tolist() == [0, 1, 2]
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > len(content) / 2
    assert all(message.startswith(f"'{path}") for message in messages)
