"""FastGAN with weights carried over from projected-gan: outputs, gradients and buffers, max|a - b| / max|b| <= 1e-4."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HARNESS = Path(__file__).with_name('fastgan_harness.py')
ROOT = Path(__file__).resolve().parents[2]

@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('lite, classes, dsc', [(False, 0, False), (True, 0, False), (False, 10, False), (True, 10, False),
                                                (False, 0, True), (True, 0, True), (False, 10, True), (True, 10, True)])
def test_agreement(lite, classes, dsc, train, tmp_path):
    host = Path(os.environ.get('SPIDER_HOSTS') or os.devnull, 'projected-gan')
    if not (host / 'pg_modules').is_dir():
        pytest.skip('needs a checkout as $SPIDER_HOSTS/projected-gan')
    torch.save(dict(call='compare', lite=lite, classes=classes, dsc=dsc, train=train), tmp_path / 'job.pt')
    done = subprocess.run([sys.executable, HARNESS, host, tmp_path / 'job.pt', tmp_path / 'result.pt'], text=True,
                          capture_output=True, env=dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{HARNESS.parent}'))
    assert done.returncode == 0, done.stderr
    compared = torch.load(tmp_path / 'result.pt')
    assert len(compared) > 50
    for name, (ours, theirs) in compared.items():
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max() + 1e-9, name
