import glob
import os
import shutil
import time
import uuid
import zipfile
from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_diffrec.data.schema import validate

_DAY = 24 * 60 * 60.0


def remove_leftovers(pattern: str) -> None:
    r"""Removes the files and folders of a pattern that nobody touched for a day: those
    of processes that were killed, and not of others that still run."""
    for path in glob.glob(pattern):
        try:
            if time.time() - os.stat(path).st_mtime < _DAY:
                continue
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        except OSError:  # Another process was faster.
            continue


def _check_sums(path: str) -> None:
    # PyTorch compares no check sums, and would unpack whatever is compressed.
    with zipfile.ZipFile(path) as archive:
        packed = [x.filename for x in archive.infolist() if x.compress_type != 0]
        damaged = packed[0] if packed else archive.testzip()
    if damaged is not None:
        raise ValueError(f"its entry '{damaged}' is not what was saved")


class InteractionDataset(InMemoryDataset):
    r"""The base class of all datasets: one :class:`HeteroData` in memory, whose
    processed file holds tensors, numbers and strings and never runs code.

    PyG's own :meth:`load` falls back to unpickling arbitrary objects where the safe
    way fails, and it unpickles :obj:`pre_transform.pt` and :obj:`pre_filter.pt`
    beside the processed file. Here neither happens: :meth:`load` knows only the
    safe way, and those two files are neither written nor read. A dataset whose
    processed file depends on :obj:`pre_transform` says so in
    :obj:`processed_file_names`.
    """

    @classmethod
    def save(cls, data_list: Sequence[HeteroData], path: str) -> None:
        r"""Writes the one graph of the dataset to :obj:`path`, all or nothing: a
        process that is killed on the way leaves no half a file there.

        Raises:
            ValueError: If there is more than one graph, or none.
        """
        if len(data_list) != 1:
            raise ValueError(
                f"'{cls.__name__}' holds one graph (got {len(data_list)} to save)"
            )
        partial = f'{path}.{uuid.uuid4().hex}.tmp'
        try:
            torch.save(data_list[0].to_dict(), partial)
            os.replace(partial, path)
        finally:
            if os.path.exists(partial):
                os.remove(partial)

    def load(self, path: str, data_cls: Any = HeteroData) -> None:
        r"""Reads the graph that :meth:`save` wrote.

        Raises:
            ValueError: If the file is damaged, holds objects whose loading would run
                code, or a graph that breaks the schema.
        """
        try:
            _check_sums(path)
            mapping = torch.load(path, map_location='cpu', weights_only=True)
            data = validate(data_cls.from_dict(mapping))
        except Exception as error:  # A damaged file may raise anything.
            raise ValueError(
                f"'{path}' is damaged or holds more than tensors, numbers and strings: "
                f"remove it and process again, and let 'pre_transform' add nothing "
                f"else (got '{str(error)[:300] or error.__class__.__name__}')"
            ) from error
        self.data, self.slices = data, None

    def _process(self) -> None:
        paths = self.processed_paths
        if not self.force_reload and all(os.path.exists(path) for path in paths):
            return
        os.makedirs(self.processed_dir, exist_ok=True)
        remove_leftovers(os.path.join(glob.escape(self.processed_dir), '*.pt.*.tmp'))
        self.process()
