r"""How much faster DiffMM trains on tiktok, with images and audio, than the same
formulas written plainly: same weights, same data, one thread, one run.

    python benchmarks/micro/diffmm.py --data-root DATA --out FILE

Plain is what the authors' code does, in PyTorch alone. Rows are dense in the denoisers,
their losses and every step of the reverse chain, noise and dropout are drawn per
modality, edges of generated graphs are listed user by user. Each modality has its own
propagation, one product of `torch.sparse` per graph and layer (COO; with its backward
pass CSR takes as long). Both variants of the contrast are computed, of which one is in
the loss, with all products of a batch at once. Negatives are drawn interaction by
interaction, and each network has its own Adam. It is spared what their code does
beside: loading batches row by row and pair by pair.

Timed is the CPU time of the process, since the machine may be shared. In a repeat each
side runs the three phases of an epoch once, and ratios are medians over the repeats.
The graphs are generated for all users. Of the two other phases `--batches` batches are
timed and scaled to an epoch. `pooled diffusion` is that of the preset `tiktok-fast`
(width 256, noise from a pool) against plain diffusion as it is (width 1000, dense
noise): other hyper-parameters, not the same result.

Each part stands beside its floor: the largest of its operations at the rate of a large
matrix product, its bytes, every operand once per use, at the rate of a copy of the item
embeddings, and its random numbers at the rate of `torch.randn`, all measured in the
same run. What is not timed on its own is `rest`. Our `contrast` takes the gradients of
its products along, the plain one leaves them to `backward`.
"""

import argparse
import copy
import statistics
import time
import warnings
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pyg_diffrec.bench.environment import write_measurement
from pyg_diffrec.datasets import MultiModalDataset
from pyg_diffrec.models import DiffMM, diff_mm, modality_graph_diffusion, preset

MODALITIES = ['image', 'audio']
PHASES = ['diffusion', 'graphs', 'pairs']


class Clock:
    """Adds up the CPU time of parts. A part within another is not counted twice."""

    def __init__(self):
        self.parts = defaultdict(float)
        self.within = 0.0

    @contextmanager
    def __call__(self, part):
        outer, self.within = self.within, 0.0
        begin = time.process_time()
        yield
        total = time.process_time() - begin
        self.parts[part] += total - self.within
        self.within = outer + total

    @contextmanager
    def inside(self, *functions):
        """Times the functions `(owner, name, part)` wherever they are called."""
        with ExitStack() as stack:
            for owner, name, part in functions:
                untimed = getattr(owner, name)
                stack.callback(setattr, owner, name, untimed)
                setattr(owner, name, self._timed(untimed, part))
            yield

    def _timed(self, function, part):
        def call(*args, **kwargs):
            with self(part):
                return function(*args, **kwargs)

        return call


class Ours:
    def __init__(self, model, num_batches):
        self.model, self.num_batches = model, num_batches
        self.phases = {phase.name: phase for phase in model.phases()}

    def diffusion(self, clock):
        generator = self.model.generator
        parts = [
            (generator, '_noise_rows', 'noise'),
            (generator, '_drop', 'noise'),
            (generator, 'losses', 'errors'),
            *((x, 'forward', 'denoisers') for x in generator.denoisers),
        ]
        self._train('diffusion', clock, parts)

    def graphs(self, clock):
        model, generator = self.model.train(), self.model.generator
        parts = [
            (generator.diffusion, 'p_sample_loop', 'chain'),
            (modality_graph_diffusion, 'masked_topk', 'top-K'),
            *((x.readout, 'forward', 'scores') for x in generator.denoisers),
        ]
        (everyone,) = self.phases['graphs'].loader
        with clock.inside(*parts):
            model.rebuild(everyone)
            model._graphs()  # The first batch of pairs would build them.
        return model.graphs.items

    def pairs(self, clock):
        encoder, loader = self.model.encoder, self.phases['pairs'].loader
        parts = [
            (encoder, 'features', 'embeddings'),
            (encoder, 'forward', 'embeddings'),
            (encoder, 'views', 'views'),
            (diff_mm, 'node_contrast_loss', 'contrast'),
            (loader, 'collate_fn', 'negatives'),
        ]
        self._train('pairs', clock, parts)

    def _train(self, name, clock, parts):
        phase = self.phases[name]
        loss = getattr(self.model.train(), phase.method)
        with clock.inside(*parts):
            for batch in islice(phase.loader, self.num_batches):
                phase.optimizer.zero_grad()
                total = loss(batch)['total']
                with clock('backward'):
                    total.backward()
                with clock('optimizer'):
                    phase.optimizer.step()


