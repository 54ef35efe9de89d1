r"""Types shared by the whole package."""

from typing import TYPE_CHECKING, Any, Iterable, Literal, NamedTuple, Optional

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

if TYPE_CHECKING:  # At run time this file needs nothing but PyTorch.
    from pyg_diffrec.utils.sparse import SparseRows

OptTensor = Optional[Tensor]

History = Literal['train', 'train+val']
PredictionType = Literal['x_start', 'noise']
Split = Literal['val', 'test']


class RowBatch(NamedTuple):
    r"""Users and their interaction rows.

    Args:
        user (torch.Tensor): The users :math:`(B)`, int64.
        rows (SparseRows): Their interactions :math:`(B, I)`, in time order within
            a row where time is known.
    """

    user: Tensor
    rows: 'SparseRows'


class Phase(NamedTuple):
    r"""One part of an epoch: what is trained on which batches with which optimizer.

    Args:
        name (str): The name, for the progress bar and checkpoints.
        loader (Iterable): Yields the batches of one epoch.
        optimizer (torch.optim.Optimizer, optional): Updates the parameters of the
            phase; without one, the method updates them itself, without gradients.
        method (str): The name of the model's method that maps a batch to its
            losses, a dictionary of scalars whose :obj:`'total'` is minimised.
        scheduler (LRScheduler, optional): Sets the learning rates anew after each
            epoch.
    """

    name: str
    loader: Iterable[Any]
    optimizer: Optional[Optimizer]
    method: str = 'loss'
    scheduler: Optional[LRScheduler] = None
