r"""Peak memory of training DiffMM where users x items has 1e10 entries.

    python benchmarks/micro/diffmm_scale.py --out FILE

100,000 users, 100,000 items, 2 million synthetic interactions, two modalities of 64
features, denoisers of width 256 with pooled noise, batches of 1024. Each of the three
phases of an epoch runs over some batches; the graphs are generated for the users of as
many batches, and drawn for the others. Recorded is the peak resident memory of the
process in each phase over what it held before the model was built, the data that is,
and the losses, which have to be finite. Beside it stands the same with a quarter of the
users, each size in its own process, and what one dense matrix of users x items in
float32 would take.
"""

import argparse
import math
import multiprocessing
import time
from itertools import islice
from pathlib import Path

import torch

from pyg_diffrec.bench.environment import PeakMemory, write_measurement
from pyg_diffrec.datasets import SyntheticInteractions
from pyg_diffrec.models import DiffMM

MODALITIES = {'image': (16, 48), 'audio': (16, 48)}


def generate(model, num_batches):
    model.graphs.redraw()
    model.graphs.items.random_(model.num_items)
    users = torch.arange(num_batches * model.batch_size)
    rows = model.history.index_select(users)
    _, items = model.generator.generate(rows, model.rebuild_k)
    model.graphs.items[:, users] = items


def train(model, phase, num_batches):
    for batch in islice(phase.loader, num_batches):
        phase.optimizer.zero_grad()
        loss = getattr(model, phase.method)(batch)['total']
        loss.backward()
        phase.optimizer.step()
    if not math.isfinite(loss.item()):
        raise ValueError(f"The loss of '{phase.name}' is not finite (got {loss})")
    return loss.item()


def measure(num_users, num_items, interactions_per_user, num_batches):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = SyntheticInteractions(
        num_users,
        num_items,
        interactions_per_user=interactions_per_user,
        modalities=MODALITIES,
    )[0]
    with PeakMemory('cpu') as held:
        pass
    peaks, losses, seconds = {}, {}, {}
    with PeakMemory('cpu') as memory:
        model = DiffMM.from_data(data, hidden_channels=256, noise='pooled').train()
        phases = model.phases()
    peaks['model'] = memory.bytes
    for phase in phases:
        begin = time.perf_counter()
        with PeakMemory('cpu') as memory:
            if phase.optimizer is None:
                generate(model, num_batches)
            else:
                losses[phase.name] = train(model, phase, num_batches)
        peaks[phase.name] = memory.bytes
        seconds[phase.name] = time.perf_counter() - begin
    weights = sum(x.numel() for x in model.parameters())
    return {
        'users': num_users,
        'items': num_items,
        'interactions': data['user', 'interacts', 'item'].edge_index.size(1),
        'batches_per_phase': num_batches,
        'dense_gib': 4 * num_users * num_items / 2**30,
        # With their gradients and both averages of Adam.
        'weights_gib': 4 * 4 * weights / 2**30,
        'baseline_gib': held.bytes / 2**30,
        'peak_over_baseline_gib': {
            name: (peak - held.bytes) / 2**30 for name, peak in peaks.items()
        },
        'peak_source': memory.source,
        'losses': losses,
        'seconds': seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--users', type=int, default=100_000)
    parser.add_argument('--items', type=int, default=100_000)
    parser.add_argument('--interactions-per-user', type=int, default=20)
    parser.add_argument('--batches', type=int, default=3)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    sizes = {'all': args.users, 'quarter': args.users // 4}
    if args.batches * 1024 > sizes['quarter']:
        parser.error(f'--batches times 1024 exceeds a quarter of {args.users} users')
    record = {}
    for name, num_users in sizes.items():
        # A fresh process, which has no memory left from before.
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            rest = args.items, args.interactions_per_user, args.batches
            record[name] = pool.apply(measure, (num_users, *rest))
    write_measurement(record | {'threads': 1}, args.out)


if __name__ == '__main__':
    main()
