import math
import re
import sys
from datetime import date, datetime
from pathlib import Path

import pytest

from pyg_diffrec import models
from pyg_diffrec.bench import dataset_names, load_suite, parse_suite, plan, suite_names
from pyg_diffrec.bench.data import dataset_arguments
from pyg_diffrec.bench.suite import (
    MODEL_KEYS,
    PROTOCOL_KEYS,
    SUITE_KEYS,
    TRAINING_KEYS,
)
from pyg_diffrec.bench.tune import load_space, spaces
from pyg_diffrec.evaluation import Protocol
from pyg_diffrec.models import MODELS, VARIANTS, presets
from pyg_diffrec.models.hyper_parameters import check_hyper_parameters
from pyg_diffrec.utils.toml import tomllib

MINIMAL = {'datasets': [{'name': 'synthetic'}], 'models': [{'name': 'EASE'}]}


def parse(**changes):
    return parse_suite({**MINIMAL, **changes}, 'mine')


@pytest.mark.parametrize('name', suite_names())
def test_suites_of_the_package_are_valid(name):
    suite = load_suite(name)
    assert suite.title != name  # What a suite without a title is called.
    assert list(plan(suite))


def test_ml_1m_follows_the_authors():
    suite = load_suite('ml-1m')
    assert suite.seeds == [1, 2, 3]
    assert suite.metric == 'Recall@20'
    assert suite.protocols == [Protocol(history='train')]
    assert suite.datasets == [{'name': 'ml-1m_clean', 'roles': 'published'}]
    assert [run.seed for run in plan(suite)] == [1, 2, 3, 1, 1]


def test_grid_and_preset():
    suite = parse(
        models=[
            {'name': 'EASE', 'grid': {'l2': [1.0, 2.0]}},
            {'name': 'DiffRec', 'preset': 'ml-1m_clean', 'lr': 0.5, 'label': 'fast'},
        ]
    )
    ease, diffrec = suite.models
    assert list(ease.points()) == [{'l2': 1.0}, {'l2': 2.0}]
    assert diffrec.label == 'fast'
    assert (diffrec.args['lr'], diffrec.args['num_timesteps']) == (0.5, 40)


def test_preset_may_depend_on_the_dataset():
    data = [{'name': f'ml-1m_{x}', 'roles': 'published'} for x in ('clean', 'noisy')]
    models = [{'name': 'DiffRec', 'preset': '{name}', 'lr': 0.5}, {'name': 'EASE'}]
    suite = parse(datasets=data, models=models)
    clean, _, noisy, _ = plan(suite)
    assert (clean.model.args['num_timesteps'], clean.model.args['lr']) == (40, 0.5)
    assert (noisy.model.args['num_timesteps'], noisy.model.args['lr']) == (5, 0.5)
    models[0]['preset'] = '{name} {share}'
    with pytest.raises(ValueError, match="needs 'share' of every dataset"):
        parse(datasets=data, models=models)


@pytest.mark.parametrize('bounds', [[5, 5], [0, 3], [4, 2], [2.5], 7])
def test_bounds_of_user_groups_rise(bounds):
    with pytest.raises(ValueError, match="'user_groups' needs to be"):
        parse(user_groups=bounds)


@pytest.mark.parametrize(
    'shares', [[{}], [{'random_share': 0.1}, {'random_share': 0.2}], [{}, {}]]
)
def test_over_is_what_the_datasets_differ_in(shares):
    data = [{'name': 'synthetic', **share} for share in shares]
    with pytest.raises(ValueError, match="'over' needs to be a key"):
        parse(datasets=data, over='random_share')
    data = [{'name': 'synthetic'}, {'name': 'synthetic', 'random_share': 0.1}]
    assert parse(datasets=data, over='random_share').over == 'random_share'
    data[1]['num_users'] = 30
    with pytest.raises(ValueError, match="'over' needs to be a key"):
        parse(datasets=data, over='random_share')


def test_variant_is_its_model_with_other_arguments():
    suite = parse(
        models=[
            {'name': 'TDiffRec'},
            {'name': 'TDiffRec', 'label': 'b', 'temporal': {'form': 'hyperbolic'}},
        ]
    )
    first, second = suite.models
    assert (first.name, first.label) == ('DiffRec', 'TDiffRec')
    assert first.args == {'temporal': 'linear'}
    assert second.args == {'temporal': {'form': 'hyperbolic'}}


