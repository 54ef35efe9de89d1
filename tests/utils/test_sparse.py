import builtins
import re

import pytest
import torch

from pyg_diffrec.utils import SparseRows, segment_sum


@pytest.fixture
def rows():
    # Row 1 is empty; the entries of row 0 are not in ascending order.
    return SparseRows.from_coo(
        torch.tensor([2, 0, 0]),
        torch.tensor([3, 2, 0]),
        torch.tensor([5.0, 1.0, 2.0], dtype=torch.double),
        num_rows=3,
        num_cols=4,
    )


DENSE = [[2.0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 5]]


def test_from_coo_groups_by_row_and_keeps_order(rows):
    assert rows.rowptr.tolist() == [0, 2, 2, 3]
    assert rows.col.tolist() == [2, 0, 3]
    assert rows.row.tolist() == [0, 0, 2]
    assert rows.to_dense().tolist() == DENSE
    assert str(rows) == 'SparseRows([3, 4], nnz=3)'
    assert (len(rows), rows.shape, rows.dtype) == (3, (3, 4), torch.double)


def test_missing_values_are_ones():
    rows = SparseRows(torch.tensor([0, 2]), torch.tensor([1, 0]), num_cols=3)
    assert rows.to_dense().tolist() == [[1, 1, 0]]


def test_index_select_repeats_and_reorders(rows):
    out = rows.index_select(torch.tensor([2, 0, 1, 0]))
    assert out.to_dense().tolist() == [DENSE[2], DENSE[0], DENSE[1], DENSE[0]]
    assert out.col.tolist() == [3, 2, 0, 2, 0]
    assert rows.index_select(torch.tensor([], dtype=torch.long)).shape == (0, 4)


def test_select_columns_numbers_them_anew(rows):
    out = rows.select_columns(torch.tensor([3, 0]))
    assert out.to_dense().tolist() == [[0, 2], [0, 0], [5, 0]]
    assert rows.select_columns(torch.tensor([1])).to_dense().tolist() == [[0]] * 3
    both = rows.select_columns(torch.tensor([0, 2]))
    assert both.col.tolist() == [1, 0]


def test_scipy_gets_a_copy(rows):
    before = [x.clone() for x in (rows.rowptr, rows.col, rows.value)]
    for dtype in (torch.float, torch.double):
        matrix = rows.to(dtype=dtype).to_scipy()
        matrix.sum_duplicates()  # Sorts its columns.
        matrix.data[:], matrix.indices[:], matrix.indptr[:] = 9, 0, 0
    assert all(map(torch.equal, (rows.rowptr, rows.col, rows.value), before))


def test_transpose_equals_the_dense_one_and_keeps_the_order_of_rows(rows):
    out = rows.t()
    assert out.to_dense().tolist() == torch.tensor(DENSE).t().tolist()
    assert (out.shape, out.dtype) == ((4, 3), torch.double)
    assert out.t().to_dense().tolist() == DENSE
    full = SparseRows.from_coo(
        torch.tensor([0, 0, 1, 1, 2]),
        torch.tensor([1, 0, 1, 0, 1]),
        num_rows=3,
        num_cols=2,
    )
    assert full.t().col.tolist() == [0, 1, 0, 1, 2]
    empty = rows.index_select(torch.tensor([], dtype=torch.long))
    assert (empty.t().shape, empty.t().nnz) == ((4, 0), 0)


def test_products_equal_the_dense_ones(rows):
    other = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    expected = rows.to_dense() @ other
    torch.testing.assert_close(rows.matmul(other), expected)
    weight = torch.randn(3, 3, dtype=torch.double)
    (actual,) = torch.autograd.grad((rows.matmul(other) * weight).sum(), other)
    torch.testing.assert_close(actual, rows.to_dense().t() @ weight)


def test_products_of_torch_sparse_equal_the_dense_ones(rows):
    pytest.importorskip('torch_sparse')
    other = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    product = rows._torch_sparse_matmul(other)
    torch.testing.assert_close(product, rows.to_dense() @ other)
    weight = torch.randn(3, 3, dtype=torch.double)
    (actual,) = torch.autograd.grad((product * weight).sum(), other)
    torch.testing.assert_close(actual, rows.to_dense().t() @ weight)


