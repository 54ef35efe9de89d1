import pytest

from pyg_diffrec.bench import dataset_names, load_suite, parse_suite, plan, suite_names
from pyg_diffrec.evaluation import Protocol

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
        ({'metrics': ['Recal@20']}, "Did you mean 'Recall'"),
        ({'metric': 'MRR@5'}, "Unknown metric among 'metrics'"),
        ({'metric': 'Coverage@5', 'metrics': ['Coverage@5']}, 'higher is better'),
        ({'metrics': 'Recall@20'}, "'metrics' needs to be of type 'list'"),
        ({'seeds': ['1']}, "'seeds' needs to be a list of integers"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        parse(**changes)


def test_files_that_do_not_exist_or_do_not_parse(tmp_path):
    with pytest.raises(ValueError, match="Unknown suite 'ml1m'. Did you mean 'ml-1m'"):
        load_suite('ml1m')
    path = tmp_path / 'mine.toml'
    with pytest.raises(ValueError, match='or a path to a .toml file'):
        load_suite(str(path))
    path.write_text('seeds = [1')
    with pytest.raises(ValueError, match='mine.toml.*is not valid TOML'):
        load_suite(str(path))
    assert 'ml-1m_noisy' in dataset_names()
