import itertools

import pytest
import torch
from diff_mm_case import Case, cases
from toy import given_data, toy_data

from pyg_diffrec.data import USER_ITEM, validate
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader.edge_loader import EdgeBatch
from pyg_diffrec.models import MostPopular, Planted, preset, presets
from pyg_diffrec.models.diff_mm import DiffMM
from pyg_diffrec.products import keep_products
from pyg_diffrec.testing import check_model
from pyg_diffrec.training import fit
from pyg_diffrec.typing import RowBatch


def build(case, **kwargs):
    num_items, channels = case.item.shape
    batch, l2, contrast = case['in_batch_reg_ssl'].tolist()
    encoder = case.encoder
    model = DiffMM(
        num_items,
        len(case.user),
        dict(zip(case.names, case['feat_dims'].tolist())),
        dict(zip(case.names, case.projections)),
        encoder.num_layers,
        encoder.graph_weight,
        encoder.norm_weight,
        embedding_dim=channels,
        batch_size=int(batch),
        l2=l2,
        contrast=contrast,
        temperature=case.temperature,
        edge_dropout=0.0,
        hidden_channels=4,
        **kwargs,
    ).double()
    model.fit_history(case.rows)
    model.fit_features(dict(zip(case.names, case.x)))
    case.load(model.encoder)
    with torch.no_grad():
        model.user_embedding.weight.copy_(case.user)
        model.item_embedding.weight.copy_(case.item)
        model.graphs.items.copy_(case.rebuilt)
    return model


def gradients(case, model):
    """Gradients under the names of the authors' code."""
    out = {
        'uEmbeds': model.user_embedding.weight.grad,
        'iEmbeds': model.item_embedding.weight.grad,
        'modal_weight': model.encoder.logits.grad,
    }
    for name, kind, part in zip(case.names, case.projections, model.encoder.encoders):
        if kind == 'linear':
            out[f'{name}_trans.weight'] = part.lin.weight.grad
            out[f'{name}_trans.bias'] = part.lin.bias.grad
        else:
            out[f'{name}_trans'] = part.lin.weight.grad.t()
    return out


@pytest.fixture
def case(golden, m, trans):
    return Case(golden, m, trans)


@cases
@pytest.mark.parametrize(('kind', 'anchor'), [(0, 'modality'), (1, 'main')])
def test_losses_and_gradients_equal_reference_values(case, kind, anchor, assert_exact):
    model = build(case, anchor=anchor)
    assert model.training
    batch = EdgeBatch(case['in_anc'], case['in_pos'], case['in_neg'])
    losses = model.loss(batch)
    assert_exact(losses['bpr'], case[f'cl{kind}_out_bpr'])
    assert_exact(losses['l2'], case[f'cl{kind}_out_reg'])
    assert_exact(losses['contrast'], case[f'cl{kind}_out_cl'])
    assert_exact(losses['total'], case[f'cl{kind}_out_loss'])
    losses['total'].backward()
    expected = case.values.group(f'{case.prefix}cl{kind}_grad_')
    actual = gradients(case, model)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_exact(actual[name], gradient)
    assert all(p.grad is None for p in model.generator.parameters())


@torch.no_grad()
@cases
def test_scores_equal_reference_values(case, assert_exact):
    model = build(case).eval()
    score = model.score(torch.arange(len(case.user)), case.rows)
    assert_exact(score, case['out_user'] @ case['out_item'].t())


SMALL = {'embedding_dim': 8, 'hidden_channels': 8, 'batch_size': 64}
VARIANTS = {
    'default': {},
    'random graphs': {'fusion_ratio': 0.0},
    'mixed graphs': {'fusion_ratio': 0.5, 'rebuild_k': 3},
    'no signal': {'signal': 0.0},
    'no contrast': {'contrast': 0.0},
    'modality as anchor': {'anchor': 'modality'},
    'pooled': {'noise': 'pooled'},
    'noised': {'num_noising_steps': 3},
    'without noise': {'noise_scale': 0.0, 'weighting': 'uniform'},
    'one modality': {'modalities': ['text']},
    'mixed projections': {'projection': {'image': 'matrix', 'text': 'linear'}},
    'other scores': {'drop_when_scoring': True, 'cold_items': 'modality'},
    'weighted': {'temporal': 'linear'},
}


