r"""Suites: TOML files that say which models are compared on which data, and how."""

import re
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence, Union, get_type_hints

from pyg_diffrec import models
from pyg_diffrec.bench.data import check_dataset
from pyg_diffrec.evaluation import (
    USER_METRICS,
    Protocol,
    higher_is_better,
    parse_metrics,
)
from pyg_diffrec.models import MODELS, VARIANTS, preset
from pyg_diffrec.models.hyper_parameters import check_hyper_parameters
from pyg_diffrec.resolver import unknown
from pyg_diffrec.typing import History
from pyg_diffrec.utils.arguments import check_argument
from pyg_diffrec.utils.toml import read_toml

_FOLDER = Path(__file__).parent / 'suites'
# Tables in a list, '[[datasets]]' and '[[models]]'.
_Tables = Sequence[Mapping[str, Any]]

#: The keys of a suite, and what they hold.
SUITE_KEYS: dict[str, Any] = {
    'title': str,
    'seeds': Sequence[int],
    'metric': str,
    'metrics': Sequence[str],
    'table': Sequence[str],
    'best_on_test': bool,
    'user_groups': Sequence[int],
    'over': str,
    'protocol': Mapping[str, Any],
    'training': Mapping[str, Any],
    'datasets': _Tables,
    'models': _Tables,
}
#: Those of '[protocol]' and, beside hyper-parameters, of '[[models]]'.
PROTOCOL_KEYS: dict[str, Any] = {
    'history': Union[str, Sequence[str]],
    'empty_users': str,
    'allow_future_history': bool,
}
MODEL_KEYS: dict[str, Any] = {
    'name': str,
    'label': str,
    'preset': str,
    'grid': Mapping[str, Any],
    'training': Mapping[str, Any],
}


@dataclass(frozen=True)
class Training:
    r"""How long models train: arguments of :meth:`pyg_diffrec.training.fit`."""

    epochs: int = 1000
    eval_every: int = 5
    patience: int = 20


TRAINING_KEYS: dict[str, Any] = get_type_hints(Training)


@dataclass(frozen=True)
class ModelSpec:
    r"""A model of a suite.

    Args:
        name (str): The name of the model.
        label (str): What tables and plots call it.
        args (dict): Its hyper-parameters.
        grid (dict): Hyper-parameters of which the best combination on validation is
            chosen, as lists.
        training (dict): How long it trains, where that differs from the suite.
        args_by_dataset (list): Its hyper-parameters on each dataset of the suite,
            where its preset depends on the dataset; :obj:`args` are the first.
    """

    name: str
    label: str
    args: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list] = field(default_factory=dict)
    training: dict[str, int] = field(default_factory=dict)
    args_by_dataset: list[dict[str, Any]] = field(default_factory=list)

    def on(self, dataset: int) -> 'ModelSpec':
        r"""The model as it is on a dataset of the suite, given by its place."""
        if not self.args_by_dataset:
            return self
        args = self.args_by_dataset[dataset]
        return replace(self, args=args, args_by_dataset=[])

    def points(self) -> Iterator[dict[str, Any]]:
        r"""The hyper-parameters of each combination of the grid."""
        for values in product(*self.grid.values()):
            yield {**self.args, **dict(zip(self.grid, values))}


