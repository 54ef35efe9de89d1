import pytest
import torch
from toy import given_data, toy_data

from pyg_diffrec.data import USER_ITEM, interaction_rows
from pyg_diffrec.data.schema import USER_USER
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models import MostPopular, preset, presets
from pyg_diffrec.models.rec_diff import RecDiff
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.utils import SparseRows, counter_normal

CASES = ['c0', 'c1', 'c2']
VARIANTS = {
    'diffusion': {},
    'noised': {'num_noising_steps': 3},
    'autoencoder': {'denoising': 'autoencoder'},
    'none': {'denoising': 'none'},
    'without ties': {'social': False},
    'light': {'layer_weight': False},
}


def social_data(**kwargs):
    return toy_data(num_social=4, **kwargs)


def reference_view(model, get):
    """Weights or gradients under the names of the authors' code."""
    out = {
        'gcn.embedding_dict.user_emb': get(model.user_embedding.weight),
        'gcn.embedding_dict.item_emb': get(model.item_embedding.weight),
    }
    encoder = model.encoder
    for i, (user, item) in enumerate(zip(encoder.user_convs, encoder.item_convs)):
        if encoder.weight:  # Their matrices belong to what is sent.
            out[f'gcn.layers.{i}.u_w'] = get(item.lin.weight).t()
            out[f'gcn.layers.{i}.v_w'] = get(user.lin.weight).t()
    for i, conv in enumerate(model.social_encoder.convs):
        if encoder.weight:
            out[f'gcn.uu_Layers.{i}.u_w'] = get(conv.lin.weight).t()
    denoiser = model.denoiser
    for name, weight in denoiser.reference_weights().items():
        if name == 'in_layers.0.weight':  # Their first layer is one matrix.
            parts = [get(denoiser.weight).t(), get(denoiser.lin_time.weight)]
            out[f'sdn.{name}'] = torch.cat(parts, dim=1)
        else:
            out[f'sdn.{name}'] = get(weight)
    return out


def reference_group(values, pattern):
    return {
        f'{part}.{name}': value
        for part in ('gcn', 'sdn')
        for name, value in values.group(pattern.format(part)).items()
    }


def build(values, prefix, weights, **kwargs):
    shape = values[f'{prefix}shape'].tolist()
    num_users, num_items, channels, num_layers, num_social, weight, code = shape
    steps, scale, low, high = values[f'{prefix}diff_params'].tolist()
    model = RecDiff(
        num_items,
        num_users,
        embedding_dim=channels,
        num_layers=num_layers,
        num_social_layers=num_social,
        layer_weight=bool(weight),
        hidden_channels=channels,
        time_embedding_dim=code,
        num_timesteps=int(steps),
        noise_scale=scale,
        noise_min=low,
        noise_max=high,
        **kwargs,
    ).double()
    row, col = values[f'{prefix}in_R'].nonzero().t()
    model.fit_history(
        SparseRows.from_coo(row, col, num_rows=num_users, num_cols=num_items)
    )
    model.fit_ties(values[f'{prefix}in_trust'].nonzero().t())
    model.denoiser.load_reference(values.group(weights.format('sdn')))
    expected = reference_group(values, weights)
    with torch.no_grad():
        view = reference_view(model, lambda x: x)
        assert view.keys() == expected.keys()
        for name, weight in view.items():
            if name.startswith('gcn.'):
                weight.copy_(expected[name])
    return model


@pytest.mark.parametrize('case', CASES)
def test_losses_and_gradients_equal_reference_values(golden, case, assert_exact):
    values = golden('recdiff')
    batch_size, l2 = values[f'{case}_in_batch_size_reg'].tolist()
    model = build(
        values,
        f'{case}_',
        f'{case}_{{}}_w_',
        dropout=0.0,
        batch_size=int(batch_size),
        l2=l2,
    )
    assert_exact(model.diffusion.betas, values[f'{case}_out_betas'])
    user, positive, negative, t, noise = (
        values[f'{case}_in_{key}'] for key in ('user', 'pos', 'neg', 'ts', 'noise')
    )
    losses = model.loss(EdgeBatch(user, positive, negative), t, noise)
    diffusion = values[f'{case}_out_diff_loss_per_sample'].mean()
    assert_exact(losses['diffusion'], diffusion)
    assert_exact(losses['bpr'], values[f'{case}_out_bpr'])
    assert_exact(losses['l2'], values[f'{case}_out_reg'])
    assert_exact(losses['total'], values[f'{case}_out_loss'])
    losses['total'].backward()
    expected = reference_group(values, f'{case}_{{}}_grad_')
    actual = reference_view(model, lambda x: x.grad)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_exact(actual[name], gradient)


