r"""How much faster DiffRec's reverse chain is in the hidden space than over all
items: same weights, same users, same top-K lists, one thread, one run.

    python benchmarks/micro/hidden_chain.py --data-root DATA --out FILE

Case `ml-1m` is the evaluation of DiffRec with the authors' hyper-parameters on
ml-1m_clean (40 steps, 2,810 items), with the weights of a bench run if --checkpoint
names its file. Case `catalogue` is a chain of 5 steps on 50,000 synthetic items.
Timed is what an evaluation does: all reverse steps, the decoding of scores, and the
top-20 without seen items; loading and metrics are not.
"""

import argparse
import statistics
import time
from itertools import pairwise
from pathlib import Path

import torch

from pyg_diffrec.bench.environment import write_measurement
from pyg_diffrec.data import interaction_rows
from pyg_diffrec.datasets import DiffRecDataset, SyntheticInteractions
from pyg_diffrec.models import DiffRec, preset
from pyg_diffrec.nn import keep_products
from pyg_diffrec.training import load_checkpoint
from pyg_diffrec.utils import masked_topk

K = 20
BATCH_SIZE = 400


@torch.no_grad()
@keep_products()  # For this run alone: the products count.
def top_lists(model, users, rows, path):
    model.eval()
    lists = []
    for chunk in users.split(BATCH_SIZE):
        history = rows.index_select(chunk)
        scores = model.score(chunk, history, path=path)
        lists.append(masked_topk(scores, K, exclude=history))
    return torch.cat([x for x, _ in lists]), torch.cat([x for _, x in lists])


def compare(name, model, rows, num_users, repeats):
    users = torch.arange(min(num_users, rows.num_rows))
    seconds, lists = {'dense': [], 'hidden': []}, {}
    for path in seconds:
        top_lists(model, users[:BATCH_SIZE], rows, path)  # Warm-up.
    for _ in range(repeats):
        for path, times in seconds.items():
            begin = time.perf_counter()
            lists[path] = top_lists(model, users, rows, path)
            times.append(time.perf_counter() - begin)
    (dense_score, dense_item), (hidden_score, hidden_item) = lists.values()
    error = (dense_score - hidden_score).abs().max() / dense_score.abs().max()
    model = model.double()
    few = users[:BATCH_SIZE]
    exact = [top_lists(model, few, rows, path)[1] for path in seconds]
    channels = model.denoiser.hidden_channels
    steps, width = model.diffusion.num_timesteps, channels[0]
    inner = sum(2 * a * b for a, b in pairwise(channels))  # In and back.
    # Multiply-adds per user; the product of the first and the last layer is made
    # once for all of them.
    decode = model.num_items * width
    dense = steps * (2 * decode + inner)
    hidden = steps * (width**2 + inner) + decode + decode * width / len(users)
    record = {
        'case': name,
        'model': repr(model),
        'users': len(users),
        'threads': torch.get_num_threads(),
        'median_ratio': statistics.median(
            a / b for a, b in zip(seconds['dense'], seconds['hidden'])
        ),
        'ratio_of_operations': dense / hidden,
        'seconds': seconds,
        'same_positions_float32': float((dense_item == hidden_item).double().mean()),
        'same_sets_float32': float(
            (dense_item.sort(1)[0] == hidden_item.sort(1)[0]).all(1).double().mean()
        ),
        'same_lists_float64': bool(torch.equal(*exact)),
        'largest_relative_score_difference': float(error),
    }
    return record


def ml_1m(args):
    dataset = DiffRecDataset(
        str(args.cache), 'ml-1m_clean', raw_dir=str(args.data_root / 'ml-1m_clean')
    )
    model = DiffRec.from_data(dataset[0], **preset('DiffRec', 'ml-1m_clean'))
    if args.checkpoint:
        first, *_ = load_checkpoint(args.checkpoint)['readings'].values()
        model.load_state_dict(first['best'])
    rows = interaction_rows(dataset[0])
    name = f'ml-1m, {"trained" if args.checkpoint else "fresh"} weights'
    return compare(name, model, rows, rows.num_rows, args.repeats)


def catalogue(args):
    data = SyntheticInteractions(2000, 50_000, interactions_per_user=50)[0]
    model = DiffRec.from_data(data, hidden_channels=[1000], num_timesteps=5)
    rows = interaction_rows(data)
    return compare('50,000 items', model, rows, 2000, args.repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, help='skips ml-1m if not given')
    parser.add_argument('--checkpoint', type=Path)
    parser.add_argument('--cache', type=Path, default=Path('bench-results/data'))
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = ([ml_1m] if args.data_root else []) + [catalogue]
    write_measurement({'cases': [case(args) for case in cases]}, args.out)


if __name__ == '__main__':
    main()
