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
        OSError: If it cannot be read.
    """
    try:
        # Some editors begin a file with a byte order mark.
        return tomllib.loads(Path(path).read_text(encoding='utf-8-sig'))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"'{path}' is not valid TOML: byte {error.start} is no UTF-8; save the "
            f'file as UTF-8'
        ) from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"'{path}' is not valid TOML: {error}") from error
