r"""Reading arrays and sparse matrices out of pickles, without running what a pickle
asks for."""

import io
import os
import pickle
import pickletools
import re
import reprlib
from typing import Any, BinaryIO, Optional, Union

import numpy as np
import scipy.sparse

from pyg_diffrec.datasets._zipped import read_entry

_NUMBERS = re.compile(r'b1|[iu][1248]|f[248]')
_EXPECTED = (
    'only NumPy arrays of numbers, SciPy matrices in COO, CSR or CSC format, numbers '
    'and strings'
)


# What is built takes this many times the bytes of its pickle, or less: a matrix in CSR
# format whose values are Booleans takes seven times its bytes in COO format.
_MOST_TIMES = 16
_MOST_AT_LEAST = 1 << 20

# A pickle of arrays has a dozen operations for each of them.
_MOST_OPERATIONS = 1_000_000

# Shapes are tuples that matrices may share.
_MOST_AGAIN = 40

# Some bytes can name a list of lists that takes years to print.
_short = reprlib.Repr()
_short.maxother = _short.maxstring = 60


class _Budget:
    r"""The number of bytes that may still be built."""

    def __init__(self, size: int) -> None:
        self.left = max(_MOST_TIMES * size, _MOST_AT_LEAST)

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(
                'its arrays and matrices name the same bytes over and over: store what '
                'is the same once'
            )


class _Recorded:
    r"""What a pickle says of an object. All that a pickle can build is of this type,
    so that neither NumPy nor SciPy sees what nobody checked."""

    args: tuple = ()
    state: Any = None
    built: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def build(self, budget: _Budget) -> Any:
        r"""What the pickle names, once, however often it names it."""
        if self.built is None:
            self.built = self._build(budget)
        return self.built

    def _build(self, budget: _Budget) -> Any:
        raise ValueError(f'a {self.__class__.__name__[1:]} stands alone')


class _ArrayType(_Recorded):
    pass


class _DType(_Recorded):
    def dtype(self) -> np.dtype:
        code, order = self.args[0], self.state[1]
        if not isinstance(order, str):
            raise ValueError(f"an array has byte order '{_short.repr(order)}'")
        if _NUMBERS.fullmatch(code) is None or order not in ('<', '>', '|', '='):
            raise ValueError(f"an array is of type '{order}{code}'")
        return np.dtype(order + code)


def _array(raw: Any, dtype: Any, shape: Any, order: Any, budget: _Budget) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise ValueError(f"an array is of type '{_short.repr(dtype)}'")
    dtype = dtype.dtype()
    if not isinstance(raw, (bytes, bytearray)):
        raise ValueError(f"an array holds '{type(raw)}'")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f'an array has shape {_short.repr(shape)}')
    budget.take(len(raw))
    array = np.frombuffer(raw, dtype).reshape(shape, order=order)
    # A copy, which can be written to, in the byte order of this machine.
    return array.astype(dtype.newbyteorder('='))


class _Array(_Recorded):
    def _build(self, budget: _Budget) -> np.ndarray:
        _, shape, dtype, is_fortran, raw = self.state
        return _array(raw, dtype, shape, 'F' if is_fortran else 'C', budget)


class _Buffer(_Recorded):
    def _build(self, budget: _Budget) -> np.ndarray:
        raw, dtype, shape, order = self.args
        return _array(raw, dtype, shape, order, budget)


class _Scalar(_Recorded):
    def _build(self, budget: _Budget) -> Union[bool, int, float]:
        dtype, raw = self.args
        return _array(raw, dtype, (), 'C', budget).item()