class Plain:
    """The same weights as `model`, by other means."""

    def __init__(self, model, num_batches):
        self.model, self.num_batches = model, num_batches
        self.num_users, self.num_items = model.num_users, model.num_items
        self.rng = np.random.default_rng(0)
        history = model.history
        self.user, self.item = history.row, history.col
        self.pairs_seen = set(zip(self.user.tolist(), self.item.tolist()))
        self.dtype = model.item_embedding.weight.dtype
        self.rows = history.to(dtype=self.dtype).to_dense()
        self.adj = self.normalized(self.user, self.item)
        self.modality_adjs = None
        self.features, _ = model.item_features()
        encoder = model.encoder
        groups = [x.parameters() for x in model.generator.denoisers]
        self.optimizers = [torch.optim.Adam(x, lr=model.denoiser_lr) for x in groups]
        own = [*model.learned_tables(), *encoder.parameters()]
        self.optimizer = torch.optim.Adam(own, lr=model.lr)

    def normalized(self, user, item, dropout=0.0):
        n = self.num_users + self.num_items
        loop, item = torch.arange(n), item + self.num_users
        index = torch.stack(
            [torch.cat([user, item, loop]), torch.cat([item, user, loop])]
        )
        scale = torch.bincount(index[0]).to(self.dtype).rsqrt()
        value = scale[index[0]] * scale[index[1]]
        if dropout > 0:
            kept = torch.rand(len(value)) >= dropout
            index, value = index[:, kept], value[kept] / (1 - dropout)
        return torch.sparse_coo_tensor(index, value, (n, n)).coalesce()

    def diffusion_loss(self, users, clock, t=None, noise=None):
        model, generator = self.model, self.model.generator
        diffusion, losses = generator.diffusion, []
        x = self.rows[users]
        for denoiser, encoder, feature in zip(
            generator.denoisers, model.encoder.encoders, self.features
        ):
            steps, draw = t, noise
            if steps is None:
                steps = torch.randint(diffusion.num_timesteps, (len(x),))
            with clock('noise'):
                draw = torch.randn_like(x) if draw is None else draw
                seen = diffusion.q_sample(x, steps, draw)
                seen = F.dropout(seen, generator.dropout, generator.training)
            with clock('denoisers'):
                out = denoiser(seen, steps)
            with clock('errors'):
                weight = diffusion.weights[steps].to(x.dtype)
                losses.append(((x - out).square().mean(1) * weight).mean())
                signal = out @ encoder(feature).detach()
                signal = signal - x @ model.item_embedding.weight.detach()
                losses.append(model.signal * signal.square().mean(1).mean())
        return torch.stack(losses).sum()

    def diffusion(self, clock):
        self.model.train()
        batches = torch.randperm(self.num_users).split(self.model.batch_size)
        for users in batches[: self.num_batches]:
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            loss = self.diffusion_loss(users, clock)
            with clock('backward'):
                loss.backward()
            with clock('optimizer'):
                for optimizer in self.optimizers:
                    optimizer.step()

    @torch.no_grad()
    def generate(self, users, clock):
        generator, k = self.model.generator, self.model.rebuild_k
        edges = [([], []) for _ in MODALITIES]
        for batch in users.split(self.model.batch_size):
            x = self.rows[batch]
            for denoiser, (user, item) in zip(generator.denoisers, edges):
                with clock('chain'):
                    out = generator.diffusion.p_sample_loop(denoiser, x)
                with clock('top-K'):
                    top = out.topk(k).indices
                for i in range(len(batch)):
                    for j in range(k):
                        user.append(int(batch[i]))
                        item.append(int(top[i][j]))
        return torch.tensor(edges)  # [M, 2, U * k]

    def graphs(self, clock):
        self.model.train()
        edges = self.generate(torch.arange(self.num_users), clock)
        dropout = self.model.graphs.edge_dropout
        self.modality_adjs = [self.normalized(*x, dropout) for x in edges]
        return edges[:, 1].view(len(edges), self.num_users, -1)

    def embeddings(self):
        model, encoder, n = self.model, self.model.encoder, self.num_users
        user, item = model.learned_tables()
        start, out = torch.cat([user, item]), 0
        for w, part, x, adj in zip(
            encoder.logits.softmax(0),
            encoder.encoders,
            self.features,
            self.modality_adjs,
        ):
            feature = F.normalize(part(x))
            x = torch.sparse.mm(self.adj, torch.cat([user, feature]))
            x = x + torch.sparse.mm(self.adj, torch.cat([x[:n], item]))
            x = x + encoder.graph_weight * torch.sparse.mm(adj, start)
            out = out + w * x
        return self.propagate(out) + encoder.norm_weight * F.normalize(out)

    def views(self):
        out = []
        for part, x, adj in zip(
            self.model.encoder.encoders, self.features, self.modality_adjs
        ):
            x = torch.cat([self.model.user_embedding.weight, F.normalize(part(x))])
            out.append(self.propagate(torch.sparse.mm(adj, x)))
        return out

    def propagate(self, x):
        out = x
        for _ in range(self.model.encoder.num_layers):
            x = torch.sparse.mm(self.adj, x)
            out = out + x
        return out

    def contrast(self, first, second, batch):
        out, n = 0, self.num_users
        for x, y, node in (
            (first[:n], second[:n], batch[0]),
            (first[n:], second[n:], batch[1]),
        ):
            x, y = F.normalize(x), F.normalize(y)
            x = x[node]
            positive = ((x * y[node]).sum(1) / self.model.temperature).exp()
            total = (x @ y.t() / self.model.temperature).exp().sum(1)
            out = out - (positive / total).log().mean()
        return out

    def loss(self, batch, clock):
        model, n = self.model, self.num_users
        with clock('embeddings'):
            out = self.embeddings()
        user, positive, negative = batch
        anchor = out[user]
        difference = (anchor * out[n + positive]).sum(1)
        difference = difference - (anchor * out[n + negative]).sum(1)
        bpr = -F.logsigmoid(difference).sum() / model.batch_size
        l2 = sum(table.norm() ** 2 for table in model.learned_tables())
        with clock('views'):
            first, second = self.views()
        with clock('contrast'):
            self.contrast(first, second, batch)  # Computed, and not used.
            contrast = sum(self.contrast(out, view, batch) for view in (first, second))
        return bpr + model.l2 * l2 + model.contrast * contrast

    def draw(self, users):
        out = []
        for user in users.tolist():
            item = self.rng.integers(self.num_items)
            while (user, item) in self.pairs_seen:
                item = self.rng.integers(self.num_items)
            out.append(item)
        return torch.tensor(out)

    def pairs(self, clock):
        self.model.train()
        batches = torch.randperm(len(self.user)).split(self.model.batch_size)
        for index in batches[: self.num_batches]:
            user = self.user[index]
            with clock('negatives'):
                negative = self.draw(user)
            self.optimizer.zero_grad()
            loss = self.loss((user, self.item[index], negative), clock)
            with clock('backward'):
                loss.backward()
            with clock('optimizer'):
                self.optimizer.step()


