from typing import Mapping, Optional

import torch
from torch import Tensor

from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.arguments import Checked


class ItemFeatures(Checked, torch.nn.Module):
    r"""The features of all items in each modality, which follow a model between
    devices, but are no part of its state.

    Args:
        num_items (int): The number of items :math:`I`.
        modalities (dict): The number of features of each modality.
    """

    present: OptTensor

    def __init__(self, num_items: int, modalities: Mapping[str, int]) -> None:
        super().__init__()
        self.num_items = num_items
        self.modalities = dict(modalities)
        for i in range(len(self.modalities)):
            self.register_buffer(f'x{i}', None, persistent=False)
        self.register_buffer('present', None, persistent=False)

    def fit(
        self,
        features: Mapping[str, Tensor],
        present: Optional[Mapping[str, Tensor]] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        r"""Takes over features.

        Args:
            features (dict): The features of each modality :math:`(I, F)`.
            present (dict, optional): Which items have features, bool :math:`(I)`, by
                modality; all items where there is no entry. What the other items hold
                is ignored. (default: :obj:`None`)
            dtype (torch.dtype, optional): The type in which they are kept; the default
                one if :obj:`None`. (default: :obj:`None`)

        Raises:
            ValueError: If a modality is missing or unknown, does not have one row of
                the known length per item, or holds NaN or inf.
        """
        present = present or {}
        missing = self.modalities.keys() - features.keys()
        unknown = (features.keys() | present.keys()) - self.modalities.keys()
        if missing or unknown:
            raise ValueError(
                f'Features need to be those of the modalities {list(self.modalities)} '
                f'(missing {sorted(missing)}, unknown {sorted(unknown)})'
            )
        has = torch.ones(self.num_items, len(self.modalities), dtype=torch.bool)
        for i, modality in enumerate(self.modalities):
            if modality in present:
                self._check_mask(modality, present[modality])
                has[:, i] = present[modality]
            self._check(modality, features[modality], has[:, i])
        for i, modality in enumerate(self.modalities):
            x = features[modality].to(dtype or torch.get_default_dtype())
            absent = ~has[:, i : i + 1].to(x.device)
            setattr(self, f'x{i}', x.masked_fill(absent, 0.0))
        self.present = None if bool(has.all()) else has

    def forward(self) -> tuple[list[Tensor], OptTensor]:
        r"""The features of each modality :math:`(I, F)`, zero where an item has none,
        and which item has which :math:`(I, M)`, bool; :obj:`None` if all have all.

        Raises:
            ValueError: If there are none yet.
        """
        out = [getattr(self, f'x{i}') for i in range(len(self.modalities))]
        if any(x is None for x in out):
            raise ValueError(
                f'The features of the modalities {list(self.modalities)} are not known '
                f"yet: build the model with 'from_data', or call 'fit_features' first"
            )
        return out, self.present

    def _check_mask(self, modality: str, mask: Tensor) -> None:
        if mask.dtype != torch.bool or mask.shape != (self.num_items,):
            raise ValueError(
                f"'present' of modality '{modality}' needs to be a 'torch.bool' tensor "
                f"of shape [{self.num_items}] (got '{mask.dtype}' of shape "
                f'{list(mask.shape)})'
            )

    def _check(self, modality: str, x: Tensor, has: Tensor) -> None:
        shape = self.num_items, self.modalities[modality]
        if x.shape != shape:
            raise ValueError(
                f"The features of modality '{modality}' need shape {list(shape)}, one "
                f'row per item (got {list(x.shape)})'
            )
        bad = (~x.isfinite().all(1)).cpu() & has
        if bool(bad.any()):
            raise ValueError(
                f"The features of modality '{modality}' hold NaN or inf in "
                f'{int(bad.sum())} rows, the first is item {int(bad.nonzero()[0])}: '
                f"fill these rows, or leave them out by 'present'"
            )

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items}, {self.modalities})'
