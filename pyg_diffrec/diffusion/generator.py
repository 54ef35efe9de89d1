from typing import Any, Optional

import torch


def drawn_by(generator: Optional[torch.Generator]) -> dict[str, Any]:
    r"""The argument that lets PyTorch draw by :obj:`generator`, if there is one: with
    it, even if it is :obj:`None`, :meth:`torch.compile` wants sizes that never change.
    """
    return {} if generator is None else {'generator': generator}