def difference(ours, plain, weights):
    """The largest difference of a loss and its gradients, relative to the largest
    value."""
    out = []
    for loss in (ours, plain):
        for weight in weights:
            weight.grad = None
        total = loss()
        total.backward()
        out.append([total.detach(), *(weight.grad for weight in weights)])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*out))


def check(model):
    """Whether both sides compute the same in double precision, without dropout: the
    differences of losses with gradients, and the share of equal edges of a batch."""
    model = copy.deepcopy(model).double().eval()
    model.fit_features(dict(zip(model.modalities, model.item_features()[0])))
    plain, clock = Plain(model, 1), Clock()
    generator, users = model.generator, torch.randperm(model.num_users)[:256]
    rows = model.history.index_select(users).to(dtype=torch.double)
    t = torch.randint(generator.diffusion.num_timesteps, users.shape)
    noise = torch.randn(len(t), model.num_items, dtype=torch.double)

    def diffusion_loss():
        with torch.no_grad():
            features = model.encoder.project(*model.item_features())
        item = model.item_embedding.weight.detach()
        terms = generator.losses(rows, features, item, t, noise)
        return sum(x.diffusion.mean() + model.signal * x.signal.mean() for x in terms)

    _, items = generator.generate(rows, model.rebuild_k)
    edges = plain.generate(users, clock)[:, 1].view_as(items)
    model.graphs.items.random_(model.num_items)
    user = torch.arange(model.num_users).repeat_interleave(model.rebuild_k)
    plain.modality_adjs = [
        plain.normalized(user, x.view(-1)) for x in model.graphs.items
    ]
    batch = next(iter(model.phases()[-1].loader))
    return {
        'diffusion_loss': difference(
            diffusion_loss,
            lambda: plain.diffusion_loss(users, clock, t, noise),
            list(generator.parameters()),
        ),
        'loss': difference(
            lambda: model.loss(batch)['total'],
            lambda: plain.loss(batch[:3], clock),
            [*model.learned_tables(), *model.encoder.parameters()],
        ),
        'equal_edges': float((edges == items).double().mean()),
    }


