"""What tests of several parts share: small graphs and rows in both forms."""

import torch
from torch_geometric.data import HeteroData

from pyg_diffrec.data import USER_ITEM
from pyg_diffrec.datasets import SyntheticInteractions
from pyg_diffrec.nn import AffineRows
from pyg_diffrec.utils import SparseRows

MULTI_MODAL = {'modalities': {'planted': 3}, 'embedding_dim': 8, 'batch_size': 64}
#: Arguments with which models are small.
SMALL = {
    'BM3': MULTI_MODAL,
    'DiffMM': {**MULTI_MODAL, 'hidden_channels': 8},
    'DiffNet': {'embedding_dim': 8, 'batch_size': 64},
    'DiffRec': {'hidden_channels': [8, 4], 'batch_size': 16},
    'EASE': {'l2': 5.0},
    'GiffCF': {'embedding_dim': 6, 'batch_size': 16},
    'IALS': {'embedding_dim': 8},
    'LATTICE': MULTI_MODAL,
    'LDiffRec': {'encoder_channels': [8]},
    'LightGCN': {'embedding_dim': 8, 'batch_size': 64},
    'MFBPR': {'embedding_dim': 8, 'batch_size': 64},
    'MHCN': {'embedding_dim': 8, 'batch_size': 64},
    'RecDiff': {'embedding_dim': 8, 'batch_size': 64},
    'VBPR': MULTI_MODAL,
}


def toy_data(num_users=60, num_items=40, **kwargs):
    kwargs = {'num_groups': 3, 'interactions_per_user': 12, **kwargs}
    return SyntheticInteractions(num_users, num_items, **kwargs)[0]


def full_data(*sizes, **kwargs):
    """A graph with all that any model asks for."""
    data = toy_data(*sizes, num_social=4, **kwargs)
    data['item'].embedding = data['item'].planted  # By which L-DiffRec clusters.
    data['item'].x_planted = data['item'].planted
    return data


def given_data(train, val, test, num_items):
    """A graph from one list of items per user and split."""
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = len(train), num_items
    edges = [
        (user, item, split)
        for split, lists in enumerate((train, val, test))
        for user, items in enumerate(lists)
        for item in items
    ]
    user, item, split = torch.tensor(edges).t()
    data[USER_ITEM].edge_index = torch.stack([user, item])
    for index, name in enumerate(('train', 'val', 'test')):
        data[USER_ITEM][f'{name}_mask'] = split == index
    data.name = data.roles = 'given'
    return data


def as_form(x, form):
    """Dense rows as they are, or as affine rows that were never dense."""
    if form == 'dense':
        return x
    row, col = x.nonzero().t()
    rows = SparseRows.from_coo(
        row, col, x[row, col], num_rows=x.size(0), num_cols=x.size(1)
    )
    return AffineRows(rows)
