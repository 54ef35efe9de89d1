r"""DiffMM: multi-modal graph diffusion on a PyG graph, and the graphs it generates, as
edges for a plain PyG network.

    python examples/diff_mm.py --data-root DATA    (tiktok, fast preset)
    python examples/diff_mm.py --smoke             (synthetic, seconds)
"""

import argparse
from pathlib import Path

import torch
from torch_geometric.nn import LGConv

from pyg_diffrec.datasets import MultiModalDataset, SyntheticInteractions
from pyg_diffrec.evaluation import Protocol, evaluate
from pyg_diffrec.models import DiffMM, preset
from pyg_diffrec.training import fit


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, help='folder of tiktok')
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    if args.smoke:
        modalities = {'image': (8, 8), 'text': (4, 4)}
        data = SyntheticInteractions(200, 120, modalities=modalities)[0]
        model = DiffMM.from_data(data, hidden_channels=32, batch_size=1024)
        epochs = 5
    else:
        raw_dir = args.data_root and str(args.data_root / 'tiktok')
        data = MultiModalDataset('data', 'tiktok', raw_dir=raw_dir)[0]
        model = DiffMM.from_data(data, **preset('DiffMM', 'tiktok-fast'))
        epochs = 50
    print(model)

    fit(
        model,
        epochs=epochs,
        validate=lambda model: evaluate(model, data, 'val'),
        eval_every=5,
    )
    test = evaluate(model, data, 'test', ['Recall@20', 'NDCG@20'], Protocol())
    print('test', '  '.join(f'{name} {value:.4f}' for name, value in test.items()))
    print(
        'weights of modalities',
        {name: round(weight, 3) for name, weight in model.modality_weights.items()},
    )

    graph = model.generate_graphs(data)
    num_users = graph['user'].num_nodes
    x = torch.randn(num_users + graph['item'].num_nodes, 8)
    for name in model.modalities:
        user, item = graph['user', name, 'item'].edge_index
        edge_index = torch.stack([user, item + num_users])
        out = LGConv()(x, torch.cat([edge_index, edge_index.flip(0)], dim=1))
        print(f'{name}: {user.numel()} generated edges, convolved to {list(out.shape)}')


if __name__ == '__main__':
    main()
