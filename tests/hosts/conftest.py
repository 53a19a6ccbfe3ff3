"""Checkouts of public hosts, from the folder that SPIDER_HOSTS names."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch

HARNESS = pathlib.Path(__file__).with_name('harness.py')
REFERENCE_HOST = pathlib.Path(__file__).parents[2] / 'reference_host'

@pytest.fixture(scope='session')
def stylegan3():
    """Folder of a checkout of NVlabs/stylegan3."""
    path = pathlib.Path(os.environ.get('SPIDER_HOSTS') or os.devnull, 'stylegan3')
    if not (path / 'training' / 'networks_stylegan2.py').is_file():
        pytest.skip('needs a checkout of NVlabs/stylegan3 as $SPIDER_HOSTS/stylegan3')
    return path

@pytest.fixture(scope='session')
def reference_host():
    return REFERENCE_HOST

@pytest.fixture
def run_in(tmp_path):
    """run_in(host folder, call, **arguments) -> what the harness's function returns, in a process that sees that host only."""
    def run(host_dir, call, harness=HARNESS, **arguments):
        job, result = tmp_path / 'job.pt', tmp_path / 'result.pt'
        torch.save(dict(call=call, **arguments), job)
        env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        done = subprocess.run([sys.executable, harness, host_dir, job, result], env=env, cwd=tmp_path, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return torch.load(result)
    return run