@dataclass(frozen=True)
class Suite:
    r"""What ``pyg-diffrec bench`` runs.

    Args:
        name (str): The name of the file.
        title (str): One line on what it compares.
        datasets (list): The datasets, as arguments including their :obj:`name`.
        histories (list): Per dataset, the test-time histories that it has of its
            own, or :obj:`None`.
        best_on_test (bool): Whether to record, beside the results, the best test
            metrics of all validated epochs, as papers report that choose on test.
        user_groups (list): Numbers of training interactions at which a new group of
            users begins, each measured on its own; none if empty.
        over (str, optional): The key of the datasets, absent or 0 in the first,
            against which a plot shows what of the test metrics is left.
        models (list): The models.
        seeds (list): The seeds; models that do not depend on it run once.
        metric (str): The validation metric that chooses.
        metrics (list): What is measured.
        table (list): What tables show.
        protocols (list): One protocol per test-time history.
        training (Training): How long models train.
    """

    name: str
    title: str
    datasets: list[dict[str, Any]]
    models: list[ModelSpec]
    seeds: list[int]
    metric: str
    metrics: list[str]
    table: list[str]
    protocols: list[Protocol]
    training: Training
    histories: list[Optional[list[History]]] = field(default_factory=list)
    best_on_test: bool = False
    user_groups: list[int] = field(default_factory=list)
    over: Optional[str] = None

    def protocols_of(self, dataset: dict[str, Any]) -> list[Protocol]:
        r"""The protocols of a dataset: those of the suite, unless the dataset has
        histories of its own."""
        index = self.datasets.index(dataset)
        own = self.histories[index] if self.histories else None
        if own is None:
            return self.protocols
        return [replace(self.protocols[0], history=history) for history in own]

    def override(
        self,
        seeds: Optional[Sequence[int]] = None,
        models: Optional[Sequence[str]] = None,
        epochs: Optional[int] = None,
    ) -> 'Suite':
        r"""The suite with other seeds, fewer models, or fewer epochs.

        Raises:
            ValueError: If a model is not part of the suite, a seed is out of range,
                or something is named twice.
        """
        out = self
        if seeds is not None:
            _check_seeds(seeds, 'what was asked for')
            out = replace(out, seeds=list(seeds))
        if epochs is not None:
            specs = [
                replace(spec, training={**spec.training, 'epochs': epochs})
                for spec in out.models
            ]
            training = replace(out.training, epochs=epochs)
            out = replace(out, training=training, models=specs)
        if models is not None:
            if not models:
                raise ValueError(f"'models' needs at least one model of '{self.name}'")
            chosen = [label.lower() for label in models]
            refuse_repeats('models', chosen, 'what was asked for')
            by_label = {spec.label.lower(): spec for spec in out.models}
            for label in models:
                if label.lower() not in by_label:
                    labels = [spec.label for spec in self.models]
                    raise ValueError(unknown(f"model of '{self.name}'", label, labels))
            out = replace(out, models=[by_label[label] for label in chosen])
        return out


