"""A run that is killed, not interrupted: nothing of it can clean up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

SCRIPT = """
import json, sys, time
import torch
sys.path.insert(0, sys.argv[1])
from toy import toy_data
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import DiffRec
from pyg_diffrec.training import fit

path, resume, slow = sys.argv[2], sys.argv[3] == 'resume', sys.argv[4] == 'slow'
data = toy_data()
torch.manual_seed(0)
model = DiffRec.from_data(data, hidden_channels=[8, 4], batch_size=20, lr=3e-3)

def validate(model):
    if slow:
        time.sleep(0.2)
    return evaluate(model, data, 'val', ['Recall@10'])

result = fit(
    model, epochs=12, eval_every=2, patience=None, metric='Recall@10',
    validate=validate, checkpoint=path, checkpoint_every=1, resume=resume,
    progress=False,
)
torch.save(model.state_dict(), path + '.weights')
with open(path + '.metrics', 'w') as file:
    json.dump([result.curve, evaluate(model, data, 'test', ['Recall@10'])], file)
"""


def command(path, *options):
    here = Path(__file__).parent.parent
    return [sys.executable, '-c', SCRIPT, str(here), str(path), *options]


def test_killed_and_resumed_run_ends_with_the_same_weights_and_metrics(tmp_path):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    whole, killed = tmp_path / 'whole.pt', tmp_path / 'killed.pt'
    first = subprocess.Popen(command(whole, 'new', 'fast'), env=environment)
    second = subprocess.Popen(command(killed, 'new', 'slow'), env=environment)
    deadline = time.time() + 100
    while not killed.exists() and time.time() < deadline:
        time.sleep(0.05)
    second.send_signal(signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL
    assert first.wait() == 0
    saved = torch.load(killed, weights_only=True)['readings']
    assert 1 <= saved['']['result']['num_epochs'] < 12
    assert not killed.with_name('killed.pt.weights').exists()
    # As if it had been killed in the midst of writing.
    half = killed.with_name('.killed.pt.checkpoint-abcd1234')
    half.write_bytes(killed.read_bytes()[:100])

    resume = command(killed, 'resume', 'fast')
    assert subprocess.run(resume, env=environment).returncode == 0
    assert not half.exists()
    expected = torch.load(f'{whole}.weights', weights_only=True)
    actual = torch.load(f'{killed}.weights', weights_only=True)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    read = [json.loads(Path(f'{x}.metrics').read_text()) for x in (whole, killed)]
    assert read[0] == read[1]
