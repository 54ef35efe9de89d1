"""The reference values of DiffMM as encoder, inputs and graphs."""

import pytest
import torch

from pyg_diffrec.nn.encoders.multi_modal import MultiModalEncoder
from pyg_diffrec.utils import SparseRows
from pyg_diffrec.utils.self_loop_adj import SelfLoopAdj

# How the authors name the projections of up to three modalities, and which are linear.
NAMES = ['image', 'text', 'audio']
LINEAR = [[], NAMES, ['text']]
CASES = [(m, trans) for m in (2, 3) for trans in range(3) if (m, trans) != (3, 2)]

cases = pytest.mark.parametrize(('m', 'trans'), CASES)


class Case:
    """A case of reference values: its encoder, inputs and graphs."""

    def __init__(self, golden, m, trans):
        self.values, self.prefix, self.m = (
            golden('diffmm_model'),
            f'm{m}_trans{trans}_',
            m,
        )
        num_users, num_items, channels, num_layers = self['shape'].tolist()
        norm_weight, graph_weight, self.temperature = self[
            'hyper_ris_lambda_adjlambda_temp'
        ].tolist()
        self.names = NAMES[:m]
        self.projections = [
            'linear' if name in LINEAR[trans] else 'matrix' for name in self.names
        ]
        self.encoder = MultiModalEncoder(
            self['feat_dims'].tolist(),
            channels,
            self.projections,
            num_layers,
            graph_weight,
            norm_weight,
        ).double()
        self.load(self.encoder)
        self.user, self.item = self['w_uEmbeds'], self['w_iEmbeds']
        self.x = [self[f'in_feat{i}'] for i in range(m)]
        row, col = self['in_R'].nonzero().t()
        size = {'num_rows': num_users, 'num_cols': num_items}
        self.rows = SparseRows.from_coo(row, col, **size)
        self.adj = SelfLoopAdj(self.rows, torch.double)
        rebuilt = [self[f'in_rebuilt_item_per_user{i}'] for i in range(m)]
        self.rebuilt = torch.stack(rebuilt).unsqueeze(2)
        user = torch.arange(num_users)
        self.graphs = [
            SelfLoopAdj(SparseRows.from_coo(user, item, **size), torch.double)
            for item in rebuilt
        ]

    def __getitem__(self, key):
        return self.values[self.prefix + key]

    def load(self, encoder):
        with torch.no_grad():
            encoder.logits.copy_(self['w_modal_weight'])
            for name, part, kind in zip(self.names, encoder.encoders, self.projections):
                if kind == 'linear':
                    part.lin.weight.copy_(self[f'w_{name}_trans.weight'])
                    part.lin.bias.copy_(self[f'w_{name}_trans.bias'])
                else:
                    part.lin.weight.copy_(self[f'w_{name}_trans'].t())