def mm_data(**kwargs):
    return toy_data(modalities={'image': (3, 2), 'text': (2, 2)}, **kwargs)


def small_model(data=None, **kwargs):
    torch.manual_seed(0)
    data = mm_data() if data is None else data
    return DiffMM.from_data(data, **{**SMALL, **kwargs}).double()


def score(model):
    users = torch.arange(model.num_users)
    with torch.no_grad():
        return model.eval().score(users, model.history)


@pytest.mark.parametrize('name', VARIANTS)
def test_contract(name):
    check_model(DiffMM, mm_data(), **SMALL, **VARIANTS[name])


def test_phases_run_in_order_and_own_their_parameters():
    model = small_model(lr=0.3, denoiser_lr=0.1)
    diffusion, graphs, pairs = model.phases()
    assert (diffusion.method, graphs.method) == ('diffusion_loss', 'rebuild')
    assert graphs.optimizer is None
    groups = [phase.optimizer.param_groups[0] for phase in (diffusion, pairs)]
    assert [group['lr'] for group in groups] == [0.1, 0.3]
    owned = [{id(p) for p in group['params']} for group in groups]
    assert owned[0] == {id(p) for p in model.generator.parameters()}
    assert owned[0] | owned[1] == {id(p) for p in model.parameters()}
    assert not owned[0] & owned[1]
    random = small_model(fusion_ratio=0.0)
    assert [phase.name for phase in random.phases()] == ['graphs', 'pairs']
    assert random.generator is None


def test_losses_are_named_by_modality_and_switched_off():
    model = small_model()
    diffusion, _, pairs = model.phases()
    losses = model.diffusion_loss(next(iter(diffusion.loader)))
    parts = ['image', 'image_signal', 'text', 'text_signal']
    assert list(losses) == ['total', *parts]
    total = sum(losses[name] for name in parts)
    torch.testing.assert_close(losses['total'], total)
    assert list(model.loss(next(iter(pairs.loader)))) == [
        'total',
        'bpr',
        'l2',
        'contrast',
    ]
    model = small_model(signal=0.0, contrast=0.0)
    losses = model.diffusion_loss(next(iter(diffusion.loader)))
    assert list(losses) == ['total', 'image', 'text']
    assert 'contrast' not in model.loss(next(iter(pairs.loader)))


def test_signal_compares_with_detached_features_and_embeddings():
    model = small_model(signal=0.7)
    batch = next(iter(model.phases()[0].loader))
    model.diffusion_loss(batch)['total'].backward()
    assert model.item_embedding.weight.grad is None
    assert all(p.grad is None for p in model.encoder.parameters())
    model.generator.eval()
    torch.manual_seed(1)
    losses = model.diffusion_loss(batch)
    torch.manual_seed(1)
    rows = batch.rows.to(dtype=torch.double)
    x, _ = model.item_features()
    features = [part.lin(y) for part, y in zip(model.encoder.encoders, x)]
    expected = model.generator.losses(rows, features, model.item_embedding.weight)
    for name, part in zip(('image', 'text'), expected):
        torch.testing.assert_close(losses[name], part.diffusion.mean())
        signal = 0.7 * part.signal.mean()
        torch.testing.assert_close(losses[f'{name}_signal'], signal)


def test_rebuild_takes_the_best_items_of_the_dense_chain():
    model = small_model(rebuild_k=3).train()
    (everyone,) = model.phases()[1].loader
    losses = model.rebuild(everyone)
    assert model.training
    assert model.generator.training
    x_start, seen = model.history.to_dense().double(), 0.0
    model.generator.eval()
    for denoiser, items in zip(model.generator.denoisers, model.graphs.items):
        with torch.no_grad():
            dense = model.generator.diffusion.p_sample_loop(denoiser, x_start)
        assert torch.equal(items, dense.topk(3).indices)
        seen += x_start.gather(1, items).mean().item() / 2
    assert losses['seen'].item() == pytest.approx(seen)


