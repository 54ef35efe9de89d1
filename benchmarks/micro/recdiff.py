r"""How much faster RecDiff trains and is evaluated on ciao than the same formulas
written plainly: same weights, same data, one thread, one run.

    python benchmarks/micro/recdiff.py --data-root DATA --out FILE

Plain is what the authors' code does, in PyTorch alone: one sparse product of
`torch.sparse` (CSR, its faster layout) per relation and layer, on the whole graph and
for all nodes; negatives drawn interaction by interaction until one is unseen; one Adam
for embeddings and encoders and one for the denoiser; scores times a dense mask that is
filled user by user, `torch.topk`, and metrics user by user. It is spared what their
code does beside: loading batches pair by pair, and masks in double precision.

Timed is the CPU time of the process, since the machine may be shared. In a repeat both
sides run once, and ratios are medians over the repeats. Each part stands beside its
floor: the larger of its operations at the rate of a large matrix product and its bytes,
every operand once per use, at the rate of a copy of the item embeddings, both measured
in the same run. What is not timed on its own is `rest` in an epoch, and in an
evaluation `scores and top-K`, with the gathering of histories.
"""

import argparse
import copy
import statistics
import time
import warnings
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pyg_diffrec.bench.environment import write_measurement
from pyg_diffrec.data import interaction_rows, target_rows
from pyg_diffrec.datasets import SocialDataset
from pyg_diffrec.evaluation import Protocol, measure, rank
from pyg_diffrec.loader import EdgeBatch
from pyg_diffrec.models import RecDiff, preset

K = 20
METRICS = [f'Recall@{K}', f'NDCG@{K}']
TEST_BATCH_SIZE = 1024  # The authors'.


class Clock:
    """Adds up the CPU time of parts."""

    def __init__(self):
        self.parts = defaultdict(float)

    @contextmanager
    def __call__(self, part):
        begin = time.process_time()
        yield
        self.parts[part] += time.process_time() - begin

    @contextmanager
    def inside(self, *methods):
        """Times the methods `(object, name, part)` wherever they are called."""
        untimed = [getattr(owner, name) for owner, name, _ in methods]
        for (owner, name, part), method in zip(methods, untimed):
            setattr(owner, name, self._timed(method, part))
        yield
        for (owner, name, _), method in zip(methods, untimed):
            setattr(owner, name, method)

    def _timed(self, function, part):
        def call(*args, **kwargs):
            with self(part):
                return function(*args, **kwargs)

        return call


class Ours:
    def __init__(self, model, data):
        self.model, self.data = model, data
        (self.phase,) = model.phases()

    def epoch(self, clock):
        model, optimizer = self.model.train(), self.phase.optimizer
        parts = (
            (model.encoder, 'forward', 'encoders'),
            (model.social_encoder, 'forward', 'encoders'),
            (model.diffusion, 'training_losses', 'diffusion'),
            (self.phase.loader, 'collate_fn', 'negatives'),
        )
        with clock.inside(*parts):
            for batch in self.phase.loader:
                optimizer.zero_grad()
                loss = model.loss(batch)['total']
                with clock('backward'):
                    loss.backward()
                with clock('optimizer'):
                    optimizer.step()

    def evaluation(self, clock):
        model = self.model.eval()
        parts = (
            (model.encoder, 'forward', 'encoders'),
            (model.social_encoder, 'forward', 'encoders'),
            (model.diffusion, 'p_sample_loop', 'reverse chain'),
        )
        with clock.inside(*parts):
            users, items = rank(model, self.data, 'test', K)
        with clock('metrics'):
            return measure(items, users, self.data, 'test', METRICS)


def normalized(row, col, num_nodes, dtype):
    degrees = torch.bincount(row), torch.bincount(col)
    value = (degrees[0][row] * degrees[1][col]).to(dtype).rsqrt()
    size = (num_nodes, num_nodes)
    matrix = torch.sparse_coo_tensor(torch.stack([row, col]), value, size)
    return matrix.coalesce().to_sparse_csr()


