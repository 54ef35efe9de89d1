from pyg_diffrec.nn.conv.bipartite_lg_conv import BipartiteLGConv

__all__ = [
    'BipartiteLGConv',
]
