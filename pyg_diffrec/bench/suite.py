r"""Suites: TOML files that say which models are compared on which data, and how."""

import inspect
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from pyg_diffrec import models
from pyg_diffrec.bench.data import check_dataset
from pyg_diffrec.evaluation import USER_METRICS, Protocol, parse_metric
from pyg_diffrec.models import MODELS, VARIANTS, preset
from pyg_diffrec.resolver import unknown
from pyg_diffrec.typing import History
from pyg_diffrec.utils.toml import read_toml

_FOLDER = Path(__file__).parent / 'suites'
_KEYS = ['title', 'seeds', 'metric', 'metrics', 'table', 'protocol', 'training']
_KEYS += ['best_on_test', 'user_groups', 'over', 'datasets', 'models']


@dataclass(frozen=True)
class Training:
    r"""How long models train: arguments of :meth:`pyg_diffrec.training.fit`."""

    epochs: int = 1000
    eval_every: int = 5
    patience: int = 20


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
            ValueError: If a model is not part of the suite.
        """
        out = self
        if seeds:
            out = replace(out, seeds=list(seeds))
        if epochs is not None:
            specs = [
                replace(spec, training={**spec.training, 'epochs': epochs})
                for spec in out.models
            ]
            training = replace(out.training, epochs=epochs)
            out = replace(out, training=training, models=specs)
        if models:
            by_label = {spec.label.lower(): spec for spec in out.models}
            for label in models:
                if label.lower() not in by_label:
                    labels = [spec.label for spec in self.models]
                    raise ValueError(unknown(f"model of '{self.name}'", label, labels))
            out = replace(out, models=[by_label[label.lower()] for label in models])
        return out


def suite_names() -> list[str]:
    r"""The suites that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob('*.toml'))


def load_suite(name: str) -> Suite:
    r"""Reads a suite by its name, or from a TOML file by its path.

    Raises:
        ValueError: If there is no such suite, or something in it is unknown or out
            of range; the error names it.
    """
    path = _FOLDER / f'{name}.toml'
    if name.endswith('.toml'):
        path = Path(name)
    if not path.is_file():
        raise ValueError(
            unknown('suite', name, suite_names()) + ', or a path to a .toml file'
        )
    return parse_suite(read_toml(path), path.stem)


