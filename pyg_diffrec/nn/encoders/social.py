from typing import Optional

import torch
from torch import Tensor

from pyg_diffrec.nn.encoders.graph_encoder import GraphEncoder
from pyg_diffrec.typing import OptTensor
from pyg_diffrec.utils.directed_adj import DirectedAdj
from pyg_diffrec.utils.precision import normalize
from pyg_diffrec.utils.propagation import BipartiteAdj


class SocialEncoder(GraphEncoder):
    r"""The encoder of users over their ties, from the `"RecDiff: Diffusion Model for
    Social Recommendation" <https://arxiv.org/abs/2406.01629>`_ paper.

    .. math::
        \mathbf{z} = \mathbf{h}^{(0)} + \sum_{l=1}^{L} \frac{\mathbf{h}^{(l)}}
        {\lVert \mathbf{h}^{(l)} \rVert}, \qquad
        \mathbf{H}^{(l)} = \mathrm{LeakyReLU}(\hat{\mathbf{S}} \mathbf{H}^{(l-1)}
        \mathbf{W}_l), \qquad \hat{\mathbf{S}} = \mathbf{D}_{\mathrm{in}}^{-1/2}
        \mathbf{S} \mathbf{D}_{\mathrm{out}}^{-1/2}

    Ties are directed, :math:`s_{v,u} = 1` for one from :math:`u` to :math:`v`:
    :math:`\hat{\mathbf{S}}` is a :class:`~pyg_diffrec.utils.propagation.BipartiteAdj`
    with the users as its rows, into which ties go, and again as its columns. See
    :class:`~pyg_diffrec.nn.encoders.GraphEncoder` for the arguments.

    Shapes:
        - **x:** :math:`\mathbf{H}^{(0)}`, users :math:`(U, C)`
        - **adj:** ties :math:`(U, U)`, by the user they go into
        - **user:** those that are asked for, int64; all if :obj:`None`
        - **output:** :math:`(U, C)`, or those asked for; a user into whom no ties go
          keeps :math:`\mathbf{h}^{(0)}`
    """

    def __init__(
        self,
        channels: int,
        num_layers: int,
        weight: bool = True,
        dropout: float = 0.0,
        edge_dropout: float = 0.0,
    ) -> None:
        super().__init__(channels, num_layers, weight, dropout, edge_dropout)
        self.convs = self._convs()

    def forward(
        self,
        x: Tensor,
        adj: BipartiteAdj,
        user: OptTensor = None,
        generator: Optional[torch.Generator] = None,
    ) -> Tensor:
        adj = self._dropped(adj, (x.size(0), x.size(0)), generator)
        ties = DirectedAdj.of(adj)
        x = self.dropout(x)
        out = self._pick(x, user)
        for conv in self.convs:
            x = conv(x, ties)
            out = out + normalize(self._pick(x, user))
        return out
