r"""Hyper-parameters by name, kept in one TOML file per model."""

from pathlib import Path
from typing import Any

from pyg_diffrec.models.hyper_parameters import check_hyper_parameters
from pyg_diffrec.resolver import unknown
from pyg_diffrec.utils.toml import read_toml

_FOLDER = Path(__file__).parent / 'presets'


def presets(model: str) -> dict[str, dict[str, Any]]:
    r"""All presets of a model, by name; empty if it has none.

    Args:
        model (str): The name of the model, *e.g.* :obj:`'DiffRec'`.
    """
    path = _FOLDER / f'{model}.toml'
    return read_toml(path) if path.exists() else {}


def preset(model: str, name: str) -> dict[str, Any]:
    r"""The hyper-parameters of a preset, for :obj:`Model.from_data(data, **preset)`.

    Args:
        model (str): The name of the model, *e.g.* :obj:`'DiffRec'`.
        name (str): The name of the preset, *e.g.* :obj:`'ml-1m_clean'`, or the path
            of a :obj:`.toml` file such as ``pyg-diffrec tune`` writes.

    Raises:
        ValueError: If the model has no such preset; the error lists the choices. If
            the file is not valid TOML, or holds what the model does not take.
    """
    if not name.endswith('.toml'):
        found = presets(model)
        if name not in found:
            raise ValueError(unknown(f'preset of {model}', name, found))
        return found[name]
    if not Path(name).is_file():
        raise ValueError(f"There is no preset file '{name}'")
    args = read_toml(name)
    check_hyper_parameters(_class_of(model), args, f"preset '{name}' of '{model}'")
    return args


def _class_of(model: str) -> Any:
    from pyg_diffrec import models  # Which imports this file.

    if model not in [*models.MODELS, *models.VARIANTS]:
        raise ValueError(unknown('model', model, [*models.MODELS, *models.VARIANTS]))
    return getattr(models, models.VARIANTS.get(model, (model, {}))[0])