def test_graphs_are_rebuilt_and_dropped_once_per_epoch():
    model = small_model(edge_dropout=0.5, rebuild_k=2)
    seen = []

    def validate(model):
        model.train()
        seen.append((model.graphs.seed.clone(), model._graphs()[0].rows.value))
        return {'Recall@20': 0.0}

    fit(model, epochs=2, validate=validate, eval_every=1, progress=False)
    (first, dropped), (second, again) = seen
    assert first != second
    assert not torch.equal(dropped, again)
    assert bool((dropped == 0).any())
    model.eval()
    assert bool((model._graphs()[0].rows.value > 0).all())


def test_dropped_graphs_can_be_scored_and_survive_a_state_dict():
    data = mm_data()
    model = small_model(data, drop_when_scoring=True)
    fit(model, epochs=1, progress=False)
    twin = small_model(data, drop_when_scoring=True)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(score(twin), score(model))
    assert not torch.allclose(score(model.rescored()), score(model))


def test_a_rescored_model_shares_its_weights():
    model = small_model()
    args = {'drop_when_scoring': True, 'cold_items': 'modality'}
    assert sorted(args) == sorted(model.scoring_arguments(args))
    view = model.rescored(**args)
    expected = small_model(**args)
    fit(model, epochs=1, progress=False)
    expected.load_state_dict(model.state_dict())
    assert torch.equal(score(view), score(expected))
    assert (model.drop_when_scoring, model.cold_items) == (False, 'embedding')


@torch.no_grad()
def test_scores_are_kept_until_graphs_features_or_weights_change():
    model = small_model().eval()
    users, (x, _) = torch.arange(60), model.item_features()

    def score():
        return model.score(users, model.history)

    seen = [score()]
    with keep_products():
        assert model._scored_tables() is model._scored_tables()
    model.graphs.items.copy_((model.graphs.items + 1) % 40)
    seen.append(score())
    model.fit_features({'image': x[0].flip(0), 'text': x[1]})
    seen.append(score())
    model.encoder.logits[0] += 1.0
    seen.append(score())
    model.rebuild(RowBatch(users, model.history))
    seen.append(score())
    for before, after in itertools.pairwise(seen):
        assert not torch.equal(before, after)


def test_modality_weights_are_reported():
    model = small_model()
    assert model.modality_weights == {'image': 0.5, 'text': 0.5}
    with torch.no_grad():
        model.encoder.logits.copy_(torch.tensor([0.0, 3.0]).log1p())
    assert model.modality_weights == pytest.approx({'image': 0.2, 'text': 0.8})


def test_items_without_a_modality_are_scored_from_the_others():
    data = mm_data()
    data['item'].has_image = torch.ones(40, dtype=torch.bool)
    torch.testing.assert_close(score(small_model(data)), score(small_model()))
    data['item'].has_image[3:5] = False
    data['item'].has_text = torch.ones(40, dtype=torch.bool)
    data['item'].has_text[4] = False
    model = small_model(data)
    first = score(model)
    assert not torch.equal(first, score(small_model()))
    fit(model, epochs=1, progress=False)
    assert bool(score(model).isfinite().all())
    assert bool((score(model)[:, 3:5] != 0).all())
    # What stands in place of missing features does not matter.
    data['item'].x_image[3:5] = 100.0
    data['item'].x_text[4] = 100.0
    assert torch.equal(score(small_model(data)), first)
    # A trained model scores with what is left.
    x = {name: data['item'][f'x_{name}'] for name in ('image', 'text')}
    mask = torch.zeros(40, dtype=torch.bool)
    before = score(model)
    model.fit_features(x, {'image': mask, 'text': data['item'].has_text})
    assert not torch.equal(score(model), before)
    model.fit_features(x, {'image': mask, 'text': mask})
    assert bool((score(model) != 0).all())


