import pytest


@pytest.fixture
def make_record():
    """The record of a run, as results.jsonl holds it, with some of it changed."""

    def make(key='a', **changes):
        record = {
            'key': key,
            'model': 'EASE',
            'hyper_parameters': {'l2': 5.0},
            'grid': {},
            'dataset': {'name': 'synthetic'},
            'seed': 1,
            'metric': 'Recall@5',
            'metrics': ['Recall@5', 'NDCG@5', 'AveragePopularity@5'],
            'protocols': [
                {
                    'history': 'train',
                    'empty_users': 'skip',
                    'allow_future_history': False,
                }
            ],
            'training': {'epochs': 9, 'eval_every': 1, 'patience': 3},
            'suite': 's',
            'label': 'EASE',
            'chosen': {'l2': 5.0},
            'tried': [],
            'protocol': {'train': 'all items ranked'},
            'selected_epoch': 2,
            'num_epochs': 3,
            'validation': {'Recall@5': 0.3, 'NDCG@5': 0.2, 'AveragePopularity@5': 7.0},
            'test': {
                'train': {'Recall@5': 0.2, 'NDCG@5': 0.1, 'AveragePopularity@5': 6.0}
            },
            'curve': [{'epoch': i, 'Recall@5': 0.1 * i} for i in (1, 2, 3)],
            'deterministic': False,
            'seconds_per_epoch': 2.0,
            'seconds_per_evaluation': 1.0,
            'seconds_total': 9.0,
            'trained_with': [],
            'peak_memory_bytes': 2**20,
            'peak_memory_source': 'VmHWM',
            'device': 'cpu',
            'threads': 1,
            'versions': {'torch': '2.13'},
            'commit': None,
            'date': '2026-01-01T00:00:00+00:00',
        }
        return {**record, **changes}

    return make