@torch.no_grad()
@pytest.mark.parametrize('case', CASES)
def test_scores_equal_reference_values(golden, case, assert_exact):
    values = golden('recdiff')
    model = build(values, f'{case}_', f'{case}_{{}}_w_').eval()
    social = values[f'{case}_out_uu_emb']
    out = model.diffusion.p_sample_loop(model.denoiser, social)
    assert_exact(out, values[f'{case}_out_psample0'])
    noise = values[f'{case}_in_sampling_noise']  # The row of step t is T - 1 - t.
    out = model.diffusion.p_sample_loop(
        model.denoiser, social, sampling_noise=lambda t: noise[len(noise) - 1 - t]
    )
    assert_exact(out, values[f'{case}_out_psample0_noisy'])
    users = torch.arange(model.num_users)
    score = model.score(users, model.history)
    assert_exact(score, values[f'{case}_out_score'])
    seen = model.history.to_dense().double()
    masked = score * (1 - seen) - 1e8 * seen
    assert_exact(masked, values[f'{case}_out_score_masked'])


class GivenDropout(torch.nn.Module):
    mask = None

    def forward(self, x):
        return x * self.mask / 0.5


def test_training_trajectory(golden, assert_exact):
    values = golden('traj_recdiff')
    lr, denoiser_lr, decay, batch, l2 = values['hyper_lr_difflr_decay_batch_reg']
    model = build(
        values,
        '',
        'init_{}_w_',
        lr=float(lr),
        denoiser_lr=float(denoiser_lr),
        lr_decay=float(decay),
        batch_size=int(batch),
        l2=float(l2),
    )
    model.denoiser.dropout = GivenDropout()
    (phase,) = model.phases()
    losses = []
    num_epochs, num_batches = values['in_ts'].shape[:2]
    for epoch in range(num_epochs):
        for step in range(num_batches):
            user, positive, negative, t, noise, mask = (
                values[f'in_{key}'][epoch, step]
                for key in ('user', 'pos', 'neg', 'ts', 'noise', 'dropout_keep_mask')
            )
            model.denoiser.dropout.mask = mask
            phase.optimizer.zero_grad()
            loss = model.loss(EdgeBatch(user, positive, negative), t, noise)['total']
            loss.backward()
            phase.optimizer.step()
            losses.append(loss.detach())
            expected = reference_group(values, f'epoch{epoch}_batch{step}_{{}}_w_')
            for name, weight in reference_view(model, lambda x: x).items():
                assert_exact(weight, expected[name])
        phase.scheduler.step()
    assert_exact(torch.stack(losses), values['out_batch_loss'])


@pytest.mark.parametrize('name', VARIANTS)
def test_contract(name):
    options = {'embedding_dim': 8, 'batch_size': 64, 'num_timesteps': 5}
    check_model(RecDiff, social_data(), **options, **VARIANTS[name])


def random_batch(size=30):
    torch.manual_seed(1)
    return EdgeBatch(*(torch.randint(num, (size,)) for num in (60, 40, 40)))


@pytest.mark.parametrize('name', ['none', 'without ties'])
def test_loss_without_denoising_by_hand(name):
    torch.manual_seed(0)
    options = {'embedding_dim': 4, 'batch_size': 50, 'l2': 0.3}
    model = RecDiff.from_data(social_data(), **options, **VARIANTS[name]).double()
    batch = random_batch()
    user, item = model.tables()
    bpr = l2 = 0.0
    for u, i, j in zip(*(part.tolist() for part in batch[:3])):
        difference = (user[u] @ item[i] - user[u] @ item[j]).item()
        bpr -= torch.tensor(difference).double().sigmoid().log().item() / 50
        l2 += sum(
            0.3 * row.square().sum().item() for row in (user[u], item[i], item[j])
        )
    losses = {key: value.item() for key, value in model.loss(batch).items()}
    expected = {'total': bpr + l2 / 50, 'bpr': bpr, 'l2': l2 / 50}
    assert losses == pytest.approx(expected, rel=1e-6)