class Plain:
    """The same weights as `model`, by other means."""

    def __init__(self, model, data):
        self.model = model
        self.num_users, self.num_items = model.num_users, model.num_items
        self.rng = np.random.default_rng(0)
        rows = interaction_rows(data)
        self.user, self.item = rows.row, rows.col
        self.pairs = set(zip(self.user.tolist(), self.item.tolist()))
        row, col = rows.row, rows.col + self.num_users
        dtype = model.user_embedding.weight.dtype
        self.graph = normalized(
            torch.cat([row, col]),
            torch.cat([col, row]),
            self.num_users + self.num_items,
            dtype,
        )
        source, target = data['user', 'trusts', 'user'].edge_index
        self.ties = normalized(target, source, self.num_users, dtype)
        self.optimizers = []
        for is_denoiser, lr in ((False, model.lr), (True, model.denoiser_lr)):
            params = [
                param
                for name, param in model.named_parameters()
                if name.startswith('denoiser.') == is_denoiser
            ]
            self.optimizers.append(torch.optim.Adam(params, lr=lr))
        protocol = Protocol()
        self.test_users = protocol.users(data, 'test')
        self.seen = protocol.seen_rows(data, 'test').to_scipy()
        targets = target_rows(data, 'test')
        ends = targets.rowptr[1:-1].tolist()
        self.targets = [x.tolist() for x in targets.col.tensor_split(ends)]

    def encode(self):
        model, n = self.model, self.num_users
        x = out = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
        for user_conv, item_conv in zip(
            model.encoder.user_convs, model.encoder.item_convs
        ):
            x = torch.cat([item_conv.lin(x[:n]), user_conv.lin(x[n:])])
            x = F.leaky_relu(torch.sparse.mm(self.graph, x), 0.5)
            out = out + F.normalize(x)
        x = social = model.user_embedding.weight
        for conv in model.social_encoder.convs:
            x = F.leaky_relu(torch.sparse.mm(self.ties, conv.lin(x)), 0.5)
            social = social + F.normalize(x)
        return out[:n], out[n:], social

    def loss(self, batch, clock, t=None, noise=None):
        model = self.model
        with clock('encoders'):
            user, item, social = self.encode()
        with clock('diffusion'):
            terms = model.diffusion.training_losses(
                model.denoiser, social[batch.user], t, noise
            )
        user = user[batch.user] + terms.x_start
        positive, negative = item[batch.positive], item[batch.negative]
        difference = (user * positive).sum(1) - (user * negative).sum(1)
        bpr = -F.logsigmoid(difference).sum() / model.batch_size
        square = user.norm() ** 2 + positive.norm() ** 2 + negative.norm() ** 2
        return terms.loss.mean() + bpr + model.l2 * square / model.batch_size

    def draw(self):
        out = []
        for user in self.user.tolist():
            item = self.rng.integers(self.num_items)
            while (user, item) in self.pairs:
                item = self.rng.integers(self.num_items)
            out.append(item)
        return torch.tensor(out)

    def epoch(self, clock):
        self.model.train()
        with clock('negatives'):
            negative = self.draw()
        for index in torch.randperm(len(negative)).split(self.model.batch_size):
            batch = EdgeBatch(self.user[index], self.item[index], negative[index])
            loss = self.loss(batch, clock)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            with clock('backward'):
                loss.backward()
            with clock('optimizer'):
                for optimizer in self.optimizers:
                    optimizer.step()

    @torch.no_grad()
    def evaluation(self, clock):
        model = self.model.eval()
        recall = ndcg = 0.0
        with clock('encoders'):
            user, item, social = self.encode()
        for users in self.test_users.split(TEST_BATCH_SIZE):
            with clock('reverse chain'):
                out = model.diffusion.p_sample_loop(model.denoiser, social[users])
            seen = [torch.from_numpy(self.seen[[u]].toarray()[0]) for u in users]
            seen = torch.stack(seen).to(out.dtype)
            scores = (user[users] + out) @ item.t() * (1 - seen) - 1e8 * seen
            items = scores.topk(K).indices.numpy()
            with clock('metrics'):
                for u, row in zip(users.tolist(), items):
                    parts = self.measure(row.tolist(), self.targets[u])
                    recall, ndcg = recall + parts[0], ndcg + parts[1]
        n = len(self.test_users)
        return {METRICS[0]: recall / n, METRICS[1]: ndcg / n}

    @staticmethod
    def measure(items, target):
        ideal = sum(1 / np.log2(i + 2) for i in range(min(len(target), K)))
        hits = [items.index(i) for i in target if i in items]
        return len(hits) / len(target), sum(1 / np.log2(i + 2) for i in hits) / ideal


def check(model, data):
    """The largest difference of loss and gradients in double precision, relative to
    the largest value."""
    model = copy.deepcopy(model).double().eval()  # Without dropout.
    plain = Plain(model, data)
    batch = next(iter(model.phases()[0].loader))
    t = torch.randint(model.diffusion.num_timesteps, batch.user.shape)
    noise = torch.randn(len(t), model.embedding_dim, dtype=torch.double)
    out = []
    for loss in (
        model.loss(batch, t, noise)['total'],
        plain.loss(batch, Clock(), t, noise),
    ):
        model.zero_grad()
        loss.backward()
        out.append([loss.detach(), *(param.grad for param in model.parameters())])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*out))


def rates(model):
    """Operations per second of a large matrix product, and bytes per second, read and
    written, of a copy of the item embeddings: the best of some."""
    a, b = torch.randn(2, 2048, 2048)
    x = model.item_embedding.weight.detach()
    y = torch.empty_like(x)
    best = []
    for function, size in (
        (lambda: a @ b, 2 * 2048**3),
        (lambda: y.copy_(x), 2 * x.nbytes),
    ):
        times = []
        for _ in range(20):
            begin = time.process_time()
            function()
            times.append(time.process_time() - begin)
        best.append(size / min(times))
    return best