@pytest.mark.parametrize('error', [ImportError, OSError])
def test_without_torch_sparse_a_gpu_is_told_how_to_get_it(rows, error, monkeypatch):
    def refuse(name, *args, **kwargs):
        if name == 'torch_sparse':
            raise error('undefined symbol')
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.setattr(builtins, '__import__', refuse)
    with pytest.raises(ImportError, match=re.escape(torch.__version__)) as info:
        rows._torch_sparse_matmul(torch.ones(4, 3))
    assert 'python -m pyg_diffrec.extensions' in str(info.value)
    assert 'undefined symbol' in str(info.value)


def test_products_with_vectors_and_dense_rows(rows):
    vector = torch.tensor([1.0, 10, 100, 1000], dtype=torch.double)
    assert rows.dot(vector).tolist() == [102, 0, 5000]
    assert rows.dot_dense(vector.expand(3, -1)).tolist() == [102, 0, 5000]
    assert rows.row_sum().tolist() == [3, 0, 5]
    assert rows.row_sum(torch.ones(3, 2)).tolist() == [[2, 2], [0, 0], [1, 1]]


def test_matmul_is_differentiable_in_the_values(rows):
    value = rows.value.clone().requires_grad_()
    rows.with_value(value).matmul(torch.eye(4, dtype=torch.double)).sum().backward()
    assert value.grad.tolist() == [1, 1, 1]


def test_to_scipy_is_the_same_matrix(rows):
    matrix = rows.to(dtype=torch.float).to_scipy()
    assert matrix.dtype == 'float64'
    assert matrix.toarray().tolist() == DENSE


def test_to_changes_values_only(rows):
    out = rows.to('cpu', torch.float)
    assert (out.dtype, out.col.dtype) == (torch.float, torch.long)


def test_segment_sum_by_hand():
    out = segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2, 3]))
    assert out.tolist() == [0, 3, 4]


def test_bad_parts_are_refused(rows):
    ptr, col = torch.tensor([0, 1]), torch.tensor([0])
    with pytest.raises(TypeError, match="'rowptr' needs to be a 'torch.long'"):
        SparseRows(ptr.int(), col, num_cols=2)
    with pytest.raises(TypeError, match="'value' needs to be a floating point"):
        SparseRows(ptr, col, col, num_cols=2)
    with pytest.raises(ValueError, match="'col' and 'value' need the same shape"):
        SparseRows(ptr, col, torch.ones(2), num_cols=2)
    with pytest.raises(ValueError, match="'rowptr' needs shape"):
        SparseRows(ptr.view(1, -1), col, num_cols=2)
    with pytest.raises(ValueError, match=r"'other' needs shape \[4, \*\]"):
        rows.matmul(torch.ones(3, 2))
    with pytest.raises(TypeError, match="'num_cols' needs to be a whole number"):
        SparseRows(ptr, col, num_cols=2.5)


@pytest.mark.parametrize(
    ('rowptr', 'col', 'message'),
    [
        ([0, 1], [2], r"'col' needs to lie in \[0, 2\) .*got 2 at position 0"),
        ([0, 2], [1, -1], r"'col' needs to lie in \[0, 2\) .*got -1 at position 1"),
        ([0, 2, 1], [0], "'rowptr' must not fall .*got 2 and then 1 in row 1"),
        ([1, 1], [0], r"'rowptr' needs to go from 0 to 1.*got 1 to 1"),
        ([0, 1], [0, 1], r"'rowptr' needs to go from 0 to 2.*got 0 to 1"),
        ([0, 3], [0, 1], r"'rowptr' needs to go from 0 to 2.*got 0 to 3"),
    ],
)
def test_rows_that_are_none_are_refused(rowptr, col, message):
    with pytest.raises(ValueError, match=message):
        SparseRows(torch.tensor(rowptr), torch.tensor(col), num_cols=2)


@pytest.mark.parametrize(
    ('row', 'col', 'message'),
    [
        ([0, 3], [0, 0], r"'row' needs to lie in \[0, 3\) .*got 3 at position 1"),
        ([-1, 0], [0, 0], r"'row' needs to lie in \[0, 3\) .*got -1 at position 0"),
        ([0, 1], [0, 4], r"'col' needs to lie in \[0, 4\) .*got 4 at position 1"),
        ([0, 1], [0], r"'row' and 'col' need the same shape .*\[2\] and \[1\]"),
    ],
)
def test_entries_out_of_range_are_refused(row, col, message):
    with pytest.raises(ValueError, match=message):
        SparseRows.from_coo(
            torch.tensor(row), torch.tensor(col), num_rows=3, num_cols=4
        )