def test_what_is_scored_of_the_ties():
    data = social_data()
    models = {
        name: RecDiff.from_data(data, embedding_dim=4, num_timesteps=4, **options)
        .double()
        .eval()
        for name, options in VARIANTS.items()
        if name != 'light'
    }
    state = models['diffusion'].state_dict()
    users = torch.arange(60)
    with torch.no_grad():
        for model in models.values():
            known = {k: v for k, v in state.items() if k in model.state_dict()}
            model.load_state_dict(known)
        model = models['diffusion']
        plain = models['without ties'].tables()[0]
        social = models['none'].tables()[0] - plain
        noised = models['noised']
        noise = counter_normal(0, 0, users, 4, torch.double)
        step = users * 0 + 2
        expected = {
            'diffusion': model.diffusion.p_sample_loop(model.denoiser, social),
            'autoencoder': model.denoiser(social, users * 0),
            'noised': model.diffusion.p_sample_loop(
                model.denoiser, model.diffusion.q_sample(social, step, noise)
            ),
        }
        for name, part in expected.items():
            found = models[name].tables()[0] - plain
            torch.testing.assert_close(found, part, rtol=0, atol=1e-12)
            assert not torch.allclose(part, social, atol=1e-3)
        assert noised.diffusion.num_timesteps == 4
    # The autoencoder is trained at the strongest noise of the schedule.
    variance = 1 - models['autoencoder'].diffusion.alphas_cumprod
    torch.testing.assert_close(variance[-1], 1 - model.diffusion.alphas_cumprod[-1])


def test_noise_can_be_switched_off():
    options = {'embedding_dim': 4, 'noise_scale': 0.0, 'num_timesteps': 3}
    with pytest.raises(ValueError, match="use weighting='uniform' without noise"):
        RecDiff.from_data(social_data(), **options)
    check_model(RecDiff, social_data(), **options, weighting='uniform')


def test_contributions_add_up():
    torch.manual_seed(0)
    data = social_data()
    model = RecDiff.from_data(data, embedding_dim=4).double()
    users = torch.tensor([3, 0, 59])
    items = model.recommend(users, 5).item
    found = model.train().contributions(users, items)
    assert model.training
    score = model.eval().score(users, model.history).gather(1, items)
    torch.testing.assert_close(found.score, score)
    # Without the social embedding the rest of the score is left.
    without = RecDiff.from_data(data, embedding_dim=4, social=False).double().eval()
    without.load_state_dict(model.state_dict(), strict=False)
    rest = without.score(users, model.history).gather(1, items)
    torch.testing.assert_close(found.score - found.social, rest)
    (_, item), social = model._encode(), model.eval().social_embeddings()
    torch.testing.assert_close((social[users, None] * item[items]).sum(2), found.social)
    assert without.social_embeddings() is None
    share = found.social.abs() / (found.social.abs() + rest.abs())
    torch.testing.assert_close(found.share, share)
    none = without.contributions(users, items[:, 0])
    torch.testing.assert_close(none.score, rest[:, 0])
    assert torch.equal(none.share, torch.zeros(3).double())
    with pytest.raises(
        ValueError, match=r"'items' need to lie in \[0, 40\).*\(got -1 at position 2\)"
    ):
        model.contributions(users, torch.tensor([0, 1, -1]))
    with pytest.raises(
        ValueError, match=r'one row for each of 3 users.*shape \[2, 3\]'
    ):
        model.contributions(users, torch.zeros(2, 3).long())
    with pytest.raises(TypeError, match="'users' needs whole numbers"):
        model.contributions(users > 0, items)
    with pytest.raises(ValueError, match=r"'users' need to lie in .*got -1"):
        model.contributions(users * 0 - 1, items)
    with pytest.raises(TypeError, match="'items' needs whole numbers"):
        model.contributions(users, items + 0.5)


@pytest.mark.parametrize('name', VARIANTS)
def test_users_and_items_without_edges_are_scored(name):
    # User 2 has neither interactions nor ties, user 3 has no ties, user 1 has no
    # interactions and gives but does not get one; item 4 was never seen.
    train, held = [[0, 1], [], [], [2, 3]], [[2], [1], [0], [0]]
    data = given_data(train, held, [[3], [2], [1], [1]], 5)
    data[USER_USER].edge_index = torch.tensor([[1], [0]])
    model = RecDiff.from_data(
        data, embedding_dim=4, batch_size=3, num_timesteps=4, **VARIANTS[name]
    )
    fit(model, epochs=2, progress=False)
    score = model.score(torch.arange(4), model.history)
    assert bool(score.isfinite().all())
    assert bool((score != 0).all())
    assert len(model.recommend([1, 2], 5, exclude='train').item.unique()) == 5
    parts = model.contributions(torch.arange(4), torch.arange(5).expand(4, 5))
    assert bool(parts.share.isfinite().all())