def costs(model, data):
    """Operations and bytes of each part, in float32 and with int64 positions: those of
    the formulas, with every matrix on its shorter side."""
    c, users, items = model.embedding_dim, model.num_users, model.num_items
    rows = interaction_rows(data)
    num_ties = data['user', 'trusts', 'user'].edge_index.size(1)
    layers, social_layers = model.encoder.num_layers, model.social_encoder.num_layers
    code = model.denoiser.lin_embedding.in_features
    steps = model.diffusion.num_timesteps

    def encoders(asked, entries):
        # Entries and destinations of each product; of the last layer's items those
        # that are asked for. An entry costs its position, its weight and its source.
        products = [(rows.nnz, users)] * layers
        products += [(rows.nnz, items)] * (layers - 1) + [(entries, asked)]
        products += [(num_ties, users)] * social_layers
        sparse = sum(2 * c * n for n, _ in products)
        dense = 2 * c * c * users * len(products)
        moved = sum((8 + 4 + 4 * c) * n + 4 * c * out for n, out in products)
        return sparse, dense, moved

    batches = list(model.phases()[0].loader)
    asked = [torch.cat([b.positive, b.negative]).unique() for b in batches]
    degree = torch.bincount(rows.col, minlength=items)
    forward = [encoders(len(x), int(degree[x].sum())) for x in asked]
    sparse, dense, moved = (sum(x) for x in zip(*forward))
    pairs, pass_ = rows.nnz, 4 * c * rows.nnz  # Bytes of one vector per interaction.
    denoise = 2 * (2 * c * c + code * c + code * code)
    num_weights = sum(param.numel() for param in model.parameters())
    full = encoders(items, rows.nnz)
    test_users = len(Protocol().users(data, 'test'))
    scores = test_users * items
    return {
        'epoch': {
            'negatives': (0, 5 * 8 * pairs),
            'encoders': (sparse + dense, moved),
            'diffusion': (denoise * pairs, 5 * pass_),
            'backward': (
                sparse + 2 * dense + 2 * denoise * pairs,
                2 * moved + 10 * pass_,
            ),
            'optimizer': (0, len(batches) * 7 * 4 * num_weights),
            'rest': (4 * c * pairs, 2 * 3 * pass_),
        },
        'evaluation': {
            'encoders': (full[0] + full[1], full[2]),
            'reverse chain': (steps * users * 4 * c * c, steps * users * 2 * 4 * c),
            'metrics': (0, 2 * 8 * K * test_users),
            'scores and top-K': (2 * c * scores, 2 * 4 * scores),
        },
    }


def timed(function, remainder):
    clock = Clock()
    begin = time.process_time()
    function(clock)
    total = time.process_time() - begin
    clock.parts[remainder] = total - sum(clock.parts.values())
    return {**clock.parts, 'total': total}


def compare(ours, plain, cost, speed, repeats):
    sides, remainder = {'ours': ours, 'plain': plain}, list(cost)[-1]
    times = {side: [] for side in sides}
    for _ in range(repeats):
        for side, function in sides.items():
            times[side].append(timed(function, remainder))
    median = {
        side: {part: statistics.median(x[part] for x in runs) for part in runs[0]}
        for side, runs in times.items()
    }
    parts = {}
    for part, (operations, num_bytes) in cost.items():
        seconds = median['ours'][part]
        floor = max(operations / speed[0], num_bytes / speed[1])
        parts[part] = {
            'ratio': median['plain'][part] / seconds,
            'share_of_ours': seconds / median['ours']['total'],
            'floor_of_ours': floor / seconds,
            'operations': operations,
            'bytes': num_bytes,
        }
    seconds = {side: [x['total'] for x in runs] for side, runs in times.items()}
    ratios = [b / a for a, b in zip(*seconds.values())]
    return {
        'median_ratio': statistics.median(ratios),
        'ratios': ratios,
        'parts': parts,
        'seconds': seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, help='downloads ciao if not given')
    parser.add_argument('--cache', type=Path, default=Path('bench-results/data'))
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    warnings.filterwarnings('ignore', 'Sparse')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    raw_dir = args.data_root and str(args.data_root / 'ciao')
    data = SocialDataset(str(args.cache), 'ciao', raw_dir=raw_dir)[0]
    model = RecDiff.from_data(data, **preset('RecDiff', 'ciao'))
    difference = check(model, data)
    ours, plain = Ours(model, data), Plain(model, data)
    for _ in range(3):  # Warm-up, and weights that are no longer those of the start.
        ours.epoch(Clock())
        plain.epoch(Clock())
    metrics = [x.evaluation(Clock()) for x in (ours, plain)]
    speed, cost = rates(model), costs(model, data)
    result = {
        'model': repr(model),
        'largest_relative_difference': difference,
        'metrics': dict(zip(('ours', 'plain'), metrics)),
        'operations_per_second': speed[0],
        'bytes_per_second': speed[1],
    }
    for name in cost:
        functions = (getattr(side, name) for side in (ours, plain))
        result[name] = compare(*functions, cost[name], speed, args.repeats)
    write_measurement(result, args.out)


if __name__ == '__main__':
    main()
