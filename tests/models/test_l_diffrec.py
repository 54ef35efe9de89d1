import pytest
import torch
from toy import as_form, toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import LDiffRec, MostPopular, Planted
from pyg_diffrec.models.l_diffrec import Annealing
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit

CASES = ['c0', 'c1', 'c2', 'c3']
KINDS = {'x0': 'x_start', 'eps': 'noise'}


def reference_view(model, get):
    """Weights or gradients of the autoencoder as the authors' code has them."""
    vae, out = model.vae, {}
    many = len(vae.sizes) > 1
    for c, encoder in enumerate(vae.encoders):
        for i, layer in enumerate(encoder):
            name = f'encoder.{c}.{2 * i}' if many else f'encoder.{2 * i}'
            weight = get(layer.weight)
            out[f'{name}.weight'] = weight.t() if i == 0 else weight
            out[f'{name}.bias'] = get(layer.bias)
    if vae.readout is not None:
        out['decoder.0.weight'] = get(vae.readout.weight)[vae.order]
        out['decoder.0.bias'] = get(vae.readout.bias)[vae.order]
    for c, decoder in enumerate(vae.decoders):
        for i, layer in enumerate(decoder):
            name = f'decoder.{c}.{2 * i}' if many else f'decoder.{2 * i}'
            out[f'{name}.weight'] = get(layer.weight)
            out[f'{name}.bias'] = get(layer.bias)
    return out


def build(values, case, kind='x0'):
    encoder = values[f'{case}_in_dims_class_order'].tolist()
    decoder = values[f'{case}_out_dims'].tolist()
    clusters = int(values[f'{case}_n_cate'])
    if clusters > 1 and decoder:  # The authors' code mirrors the encoder then.
        decoder = encoder[-2::-1]
    steps, scale, low, high = values[f'{case}_diff_params'].tolist()
    cluster = values[f'{case}_cluster_ids'] if clusters > 1 else None
    model = LDiffRec(
        int(values[f'{case}_n_item']),
        cluster=None if cluster is None else cluster.long(),
        encoder_channels=encoder,
        decoder_channels=decoder,
        vae_dropout=0.0,
        act=str(values.arrays[f'{case}_act']),
        hidden_channels=values[f'{case}_mlp_dims'].tolist()[::-1],
        dropout=0.0,
        norm=bool(values[f'{case}_dnn_norm']),
        num_timesteps=int(steps),
        noise_scale=scale,
        noise_min=low,
        noise_max=high,
        prediction=KINDS[kind],
    ).double()
    weights = values.group(f'{case}_ae_w_')
    order = model.vae.order
    with torch.no_grad():
        view = reference_view(model, lambda x: x)
        assert view.keys() == weights.keys()
        for name, target in view.items():
            if name.startswith('decoder.0.') and model.vae.readout is not None:
                part = getattr(model.vae.readout, name.split('.')[-1])
                part[order] = weights[name]
            else:
                target.copy_(weights[name])
    model.denoiser.load_reference(values.group(f'{case}_dnn_w_'))
    return model


@pytest.fixture
def values(golden):
    return golden('ldiffrec')


def rows_of(values, case):
    return as_form(values[f'{case}_in_x'], 'affine').start


@pytest.mark.parametrize('case', CASES)
def test_autoencoder_equals_the_reference(values, case, assert_exact):
    model = build(values, case)
    vae, rows = model.vae, rows_of(values, case)
    encoding = vae.encode(rows)
    order = vae.order
    batch = encoding.rows.to_dense()[:, order]
    assert_exact(batch, values[f'{case}_out_eval_batch_cate'])
    assert_exact(encoding.mean, values[f'{case}_out_eval_latent'])
    assert_exact(vae.kl_divergence(encoding), values[f'{case}_out_eval_kl'])
    decoded = vae.decode(encoding.mean)[:, order]
    assert_exact(decoded, values[f'{case}_out_eval_decode'])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('case', CASES)
