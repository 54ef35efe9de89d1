from pyg_diffrec.evaluation.measuring import measure, measure_groups
from pyg_diffrec.evaluation.metrics import (
    LIST_METRICS,
    METRICS,
    USER_METRICS,
    higher_is_better,
    parse_metric,
    parse_metrics,
)
from pyg_diffrec.evaluation.protocol import Protocol
from pyg_diffrec.evaluation.ranking import evaluate, rank

__all__ = [
    'LIST_METRICS',
    'METRICS',
    'Protocol',
    'USER_METRICS',
    'evaluate',
    'higher_is_better',
    'measure',
    'measure_groups',
    'parse_metric',
    'parse_metrics',
    'rank',
]