def test_arguments_of_methods_are_checked(rows):
    for call, error, message in (
        (lambda: rows.index_select(torch.tensor([3])), ValueError, r'\[0, 3\).*got 3'),
        (lambda: rows.index_select(torch.tensor([-1])), ValueError, 'got -1 at posi'),
        (lambda: rows.index_select(torch.ones(3).bool()), TypeError, 'mask.nonzero'),
        (lambda: rows.index_select(torch.ones(1, 1).long()), ValueError, 'one dimens'),
        (
            lambda: rows.select_columns(torch.tensor([4])),
            ValueError,
            r'\[0, 4\).*got 4',
        ),
        (lambda: rows.select_columns(torch.tensor([1, 0, 1])), ValueError, 'got 1 aga'),
        (
            lambda: rows.with_value(torch.ones(2)),
            ValueError,
            r"'value' needs shape \[3",
        ),
        (lambda: rows.with_value(torch.ones(3).long()), TypeError, "'value' needs to"),
        (lambda: rows.row_sum(torch.ones(2, 3)), ValueError, r'shape \[3, \*\], one'),
        (lambda: rows.dot(torch.ones(3)), ValueError, r"'vector' needs shape \[4\]"),
        (lambda: rows.dot(torch.ones(4).long()), TypeError, "'vector' .*got 'torch.i"),
        (lambda: rows.dot_dense(torch.ones(4, 3)), ValueError, r'shape \[3, 4\]'),
        (lambda: rows.dot_dense(torch.ones(3, 4).long()), TypeError, "'other' needs"),
        (lambda: rows.matmul(torch.ones(4, 2).long()), TypeError, "'other' needs to"),
        (lambda: rows.to(dtype=torch.long), TypeError, "'dtype' needs to be a floati"),
        (
            lambda: SparseRows.from_coo(
                rows.row, rows.col, torch.ones(2), num_rows=3, num_cols=4
            ),
            ValueError,
            r"'value' needs shape \[3\], that of 'row'",
        ),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_products_compile_in_one_piece(rows, backend):
    def products(weight, vector):
        scaled = rows.with_value(rows.value * 2)
        few = scaled.index_select(torch.tensor([2, 0]))
        return (
            scaled.matmul(weight),
            scaled.row_sum(),
            scaled.dot(vector),
            scaled.dot_dense(vector.expand(3, -1)),
            segment_sum(scaled.value, scaled.rowptr),
            few.matmul(weight),
            scaled.t().matmul(weight[:3]),
            scaled.select_columns(torch.tensor([3, 0])).matmul(weight[:2]),
            SparseRows(rows.rowptr, rows.col, rows.value, num_cols=4).to_dense(),
        )

    torch._dynamo.reset()
    compiled = torch.compile(products, backend=backend, fullgraph=True)
    weight = torch.randn(4, 2, dtype=torch.double, requires_grad=True)
    vector = torch.randn(4, dtype=torch.double, requires_grad=True)
    grads = []
    for function in (products, compiled):
        out = function(weight, vector)
        total = sum(x.sum() for x in out)
        grads.append((*out, *torch.autograd.grad(total, [weight, vector])))
    for expected, actual in zip(*grads, strict=True):
        torch.testing.assert_close(actual, expected)


def test_no_product_looks_at_values_on_a_device(monkeypatch):
    # Of torch-scatter's kernels none is for the device `meta`.
    monkeypatch.setattr('torch_geometric.typing.WITH_TORCH_SCATTER', False)
    # Tensors on the device `meta` have no values: a look at one is an error.
    rowptr, col = (torch.zeros(n, dtype=torch.long, device='meta') for n in (4, 5))
    rows = SparseRows(rowptr, col, num_cols=6).to(dtype=torch.double)
    other = torch.rand(6, 2, device='meta', dtype=torch.double)
    assert rows.with_value(rows.value * 2).matmul(other).shape == (3, 2)
    vector = torch.rand(6, device='meta', dtype=torch.double)
    assert rows.dot(vector).shape == (3,)
    assert rows.dot_dense(vector.expand(3, -1)).shape == (3,)
    assert rows.to_dense().shape == (3, 6)
