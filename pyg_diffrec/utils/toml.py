r"""Reading TOML files."""

import sys
from pathlib import Path
from typing import Any, Union

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Union[str, Path]) -> dict[str, Any]:
    r"""The content of a TOML file.

    Raises:
        ValueError: If it is not valid TOML; the error names file and line.
    """
    try:
        with open(path, 'rb') as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not valid TOML: {error}") from error
