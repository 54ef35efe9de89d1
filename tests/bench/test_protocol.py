"""What a model needs to be trained, evaluated and run in a bench, and no more."""

import re
from pathlib import Path

import torch

from pyg_diffrec import models
from pyg_diffrec.bench import parse_suite, run_suite
from pyg_diffrec.data import interaction_rows
from pyg_diffrec.loader import RowLoader
from pyg_diffrec.typing import Phase

PAGE = Path(__file__).parents[2] / 'docs' / 'architecture.md'


class Bare(torch.nn.Module):
    """Learns how popular an item is."""

    deterministic = False

    def __init__(self, num_items, rows, lr=0.1, sign=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_items))
        self.rows, self.lr, self.sign = rows, lr, sign

    @classmethod
    def from_data(cls, data, **kwargs):
        return cls(data['item'].num_nodes, interaction_rows(data, 'train'), **kwargs)

    @classmethod
    def scoring_arguments(cls, args):
        return ['sign']

    def rescored(self, sign=1.0):
        out = object.__new__(Bare)
        out.__dict__ = {**self.__dict__, 'sign': sign}
        return out

    def phases(self):
        loader = RowLoader(self.rows, 20, shuffle=True)
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [Phase('popularity', loader, optimizer)]

    def loss(self, batch):
        return {'total': (self.weight - batch.rows.to_dense()).square().mean()}

    def score(self, users, history):
        return self.sign * self.weight.expand(len(users), -1)


def members():
    """The members that the page names in its table."""
    _, _, text = PAGE.read_text().partition('## The model protocol')
    table = text.split('\n\n')[2]
    return set(re.findall(r'^\| `(?:Model\.)?(\w+)', table, re.MULTILINE))


def test_the_page_names_what_a_model_needs_and_no_more():
    own = {name for name in vars(Bare) if not name.startswith('_')}
    assert members() == own


def test_a_bench_needs_no_more_than_the_page_names(tmp_path, monkeypatch):
    monkeypatch.setattr(models, 'MFBPR', Bare)
    suite = parse_suite(
        {
            'title': 'Bare',
            'seeds': [1, 2],
            'metric': 'Recall@5',
            'metrics': ['Recall@5'],
            'training': {'epochs': 6, 'eval_every': 2},
            'datasets': [{'name': 'synthetic', 'num_users': 60, 'num_items': 50}],
            'models': [
                {'name': 'MFBPR', 'lr': 0.1},
                {'name': 'MFBPR', 'lr': 0.1, 'sign': -1.0, 'label': 'unpopular'},
                {'name': 'MostPopular'},
            ],
        },
        'bare',
    )
    records, failures = run_suite(
        suite, tmp_path, progress=False, echo=lambda line: None
    )
    assert failures == []
    recall = {(r['label'], r['seed']): r['test']['train']['Recall@5'] for r in records}
    assert len(recall) == 5
    for seed in (1, 2):
        assert recall['MFBPR', seed] > recall['unpopular', seed]
        assert recall['MFBPR', seed] > 0.5 * recall['MostPopular', 1]
    trained = [r['trained_with'] for r in records if r['label'] == 'unpopular']
    assert all(trained)
