import pytest
from click.testing import CliRunner

from pyg_diffrec.bench import parse_suite, plan, tune
from pyg_diffrec.bench import tune as tune_function
from pyg_diffrec.bench.tune import load_space, spaces, suggest
from pyg_diffrec.cli import main

DATA = {'name': 'synthetic', 'num_users': 60, 'num_items': 50}


class Middle:
    """Suggests the first choice or the middle of a range."""

    def suggest_categorical(self, name, choices):
        return choices[0]

    def suggest_int(self, name, low, high, log=False):
        return (low + high) // 2

    def suggest_float(self, name, low, high, log=False):
        return (low + high) / 2


@pytest.mark.parametrize('name', spaces())
def test_every_space_suggests_arguments_of_its_model(name):
    from pyg_diffrec import models
    from pyg_diffrec.models.hyper_parameters import hyper_parameters

    args = suggest(Middle(), load_space(name))
    assert set(args) <= set(hyper_parameters(getattr(models, name)))


def test_search_starts_with_presets(tmp_path):
    lines = []
    start = ['ml-1m_clean published', 'ml-1m_clean chronological'] * 2
    tune('EASE', DATA, 3, tmp_path, start=start, echo=lines.append)
    values = [float(line.split("'l2': ")[1].rstrip('}')) for line in lines[:3]]
    assert values[:2] == [1379.2, 245.5]
    assert values[2] not in values[:2]
    lines.clear()
    tune('EASE', DATA, 4, tmp_path, start=start, echo=lines.append)
    assert [line.split()[0] for line in lines[:1]] == ['[4/4]']
    with pytest.raises(ValueError, match=r"lacks \['dropout'\] of the search"):
        tune('TDiffRec', DATA, 1, tmp_path, start=['yelp_clean'])
    with pytest.raises(ValueError, match='Unknown preset'):
        tune('EASE', DATA, 1, tmp_path, start=['nothing'])


def test_search_chooses_on_validation_and_goes_on(tmp_path, monkeypatch):
    import sys

    module = sys.modules['pyg_diffrec.bench.tune']
    splits = []

    def spy(model, data, split, *args):
        splits.append(split)
        return evaluate(model, data, split, *args)

    evaluate = module.evaluate
    monkeypatch.setattr(module, 'evaluate', spy)
    lines = []
    (path,) = tune('EASE', DATA, 3, tmp_path, metric='Recall@5', echo=lines.append)
    assert set(splits) == {'val'}
    assert len(splits) == 3
    values = [float(line.split()[2]) for line in lines[:3]]
    assert f'{max(values):.4f}' in lines[3]
    lines.clear()
    again = tune('EASE', DATA, 5, tmp_path, metric='Recall@5', echo=lines.append)
    assert again == [path]
    assert [line.split()[0] for line in lines[:2]] == ['[4/5]', '[5/5]']
    assert len(splits) == 5

    models = [{'name': 'EASE', 'preset': str(path)}]
    suite = parse_suite({'datasets': [DATA], 'models': models}, 'mine')
    l2 = next(plan(suite)).model.args['l2']
    assert f"'l2': {l2}" in lines[2]


def test_failed_trials_do_not_stop_the_search(tmp_path, monkeypatch):
    import sys

    module = sys.modules['pyg_diffrec.bench.tune']
    space = {'l2': {'choices': [-1.0, 5.0]}}
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    lines = []
    (path,) = tune_function('EASE', DATA, 12, tmp_path, echo=lines.append)
    assert any("failed: 'l2' must not be negative" in line for line in lines)
    assert 'l2 = 5.0' in path.read_text()
    space['l2'] = {'choices': [-1.0]}
    with pytest.raises(ValueError, match='No trial of .* succeeded'):
        tune_function('EASE', DATA, 2, tmp_path / 'other', echo=lines.append)


def test_hopeless_trials_stop_early(tmp_path, monkeypatch):
    import sys

    module = sys.modules['pyg_diffrec.bench.tune']
    space = {'lr': {'choices': [1e-2, 5e-3, 1e-7]}}
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    data = {'name': 'synthetic', 'num_users': 200, 'num_items': 60}
    lines = []
    tune_function('MFBPR', data, 9, tmp_path, seed=3, epochs=30, echo=lines.append)
    stopped = [line for line in lines if 'stopped early' in line]
    assert stopped
    assert all('1e-07' in line for line in stopped)
    assert '1e-07' not in lines[-1]


def test_roles_share_trials_and_choose_on_their_own(tmp_path, monkeypatch):
    import sys

    module = sys.modules['pyg_diffrec.bench.tune']
    scores = {'a': {10.0: 0.3, 20.0: 0.1}, 'b': {10.0: 0.2, 20.0: 0.5}}
    built = []

    class Fake(module.models.EASE):
        @classmethod
        def from_data(cls, data, l2):
            model = cls(5, l2=l2)
            built.append(l2)
            return model

    def evaluate(model, data, split, metrics, protocol):
        assert split == 'val'
        return {metrics[0]: scores[data][model.l2]}

    monkeypatch.setattr(module.models, 'EASE', Fake)
    monkeypatch.setattr(module, 'evaluate', evaluate)
    monkeypatch.setattr(module, 'check_dataset', lambda spec: None)
    monkeypatch.setattr(module, 'build_dataset', lambda spec, *args: spec['roles'])
    space = {'l2': {'choices': [10.0, 20.0]}}
    monkeypatch.setattr(module, 'load_space', lambda model: space)
    paths = tune(
        'EASE', {'name': 'd'}, 8, tmp_path, roles=['a', 'b'], echo=lambda line: None
    )
    assert [path.name for path in paths] == ['EASE-d-a.toml', 'EASE-d-b.toml']
    assert len(built) == 8
    assert 'l2 = 10.0' in paths[0].read_text()
    assert 'l2 = 20.0' in paths[1].read_text()


def test_command_and_mistakes(tmp_path):
    def call(*args):
        return CliRunner().invoke(main, ['tune', *args, '--out', str(tmp_path)])

    result = call(
        'TDiffRec', '--dataset', 'synthetic', '--trials', '1', '--epochs', '1'
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / 'TDiffRec-synthetic.toml').exists()
    for args, message in [
        (['EAZE', '--dataset', 'synthetic'], "Did you mean 'EASE'"),
        (['MostPopular', '--dataset', 'synthetic'], 'has no search space; models that'),
        (['EASE', '--dataset', 'synthetik'], "Did you mean 'synthetic'"),
        (['EASE', '--dataset', 'synthetic', '--roles', 'x'], "'roles'"),
    ]:
        result = call(*args)
        assert result.exit_code == 2, result.output
        assert message in result.output
    with pytest.raises(ValueError, match='There is no preset file'):
        parse_suite(
            {'datasets': [DATA], 'models': [{'name': 'EASE', 'preset': 'no.toml'}]}, 'm'
        )