class _Sparse(_Recorded):
    def arrays(self, budget: _Budget, *names: str) -> list[np.ndarray]:
        values = [self.state[name] for name in names]
        if not all(isinstance(value, (_Array, _Buffer)) for value in values):
            raise ValueError(f'{list(names)} of a sparse matrix need to be arrays')
        return [value.build(budget) for value in values]

    def matrix(
        self, budget: _Budget, data: np.ndarray, row: np.ndarray, col: np.ndarray
    ) -> scipy.sparse.coo_matrix:
        # SciPy's own checks let some matrices pass that then write out of bounds.
        shape = self.state['_shape']
        if len(shape) != 2 or not all(type(size) is int for size in shape):
            raise ValueError(f'a sparse matrix has shape {_short.repr(shape)}')
        for index, size in ((row, shape[0]), (col, shape[1])):
            if index.dtype.kind != 'i' or index.ndim != 1:
                raise ValueError('the indices of a sparse matrix are no whole numbers')
            if data.shape != index.shape:
                raise ValueError('a sparse matrix has more indices than values or less')
            if not ((index >= 0) & (index < size)).all():
                raise ValueError(f'a sparse matrix has an index outside of [0, {size})')
        budget.take(data.nbytes + row.nbytes + col.nbytes)
        return scipy.sparse.coo_matrix((data, (row, col)), shape=shape)


class _Coo(_Sparse):
    def _build(self, budget: _Budget) -> scipy.sparse.coo_matrix:
        if 'coords' in self.state:  # Since SciPy 1.13.
            self.state['row'], self.state['col'] = self.state['coords']
        return self.matrix(budget, *self.arrays(budget, 'data', 'row', 'col'))


class _Csr(_Sparse):
    def rows(self, budget: _Budget, num_rows: int) -> list[np.ndarray]:
        data, index, pointer = self.arrays(budget, 'data', 'indices', 'indptr')
        rises = pointer.dtype.kind == 'i' and (pointer[1:] >= pointer[:-1]).all()
        if not rises or pointer.shape != (num_rows + 1,) or pointer[0] != 0:
            raise ValueError(f'the row pointers of a sparse matrix are {pointer}')
        if pointer[-1] != len(index):
            raise ValueError('a sparse matrix has more indices than its rows or less')
        budget.take(8 * (num_rows + len(index)))
        return [data, np.arange(num_rows).repeat(np.diff(pointer)), index]

    def _build(self, budget: _Budget) -> scipy.sparse.coo_matrix:
        return self.matrix(budget, *self.rows(budget, self.state['_shape'][0]))


class _Csc(_Csr):
    def _build(self, budget: _Budget) -> scipy.sparse.coo_matrix:
        data, col, row = self.rows(budget, self.state['_shape'][1])
        return self.matrix(budget, data, row, col)


def _known_globals() -> dict[tuple[str, str], type[_Recorded]]:
    known = {('numpy', 'ndarray'): _ArrayType, ('numpy', 'dtype'): _DType}
    for core in ('numpy.core', 'numpy._core'):  # Before NumPy 2, and since.
        known[f'{core}.multiarray', '_reconstruct'] = _Array
        known[f'{core}.multiarray', 'scalar'] = _Scalar
        known[f'{core}.numeric', '_frombuffer'] = _Buffer
    for name, cls in (('coo', _Coo), ('csr', _Csr), ('csc', _Csc)):
        for module in (name, f'_{name}', '_arrays'):  # SciPy moved them twice.
            for kind in ('matrix', 'array'):
                known[f'scipy.sparse.{module}', f'{name}_{kind}'] = cls
    return known


_KNOWN = _known_globals()


class _RefusedError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Recorded]:
        if (module, name) not in _KNOWN:
            raise _RefusedError(f'{module}.{name}')
        return _KNOWN[module, name]


