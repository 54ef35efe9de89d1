import struct

import numpy as np
import pytest
from limits import LimitedMemory

from pyg_diffrec.datasets._npy import read_item_rows, read_npy


def npy(header, data=b'', version=(1, 0)):
    header = header.encode()
    length = struct.pack('<H' if version == (1, 0) else '<I', len(header))
    return b'\x93NUMPY' + bytes(version) + length + header + data


def header(shape, descr="'<f4'", order='False'):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize('dtype', ['<f4', '>f4', '<i8', '?', 'f2', np.longdouble])
@pytest.mark.parametrize('shape', [(3,), (3, 2), (0, 2), (2, 0)])
def test_arrays_are_those_of_the_file(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for i, value in enumerate((array, np.asfortranarray(array))):
        path = tmp_path / f'{i}.npy'
        np.save(path, value)
        loaded = read_npy(str(path), 'an array')
        assert loaded.dtype == array.dtype
        assert loaded.shape == shape
        assert loaded.tolist() == array.tolist()


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'\x93NUMPY',
        b'\x80\x04N.',
        b'<html>',
        npy(header('(2, 2)'), bytes(12)),
        npy(header('(2, 2)'), bytes(20)),
        npy(header('(1099511627776, 2)'), bytes(16)),
        npy(header('(9223372036854775807, 9223372036854775807)'), bytes(16)),
        npy(header(f'({"9" * 40}, 2)'), bytes(16)),
        npy(header('(-1, 2)'), bytes(16)),
        npy(header('(2.0, 2)'), bytes(16)),
        npy(header('2'), bytes(16)),
        npy(header('(2, 2)', "'<f"), bytes(16)),
        npy(header('(2, 2)', '"O"'), bytes(16)),
        npy(header('(2, 2)', "['a']"), bytes(16)),
        npy(header('(2, 2)', '"<f4(' + '9' * 9 + ')"'), bytes(16)),
        npy(header('(2, 2)', order='3'), bytes(16)),
        npy("{'descr': '<f4', 'shape': (2, 2", bytes(16)),
        npy('(' * 9000, bytes(16)),
        npy("{'descr': \x00", bytes(16)),
        npy("{'descr': '''", bytes(16), (2, 0)),
        npy(header('(2, 2)'), bytes(16), (9, 9)),
        b'\x93NUMPY\x02\x00' + b'\xff' * 4 + b'{',
    ],
)
@pytest.mark.filterwarnings('error')
def test_damaged_files_are_named_and_reserve_no_memory(tmp_path, content):
    path = tmp_path / 'a.npy'
    path.write_bytes(content)
    match = (
        r"^'.*a.npy' is truncated or no '.npy' file .*: expected an array \(got '.+'"
    )
    with LimitedMemory(), pytest.raises(ValueError, match=match):
        read_npy(str(path), 'an array')


def test_archives_of_arrays_are_refused(tmp_path):
    np.savez(tmp_path / 'a.npz', a=np.ones(3))
    (tmp_path / 'a.npz').rename(tmp_path / 'a.npy')
    for size in (None, 30, 4):
        content = (tmp_path / 'a.npy').read_bytes()[:size]
        (tmp_path / 'a.npy').write_bytes(content)
        with pytest.raises(ValueError, match=r"a.npy': expected x \(got an '.npz' "):
            read_npy(str(tmp_path / 'a.npy'), 'x')


@pytest.mark.parametrize('dtype', ['<f2', '>f8', np.longdouble])
def test_tables_of_any_float_format_become_float32(tmp_path, dtype):
    path = str(tmp_path / 'a.npy')
    np.save(path, np.array([[1, 2.5], [3, 4]], dtype=dtype))
    assert read_item_rows(path, 'rows', 2).tolist() == [[1, 2.5], [3, 4]]
    np.save(path, np.array([[1, 2.5], [np.nan, 4]], dtype=dtype))
    with pytest.raises(ValueError, match=r"a.npy': the rows need .*nan in row 1, col"):
        read_item_rows(path, 'rows', 2)