def test_a_model_may_train_longer_than_the_others():
    models = [{'name': 'DiffRec'}, {'name': 'GiffCF', 'training': {'patience': 200}}]
    suite = parse(models=models, seeds=[1])
    short, long = plan(suite)
    assert (short.training['patience'], long.training['patience']) == (20, 200)
    assert short.training['epochs'] == long.training['epochs'] == 1000
    short, long = plan(suite.override(epochs=7))
    assert short.training['epochs'] == long.training['epochs'] == 7
    assert long.training['patience'] == 200


def test_override():
    suite = load_suite('default').override(seeds=[4, 5], models=['diffrec'], epochs=3)
    assert [(run.model.label, run.seed) for run in plan(suite)] == [
        ('DiffRec', 4),
        ('DiffRec', 5),
    ]
    assert suite.training.epochs == 3
    with pytest.raises(ValueError, match="Unknown model of 'default' 'Eas'.*'EASE'"):
        load_suite('default').override(models=['Eas'])


def test_key_changes_with_all_that_decides_the_numbers():
    base = {
        'seeds': [1],
        'models': [{'name': 'DiffRec', 'lr': 0.1}],
        'training': {'epochs': 5},
        'protocol': {'history': 'train'},
        'metrics': ['Recall@20'],
    }
    changes = [
        {},
        {'seeds': [2]},
        {'models': [{'name': 'DiffRec', 'lr': 0.2}]},
        {'datasets': [{'name': 'synthetic', 'seed': 1}]},
        {'training': {'epochs': 6}},
        {'protocol': {'history': 'train+val'}},
        {'protocol': {'empty_users': 'zero'}},
        {'metrics': ['Recall@20', 'NDCG@5']},
    ]
    keys = [next(plan(parse(**{**base, **change}))).key for change in changes]
    assert len(set(keys)) == len(changes)
    renamed = parse(**base, title='other')
    assert next(plan(renamed)).key == keys[0]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'sedes': [1]}, "Unknown key of suite 'mine' 'sedes'. Did you mean 'seeds'"),
        ({'models': []}, "'models' is missing in suite 'mine'"),
        ({'models': [{'name': 'Eaze'}]}, "Unknown model in suite 'mine' 'Eaze'"),
        ({'models': [{'name': 'EASE', 'l3': 1.0}]}, "'l3'. Did you mean 'l2'"),
        ({'models': [{'name': 'SimGCL', 'alpha': [1.0]}]}, "Unknown key .* 'alpha'"),
        ({'models': [{'name': 'EASE', 'grid': {'l3': [1]}}]}, "Did you mean 'l2'"),
        ({'models': [{'name': 'EASE', 'grid': {'l2': 1}}]}, 'a non-empty list'),
        ({'models': [{'name': 'EASE'}] * 2}, "Two models are called 'ease'"),
        ({'datasets': [{'name': 'ml-1m'}]}, "Unknown dataset 'ml-1m'. Did you mean"),
        ({'datasets': [{'role': 'x'}]}, "'name' is missing in a dataset"),
        ({'datasets': [{'name': 'synthetic', 'num_user': 3}]}, "mean 'num_users'"),
        ({'protocol': {'histroy': 'train'}}, "Did you mean 'history'"),
        ({'protocol': {'history': 'test'}}, "'history' needs to be one of"),
        ({'training': {'epoch': 3}}, "Did you mean 'epochs'"),
        ({'training': {'epochs': 0}}, "'training.epochs' needs to be a positive"),
        ({'models': [{'name': 'EASE', 'training': {'epoch': 1}}]}, "mean 'epochs'"),
        ({'metrics': ['Recal@20']}, "'metrics' of suite 'mine': .*mean 'Recall'"),
        ({'metrics': ['Recall@²']}, "'metrics' of suite 'mine': "),
        ({'metric': 'Recall'}, "'metric' of suite 'mine': .*list length"),
        ({'metric': 'MRR@5'}, "Unknown metric among 'metrics'"),
        ({'metric': 'Coverage@5', 'metrics': ['Coverage@5']}, 'higher is better'),
        ({'metrics': 'Recall@20'}, "'metrics' needs to be a list of strings"),
        ({'seeds': ['1']}, "'seeds' needs to be a list of whole numbers"),
        ({'seeds': '1'}, "'seeds' needs to be a list of whole numbers in suite 'mine'"),
        ({'seeds': [-1]}, r"'seeds' needs .*\[0, 2\^32\)"),
        ({'seeds': []}, "'seeds' needs at least one"),
        ({'title': 3}, "'title' needs to be a string"),
        ({'metric': ['Recall@20']}, "'metric' needs to be a string"),
        ({'table': 'Recall@20'}, "'table' needs to be a list of strings"),
        ({'best_on_test': 1}, "'best_on_test' needs to be true or false"),
        ({'user_groups': [True]}, "'user_groups' needs to be a list of whole numbers"),
        ({'over': [0]}, "'over' needs to be a string in suite 'mine'"),
        ({'datasets': 3}, r"'datasets' needs to be tables.*'\[\[datasets\]\]'"),
        ({'datasets': ['synthetic']}, r"'datasets' needs to be tables"),
        ({'datasets': {'name': 'synthetic'}}, r"'datasets' needs to be tables"),
        ({'datasets': [{'name': 3}]}, "'name' needs to be a string in a dataset"),
        ({'datasets': [{'name': ['a']}]}, "'name' needs to be a string in a dataset"),
        ({'models': date(1979, 5, 27)}, r"'models' needs to be tables.*got"),
        ({'models': {'a': 1}}, r"'models' needs to be tables.*'\[\[models\]\]'"),
        ({'models': [{'name': 'EASE', 'label': [1]}]}, "'label' needs to be a string"),
        ({'models': [{'name': 'EASE', 'preset': 3}]}, "'preset' needs to be a string"),
        ({'models': [{'name': 'EASE', 'grid': 0.5}]}, "'grid' needs to be a dict"),
        (
            {'models': [{'name': 'EASE', 'training': 5}]},
            "'training' needs to be",
        ),
        ({'training': 'long'}, "'training' needs to be a dictionary"),
        ({'training': {'epochs': True}}, "'epochs' needs to be a whole number"),
        ({'protocol': ['train']}, "'protocol' needs to be a dictionary"),
        ({'protocol': {'history': 3.5}}, "'history' needs to be a string or a list"),
        ({'protocol': {'history': []}}, "'history' needs to name at least one"),
        ({'protocol': {'empty_users': 1}}, "'empty_users' needs to be a string"),
        (
            {'protocol': {'allow_future_history': 'no'}},
            "'allow_future_history' needs to be true or false in 'protocol' of suite",
        ),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        parse(**changes)


