from pyg_diffrec.bench.data import build_dataset, dataset_names
from pyg_diffrec.bench.report import terminal_table, write_report
from pyg_diffrec.bench.results import ResultsFile
from pyg_diffrec.bench.runner import Run, finished, plan, recorded, run_suite
from pyg_diffrec.bench.suite import Suite, load_suite, parse_suite, suite_names
from pyg_diffrec.bench.tune import tune

__all__ = [
    'ResultsFile',
    'Run',
    'Suite',
    'build_dataset',
    'dataset_names',
    'finished',
    'load_suite',
    'parse_suite',
    'plan',
    'recorded',
    'run_suite',
    'suite_names',
    'terminal_table',
    'tune',
    'write_report',
]
