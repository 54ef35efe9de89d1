r"""Peak memory of an epoch of L-DiffRec where users x items has 1e10 entries.

    python benchmarks/micro/l_diffrec_scale.py --out FILE

100,000 users, 100,000 items, 5 million synthetic interactions, two clusters, latent
size 300, batches of 400 users. Recorded is the peak resident memory of the process over
the epoch, generation of the data excluded, and the loss, which has to be finite.
"""

import argparse
import time
from pathlib import Path

import torch

from pyg_diffrec.bench.environment import PeakMemory, write_measurement
from pyg_diffrec.datasets import SyntheticInteractions
from pyg_diffrec.models import LDiffRec
from pyg_diffrec.training import fit


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--users', type=int, default=100_000)
    parser.add_argument('--items', type=int, default=100_000)
    parser.add_argument('--interactions-per-user', type=int, default=50)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    data = SyntheticInteractions(
        args.users, args.items, interactions_per_user=args.interactions_per_user
    )[0]
    torch.manual_seed(0)
    planted = data['item'].planted
    group = planted / planted.sum(1, keepdim=True)
    model = LDiffRec.from_data(data, item_embedding=group)
    begin = time.perf_counter()
    with PeakMemory('cpu') as memory:
        result = fit(model, epochs=1, progress=False)
        lists = model.recommend(range(1000), k=20)
    record = {
        'users': args.users,
        'items': args.items,
        'interactions': data['user', 'interacts', 'item'].edge_index.size(1),
        'items_per_cluster': model.vae.sizes,
        'peak_gib': memory.bytes / 2**30,
        'peak_source': memory.source,
        'loss': result.curve[-1]['loss/total'],
        'users_recommended_to': len(lists.item),
        'seconds': time.perf_counter() - begin,
    }
    write_measurement(record, args.out)


if __name__ == '__main__':
    main()
