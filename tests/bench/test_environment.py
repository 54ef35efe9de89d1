import json
import math

import pytest
import torch

from pyg_diffrec.bench.environment import commit, versions, write_measurement


def test_a_measurement_tells_where_it_was_made(tmp_path, capsys):
    path = tmp_path / 'new' / 'speed.json'
    write_measurement({'ratio': 2.5}, path)
    found = json.loads(path.read_text())
    assert found == json.loads(capsys.readouterr().out)
    assert found['ratio'] == 2.5
    assert found['processor']
    assert found['threads'] == torch.get_num_threads()
    assert (found['versions'], found['commit']) == (versions(), commit())
    assert [x.name for x in path.parent.iterdir()] == ['speed.json']


def test_a_measurement_that_is_not_finite_leaves_the_file_alone(tmp_path):
    path = tmp_path / 'speed.json'
    write_measurement({'ratio': 2.5, 'threads': 7}, path)
    before = path.read_text()
    assert json.loads(before)['threads'] == 7
    with pytest.raises(ValueError, match='not JSON compliant'):
        write_measurement({'ratio': math.nan}, path)
    assert path.read_text() == before