def test_training_step_equals_the_reference(values, case, kind, assert_exact):
    model = build(values, case, kind)
    prefix = f'{case}_{kind}_'
    *_, elbo_weight, kl_weight = values[prefix + 'step_consts']
    losses = model.losses(
        rows_of(values, case),
        elbo_weight,
        kl_weight,
        values[f'{case}_in_ts'],
        values[f'{case}_in_noise'],
        values[f'{case}_in_reparam_noise'],
    )
    assert_exact(losses['diffusion'], values[prefix + 'out_elbo'])
    vae = losses['reconstruction'] + kl_weight * losses['kl']
    assert_exact(vae, values[prefix + 'out_vae_loss'])
    assert_exact(losses['total'], values[prefix + 'out_total_loss'])
    losses['total'].backward()
    expected = values.group(prefix + 'ae_grad_')
    actual = reference_view(model, lambda x: x.grad)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_exact(actual[name], gradient)
    expected = values.group(prefix + 'dnn_grad_')
    actual = model.denoiser.reference_weights()
    for name, gradient in expected.items():
        if name != 'in_layers.0.weight':
            assert_exact(actual[name].grad, gradient)
    latent = model.denoiser.in_channels
    first = expected['in_layers.0.weight']
    assert_exact(model.denoiser.weight.grad.t(), first[:, :latent])
    assert_exact(model.denoiser.lin_time.weight.grad, first[:, latent:])


@torch.no_grad()
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('case', CASES)
def test_scores_equal_the_reference_in_item_order(values, case, kind, assert_exact):
    model = build(values, case, kind).eval()
    rows = rows_of(values, case)
    scores = model.score(torch.arange(len(rows)), rows)
    scores = scores if isinstance(scores, torch.Tensor) else scores.to_dense()
    prefix = f'{case}_{kind}_out_prediction'
    assert_exact(scores[:, model.vae.order], values[prefix])
    if f'{prefix}_item_order' in values.arrays:
        assert_exact(scores, values[f'{prefix}_item_order'])
    latent = model.diffusion.p_sample_loop(model.denoiser, model.vae.encode(rows).mean)
    assert_exact(latent, values[f'{case}_{kind}_out_psample0'])


def test_annealing_equals_the_reference(values):
    epoch, batch, elbo, floor, epochs, cap, batches, *expected = values[
        'c0_x0_step_consts'
    ].tolist()
    annealing = Annealing(floor, int(epochs), cap, int(batches))
    weight = annealing.elbo_weight(elbo, torch.tensor(epoch))
    assert weight == pytest.approx(expected[0])
    assert annealing.kl_weight(torch.tensor(batch)) == pytest.approx(expected[1])
    assert annealing.elbo_weight(elbo, torch.tensor(1e6)) == pytest.approx(floor)
    assert annealing.kl_weight(torch.tensor(1e6)) == pytest.approx(cap)


def embedding(data):
    planted = data['item'].planted
    return planted / planted.sum(1, keepdim=True)