def rates(model):
    """Operations per second of a large matrix product, bytes per second, read and
    written, of a copy of the item embeddings, and normal random numbers per second:
    the best of some."""
    a, b = torch.randn(2, 2048, 2048)
    x = model.item_embedding.weight.detach()
    y, z = torch.empty_like(x), torch.empty(1 << 20)
    best = []
    for function, size in (
        (lambda: a @ b, 2 * 2048**3),
        (lambda: y.copy_(x), 2 * x.nbytes),
        (lambda: z.normal_(), z.numel()),
    ):
        times = []
        for _ in range(20):
            begin = time.process_time()
            function()
            times.append(time.process_time() - begin)
        best.append(size / min(times))
    return dict(zip(('operations', 'bytes', 'random_numbers'), best))


def diffusion_costs(model):
    """Operations, bytes and random numbers of each part of an epoch of diffusion, in
    float32: those of our formulas, with every matrix on its shorter side."""
    generator, m = model.generator, len(model.modalities)
    users, items, c = model.num_users, model.num_items, model.embedding_dim
    nnz, batches = model.history.nnz, model.num_users / model.batch_size
    (h,) = generator.denoisers[0].hidden_channels
    table, row = 4 * items * h, 4 * users * items
    if generator.noise == 'dense':
        draws, noise_bytes = 2 * users * items, 5 * row
        first, first_bytes = 2 * users * items * h, row + batches * table
    else:
        r = generator.pool_size
        pool = batches * r * items
        draws, noise_bytes = 2 * pool + users * r + nnz, 4 * 3 * pool
        first = 2 * h * (nnz + pool + users * r)
        first_bytes = 4 * pool + (12 + 4 * h) * nnz + batches * table
    # The last layer with itself and with features, and its products with rows.
    once = 2 * items * h * (h + c)
    last = batches * once + 2 * users * h * (h + c) + 2 * nnz * (h + c)
    last_bytes = batches * 2 * table + 4 * h * nnz
    weights = sum(x.numel() for x in generator.parameters())
    features = sum(model.modalities.values())
    return {
        'noise': (0, noise_bytes, draws),
        'denoisers': (m * first, m * first_bytes, 0),
        'errors': (m * last, m * last_bytes, 0),
        'backward': (
            m * (first + last + 2 * users * h * (h + c)),
            m * 2 * (first_bytes + last_bytes),
            0,
        ),
        'optimizer': (0, batches * 7 * 4 * weights, 0),
        'rest': (batches * 2 * items * features * c, 2 * 12 * nnz, 0),
    }