def suite_names() -> list[str]:
    r"""The suites that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob('*.toml'))


def load_suite(name: str) -> Suite:
    r"""Reads a suite by its name, or from a TOML file by its path.

    Raises:
        ValueError: If there is no such suite or file, or something in it is unknown,
            of the wrong type or out of range; the error names file and key.
    """
    path = _FOLDER / f'{name}.toml'
    if name.endswith('.toml'):
        path = Path(name)
        if not path.is_file():
            hint = f"; the suite '{path.stem}' needs no '.toml'"
            hint = hint if path.stem in suite_names() else ''
            raise ValueError(f"There is no suite file '{name}'{hint}")
    if not path.is_file():
        raise ValueError(
            unknown('suite', name, suite_names()) + ', or a path to a .toml file'
        )
    table = read_toml(path)
    try:
        return parse_suite(table, path.stem)
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from error


def parse_suite(table: dict[str, Any], name: str) -> Suite:
    r"""Builds a suite from the content of its file.

    Raises:
        ValueError: If something in it is missing, unknown, of the wrong type or out
            of range.
    """
    where = f"suite '{name}'"
    for key in ('datasets', 'models'):
        if not table.get(key):
            raise ValueError(f"'{key}' is missing in {where}")
    _check_table(table, SUITE_KEYS, where)
    metrics = table.get('metrics', ['Recall@20', 'NDCG@20'])
    metric = table.get('metric', 'Recall@20')
    shown = table.get('table', metrics)
    refuse_repeats('metrics', metrics, where)
    for key, names in (('metric', [metric]), ('metrics', metrics)):
        try:
            parse_metrics(names)
        except ValueError as error:
            raise ValueError(f"'{key}' of {where}: {error}") from error
    check_metric(metric, where)
    for value in [metric, *shown]:
        if value not in metrics:
            raise ValueError(
                unknown(f"metric among 'metrics' of {where}", value, metrics)
            )
    refuse_repeats('table', shown, where)
    datasets, histories = [], []
    for dataset in table['datasets']:
        dataset = dict(dataset)
        own = dataset.pop('history', None)
        histories.append(_parse_histories(own, f'a dataset of {where}'))
        datasets.append(_parse_dataset(dataset, where))
    over = _parse_over(table, datasets, where)
    refuse_repeats('datasets', datasets, where)
    seeds = list(table.get('seeds', [1]))
    _check_seeds(seeds, where)
    return Suite(
        name=name,
        title=table.get('title', name),
        datasets=datasets,
        histories=histories,
        best_on_test=table.get('best_on_test', False),
        user_groups=_parse_user_groups(table, where),
        over=over,
        models=_parse_models(table['models'], datasets, where),
        seeds=seeds,
        metric=metric,
        metrics=metrics,
        table=shown,
        protocols=_parse_protocols(table.get('protocol', {}), where),
        training=_parse_training(table.get('training', {}), where),
    )


def check_metric(metric: str, where: str) -> None:
    r"""Refuses a metric that cannot choose, as more of it is no better.

    Raises:
        ValueError: If the metric is unknown or has no direction.
    """
    if not higher_is_better(metric):
        raise ValueError(
            f"'metric' chooses, so that it needs to be one of which higher is better, "
            f"{', '.join(USER_METRICS)}, in {where} (got '{metric}')"
        )


def _check_table(table: dict[str, Any], hints: dict[str, Any], where: str) -> None:
    r"""Raises an error unless all keys are known and hold what they should."""
    for key, value in table.items():
        if key not in hints:
            raise ValueError(unknown(f'key of {where}', key, hints))
        _check_value(key, value, hints[key], where)


def _check_value(key: str, value: Any, hint: Any, where: str) -> None:
    if hint is _Tables and not (
        isinstance(value, list) and all(isinstance(each, dict) for each in value)
    ):
        raise ValueError(
            f"'{key}' needs to be tables, each begun by '[[{key}]]', in {where} "
            f'(got {value!r})'
        )
    try:
        check_argument(key, value, hint, where)
    except TypeError as error:  # In a file, a wrong type is a wrong value.
        raise ValueError(str(error)) from error


def refuse_repeats(key: str, values: Sequence[Any], where: str) -> None:
    r"""Raises an error if a list that means a set names something twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(
                f"'{key}' lists {value!r} more than once in {where}: name each once"
            )


def _check_seeds(seeds: Sequence[int], where: str) -> None:
    # NumPy takes no others.
    if not seeds or not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(
            f"'seeds' needs at least one whole number in [0, 2^32), and no others, in "
            f'{where} (got {seeds})'
        )
    refuse_repeats('seeds', seeds, where)


def _parse_user_groups(table: dict[str, Any], where: str) -> list[int]:
    bounds = table.get('user_groups', [])
    if any(high <= low for low, high in zip([0, *bounds], bounds)):
        raise ValueError(
            f"'user_groups' needs to be a list of rising positive integers in {where} "
            f'(got {bounds})'
        )
    return bounds


def _parse_over(
    table: dict[str, Any], datasets: list[dict[str, Any]], where: str
) -> Optional[str]:
    over = table.get('over')
    if over is None:
        return None
    first, *others = datasets
    same = all(
        {**dataset, over: 0} == {**first, over: 0}
        and isinstance(dataset.get(over), (int, float))
        for dataset in others
    )
    if first.get(over, 0) != 0 or not same or not others:
        raise ValueError(
            f"'over' needs to be a key in which the datasets of {where} differ, and in "
            f"nothing else, absent or 0 in the first (got '{over}')"
        )
    return over


