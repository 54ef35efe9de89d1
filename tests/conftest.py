import os
from pathlib import Path

import numpy as np
import pytest
import torch

# Tests are many small products: a second thread costs more than it gives.
torch.set_num_threads(1)


class Golden:
    """Reference values of one file, as tensors, by key or by prefix."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.arrays = {key: file[key] for key in file.files}

    def __getitem__(self, key):
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def group(self, prefix):
        """All tensors whose key starts with `prefix`, without it."""
        return {
            key.removeprefix(prefix): self[key]
            for key in self.arrays
            if key.startswith(prefix)
        }

    def cases(self):
        """The distinct prefixes `c0`, `c1`, ... of the keys."""
        return sorted({key.split('_')[0] for key in self.arrays})


@pytest.fixture
def golden():
    """Loads a file of reference values from `tests/golden`, or from the folder of
    the same layout that `PYG_DIFFREC_GOLDEN` names."""
    own = Path(__file__).parent / 'golden'
    folder = Path(os.environ.get('PYG_DIFFREC_GOLDEN') or own)

    def load(name):
        return Golden(folder / f'{name}.npz')

    return load


@pytest.fixture
def assert_exact():
    """Equality up to round-off in float64: 1e-10 relative to the largest value."""

    def check(actual, expected):
        actual = actual.detach().double()
        expected = expected.double()
        assert actual.shape == expected.shape
        scale = expected.abs().max().clamp(min=1e-300)
        error = ((actual - expected).abs().max() / scale).item()
        assert error < 1e-10, f'relative error {error:.1e}'

    return check