def graph_costs(model):
    """Likewise of the generation of graphs, with int64 positions."""
    generator, m = model.generator, len(model.modalities)
    users, items, nnz = model.num_users, model.num_items, model.history.nnz
    (h,) = generator.denoisers[0].hidden_channels
    steps = generator.diffusion.num_timesteps
    entries = 2 * users * model.rebuild_k + users + items
    chain = 2 * items * h * h + 2 * nnz * h + (steps - 1) * 2 * users * h * h
    chain_bytes = 2 * 4 * items * h + (12 + 4 * h) * nnz + steps * 2 * 4 * users * h
    return {
        'chain': (m * chain, m * chain_bytes, 0),
        'scores': (m * 2 * users * items * h, m * 4 * (users * items + items * h), 0),
        'top-K': (0, m * 4 * users * items, 0),
        'rest': (0, m * 6 * 8 * entries, m * entries),
    }


def pair_costs(model, loader):
    """Likewise of an epoch on pairs."""
    m, c, layers = len(model.modalities), model.embedding_dim, model.encoder.num_layers
    users, items, nnz = model.num_users, model.num_items, model.history.nnz
    nodes, batches = users + items, nnz / model.batch_size
    own, generated = 2 * nnz + nodes, 2 * users * model.rebuild_k + nodes
    features = sum(model.modalities.values())

    def propagation(products):
        # An entry costs its position, its weight and its source.
        return (
            sum(2 * width * entries for entries, width in products),
            sum(
                (8 + 4 + 4 * width) * entries + 4 * width * nodes
                for entries, width in products
            ),
        )

    project, project_bytes = (
        2 * items * features * c,
        4 * items * (features + 2 * m * c),
    )
    main = propagation([(own, c)] * (2 + layers) + [(generated, c)] * m)
    views = propagation([(generated, c)] * m + [(own, m * c)] * layers)
    products = 0
    for batch in loader:
        products += batch.user.unique().numel() * users
        products += batch.positive.unique().numel() * items
    weights = (users + items) * c + sum(x.numel() for x in model.encoder.parameters())
    return {
        'negatives': (0, 5 * 8 * nnz, nnz),
        'embeddings': (
            batches * (main[0] + project),
            batches * (main[1] + project_bytes),
            0,
        ),
        'views': (batches * views[0], batches * views[1], 0),
        # Three products of which the first and its exponentials pass once each.
        'contrast': (m * 3 * 2 * c * products, m * 4 * 4 * products, 0),
        'backward': (
            batches * (main[0] + views[0] + project),
            batches * 2 * (main[1] + views[1] + project_bytes),
            0,
        ),
        'optimizer': (0, batches * 7 * 4 * weights, 0),
        'rest': (0, batches * 4 * nodes * c + 4 * 3 * c * nnz, 0),
    }


def timed(side, phase, scale):
    """Seconds of the parts of a phase, scaled to an epoch, and what it returns."""
    clock = Clock()
    with clock('rest'):
        out = getattr(side, phase)(clock)
    return {part: seconds * scale for part, seconds in clock.parts.items()}, out