def test_files_that_do_not_exist_or_do_not_parse(tmp_path):
    with pytest.raises(ValueError, match="Unknown suite 'ml1m'. Did you mean 'ml-1m'"):
        load_suite('ml1m')
    path = tmp_path / 'mine.toml'
    with pytest.raises(ValueError, match=r"There is no suite file '.*mine\.toml'"):
        load_suite(str(path))
    with pytest.raises(ValueError, match=r"no suite file.*'ml-1m' needs no '\.toml'"):
        load_suite('ml-1m.toml')
    for content, message in (
        (b'seeds = [1', 'is not valid TOML'),
        (b'title = "\xff"', 'byte 9 is no UTF-8; save'),
        (b'seeds = ' + b'[' * 100_000, 'is not valid TOML'),
        (b'seeds = ' + b'1' * 5000, 'is not valid TOML'),
        (b'seeds = [1]\n[models]\na = 1', "'datasets' is missing in suite 'mine'"),
        (b'[[datasets]]\nname = "x"\n[models]\na = 1', "'models' needs to be tables"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f'mine.toml.*{message}'):
            load_suite(str(path))
    # As some editors begin a file.
    text = '[[datasets]]\nname = "synthetic"\n[[models]]\nname = "EASE"\n'
    path.write_text(text, encoding='utf-8-sig')
    assert load_suite(str(path)).models[0].name == 'EASE'
    assert 'ml-1m_noisy' in dataset_names()


@pytest.mark.parametrize(
    ('model', 'key', 'value', 'needed'),
    [
        ('DiffRec', 'lr', 'abc', 'a number'),
        ('DiffRec', 'lr', True, 'a number'),
        ('DiffRec', 'lr', math.inf, 'positive|finite'),
        ('DiffRec', 'hidden_channels', ['a'], 'a whole number or a list'),
        ('DiffRec', 'norm', -1, 'true or false'),
        ('DiffRec', 'act', 3.0, 'a string'),
        ('DiffRec', 'act', 'tanhh', "Could not resolve 'tanhh'"),
        ('DiffRec', 'act', 'threshold', 'missing'),
        ('DiffRec', 'schedule', 'quadratic', "Unknown schedule 'quadratic'"),
        ('DiffRec', 'weighting', 'none', "Unknown weighting 'none'"),
        ('DiffRec', 'timestep_sampler', 'none', "Unknown timestep sampler 'none'"),
        ('DiffRec', 'temporal', 'quadratic', "Unknown temporal form 'quadratic'"),
        (
            'DiffRec',
            'temporal',
            {'form': 'linear', 'w': 1},
            "temporal form 'linear' 'w'",
        ),
        ('DiffRec', 'temporal', {'form': 'hyperbolic', 'h': math.nan}, "'h' needs"),
        ('DiffRec', 'noise_seed', [], 'a whole number'),
        ('DiffRec', 'num_timesteps', 10**9, 'at most'),
        ('DiffRec', 'lr', date(1979, 5, 27), 'a number'),
        ('SimGCL', 'temperature', math.inf, 'finite'),
        ('DiffNet', 'layer_weight', 'abc', 'true or false'),
        ('MultiVAE', 'latent_channels', 0.5, 'a whole number'),  # Of its base.
        ('LDiffRec', 'num_clusters', '2', 'a whole number'),  # Of `from_data`.
        ('LDiffRec', 'annealing', {'elbo': 1.0}, "an? 'Annealing'"),
        ('LDiffRec', 'cluster_seed', -1, 'negative'),
        ('TDiffRec', 'temporal_training', [], 'true or false'),
    ],
)
def test_hyper_parameters_are_checked_before_anything_trains(model, key, value, needed):
    place = "model 'one' of suite 'mine'"
    table = {'name': model, 'label': 'one'}
    with pytest.raises(ValueError, match=f"'{key}'.*{place}") as caught:
        parse(models=[{'name': 'EASE'}, {**table, key: value}])
    assert re.search(needed, str(caught.value))
    with pytest.raises(ValueError, match=f"'{key}'.*'grid' of {place}"):
        parse(models=[{**table, 'grid': {key: [value]}}])


def test_what_a_preset_file_holds_is_checked(tmp_path):
    path = tmp_path / 'mine.toml'
    spec = {'name': 'LTDiffRec', 'preset': str(path)}
    for content, message in (
        ('lr = "abc"', "'lr' needs to be a number"),
        ('lr = nan', "'lr' needs to be positive"),
        ('lrr = 0.1', "'lrr'. Did you mean 'lr'"),
        ('[other]\nlr = 0.1', "Unknown key of preset .* 'other'"),
    ):
        path.write_text(content, encoding='utf-8')
        with pytest.raises(ValueError, match=message) as caught:
            parse(models=[spec])
        assert f"preset '{path}' of 'LTDiffRec'" in str(caught.value)
    path.write_text('lr = 0.1', encoding='utf-8')
    assert parse(models=[spec]).models[0].args == {'temporal': 'linear', 'lr': 0.1}


@pytest.mark.parametrize('model', [*MODELS, *VARIANTS])
def test_presets_of_the_package_hold_what_the_model_takes(model):
    cls = getattr(models, VARIANTS.get(model, (model, {}))[0])
    for name, args in presets(model).items():
        check_hyper_parameters(cls, args, name)


def test_spaces_hold_what_the_model_takes(tmp_path, monkeypatch):
    assert all(load_space(model) for model in spaces())
    module = sys.modules['pyg_diffrec.bench.tune']
    monkeypatch.setattr(module, '_FOLDER', tmp_path)
    for content, message in (
        ('l2 = { low = 1.0, high = inf }', "'l2' needs to be finite"),
        ('l2 = { choices = [1.0, "a"] }', "'l2' needs to be a number"),
        ('l3 = { choices = [1.0] }', "'l3'. Did you mean 'l2'"),
    ):
        (tmp_path / 'EASE.toml').write_text(content, encoding='utf-8')
        with pytest.raises(ValueError, match=message):
            load_space('EASE')


@pytest.mark.parametrize(
    ('name', 'key', 'value', 'needed'),
    [
        ('synthetic', 'num_users', 'many', 'a whole number'),
        ('synthetic', 'num_groups', 0, 'positive'),
        ('synthetic', 'num_social', math.nan, 'finite'),
        ('synthetic', 'modalities', {'image': 'wide'}, 'a dictionary of lists'),
        ('synthetic', 'random_share', '0.1', 'a number'),
        ('ml-1m_clean', 'roles', 'other', r"one of \['published', 'chronological'\]"),
        ('ml-1m_clean', 'roles', 3, 'one of'),
        ('tiktok', 'modalities', 'image', 'a list of strings'),
        ('ciao', 'rewired_share', 1.5, r'lie in \[0, 1\]'),
        ('ciao', 'rewired_share', datetime(1979, 5, 27), 'a number'),
    ],
)
def test_arguments_of_datasets_are_checked(name, key, value, needed):
    with pytest.raises(ValueError, match=f"'{key}' needs .*{needed}.*'{name}'"):
        parse(datasets=[{'name': name, key: value}])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'seeds': [1, 2, 1]}, "'seeds' lists 1 more than once in suite 'mine'"),
        ({'metrics': ['Recall@20', 'Recall@20']}, "'metrics' lists .* more than once"),
        ({'table': ['Recall@20'] * 2}, "'table' lists 'Recall@20' more than once"),
        ({'datasets': [{'name': 'synthetic'}] * 2}, "'datasets' lists .*'synthetic'"),
        (
            {'datasets': [{'name': 'synthetic', 'history': x} for x in ('train', [])]},
            'at least one',
        ),
        ({'protocol': {'history': ['train', 'train']}}, "'history' lists 'train' more"),
        (
            {'models': [{'name': 'EASE', 'grid': {'l2': [1, 2.0, 1.0]}}]},
            "'grid.l2' lists 1.0 more than once in model 'EASE'",
        ),
    ],
)
def test_what_means_a_set_names_each_once(changes, message):
    with pytest.raises(ValueError, match=message):
        parse(**changes)