def test_phase_takes_over_the_hyper_parameters():
    options = {'lr': 0.3, 'denoiser_lr': 0.1, 'lr_decay': 0.5, 'batch_size': 17}
    options |= {'embedding_dropout': 0.1, 'edge_dropout': 0.2, 'num_layers': 3}
    options |= {'num_social_layers': 3, 'negatives': 'popularity'}
    model = RecDiff.from_data(social_data(), embedding_dim=4, **options)
    (phase,) = model.phases()
    groups = phase.optimizer.param_groups
    assert [group['lr'] for group in groups] == [0.3, 0.1]
    owned = [[id(p) for p in group['params']] for group in groups]
    assert owned[1] == [id(p) for p in model.denoiser.parameters()]
    assert sorted(owned[0] + owned[1]) == sorted(id(p) for p in model.parameters())
    assert phase.loader.sampler_of_negatives.method == 'popularity'
    assert len(next(iter(phase.loader)).user) == 17
    for encoder in (model.encoder, model.social_encoder):
        assert (encoder.dropout.p, encoder.edge_dropout) == (0.1, 0.2)
        assert (encoder.num_layers, encoder.channels) == (3, 4)
    phase.optimizer.step()
    phase.scheduler.step()
    assert [group['lr'] for group in groups] == [0.15, 0.05]


class Killed(Exception):
    pass


def test_a_resumed_run_ends_like_a_whole_one(tmp_path):
    data, path = social_data(), tmp_path / 'checkpoint.pt'
    states = []
    for kill_at in (None, 3):
        calls = []

        def validate(model, calls=calls, kill_at=kill_at):
            calls.append(1)
            if len(calls) == kill_at:
                raise Killed
            return {'Recall@20': float(len(calls))}

        def run(validate=validate, checkpoint=path if kill_at else None):
            model = RecDiff.from_data(data, embedding_dim=4, lr=0.1, lr_decay=0.5)
            fit(
                model,
                epochs=4,
                validate=validate,
                eval_every=1,
                checkpoint=checkpoint,
                checkpoint_every=1,
                resume=checkpoint is not None,
                progress=False,
            )
            return model

        torch.manual_seed(0)
        if kill_at:
            with pytest.raises(Killed):
                run()
        states.append(run().state_dict())
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name]), name


def recall(model, data):
    return evaluate(model, data, 'test')['Recall@20']


def train(data, **kwargs):
    torch.manual_seed(0)
    options = {'embedding_dim': 16, 'hidden_channels': 16, 'num_timesteps': 5}
    options |= {'batch_size': 512, 'lr': 0.01, 'lr_decay': 0.95, 'l2': 1e-3}
    model = RecDiff.from_data(data, **{**options, **kwargs})
    fit(model, epochs=25, progress=False)
    return model


GROUPS = {'num_groups': 6, 'interactions_per_user': 20, 'popularity_skew': 0.5}


def test_learns_what_popularity_cannot():
    data = toy_data(300, 150, num_social=8, **GROUPS)
    # MostPopular finds 0.256, the planted optimum 0.537, chance 0.133.
    assert recall(train(data), data) > recall(MostPopular.from_data(data), data) + 0.13


def test_ties_tell_about_users_without_interactions():
    data = toy_data(300, 150, num_social=8, **GROUPS)
    store = data[USER_ITEM]
    cold = store.edge_index[0] < 60
    store.val_mask |= store.test_mask & ~cold
    store.test_mask &= cold
    store.train_mask &= ~cold
    store.val_mask |= cold & ~store.test_mask
    popular = recall(MostPopular.from_data(data), data)
    # MostPopular finds 0.214, chance and a model without ties 0.133.
    assert recall(train(data, denoising='none'), data) > popular + 0.04
    assert recall(train(data, social=False), data) < popular - 0.04


