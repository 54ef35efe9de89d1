import glob
import hashlib
import http.client
import os
import re
import tempfile
from typing import Callable, Optional

from torch_geometric.data import HeteroData

from pyg_diffrec.data.schema import validate
from pyg_diffrec.datasets._download import download_url
from pyg_diffrec.datasets.base import InteractionDataset, remove_leftovers


class DownloadError(RuntimeError):
    r"""Raw files are missing, and cannot be downloaded."""


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b''.join(parts)).hexdigest()[:16]


def _file_sum(path: str) -> bytes:
    out = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            out.update(chunk)
    return out.digest()


class RawDataset(InteractionDataset):
    r"""The base class of datasets that are made from raw files of known names.

    The raw files lie in :obj:`raw_dir`, which is never written to, or are downloaded
    to :obj:`<root>/<name>/raw`. Processed files lie in
    :obj:`<root>/<name>/processed`, one for each :obj:`roles`, contents of the raw
    files and :obj:`pre_transform`, so that no graph is read for other raw files.
    Where the raw files are gone and one processed file fits, it is used.

    Derived classes give :obj:`names`, :obj:`raw_file_names`, :meth:`download` and
    :meth:`process`, and, as far as they know them, :obj:`checksums` of what is
    downloaded. Files that were put there by hand may have any content.

    Args:
        root (str): The folder for :obj:`<name>`.
        name (str): One of :obj:`names`.
        raw_dir (str, optional): A folder that holds the raw files. Nothing is
            downloaded or written there. (default: :obj:`None`)
        transform (callable, optional): Applied to the graph on every access.
            (default: :obj:`None`)
        pre_transform (callable, optional): Applied to the graph before it is
            saved. Processed files are kept apart by its :meth:`__repr__`: two
            functions of the same name need :obj:`force_reload`.
            (default: :obj:`None`)
        force_reload (bool, optional): Whether to process the raw files again.
            (default: :obj:`False`)

    Raises:
        ValueError: If :obj:`name` is unknown.
        TypeError: If a path is none, or a transform cannot be called.
        FileNotFoundError: If a file is missing in :obj:`raw_dir`.
        RuntimeError: If the files are missing and cannot be downloaded.
    """

    names: tuple[str, ...] = ()
    roles: str = 'published'

    # The SHA-256 sums of the authors' files that we know, by dataset and file, and the
    # revision of their repository that holds these.
    checksums: dict[str, dict[str, str]] = {}
    revision: str = 'HEAD'

    # Raised whenever the processed graph changes, so that no older file is reused.
    layout = 1

    def __init__(
        self,
        root: str,
        name: str,
        raw_dir: Optional[str] = None,
        transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        pre_transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        force_reload: bool = False,
    ) -> None:
        if name not in self.names:
            raise ValueError(
                f"'name' needs to be one of {list(self.names)} in "
                f"'{self.__class__.__name__}' (got '{name}')"
            )
        for key, path in (('root', root), ('raw_dir', raw_dir or root)):
            if not isinstance(path, (str, os.PathLike)):
                raise TypeError(
                    f"'{key}' needs to be a path in '{self.__class__.__name__}' "
                    f'(got {path!r})'
                )
        functions = {'transform': transform, 'pre_transform': pre_transform}
        for key, function in functions.items():
            if function is not None and not callable(function):
                raise TypeError(
                    f"'{key}' needs to be callable in '{self.__class__.__name__}' "
                    f'(got {function!r})'
                )
        self.name = name
        self._raw_dir = None if raw_dir is None else os.path.expanduser(raw_dir)
        self._raw_digest: Optional[str] = None
        super().__init__(
            os.path.expanduser(root),
            transform,
            pre_transform,
            force_reload=force_reload,
        )
        self.load(self.processed_paths[0])

    @property
    def raw_dir(self) -> str:
        return self._raw_dir or os.path.join(self.root, self.name, 'raw')

    @property
    def processed_dir(self) -> str:
        return os.path.join(self.root, self.name, 'processed')

    @property
    def processed_file_names(self) -> str:
        if self._raw_digest is None and not self._missing():
            names = [*self.raw_file_names, *self._optional()]
            self._raw_digest = _digest(*map(self._raw_bytes, names))
        if self._raw_digest is not None:
            return self._processed_name(self._raw_digest)
        processed = self._processed_without_raw()
        return processed[0] if processed else self._processed_name('none')

    def _download(self) -> None:
        missing = self._missing()
        if not missing:
            return
        if not self.force_reload and len(self._processed_without_raw()) == 1:
            return
        if self._raw_dir is not None:
            raise FileNotFoundError(
                f"'{self.raw_dir}' does not hold {missing}: {self._what_to_do()}"
            )
        self.download()

    def _download_folder(self) -> tempfile.TemporaryDirectory:
        # On the file system of the raw files, so that they move there at once.
        home = os.path.join(self.root, self.name)
        os.makedirs(home, exist_ok=True)
        remove_leftovers(os.path.join(glob.escape(home), 'download-*'))
        return tempfile.TemporaryDirectory(dir=home, prefix='download-')

    def _fetch(self, url: str, folder: str) -> str:
        try:
            return download_url(url, folder)
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(
                f"Could not download '{url}' ({error}): {self._what_to_do()}"
            ) from error

    def _known_revision(self, *names: str) -> str:
        # Where the files change that we know, their old revision still has them.
        known = set(names) <= set(self.checksums.get(self.name, {}))
        return self.revision if known else 'HEAD'

    def _check_sum(self, name: str, path: str) -> None:
        expected = self.checksums.get(self.name, {}).get(name)
        found = _file_sum(path).hex()
        if expected is not None and found != expected:
            raise ValueError(
                f"'{name}' as downloaded is not the file that the authors published: "
                f'its SHA-256 sum is {found}, and not {expected}'
            )

    def _save(self, data: HeteroData) -> None:
        # Ends :meth:`process`: what is saved keeps to the schema.
        names = [*self.raw_file_names, *self._optional()]
        where = f"{names} in '{self.raw_dir}'"
        if self.pre_transform is not None:
            data = self.pre_transform(data)
            where += f', after {self.pre_transform!r},'
        try:
            validate(data)
        except (TypeError, ValueError) as error:
            message = f'{where} make no graph of users and items: {error}'
            raise ValueError(message) from error
        self.save([data], self.processed_paths[0])

    def _optional(self) -> list[str]:
        # The names of further raw files that are there.
        return []

    def _missing(self) -> list[str]:
        paths = zip(self.raw_file_names, self.raw_paths, strict=True)
        return [name for name, path in paths if not os.path.isfile(path)]

    def _raw_bytes(self, name: str) -> bytes:
        return _file_sum(os.path.join(self.raw_dir, name))

    def _processed_name(self, raw: str) -> str:
        # Addresses in a function's repr change from run to run.
        pre_transform = re.sub(r' at 0x[0-9a-f]+', '', repr(self.pre_transform))
        key = _digest(pre_transform.encode())
        return f'{self.roles}_v{self.layout}_{key}_{raw}.pt'

    def _processed_without_raw(self) -> list[str]:
        pattern = os.path.join(
            glob.escape(self.processed_dir), self._processed_name('*')
        )
        return [os.path.basename(path) for path in sorted(glob.glob(pattern))]

    def _what_to_do(self) -> str:
        return f"put {self.raw_file_names} of '{self.name}' into '{self.raw_dir}'"

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}('{self.name}')"