def cold_data(cold):
    """The same interactions, of which those with some items are all for test."""
    data = toy_data(
        300, 60, interactions_per_user=15, modalities={'image': (8, 4), 'text': (8, 8)}
    )
    store = data[USER_ITEM]
    held = torch.isin(store.edge_index[1], cold)
    store.train_mask, store.val_mask = store.train_mask & ~held, store.val_mask & ~held
    store.test_mask = store.test_mask | held
    return data


def test_cold_items_are_found_by_their_features():
    cold = torch.arange(12) * 5
    data, shares = cold_data(cold), {}
    options = {'embedding_dim': 16, 'hidden_channels': 16, 'batch_size': 256}
    torch.manual_seed(0)
    model = DiffMM.from_data(data, lr=1e-2, **options)
    fit(model, epochs=10, progress=False)
    for cold_items in ('modality', 'embedding'):
        model = model.rescored(cold_items=cold_items)
        before = score(model)
        metrics = evaluate(model, data, 'test', ['Recall@10'])
        with torch.no_grad():
            model.item_embedding.weight[cold] += 1.0
        lists = model.recommend(range(300), 10).item
        shares[cold_items] = metrics['Recall@10'], torch.isin(lists, cold).any(1)
        assert torch.equal(score(model), before) == (cold_items == 'modality')
        with torch.no_grad():
            model.item_embedding.weight[cold] -= 1.0
    assert shares['modality'][0] > 1.1 * shares['embedding'][0]
    assert shares['modality'][1].double().mean() > 0.3


def test_generated_graphs_come_as_relations():
    data, k = mm_data(), 3
    model = small_model(data, rebuild_k=k)
    fit(model, epochs=1, progress=False)
    out = model.generate_graphs(data)
    assert data.edge_types == [USER_ITEM]
    assert out.edge_types == [
        USER_ITEM,
        *(('user', m, 'item') for m in model.modalities),
    ]
    validate(out)
    x_start = model.history.to_dense().double()
    for i, name in enumerate(model.modalities):
        store = out['user', name, 'item']
        with torch.no_grad():
            dense = model.generator.diffusion.p_sample_loop(
                model.generator.denoisers[i], x_start
            )
        weight, item = dense.topk(k)
        assert torch.equal(store.edge_index[0], torch.arange(60).repeat_interleave(k))
        assert torch.equal(store.edge_index[1], item.view(-1))
        torch.testing.assert_close(store.edge_weight, weight.view(-1))
        assert torch.equal(model.graphs.items[i], item)
    # Users that were not there in training.
    other = model.generate_graphs(mm_data(num_users=7))
    assert other['user', 'text', 'item'].edge_index.shape == (2, 7 * k)


def test_users_and_items_without_interactions_are_scored():
    train, held = [[0, 1], [], [2, 3]], [[2], [1], [0]]
    data = given_data(train, held, [[3], [2], [1]], 6)
    data['item'].x_text = torch.randn(6, 3)
    data['item'].has_text = torch.tensor([True] * 5 + [False])
    model = small_model(data, batch_size=3, cold_items='modality')
    fit(model, epochs=2, progress=False)
    assert bool(score(model).isfinite().all())
    assert bool((score(model) != 0).all())
    assert len(model.recommend([1], 6, exclude='train').item.unique()) == 6


def test_learns_the_planted_groups():
    data = toy_data(
        300, 60, interactions_per_user=15, modalities={'image': (8, 4), 'text': (8, 8)}
    )
    torch.manual_seed(0)
    model = DiffMM.from_data(
        data, embedding_dim=16, hidden_channels=32, batch_size=256, lr=1e-2
    )
    fit(model, epochs=15, progress=False)

    def recall(model):
        return evaluate(model, data, 'test', ['Recall@10'])['Recall@10']

    popular, best = recall(MostPopular.from_data(data)), recall(Planted.from_data(data))
    # Of the way from popularity to the best possible ranking.
    assert 0.55 < (recall(model) - popular) / (best - popular) < 1


class Killed(Exception):
    pass


