from typing import Any

from torch_geometric.nn.resolver import activation_resolver

from pyg_diffrec.resolver import locate
from pyg_diffrec.typing import Activation


def resolve_activation(act: Activation) -> Any:
    r"""The activation of a name that PyG knows, of a path such as
    :obj:`'torch.nn:ReLU'`, or of what is given; a class stands for its instance.

    Raises:
        ValueError: If there is no such activation.
    """
    if isinstance(act, str) and ':' in act:
        act = locate(act, 'activation')
    if isinstance(act, type):
        return act()
    return activation_resolver(act)