def test_overriding_with_a_set_names_each_once():
    suite = load_suite('default')
    for changes, message in (
        ({'seeds': [1, 1]}, "'seeds' lists 1 more than once"),
        ({'models': ['EASE', 'ease']}, "'models' lists 'ease' more than once"),
        ({'seeds': [-1]}, "'seeds' needs"),
        ({'seeds': []}, "'seeds' needs"),
        ({'models': []}, "'models' needs at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            suite.override(**changes)


def test_a_name_of_a_preset_looks_keys_up_and_does_no_more():
    for name in ('{name.__class__}', '{name:1000000000}', '{0}', '{'):
        with pytest.raises(ValueError, match='preset'):
            parse(models=[{'name': 'DiffRec', 'preset': name}])


def test_the_page_on_suites_names_every_key():
    page = (Path(__file__).parents[2] / 'docs' / 'suites.md').read_text('utf-8')
    keys = [*SUITE_KEYS, *MODEL_KEYS, *PROTOCOL_KEYS, *TRAINING_KEYS, 'history']
    for name in dataset_names():
        keys += dataset_arguments(name)
    for key in keys:
        assert re.search(rf'^\| `{key}` \|', page, re.MULTILINE), key


def test_examples_of_the_page_on_suites_are_valid():
    page = (Path(__file__).parents[2] / 'docs' / 'suites.md').read_text('utf-8')
    examples = re.findall(r'```toml\n(.*?)```', page, re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        assert list(plan(parse_suite(tomllib.loads(example), 'example')))