def compare(ours, plain, floor):
    """Ratios and shares, given the floor of each part in seconds."""
    median = [
        {part: statistics.median(x[part] for x in runs) for part in runs[0]}
        for runs in (ours, plain)
    ]
    seconds = [[sum(x.values()) for x in runs] for runs in (ours, plain)]
    total = sum(median[0].values())
    parts = {}
    for part, own in sorted(median[0].items(), key=lambda x: -x[1]):
        parts[part] = {'share_of_ours': own / total, 'floor_of_ours': floor[part] / own}
        if part in median[1]:
            parts[part]['ratio'] = median[1][part] / own
    spent = [
        f'{part} {x["share_of_ours"]:.0%} (of it {x["floor_of_ours"]:.0%} floor)'
        for part, x in parts.items()
    ]
    whole = sum(floor.values()) / total
    ratios = [b / a for a, b in zip(*seconds)]
    return {
        'median_ratio': statistics.median(ratios),
        'ratios': ratios,
        'spent_on': f'{", ".join(spent)}; of all {whole:.0%} floor',
        'parts': parts,
        'seconds': dict(zip(('ours', 'plain'), seconds)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, help='downloads tiktok if not given')
    parser.add_argument('--cache', type=Path, default=Path('bench-results/data'))
    parser.add_argument('--batches', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    warnings.filterwarnings('ignore', 'Sparse')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    raw_dir = args.data_root and str(args.data_root / 'tiktok')
    data = MultiModalDataset(str(args.cache), 'tiktok', MODALITIES, raw_dir)[0]
    model, fast = (
        DiffMM.from_data(data, modalities=MODALITIES, **preset('DiffMM', name))
        for name in ('tiktok', 'tiktok-fast')
    )
    same = check(model)
    sides = {
        'ours': Ours(model, args.batches),
        'plain': Plain(model, args.batches),
        'fast': Ours(fast, args.batches),
    }
    runs = [(side, phase) for phase in PHASES for side in ('ours', 'plain')]
    runs.append(('fast', 'diffusion'))
    share = args.batches * model.batch_size
    scale = {
        'diffusion': model.num_users / share,
        'graphs': 1,
        'pairs': model.history.nnz / share,
    }
    if min(scale.values()) < 1:
        most = model.num_users // model.batch_size
        parser.error(f'--batches needs to lie in [1, {most}] (got {args.batches})')
    times, items = defaultdict(list), {}
    for i in range(args.repeats + 1):
        for side, phase in runs:
            seconds, items[side] = timed(sides[side], phase, scale[phase])
            if phase == 'graphs' and side == 'plain':
                equal = (items['ours'] == items['plain']).double().mean()
            if i > 0:  # The first is a warm-up.
                times[side, phase].append(seconds)
    speed = rates(model)
    costs = {
        'diffusion': diffusion_costs(model),
        'graphs': graph_costs(model),
        'pairs': pair_costs(model, sides['ours'].phases['pairs'].loader),
        'pooled diffusion': diffusion_costs(fast),
    }
    floors = {
        phase: {
            part: max(amount / rate for amount, rate in zip(amounts, speed.values()))
            for part, amounts in cost.items()
        }
        for phase, cost in costs.items()
    }
    result = {
        'model': repr(model),
        'batches_timed': args.batches,
        'largest_relative_difference': {
            key: same[key] for key in ('diffusion_loss', 'loss')
        },
        'equal_edges': {'float64': same['equal_edges'], 'float32': float(equal)},
        'per_second': speed,
    }
    own, plain = (
        {phase: times[side, phase] for phase in PHASES} for side in ('ours', 'plain')
    )
    for phase in PHASES:
        result[phase] = compare(own[phase], plain[phase], floors[phase])
    epochs = [
        [
            {phase: sum(seconds.values()) for phase, seconds in zip(PHASES, run)}
            for run in zip(*side.values())
        ]
        for side in (own, plain)
    ]
    whole = {phase: sum(floors[phase].values()) for phase in PHASES}
    result['epoch'] = compare(*epochs, whole)
    phase = 'pooled diffusion'
    result[phase] = compare(
        times['fast', 'diffusion'], plain['diffusion'], floors[phase]
    )
    for phase, cost in costs.items():
        for part, amounts in cost.items():
            result[phase]['parts'][part] |= dict(zip(speed, amounts))
    write_measurement(result, args.out)


if __name__ == '__main__':
    main()