def test_a_resumed_run_ends_like_a_whole_one(tmp_path):
    data, path = mm_data(), tmp_path / 'checkpoint.pt'
    states = []
    for kill_at in (None, 3):
        calls = []

        def validate(model, calls=calls, kill_at=kill_at):
            calls.append(1)
            if len(calls) == kill_at:
                raise Killed
            return {'Recall@20': float(len(calls))}

        def run(validate=validate, checkpoint=path if kill_at else None):
            model = DiffMM.from_data(data, **SMALL, lr=0.1)
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


def test_reset_parameters_draws_anew_and_forgets_the_graphs():
    model = small_model()
    score(model)
    before = {name: x.clone() for name, x in model.named_parameters()}
    assert not model.graphs.lacks_items
    model.reset_parameters()
    assert model.graphs.lacks_items
    for name, weight in model.named_parameters():
        if name != 'encoder.logits':
            assert not torch.equal(weight, before[name]), name


@pytest.mark.parametrize('name', presets('DiffMM'))
def test_presets_fit(name):
    options = {**preset('DiffMM', name), 'embedding_dim': 4, 'hidden_channels': 4}
    model = small_model(**options)
    for phase in model.phases():
        for batch in phase.loader:
            losses = getattr(model, phase.method)(batch)
            assert bool(losses['total'].isfinite())


def test_bad_features_and_names_are_refused():
    data = mm_data()
    with pytest.raises(
        ValueError, match=r"no features of modality 'audio' \(the items have \['image"
    ):
        small_model(data, modalities=['audio'])
    with pytest.raises(ValueError, match=r"'image' need shape \[40, 6\].*\[40, 5\]"):
        small_model(data, modalities={'image': 6})
    with pytest.raises(ValueError, match='needs at least one modality'):
        small_model(toy_data())
    model = small_model(data)
    out = model.generate_graphs(data)
    for build in (small_model, model.generate_graphs):
        with pytest.raises(
            ValueError, match=r"'image' has the name of the relation \('user', 'image'"
        ):
            build(out)
    data['item'].x_interacts = torch.rand(40, 2)
    with pytest.raises(ValueError, match="'interacts' has the name of the relation"):
        small_model(data)
    data = mm_data()
    data['item'].x_text[7, 1] = float('nan')
    with pytest.raises(ValueError, match="modality 'text' hold NaN .*first is item 7"):
        small_model(data)
    with pytest.raises(ValueError, match="'data' needs 40 items in 'DiffMM'.*got 30"):
        model.generate_graphs(mm_data(num_items=30))
    with pytest.raises(ValueError, match='no diffusion with fusion_ratio=0'):
        small_model(fusion_ratio=0.0).generate_graphs(mm_data())
    model = DiffMM(40, 60, {'image': 2})
    model.fit_history(small_model().history)
    with pytest.raises(ValueError, match=r"\['image'\] are not known yet"):
        model.tables()


def test_bad_arguments_are_refused():
    for options, message in (
        (
            {'rebuild_k': 6},
            r"'rebuild_k' needs to lie in \[1, 5\], the number of items",
        ),
        ({'rebuild_k': 0}, "'rebuild_k' needs"),
        ({'anchor': 'user'}, r"'anchor' needs to be one of \['main', 'modality'\]"),
        ({'anchor': 'modality'}, r"contrasts modalities with each other .*\['image'\]"),
        ({'cold_items': 'none'}, "'cold_items' needs to be one of"),
        ({'projection': {'text': 'linear'}}, r"'projection' needs .*\['image'\].*text"),
        ({'projection': 'cubic'}, "'projection' needs to be one of"),
        ({'temperature': 0.0}, "'denoiser_lr' and 'temperature' need to be positive"),
        ({'contrast': -1.0}, "'contrast' not negative in 'DiffMM'"),
        ({'fusion_ratio': 2.0}, "'fusion_ratio' needs"),
        ({'edge_dropout': 1.0}, "'edge_dropout' needs"),
    ):
        with pytest.raises(ValueError, match=message):
            DiffMM(5, 3, {'image': 2}, **options)
    with pytest.raises(ValueError, match="'num_items' needs to be positive"):
        DiffMM(0)
    text = "DiffMM(40, num_users=60, embedding_dim=8, modalities=['image', 'text'])"
    assert str(small_model()) == text
