from pyg_diffrec.evaluation.protocol import Protocol
from pyg_diffrec.evaluation.ranking import (
    LIST_METRICS,
    METRICS,
    USER_METRICS,
    evaluate,
    higher_is_better,
    measure,
    measure_groups,
    parse_metric,
    rank,
)

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
    'rank',
]