@pytest.mark.parametrize(
    'change', ['load', 'loss', 'write', 'history', 'ties', 'dtype']
)
def test_kept_tables_never_outlive_a_change(change):
    data = social_data()
    model = RecDiff.from_data(data, embedding_dim=4).eval()
    users = torch.arange(60)
    with torch.no_grad():
        before = model.score(users, model.history)
    if change == 'load':
        other = RecDiff.from_data(data, embedding_dim=4)
        model.load_state_dict(other.state_dict())
    elif change == 'loss':  # A fused optimizer does not count as a write.
        (phase,) = model.phases()
        model.loss(next(iter(phase.loader)))['total'].backward()
        phase.optimizer.step()
    elif change == 'write':
        with torch.no_grad():
            model.denoiser.readout.bias.add_(1.0)
    elif change == 'history':
        model.fit_history(model.history.index_select(users.flip(0)))
    elif change == 'ties':
        model.fit_ties(data[USER_USER].edge_index[:, ::2])
    else:
        model.double()
    with torch.no_grad():
        after = model.score(users, model.history)
        user, item = model.tables()
    assert after.dtype == user.dtype
    torch.testing.assert_close(after, user @ item.t(), rtol=0, atol=1e-6)
    if change != 'dtype':
        assert not torch.equal(before, after)


def test_temporal_weights_reach_the_graph_and_the_loss():
    data = social_data()
    options = {'embedding_dim': 4, 'denoising': 'none', 'batch_size': 50}
    model = RecDiff.from_data(data, temporal='linear', **options).double()
    plain = RecDiff.from_data(data, **options).double()
    plain.load_state_dict(model.state_dict())
    plain.fit_history(model.temporal(model.history.to(dtype=torch.double)))
    user, item = model.tables()
    torch.testing.assert_close((user, item), plain.tables())
    batch = next(iter(model.phases()[0].loader))
    positive, negative = item[batch.positive], item[batch.negative]
    loss = -(user[batch.user] * (positive - negative)).sum(1).sigmoid().log()
    expected = (loss * batch.weight).mean()
    torch.testing.assert_close(model.loss(batch)['bpr'], expected)
    assert batch.weight.unique().numel() > 1


def test_presets_are_the_authors_settings():
    assert list(presets('RecDiff')) == ['ciao', 'epinions', 'yelp']
    for name in presets('RecDiff'):
        RecDiff(20, **preset('RecDiff', name))
    values = preset('RecDiff', 'epinions')
    assert (values['num_timesteps'], values['l2']) == (200, 1e-4)


def test_ties_have_to_be_there():
    data = social_data()
    data[USER_USER].edge_index = torch.empty(2, 0).long()
    for _ in range(2):
        with pytest.raises(ValueError, match=r'needs ties .*trusts.*set social=False'):
            RecDiff.from_data(data)
        RecDiff.from_data(data, social=False)
        del data[USER_USER]
    model = RecDiff(40, 60)
    model.fit_history(interaction_rows(data))
    with pytest.raises(ValueError, match='has no ties yet'):
        model.tables()
    for outside in (-1, 60):
        with pytest.raises(ValueError, match=r"'edge_index' need to lie in \[0, 60\)"):
            model.fit_ties(torch.tensor([[0], [outside]]))


def test_repr_reset_and_bad_arguments():
    model = RecDiff(7, 5, embedding_dim=4)
    assert repr(model) == (
        'RecDiff(7, num_users=5, embedding_dim=4, social=True, '
        "denoising='diffusion', num_timesteps=20)"
    )
    expected = "social=False, denoising='none', num_timesteps=0)"
    assert repr(RecDiff(7, 5, social=False)).endswith(expected)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.reset_parameters()
    for name, param in model.named_parameters():
        assert not torch.equal(before[name], param), name
    RecDiff(7, 5, social=False).reset_parameters()
    for name in ('lr', 'denoiser_lr', 'lr_decay', 'embedding_dim', 'batch_size'):
        with pytest.raises(ValueError, match=f"'{name}' needs to be positive"):
            RecDiff(7, 5, **{name: 0})
    with pytest.raises(ValueError, match=r"'denoising' needs .*\(got 'gan'\)"):
        RecDiff(7, 5, denoising='gan')
    for options in ({}, {'denoising': 'autoencoder'}, {'social': False}):
        with pytest.raises(ValueError, match="'num_noising_steps' needs to lie in"):
            RecDiff(7, 5, num_noising_steps=21, **options)
    with pytest.raises(ValueError, match='has no interactions yet'):
        RecDiff(7, 5).phases()