def _check_sizes(content: bytes) -> None:
    # The unpickler reserves memory for whatever size or number a file claims. To list
    # the operations reads all that they claim; numbers in the memo are left to us.
    is_tuple: dict[Any, bool] = {}
    num_again, before = 0, ''
    for count, (operation, arg, _) in enumerate(pickletools.genops(content)):
        if count == _MOST_OPERATIONS:
            raise ValueError(f'it has more than {count} operations')
        is_put = operation.name in ('PUT', 'BINPUT', 'LONG_BINPUT')
        if is_put and arg is not None and arg > count:
            raise ValueError(f'it numbers operation {count} as {arg}')
        if is_put or operation.name == 'MEMOIZE':
            is_tuple[len(is_tuple) if arg is None else arg] = before.startswith('TUPLE')
        # Tuples of tuples, each named twice, take for ever as the key of a dictionary.
        is_get = operation.name in ('GET', 'BINGET', 'LONG_BINGET')
        num_again += operation.name == 'DUP' or (is_get and is_tuple.get(arg, False))
        if num_again > _MOST_AGAIN:
            raise ValueError('it names the same tuples over and over')
        before = operation.name


def _build(value: Any, budget: _Budget) -> Any:
    if isinstance(value, _Recorded):
        return value.build(budget)
    if type(value) is int and value.bit_length() > 64:
        raise ValueError(f'it holds a number of {value.bit_length()} bits')
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(f"it holds a '{type(value)}'")


def _build_all(value: Any, budget: _Budget) -> Any:
    if type(value) is dict:
        return {
            _build(key, budget): _build(item, budget) for key, item in value.items()
        }
    if type(value) in (list, tuple):
        return [_build(item, budget) for item in value]
    return _build(value, budget)


def load_arrays(
    source: Union[str, os.PathLike, BinaryIO], name: Optional[str] = None
) -> Any:
    r"""Reads a pickle of arrays and sparse matrices as data: nothing that the pickle
    names is imported or called.

    The pickle holds one value, or a dictionary, list or tuple of values. A value is
    a NumPy array or scalar of numbers, a SciPy matrix or array in COO, CSR or CSC
    format, a number, a string or :obj:`None`. Pickles of protocol 3 and above, of
    any version of NumPy and SciPy, are read. What the pickle names several times is
    built once.

    Args:
        source (str, os.PathLike or file): The path, or a file opened for reading
            bytes.
        name (str, optional): What to call the file in messages.
            (default: :obj:`None`)

    Shapes:
        - **output:** what the pickle holds, with each sparse matrix as
          :class:`scipy.sparse.coo_matrix` whose indices are in range, scalars as
          Python numbers, and a tuple as a list

    Raises:
        ValueError: If the pickle asks for anything else, which the message names,
            if it is damaged, if a matrix contradicts itself, or if the arrays take
            far more memory than the pickle.
    """
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        with open(source, 'rb') as f:
            content = f.read()
    else:
        name = name or getattr(source, 'name', 'the pickle')
        content = source.read()
    try:
        _check_sizes(content)
        value = _Unpickler(io.BytesIO(content)).load()
        return _build_all(value, _Budget(len(content)))
    except _RefusedError as error:
        raise ValueError(
            f"'{name}' asks for '{error}', which is refused, because it might run "
            f'code: expected {_EXPECTED}'
        ) from None
    except Exception as error:  # A damaged pickle may raise anything.
        raise ValueError(
            f"'{name}' is damaged, or no pickle that holds {_EXPECTED} "
            f"(got '{str(error)[:300] or error.__class__.__name__}')"
        ) from error


def _is_pickle(name: str) -> bool:
    # The archiver of macOS adds a resource fork for every file.
    parts = name.split('/')
    is_fork = '__MACOSX' in parts or parts[-1].startswith('._')
    return name.endswith('.pkl') and not is_fork


def load_zipped_arrays(path: str) -> Any:
    r"""Reads the one pickle of a zip archive like :meth:`load_arrays`; nothing is
    unpacked onto the disk.

    Raises:
        ValueError: As :meth:`read_entry`, if the archive is damaged or does not hold
            exactly one :obj:`.pkl` file; and as :meth:`load_arrays`.
    """
    name, content = read_entry(path, _is_pickle, "'.pkl' file")
    return load_arrays(io.BytesIO(content), f'{path}/{name}')
