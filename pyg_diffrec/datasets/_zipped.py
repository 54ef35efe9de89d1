r"""Reading one file of a zip archive of unknown contents."""

import os
import re
import zipfile
from typing import Callable

# The archives that we know hold five times their size. Ones compress a hundredfold,
# the indices beside them do not.
_MOST_TIMES = 100
_MOST_AT_LEAST = 1 << 20

_METHODS = {zipfile.ZIP_BZIP2: "'bzip2'", zipfile.ZIP_LZMA: "'lzma'"}


def _is_outside(name: str) -> bool:
    parts = re.split(r'[/\\]', name)
    return parts[0] == '' or ':' in parts[0] or '..' in parts


class _RefusedError(Exception):
    pass


def read_entry(
    path: str, is_wanted: Callable[[str], bool], wanted: str, is_strict: bool = True
) -> tuple[str, bytes]:
    r"""Reads the one file of an archive that is wanted; nothing is unpacked onto the
    disk.

    Args:
        path (str): The path of the archive.
        is_wanted (callable): Whether a name within the archive is that of the file.
        wanted (str): What to call the file in messages.
        is_strict (bool, optional): Whether any entry that points outside of the
            archive is refused. (default: :obj:`True`)

    Returns:
        The name of the file, and its content.

    Raises:
        ValueError: If the archive is none or damaged, does not hold exactly one such
            file, or one that is compressed by another method than deflate, or larger
            than 1 MiB and than 100 times the archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            outside = [x.filename for x in entries if _is_outside(x.filename)]
            if is_strict and outside:
                raise _RefusedError(
                    f"is refused, because its entry '{outside[0]}' points outside of "
                    f'the archive'
                )
            entry = _only([x for x in entries if is_wanted(x.filename)], wanted)
            _check_size(entry, os.path.getsize(path))
            with archive.open(entry) as file:
                # Without a size it would unpack all there is, and then cut it off.
                return entry.filename, file.read(entry.file_size)
    except _RefusedError as error:
        raise ValueError(f"'{path}' {error}") from None
    except Exception as error:  # A damaged archive may raise anything.
        raise ValueError(
            f"'{path}' is damaged, or no zip archive that can be read "
            f"(got '{str(error) or error.__class__.__name__}')"
        ) from error


def _only(entries: list[zipfile.ZipInfo], wanted: str) -> zipfile.ZipInfo:
    if len(entries) != 1:
        names = [entry.filename for entry in entries[:9]]
        raise _RefusedError(f'needs to hold exactly one {wanted} (got {names})')
    return entries[0]


def _check_size(entry: zipfile.ZipInfo, size: int) -> None:
    name, method = entry.filename, entry.compress_type
    # Only of these does Python unpack no more at a time than it is asked for.
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        called = _METHODS.get(method, f'method {method}')
        raise _RefusedError(
            f"holds '{name}' compressed by {called}: pack it again with 'deflate'"
        )
    most = max(_MOST_TIMES * size, _MOST_AT_LEAST)
    if entry.file_size > most:
        raise _RefusedError(
            f"holds '{name}' of {entry.file_size} bytes in an archive of {size}, where "
            f'at most {most} are expected: if it is sound, pack it again without '
            f'compression'
        )