def parse_suite(table: dict[str, Any], name: str) -> Suite:
    r"""Builds a suite from the content of its file."""
    where = f"suite '{name}'"
    _check_keys(table, _KEYS, where, required=['datasets', 'models'])
    metrics = _typed(table, 'metrics', list, where, ['Recall@20', 'NDCG@20'])
    metric = _typed(table, 'metric', str, where, 'Recall@20')
    shown = _typed(table, 'table', list, where, metrics)
    for value in [metric, *metrics]:
        parse_metric(value)
    check_metric(metric, where)
    for value in [metric, *shown]:
        if value not in metrics:
            raise ValueError(
                unknown(f"metric among 'metrics' of {where}", value, metrics)
            )
    datasets, histories = [], []
    for dataset in table['datasets']:
        dataset = dict(dataset)
        histories.append(_parse_histories(dataset.pop('history', None)))
        datasets.append(_parse_dataset(dataset, where))
    seeds = _typed(table, 'seeds', list, where, [1])
    if not seeds or not all(type(seed) is int for seed in seeds):
        raise ValueError(f"'seeds' needs to be a list of integers in {where}")
    return Suite(
        name=name,
        title=_typed(table, 'title', str, where, name),
        datasets=datasets,
        histories=histories,
        best_on_test=_typed(table, 'best_on_test', bool, where, False),
        user_groups=_parse_user_groups(table, where),
        over=_parse_over(table, datasets, where),
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
    name, _ = parse_metric(metric)
    if name not in USER_METRICS:
        raise ValueError(
            f"'metric' chooses, so that it needs to be one of which higher is better, "
            f"{', '.join(USER_METRICS)}, in {where} (got '{metric}')"
        )


def _parse_user_groups(table: dict[str, Any], where: str) -> list[int]:
    bounds = _typed(table, 'user_groups', list, where, [])
    if any(type(bound) is not int for bound in bounds) or any(
        high <= low for low, high in zip([0, *bounds], bounds)
    ):
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


def _check_keys(
    table: dict[str, Any],
    allowed: Sequence[str],
    where: str,
    required: Sequence[str] = (),
) -> None:
    for key in table:
        if key not in allowed:
            raise ValueError(unknown(f'key of {where}', key, allowed))
    for key in required:
        if not table.get(key):
            raise ValueError(f"'{key}' is missing in {where}")


def _typed(
    table: dict[str, Any], key: str, kind: type, where: str, default: Any
) -> Any:
    value = table.get(key, default)
    if not isinstance(value, kind):
        raise ValueError(
            f"'{key}' needs to be of type '{kind.__name__}' in {where} (got {value!r})"
        )
    return value


def _parse_dataset(table: dict[str, Any], where: str) -> dict[str, Any]:
    _check_keys(table, list(table), f'a dataset of {where}', required=['name'])
    check_dataset(table)
    return dict(table)


def _parse_models(
    tables: list[dict[str, Any]], datasets: list[dict[str, Any]], where: str
) -> list[ModelSpec]:
    specs = []
    for table in tables:
        table = dict(table)
        name = table.pop('name', None)
        if name not in [*MODELS, *VARIANTS]:
            choices = [*MODELS, *VARIANTS]
            raise ValueError(unknown(f'model in {where}', str(name), choices))
        label, grid = table.pop('label', name), table.pop('grid', {})
        training = table.pop('training', {})
        _parse_training(training, f"model '{label}' of {where}")
        presets = _parse_preset(name, table.pop('preset', None), datasets, where)
        name, args = VARIANTS.get(name, (name, {}))
        allowed = _hyper_parameters(getattr(models, name))
        _check_keys({**table, **grid}, allowed, f"model '{label}' of {where}")
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise ValueError(
                    f"'grid.{key}' of model '{label}' needs to be a non-empty list "
                    f'in {where} (got {values!r})'
                )
        merged = [{**args, **x, **table} for x in presets]
        spec = ModelSpec(name, label, merged[0], grid, training)
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
    if '{' not in name:
        return [preset(model, name)]
    try:
        return [preset(model, name.format_map(dataset)) for dataset in datasets]
    except KeyError as error:
        raise ValueError(
            f"preset '{name}' of '{model}' in {where} needs {error} of every dataset"
        ) from error


def _hyper_parameters(cls: Any) -> list[str]:
    r"""The arguments that a suite may give a model: those of its constructor and of
    its :meth:`from_data`."""
    found = dict(inspect.signature(cls.from_data).parameters)
    for base in cls.__mro__:  # Constructors pass further arguments on to their base.
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            found.update(parameters)
            if 'kwargs' not in parameters:
                break
    others = ('self', 'num_items', 'num_users', 'data', 'kwargs')
    return [key for key in found if key not in others]


def _parse_protocols(table: dict[str, Any], where: str) -> list[Protocol]:
    allowed = ['history', 'empty_users', 'allow_future_history']
    _check_keys(table, allowed, f"'protocol' of {where}")
    histories = _parse_histories(table.get('history', ['train']))
    options = {key: value for key, value in table.items() if key != 'history'}
    return [Protocol(history=history, **options) for history in histories or []]


def _parse_histories(value: Any) -> Optional[list[History]]:
    if value is None:
        return None
    values: list[Any] = [value] if isinstance(value, str) else value
    return [Protocol(history=history).history for history in values]


def _parse_training(table: dict[str, Any], where: str) -> Training:
    _check_keys(table, list(asdict(Training())), f"'training' of {where}")
    for key, value in table.items():
        if type(value) is not int or value < 1:
            raise ValueError(
                f"'training.{key}' needs to be a positive integer in {where} "
                f'(got {value!r})'
            )
    return Training(**table)
