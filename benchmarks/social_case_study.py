r"""Does RecDiff tell true ties from fake ones? On ciao, where a share of the ties gave
way to random ones, the similarity of the two users of a tie by their social embeddings.

    python benchmarks/social_case_study.py --data-root DATA --out FILE.json

RecDiff is trained with its preset for ciao and chosen on validation Recall@20; the test
split is not looked at. Embeddings are compared at four stages:

    untrained       of the social encoder with its first, random weights
    encoded         of the trained social encoder: what the diffusion starts from
    denoised        after the reverse chain: what is scored
    no diffusion    of the social encoder of a RecDiff trained without diffusion

Recorded, in double precision, per stage: the distance 1 - cosine of users linked by
true and by fake ties, as quantiles; the area under the ROC curve of telling them apart
by it, 0.5 being chance; and the variation, the mean square of what embeddings have
beside the mean of all, over the mean square of embeddings. True ties join users with
many ties, fake ones any two: `degree_auc` is the area under the curve of the product of
the numbers of ties of both users, which needs no embeddings.

A plot, of the distances of the first seed and of all areas, comes beside FILE.json.
"""

import argparse
import copy
import os
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from scipy.stats import mannwhitneyu

from pyg_diffrec.bench.environment import write_measurement
from pyg_diffrec.datasets import SocialDataset
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import RecDiff, preset
from pyg_diffrec.training import fit
from pyg_diffrec.transforms import RewireSocialEdges
from pyg_diffrec.utils.propagation import BipartiteAdj

STAGES = ('untrained', 'encoded', 'denoised', 'no diffusion')
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def auc(score, fake_mask):
    """How often a fake tie scores higher than a true one, equal scores counted half."""
    true, fake = score[~fake_mask], score[fake_mask]
    return mannwhitneyu(fake, true).statistic / (len(fake) * len(true))


@torch.no_grad()
def embeddings(model):
    """Social embeddings before and after denoising."""
    model = copy.deepcopy(model).double().eval()
    ties = BipartiteAdj(model.ties, torch.double)
    encoded = model.social_encoder(model.user_embedding.weight, ties)
    return encoded, model.social_embeddings()


def describe(x, ties):
    unit = F.normalize(x)
    left, right = ties.edge_index
    distance = (unit[left] - unit[right]).square().sum(1) / 2  # 1 - cosine, exactly.
    groups = {'true': distance[~ties.fake_mask], 'fake': distance[ties.fake_mask]}
    quantiles = torch.tensor(QUANTILES, dtype=x.dtype)
    return {
        'auc': auc(distance, ties.fake_mask),
        'variation': float((x - x.mean(0)).square().sum() / x.square().sum()),
        'distance': {k: v.quantile(quantiles).tolist() for k, v in groups.items()},
    }


def train(data, denoising, seed, epochs):
    """Social embeddings of three stages, and the epoch they were chosen at."""
    torch.manual_seed(seed)
    model = RecDiff.from_data(data, **preset('RecDiff', 'ciao'), denoising=denoising)
    untrained, _ = embeddings(model)
    result = fit(
        model,
        epochs=epochs,
        validate=lambda model: evaluate(model, data, 'val'),
        patience=None,
        progress=False,
    )
    chosen = {'epoch': result.best_epoch, 'val': result.best_metric}
    return (untrained, *embeddings(model)), chosen


def run(data, seed, epochs):
    stages, chosen = train(data, 'diffusion', seed, epochs)
    (_, plain, _), chosen_plain = train(data, 'none', seed, epochs)
    ties = data['user', 'trusts', 'user']
    degree = torch.bincount(ties.edge_index.view(-1))[ties.edge_index]
    return {
        'degree_auc': auc(-degree.prod(0), ties.fake_mask),
        'stages': {k: describe(x, ties) for k, x in zip(STAGES, (*stages, plain))},
        'chosen': {'diffusion': chosen, 'no diffusion': chosen_plain},
    }


def plot(runs, path):
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    shares = {run['rewired_share']: [] for run in runs}
    for run in runs:
        shares[run['rewired_share']].append(run)
    figure, axes = plt.subplots(
        1, len(shares) + 1, figsize=(4.5 * len(shares) + 4.5, 4), layout='constrained'
    )
    for (share, found), panel in zip(shares.items(), axes):
        for kind, color, shift in (
            ('true', 'tab:blue', -0.2),
            ('fake', 'tab:orange', 0.2),
        ):
            levels = [found[0]['stages'][stage]['distance'][kind] for stage in STAGES]
            names = ('whislo', 'q1', 'med', 'q3', 'whishi')
            drawn = panel.bxp(
                [dict(zip(names, level)) for level in levels],
                positions=[i + shift for i in range(len(STAGES))],
                widths=0.3,
                showfliers=False,
                patch_artist=True,
                boxprops={'facecolor': color, 'alpha': 0.6},
                medianprops={'color': 'black'},
            )
            drawn['boxes'][0].set_label(f'{kind} ties')
        panel.set_yscale('log')
        panel.set_title(f'{share:.0%} of ties fake, seed {found[0]["seed"]}')
        panel.set_ylabel('1 - cosine of linked users')
        panel.legend()
    for i, (share, found) in enumerate(shares.items()):
        color = f'C{i + 2}'
        place = [j + 0.15 * (i - (len(shares) - 1) / 2) for j in range(len(STAGES))]
        for run in found:
            values = [run['stages'][stage]['auc'] for stage in STAGES]
            (points,) = axes[-1].plot(place, values, 'o', color=color, alpha=0.7)
        points.set_label(f'{share:.0%} fake')
        level = sum(run['degree_auc'] for run in found) / len(found)
        label = f'{share:.0%} fake, by degrees'
        axes[-1].axhline(level, color=color, linestyle='--', label=label)
    axes[-1].axhline(0.5, color='gray', linestyle=':', label='chance')
    axes[-1].set_title('true against fake ties')
    axes[-1].set_ylabel('area under the ROC curve')
    axes[-1].legend()
    for panel in axes:
        panel.set_xlim(-0.6, len(STAGES) - 0.4)
        panel.set_xticks(range(len(STAGES)), STAGES)
    part = path.with_suffix('.part')
    figure.savefig(part, dpi=120, format='png')
    os.replace(part, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, help='downloads ciao if not given')
    parser.add_argument('--cache', type=Path, default=Path('bench-results/data'))
    parser.add_argument('--shares', type=float, nargs='+', default=[0.2, 0.5])
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--epochs', type=int, default=150)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    raw_dir = args.data_root and str(args.data_root / 'ciao')
    dataset = SocialDataset(str(args.cache), 'ciao', raw_dir=raw_dir)
    result = {'epochs': args.epochs, 'quantiles': QUANTILES, 'runs': []}
    for share in args.shares:
        for seed in args.seeds:
            data = RewireSocialEdges(share, seed)(dataset[0])
            record = {'rewired_share': share, 'seed': seed}
            result['runs'].append(record | run(data, seed, args.epochs))
            write_measurement(result, args.out)
    plot(result['runs'], args.out.with_suffix('.png'))


if __name__ == '__main__':
    main()
