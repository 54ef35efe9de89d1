import numpy as np
import pytest
import torch

from pyg_diffrec.data.social import find_opposites, read_ties


def test_opposites_are_found_by_position():
    edge_index = torch.tensor([[0, 2, 1, 1, 3], [1, 1, 0, 2, 0]])
    assert find_opposites(edge_index, 4).tolist() == [2, 3, 0, 1, -1]
    assert find_opposites(edge_index[:, :0], 4).tolist() == []


@pytest.mark.parametrize(
    ('text', 'kwargs'),
    [
        ('u7 u9\nu1 u7\nu9 u7\n', {}),
        ('u7\tu9\r\n\r\n  u1  u7\r\nu9 u7', {}),
        ('\ufeffu7, u9\n"u1",u7\nu9 ,u7\n', {'delimiter': ','}),
        ('# ties\nfrom,to\nu7,u9\nu1,u7\nu9,u7\n', {'delimiter': ',', 'skip_rows': 2}),
    ],
)
def test_ties_are_numbered_as_the_users_and_keep_their_order(tmp_path, text, kwargs):
    path = tmp_path / 'trust.txt'
    path.write_bytes(text.encode())
    edge_index = read_ties(path, ['u9', 'u1', 'u7'], **kwargs)
    assert edge_index.dtype == torch.long
    assert edge_index.is_contiguous()
    assert edge_index.tolist() == [[2, 1, 0], [0, 2, 2]]


def test_ids_may_be_numbers_or_hold_any_mark(tmp_path):
    path = tmp_path / 'trust.txt'
    path.write_text('10 9\n9 10\n9 9\n')
    # As text, '10' comes before '9'.
    edge_index = read_ties(path, torch.tensor([9, 10, 11]).numpy())
    assert edge_index.tolist() == [[1, 0, 0], [0, 1, 0]]
    path.write_text('a#1 b\n')
    assert read_ties(path, ['b', 'a#1']).tolist() == [[1], [0]]


def test_ids_are_those_of_a_table_of_interactions(tmp_path):
    path = tmp_path / 'trust.txt'
    path.write_text('x z\n')
    ids, user = np.unique(['z', 'x', 'z', 'y'], return_inverse=True)
    assert user.tolist() == [2, 0, 2, 1]
    assert read_ties(path, ids).tolist() == [[0], [2]]


def test_undirected_ties_are_there_once_in_each_direction(tmp_path):
    path = tmp_path / 'trust.txt'
    path.write_text('a b\nb a\nc a\nc a\n')
    edge_index = read_ties(path, ['a', 'b', 'c'], undirected=True)
    assert edge_index.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]


def test_many_rows(tmp_path):
    # More than NumPy reads at a time, with ids of more than one length.
    path = tmp_path / 'trust.txt'
    user = torch.arange(60000) % 12000
    rows = zip(user.tolist(), user.flip(0).tolist(), strict=True)
    path.write_text(''.join(f'{row} {col}\n' for row, col in rows))
    edge_index = read_ties(path, range(12000))
    assert torch.equal(edge_index, torch.stack([user, user.flip(0)]))


def test_unknown_users_are_named_or_dropped(tmp_path):
    path = tmp_path / 'trust.txt'
    path.write_text('a b\nq a\nb z\nz q\nb a\n')
    match = (
        r"trust.txt' names 2 users that are not in 'users', in 3 of 5 ties, e.g. "
        r"\['q', 'z'\]: add them, or drop these ties with unknown='drop'"
    )
    with pytest.raises(ValueError, match=match):
        read_ties(path, ['b', 'a'])
    assert read_ties(path, ['b', 'a'], unknown='drop').tolist() == [[1, 0], [0, 1]]
    assert read_ties(path, ['y'], unknown='drop').shape == (2, 0)


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        (b'a b\na\n', r'in every row.*got: .*from 2 to 1 at row 2\): set .delimiter'),
        (b'a b 1\nb a 1\n', 'needs two columns, .*2 rows of 3 columns .*=None'),
        (b'a,b\nb,a\n', 'needs two columns, .*2 rows of 1 columns .*=None'),
        (b'', 'at least one row .got 0 rows'),
        (b'\xe4 b\n', "UTF-8 text .*codec can't decode"),
    ],
)
def test_bad_files_are_named(tmp_path, text, match):
    path = tmp_path / 'trust.txt'
    path.write_bytes(text)
    with pytest.raises(ValueError, match=f'trust.txt.*{match}'):
        read_ties(path, ['a', 'b'])


def test_bad_arguments_are_named(tmp_path):
    path = tmp_path / 'trust.txt'
    path.write_text('a b\n')
    with pytest.raises(ValueError, match=r"\['error', 'drop'\] .got 'skip'"):
        read_ties(path, ['a', 'b'], unknown='skip')
    with pytest.raises(ValueError, match="'users' needs each id once .got '1' twice"):
        read_ties(path, [1, 2, '1'])
    with pytest.raises(ValueError, match=r"'users' needs .*got shape \[0\]"):
        read_ties(path, [])


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        ({'skip_rows': -1}, ValueError, "'skip_rows' needs to be at least 0"),
        ({'skip_rows': 1.0}, TypeError, "'skip_rows' needs to be a whole number"),
        ({'delimiter': 3}, TypeError, "'delimiter' needs to be a string"),
        ({'delimiter': ''}, TypeError, "'delimiter' needs to be a string"),
        ({'undirected': 'no'}, TypeError, "'undirected' needs to be a 'bool'"),
    ],
)
def test_arguments_of_other_types_are_refused(tmp_path, kwargs, error, match):
    path = tmp_path / 'trust.txt'
    path.write_text('a b\n')
    with pytest.raises(error, match=match):
        read_ties(path, ['a', 'b'], **kwargs)