def test_annealing_counts_epochs_and_batches(monkeypatch):
    data = toy_data()
    torch.manual_seed(0)
    model = LDiffRec.from_data(
        data, item_embedding=embedding(data), encoder_channels=[6], batch_size=25
    )
    seen = []
    monkeypatch.setattr(
        LDiffRec,
        'losses',
        lambda self, rows, elbo, kl: (
            seen.append((float(elbo), float(kl)))
            or {'total': self.denoiser.weight.sum()}
        ),
    )
    for batch in [*model.phases()[0].loader] * 2:
        model.eval().loss(batch)  # To look at a loss is no step of training.
        looked = seen.pop()
        model.train().loss(batch)
        assert seen[-1] == looked
    # Three batches make an epoch.
    elbo, kl = zip(*seen)
    assert elbo == pytest.approx([0.03 * (1 - i // 3 / 500) for i in range(6)])
    assert kl == pytest.approx([i / 200 for i in range(6)])
    assert model.state_dict()['num_batches'] == 6


@pytest.mark.parametrize('decoder', [[], [9]])
@pytest.mark.parametrize('clusters', [1, 3])
def test_contract(clusters, decoder):
    data = toy_data()
    check_model(
        LDiffRec,
        data,
        num_clusters=clusters,
        item_embedding=embedding(data),
        encoder_channels=[12, 9],
        decoder_channels=decoder,
        num_noising_steps=2,
    )
    check_model(
        LDiffRec,
        data,
        num_clusters=clusters,
        item_embedding=embedding(data),
        encoder_channels=[9],
        weighting='uniform',
        temporal='linear',
    )


def test_learns_the_planted_groups():
    data = toy_data(300, 60, interactions_per_user=20)
    torch.manual_seed(0)
    model = LDiffRec.from_data(
        data,
        item_embedding=embedding(data),
        encoder_channels=[32],
        hidden_channels=64,
        dropout=0.0,
        annealing=Annealing(kl_cap=0.02),
        lr=1e-2,
        denoiser_lr=5e-3,
        batch_size=50,
    )
    fit(model, epochs=60, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    assert 0.4 < (recall(model) - popular) / (best - popular) < 1


def test_clusters_follow_the_embedding():
    data = toy_data()
    given = torch.eye(3)[embedding(data).argmax(1)]
    model = LDiffRec.from_data(data, num_clusters=3, item_embedding=given)
    # The three points, up to the numbering of the clusters.
    pairs = set(zip(given.argmax(1).tolist(), model.vae.cluster.tolist()))
    assert len(pairs) == 3
    data['item'].embedding = given
    same = LDiffRec.from_data(data, num_clusters=3)
    assert torch.equal(same.vae.cluster, model.vae.cluster)
    del data['item'].embedding
    torch.manual_seed(0)
    own = LDiffRec.from_data(data, num_clusters=2, embedding_epochs=2)
    assert sorted(own.vae.cluster.unique().tolist()) == [0, 1]


def test_bad_arguments_are_refused():
    data = toy_data()
    with pytest.raises(ValueError, match="'item_embedding' needs one row per item, 40"):
        LDiffRec.from_data(data, item_embedding=torch.rand(39, 2))
    with pytest.raises(ValueError, match=r"'num_clusters' needs to lie in \[1, 40\]"):
        LDiffRec.from_data(data, num_clusters=41, item_embedding=torch.rand(40, 2))
    with pytest.raises(ValueError, match='k-means left one of 3 clusters empty'):
        LDiffRec.from_data(data, num_clusters=3, item_embedding=torch.ones(40, 2))
    with pytest.raises(ValueError, match='needs to be finite .item 0'):
        LDiffRec.from_data(data, item_embedding=torch.full((40, 2), float('nan')))
    with pytest.raises(ValueError, match=r"'cluster' needs shape \[40\]"):
        LDiffRec(40, cluster=torch.zeros(3).long())
    for cluster, error in (([0, -1], ValueError), ([0.0, 1.0], TypeError)):
        with pytest.raises(error, match="'cluster' need"):
            LDiffRec(2, cluster=torch.tensor(cluster))
    with pytest.raises(ValueError, match="Cluster 1 of 'cluster' has no item"):
        LDiffRec(3, cluster=torch.tensor([0, 2, 2]))
    with pytest.raises(ValueError, match='cannot be divided among 2 clusters'):
        LDiffRec(3, cluster=torch.tensor([0, 1, 1]), encoder_channels=[1])
    for name in ('lr', 'denoiser_lr', 'batch_size'):
        with pytest.raises(ValueError, match=f"'{name}' needs to be positive"):
            LDiffRec(4, **{name: 0})
    with pytest.raises(ValueError, match=r"'num_noising_steps' needs to lie in"):
        LDiffRec(3, num_noising_steps=6)
    with pytest.raises(ValueError, match='has no interactions to train on'):
        LDiffRec(3).phases()
    assert str(LDiffRec(3, encoder_channels=[4])) == (
        'LDiffRec(3, num_clusters=1, latent_channels=4, num_timesteps=5)'
    )
