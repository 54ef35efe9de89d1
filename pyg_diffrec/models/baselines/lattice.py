from typing import Any, Mapping, Optional

import torch
from torch import Tensor

from pyg_diffrec.models.baselines.light_gcn import LightGCN
from pyg_diffrec.models.baselines.multi_modal import MultiModalRecommender
from pyg_diffrec.models.baselines.pairwise import Tables
from pyg_diffrec.utils.checks import check_whole
from pyg_diffrec.utils.directed_adj import DirectedAdj
from pyg_diffrec.utils.keep import Kept
from pyg_diffrec.utils.knn_graph import knn_graph
from pyg_diffrec.utils.precision import normalize
from pyg_diffrec.utils.sparse import SparseRows


class LATTICE(MultiModalRecommender, LightGCN):
    r"""LightGCN with item embeddings that are also smoothed over items with similar
    features, from the `"Mining Latent Structures for Multimedia Recommendation"
    <https://arxiv.org/abs/2104.09036>`_ paper, with item graphs that stay as they are
    built, as in the `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for
    Multimodal Recommendation" <https://arxiv.org/abs/2211.06924>`_ paper.

    .. math::
        \mathrm{score}_{u,i} = \mathbf{z}_u^{\top} \left( \mathbf{z}_i +
        \frac{\mathbf{h}_i}{\lVert \mathbf{h}_i \rVert} \right), \qquad
        \mathbf{H} = {\left( \sum_m w_m \hat{\mathbf{S}}_m \right)}^{L_I}
        \mathbf{E}_{\mathrm{items}}, \qquad w = \mathrm{softmax}(\mathbf{a})

    with the output :math:`\mathbf{z}` of LightGCN on the embeddings
    :math:`\mathbf{E}`, learned weights of the modalities, and the graphs
    :math:`\hat{\mathbf{S}}_m` of :meth:`~pyg_diffrec.utils.knn_graph.knn_graph` over
    their features: each item with itself and the most similar others, by cosine. A
    layer costs one sparse product of :math:`k I` entries per modality.

    Args:
        num_items (int): The number of items :math:`I`.
        num_users (int, optional): The number of users :math:`U`;
            :meth:`from_data` fills it in. (default: :obj:`0`)
        modalities (dict, optional): The number of features of each modality.
            :meth:`from_data` also takes names, and all :obj:`x_<modality>` of the
            items if :obj:`None`. (default: :obj:`None`)
        k (int, optional): The number of neighbours of an item, itself included; all
            items if there are fewer. (default: :obj:`10`)
        num_item_layers (int, optional): The number of layers :math:`L_I` over the item
            graphs. (default: :obj:`1`)
        lr (float, optional): The learning rate of Adam. (default: :obj:`1e-2`)
        l2 (float, optional): The weight of the penalty on :math:`\mathbf{E}`.
            (default: :obj:`1e-2`)
        batch_size (int, optional): The number of interactions per training batch.
            (default: :obj:`8192`)
        **kwargs (optional): Further arguments of
            :class:`~pyg_diffrec.models.LightGCN`.

    Shapes:
        - **history:** interaction rows :math:`(B, I)`, unused: what is propagated
          along are the training interactions, whatever the evaluation shows
        - **score:** :math:`(B, I)`, unbounded scores: **not** probabilities

    Raises:
        ValueError: If a hyper-parameter is out of range, there is no modality, or
            features are missing or not finite.

    .. note::
        LATTICE mixes these graphs, by default at a share of 0.9, with graphs of
        projected features, for which all products of two items are computed anew in
        every epoch; FREEDOM, the second paper, finds it no worse without them, and so
        the projections fall away. As in LATTICE, not in FREEDOM, edges keep their
        cosines as weights, :math:`\mathbf{h}` has unit length, and the weights of the
        modalities are learned. The penalty is on :math:`\mathbf{E}`, where the authors
        of LATTICE put it on what is scored.
    """

    def __init__(
        self,
        num_items: int,
        num_users: int = 0,
        modalities: Optional[Mapping[str, int]] = None,
        k: int = 10,
        num_item_layers: int = 1,
        lr: float = 1e-2,
        l2: float = 1e-2,
        batch_size: int = 8192,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_items,
            num_users,
            modalities,
            lr=lr,
            l2=l2,
            batch_size=batch_size,
            **kwargs,
        )
        check_whole(self.__class__.__name__, num_item_layers=num_item_layers)
        self.k = k
        self.num_item_layers = num_item_layers
        #: The logits :math:`\mathbf{a}` of the modality weights.
        self.logits = torch.nn.Parameter(torch.zeros(len(self.modalities)))
        self._item_rows: Optional[SparseRows] = None
        self._item_adj = Kept()

    def reset_parameters(self) -> None:
        r"""Draws new embeddings, and gives all modalities the same weight."""
        super().reset_parameters()
        torch.nn.init.zeros_(self.logits)

    def fit_features(
        self,
        features: Mapping[str, Tensor],
        present: Optional[Mapping[str, Tensor]] = None,
    ) -> None:
        super().fit_features(features, present)
        x, _ = self.item_features()
        graphs = [knn_graph(part, self.k) for part in x]
        row = [graph.row + i * self.num_items for i, graph in enumerate(graphs)]
        # One below the other, so that one product smooths over all: [M * I, I]
        self._item_rows = SparseRows.from_coo(
            torch.cat(row),
            torch.cat([graph.col for graph in graphs]),
            torch.cat([graph.value for graph in graphs]),
            num_rows=len(graphs) * self.num_items,
            num_cols=self.num_items,
        )

    @property
    def modality_weights(self) -> dict[str, float]:
        r"""The learned weight :math:`w_m` of each modality; they sum to one."""
        return dict(zip(self.modalities, self.logits.softmax(0).tolist()))

    def tables(self) -> Tables:
        user, item = super().tables()
        adj, weight = self._item_graph(), self.logits.softmax(0)
        h = self.learned_tables()[1]
        for _ in range(self.num_item_layers):
            parts = adj.propagate(h).view(len(weight), *h.shape)  # [M, I, C]
            h = torch.tensordot(weight, parts, 1)
        return user, item + normalize(h)

    def _item_graph(self) -> DirectedAdj:
        weight, rows = self.logits, self._item_rows
        if rows is None:
            self.item_features()  # Which are not known either, and says so.
        assert rows is not None
        where = weight.device, weight.dtype
        return self._item_adj.get(
            lambda: DirectedAdj.from_rows(rows.to(*where)), rows, *where
        )