def _parse_dataset(table: dict[str, Any], where: str) -> dict[str, Any]:
    if not table.get('name'):
        raise ValueError(f"'name' is missing in a dataset of {where}")
    _check_value('name', table['name'], str, f'a dataset of {where}')
    check_dataset(table)
    return table


def _parse_models(
    tables: list[dict[str, Any]], datasets: list[dict[str, Any]], where: str
) -> list[ModelSpec]:
    specs = []
    for table in tables:
        own = {key: value for key, value in table.items() if key in MODEL_KEYS}
        _check_table(own, MODEL_KEYS, f'a model of {where}')
        name = own.get('name')
        if name not in [*MODELS, *VARIANTS]:
            choices = [*MODELS, *VARIANTS]
            raise ValueError(unknown(f'model in {where}', str(name), choices))
        label, grid = own.get('label', name), own.get('grid', {})
        place = f"model '{label}' of {where}"
        _parse_training(own.get('training', {}), place)
        presets = _parse_preset(name, own.get('preset'), datasets, where)
        name, variant = VARIANTS.get(name, (name, {}))
        cls = getattr(models, name)
        args = {key: value for key, value in table.items() if key not in MODEL_KEYS}
        check_hyper_parameters(cls, args, place)
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise ValueError(
                    f"'grid.{key}' of {place} needs to be a non-empty list "
                    f'(got {values!r})'
                )
            for value in values:
                check_hyper_parameters(cls, {key: value}, f"'grid' of {place}")
            refuse_repeats(f'grid.{key}', values, place)
        merged = [{**variant, **x, **args} for x in presets]
        spec = ModelSpec(name, label, merged[0], grid, own.get('training', {}))
        specs.append(replace(spec, args_by_dataset=merged if merged[1:] else []))
    labels = [spec.label.lower() for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"Two models are called '{label}' in {where}: give one a 'label'"
            )
    return specs


def _parse_preset(
    model: str, name: Optional[str], datasets: list[dict[str, Any]], where: str
) -> list[dict[str, Any]]:
    r"""The hyper-parameters of a preset; one per dataset if its name holds keys of
    the dataset in braces."""
    if name is None:
        return [{}]
    # Not `format`, in whose braces a name may do more than to be looked up.
    keys = re.findall(r'\{([^{}]*)\}', name)
    if not keys:
        return [preset(model, name)]
    found = []
    for dataset in datasets:
        own = name
        for key in keys:
            if key not in dataset:
                raise ValueError(
                    f"preset '{name}' of '{model}' in {where} needs '{key}' of every "
                    f'dataset'
                )
            own = own.replace(f'{{{key}}}', str(dataset[key]))
        found.append(preset(model, own))
    return found


def _parse_protocols(table: dict[str, Any], where: str) -> list[Protocol]:
    _check_table(table, PROTOCOL_KEYS, f"'protocol' of {where}")
    histories = _parse_histories(table.get('history', ['train']), where)
    options = {key: value for key, value in table.items() if key != 'history'}
    return [Protocol(history=history, **options) for history in histories or []]


def _parse_histories(value: Any, where: str) -> Optional[list[History]]:
    if value is None:
        return None
    _check_value('history', value, PROTOCOL_KEYS['history'], where)
    values: list[Any] = [value] if isinstance(value, str) else value
    if not values:
        raise ValueError(f"'history' needs to name at least one history in {where}")
    refuse_repeats('history', values, where)
    return [Protocol(history=history).history for history in values]


def _parse_training(table: dict[str, Any], where: str) -> Training:
    _check_table(table, TRAINING_KEYS, f"'training' of {where}")
    for key, value in table.items():
        if value < 1:
            raise ValueError(
                f"'training.{key}' needs to be a positive integer in {where} "
                f'(got {value!r})'
            )
    return Training(**table)
