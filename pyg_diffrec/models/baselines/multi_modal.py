from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Union

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_diffrec.data import validate
from pyg_diffrec.models.baselines.pairwise import PairwiseRecommender
from pyg_diffrec.nn.item_features import ItemFeatures
from pyg_diffrec.utils.precision import normalize

if TYPE_CHECKING:
    from typing_extensions import Self


class MultiModalRecommender(PairwiseRecommender):
    r"""An abstract class for pairwise models that know features of the items in one or
    more modalities. It stands before the class that it extends: the bases of
    :class:`~pyg_diffrec.models.baselines.lattice.LATTICE` are this one and
    :class:`~pyg_diffrec.models.LightGCN`.

    Features are constants of unit length per item and modality, so that modalities of
    any scale weigh alike. An item without features, which
    :obj:`data['item'].has_<modality>` :math:`(I)`, bool, or a row of zeros tells, is
    scored from the rest.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        modalities (dict, optional): The number of features of each modality.
            :meth:`from_data` also takes names, and all :obj:`x_<modality>` of the
            items if :obj:`None`. (default: :obj:`None`)
        **kwargs (optional): Further arguments of the class that is extended.

    Raises:
        ValueError: If a hyper-parameter is out of range, there is no modality, or
            features are missing or not finite.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        modalities: Optional[Mapping[str, int]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_items, num_users, **kwargs)
        name = self.__class__.__name__
        channels = dict(modalities or {})
        if not channels:
            raise ValueError(
                f"'{name}' needs at least one modality: give 'modalities' the number "
                f"of features of each, or build it with 'from_data'"
            )
        if min(channels.values()) < 1:
            raise ValueError(
                f"'modalities' need at least one feature each in '{name}' (got "
                f'{channels})'
            )
        self.modalities = channels
        self.item_features = ItemFeatures(num_items, channels)

    @classmethod
    def from_data(
        cls,
        data: HeteroData,
        modalities: Union[Sequence[str], Mapping[str, int], None] = None,
        **kwargs: Any,
    ) -> 'Self':
        r"""Builds the model for a graph and takes over its training interactions and
        features.

        Args:
            data (HeteroData): A graph with a split and features
                :obj:`data['item'].x_<modality>`.
            modalities (list, optional): The names of the modalities to use; all that
                the items have if :obj:`None`. (default: :obj:`None`)
            **kwargs (optional): The hyper-parameters.

        Raises:
            ValueError: If the graph is invalid or has no features of a modality, or a
                hyper-parameter is out of range.
        """
        validate(data)
        store = data['item']
        known = [key[2:] for key in store.keys() if key.startswith('x_')]  # noqa: SIM118
        names = known if modalities is None else list(modalities)
        for name in names:
            if name not in known:
                raise ValueError(
                    f"'{cls.__name__}' finds no features of modality '{name}' (the "
                    f"items have {known}): set 'data['item'].x_{name}'"
                )
        channels = modalities
        if not isinstance(channels, Mapping):
            channels = {name: store[f'x_{name}'].size(1) for name in names}
        model = super().from_data(data, modalities=channels, **kwargs)
        model.fit_features(
            {name: store[f'x_{name}'] for name in names},
            {name: store[f'has_{name}'] for name in names if f'has_{name}' in store},
        )
        return model

    def fit_features(
        self,
        features: Mapping[str, Tensor],
        present: Optional[Mapping[str, Tensor]] = None,
    ) -> None:
        r"""Takes over the features of the items; also of a trained model, which then
        scores from others.

        Args:
            features (dict): The features of each modality :math:`(I, F)`.
            present (dict, optional): Which items have features, bool :math:`(I)`, by
                modality; all items where there is no entry. (default: :obj:`None`)

        Raises:
            ValueError: If a modality is missing or unknown, does not have one row of
                the known length per item, or holds NaN or inf.
        """
        weight = self.learned_tables()[1]
        units = {name: normalize(x.to(weight.dtype)) for name, x in features.items()}
        self.item_features.fit(units, present, weight.dtype)
        self.item_features.to(weight.device)

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, modalities={list(self.modalities)})'
