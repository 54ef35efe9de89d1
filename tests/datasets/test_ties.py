import pytest
import torch

from pyg_diffrec.datasets._ties import sample_ties


def test_ties_leave_users_alone_who_are_alone_in_their_group():
    generator = torch.Generator().manual_seed(0)
    group = torch.tensor([0, 1, 1, 3, 1])
    edge_index, across = sample_ties(group, 3, 0, generator)
    # The three ties of the only group with more than one user.
    assert edge_index.tolist() == [[1, 1, 2, 2, 4, 4], [2, 4, 1, 4, 1, 2]]
    assert not across.any()


def test_ties_across_are_uniform_over_the_pairs_of_different_groups():
    group = torch.tensor([0, 0, 0, 1])
    count = torch.zeros(4, dtype=torch.long)
    for seed in range(3000):
        generator = torch.Generator().manual_seed(seed)
        edge_index, across = sample_ties(group, 0, 1, generator)
        assert across.tolist() == [True, True]
        count += torch.bincount(edge_index[0], minlength=4)
    assert int(count[3]) == 3000
    # A deviation of 1000 draws is 26.
    assert int((count[:3] - 1000).abs().max()) < 110


def test_ties_refuse_what_there_are_no_pairs_for():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r'only 1 of 2 ties inside of groups: lower'):
        sample_ties(torch.tensor([0, 0, 1]), 2, 0, generator)
    with pytest.raises(ValueError, match=r'only 2 of 3 ties across groups: lower'):
        sample_ties(torch.tensor([0, 0, 1]), 1, 3, generator)
