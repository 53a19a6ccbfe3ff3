"""Each plugin generator trains by one command in the reference host, with and without classes. PGGAN grows, and continues to grow
from a snapshot that was taken during a fade."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.snapshots.records import generator_record

ROOT = Path(__file__).resolve().parents[1]
TINY = ['--batch=8', '--gamma=1', '--cbase=128', '--cmax=8', '--snap=1', '--threads=1', '--workers=0']
PGGAN = ['--cfg=pggan', '--pg-kimg=0.016']     # two iterations to a phase

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    path = tmp_path_factory.mktemp('data')
    make_zip(path / 'D.zip', n=24, res=16, labels=2, seed=1)
    make_zip(path / 'S.zip', n=24, res=16, labels=[0, 1, 2, 3] * 6, seed=2)
    return path

@pytest.fixture(scope='module')
def train(data, tmp_path_factory):
    """train(*options) runs train.py on D.zip and returns the run directory."""
    def run(*options):
        outdir = tmp_path_factory.mktemp('runs')
        command = [sys.executable, '-m', 'spider_plugin.hosts.run', resource_dir('reference_host') / 'train.py',
                   f'--outdir={outdir}', f'--data={data}/D.zip', *TINY, *options]
        done = subprocess.run(list(map(str, command)), env=dict(os.environ, PYTHONPATH=str(ROOT)), text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(outdir.iterdir())
    return run

def last(run_dir):
    return max(run_dir.glob('network-snapshot-*.pkl'))

def stats(run_dir, name):
    return [json.loads(line)[name]['mean'] for line in (run_dir / 'stats.jsonl').read_text().splitlines()]

def check(run_dir):
    """Check that losses and weights of a run are finite, and return its generator."""
    assert all(abs(x) < 1e4 for name in ('Loss/G/loss', 'Loss/D/loss') for x in stats(run_dir, name))
    assert all(x.isfinite().all() for key in ('G', 'D') for x in generator_record(last(run_dir), key).state_dict().values()
               if x.is_floating_point())
    return load_generator(last(run_dir), key='G')

#----------------------------------------------------------------------------

CLASSES = ['--cond=1', '--spider-classes=0:3,1:0']
SHALLOW = ['--map-depth=2', '--aug=noaug']
SLOW = [
    ['--cfg=dcgan'],
    ['--cfg=dcgan', '--cond=1'],
    ['--cfg=dcgan', '--spider-mapping=paper-16x32'],
    ['--cfg=dcgan_paper'],
    ['--cfg=dcgan_paper', '--spider-mapping=paper-16x32', *CLASSES],
    [*PGGAN, '--spider-mapping=encoder', *CLASSES],
    [*PGGAN, '--spider-mapping=residual', '--pg-loss=nonsaturating'],
    ['--cfg=stylegan2', *SHALLOW, '--spider-mapping=residual', *CLASSES],
    ['--cfg=stylegan2', *SHALLOW, '--spider-mapping=paper-23x23'],
    ['--cfg=stylegan3-t', *SHALLOW, '--spider-mapping=paper-16x32', *CLASSES],
    ['--cfg=stylegan3-r', *SHALLOW, '--spider-mapping=paper-23x23'],
]

@pytest.mark.parametrize('options', [
    ['--cfg=dcgan', '--spider-mapping=residual', *CLASSES],
    *(pytest.param(options, marks=pytest.mark.slow) for options in SLOW),
], ids=' '.join)
def test_from_one_command(options, train, data):
    """Losses and weights are finite, every weight moves, and images follow their class and its source."""
    spider = any(option.startswith('--spider-mapping') for option in options)
    source = [f'--spider-source={data}/S.zip', '--spider-size=16'] if spider else []
    long = options[0] == '--cfg=pggan'      # through its stages
    run_dir = train(*options, *source, f'--kimg={0.08 if long else 0.024}', '--tick=0.016')
    G, at_rest = check(run_dir), load_generator(last(train(*options, *source, '--glr=0', '--dlr=0', '--kimg=0.008')), key='G')
    still = {name for (name, p), q in zip(G.named_parameters(), at_rest.parameters(), strict=True) if torch.equal(p, q)}
    assert still <= {'synthesis.b4.const'}      # a new residual generator has its image there
    c = torch.eye(2)[: max(G.c_dim, 1), : G.c_dim].repeat(4, 1)
    z = torch.randn([len(c), G.z_dim])
    images = G(z, c)
    assert images.isfinite().all() and images.shape[1:] == (3, 16, 16)
    if '--cond=1' in options:
        assert (images - G(z, c.flip(1))).abs().max() > 1e-6
    if CLASSES[1] in options:
        assert G.source.labels[G.source.key(z, c)[:, 0].long()].tolist() == [3, 0] * 4

@pytest.fixture(scope='module')
def grown(train):
    """A run through all levels to 16^2, and one that ends while 16^2 is fading in; they are equal until then."""
    return [train(*PGGAN, f'--kimg={kimg}', '--tick=0.008') for kimg in (0.088, 0.064)]

@pytest.mark.slow
def test_pggan_is_finite_at_every_level(grown, train):
    G = check(grown[0])
    assert stats(grown[0], 'Progress/resolution') == [4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 16]
    assert stats(grown[0], 'Progress/fade') == pytest.approx([1, 1, 0, 0.5, 1, 1, 0, 0.5, 1, 1, 1])
    assert float(G.synthesis.progress) == pytest.approx(5.0)
    at_rest = load_generator(last(train(*PGGAN, '--glr=0', '--dlr=0', '--kimg=0.008')), key='G')
    assert all(not torch.equal(a, b) for a, b in zip(at_rest.parameters(), G.parameters()))

def test_a_snapshot_in_mid_fade_resumes_at_its_progress(grown, train):
    """With learning rates of zero the result equals the input; with others the growth continues."""
    middle = last(grown[1])
    still = train(*PGGAN, f'--resume={middle}', '--glr=0', '--dlr=0', '--kimg=0.008')
    before, after = (load_generator(path, key='G') for path in (middle, last(still)))
    z = torch.randn([4, 512])
    assert before.synthesis.stage() == after.synthesis.stage() == (2, 0.5) and torch.equal(before(z, None), after(z, None))
    for key in ('D', 'G_ema'):
        there, here = (generator_record(path, key).state_dict() for path in (middle, last(still)))
        progress = [float(tensor) for state in (there, here) for name, tensor in state.items() if name.endswith('progress')]
        assert progress == [3.5, 3.5] and (key == 'G_ema' or all(torch.equal(there[name], here[name]) for name in there))
    resumed = train(*PGGAN, f'--resume={middle}', '--kimg=0.024', '--tick=0.008')
    assert stats(resumed, 'Progress/resolution') == [16] * 3 and stats(resumed, 'Progress/fade') == pytest.approx([0.5, 1, 1])

@pytest.mark.slow
def test_batches_of_stages(train):
    """Two iterations at 4^2 with 16 images, then 8."""
    run_dir = train(*PGGAN, '--pg-kimg=0.032', '--pg-batch=4:16,8:8', '--batch-gpu=8', '--kimg=0.048', '--tick=0.001')
    assert stats(run_dir, 'Progress/kimg') == pytest.approx([0.016, 0.032, 0.040, 0.048])
    assert stats(run_dir, 'Progress/fade') == pytest.approx([1, 1, 0, 0.25])

@pytest.mark.slow
def test_pggan_in_two_ranks(train, data):
    """The ranks compare all tensors, including the progress, before each snapshot."""
    run_dir = train(*PGGAN, '--gpus=2', '--kimg=0.08', '--tick=0.016', f'--spider-source={data}/S.zip')
    assert float(check(run_dir).synthesis.progress) == pytest.approx(4.5)

@pytest.mark.slow
def test_a_cascade_from_pggan_to_dcgan(grown, train):
    run_dir = train('--cfg=dcgan', f'--spider-source={last(grown[0])}', '--spider-bank=32', '--kimg=0.016', '--tick=0.016')
    assert len(check(run_dir).source) == 32
