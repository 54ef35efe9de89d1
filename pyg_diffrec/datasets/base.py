import os
import pickle
import uuid
from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.data import HeteroData, InMemoryDataset


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
            ValueError: If the file is damaged, or holds objects whose loading
                would run code.
        """
        try:
            mapping = torch.load(path, map_location='cpu', weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"'{path}' is damaged or holds more than tensors, numbers and strings: "
                f"remove it and process again, and let 'pre_transform' add nothing else"
            ) from error
        self.data, self.slices = data_cls.from_dict(mapping), None

    def _process(self) -> None:
        paths = self.processed_paths
        if not self.force_reload and all(os.path.exists(path) for path in paths):
            return
        os.makedirs(self.processed_dir, exist_ok=True)
        self.process()
