r"""Downloading a file as a whole, or not at all."""

import os
import urllib.request

_TIME_LIMIT = 60.0  # Seconds without a byte.
_CHUNK = 1 << 20
_LARGEST = 1 << 32


def download_url(url: str, folder: str) -> str:
    r"""Downloads a file into a folder, under its own name, and returns its path.

    PyG's own function does not look at the certificate of the server, waits for ever
    for one that falls silent, and takes what arrived before a connection broke for
    the file.

    Raises:
        OSError: If the file cannot be had as a whole.
    """
    path = os.path.join(folder, url.rsplit('/', 1)[1])
    size = 0
    with (
        urllib.request.urlopen(url, timeout=_TIME_LIMIT) as response,
        open(path, 'wb') as file,
    ):
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > _LARGEST:
                raise OSError(f'it has more than {_LARGEST} bytes')
            file.write(chunk)
        claimed = response.headers['Content-Length']
    if claimed is not None and claimed.strip() != str(size):
        raise OSError(f'only {size} of {claimed} bytes arrived')
    return path
