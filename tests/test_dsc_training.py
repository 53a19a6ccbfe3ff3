"""--dsc and --fast in the reference host: training, warm start, and tools that read the snapshots."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spider_plugin.snapshots.rebuild import load_generator

ROOT = Path(__file__).resolve().parents[1]
TINY = ['--gpus=1', '--batch=4', '--gamma=1', '--cbase=256', '--cmax=16', '--tick=0.008', '--snap=1', '--kimg=0.016',
        '--workers=1', '--metrics=none']
SG2 = ['--cfg=stylegan2', '--map-depth=2']

def run(command, cwd):
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, env=env, text=True, capture_output=True)

@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    path = tmp_path_factory.mktemp('init') / 'checkout'
    assert run(['-m', 'spider_plugin.cli', 'init', path], ROOT).returncode == 0
    return path

@pytest.fixture(scope='module')
def train(checkout, tmp_path_factory, make_zip):
    data = tmp_path_factory.mktemp('data')
    make_zip(data / 'D.zip', n=24, res=16, seed=1)
    make_zip(data / 'S.zip', n=24, res=16, seed=2)
    runs = {}
    def train(*args):
        """Run train.py, and return (run directory, stdout); args may name the source as S."""
        if args not in runs:
            args_here = [arg.replace('=S', f'={data}/S.zip') if arg == '--spider-source=S' else arg for arg in args]
            out = tmp_path_factory.mktemp('runs')
            done = run(['train.py', f'--outdir={out}', f'--data={data}/D.zip', *TINY, *args_here], checkout)
            assert done.returncode == 0, done.stderr + done.stdout
            runs[args] = next(out.iterdir()), done.stdout
        return runs[args]
    train.data = data
    return train

def snapshot(run_dir):
    return sorted(run_dir.glob('network-snapshot-*.pkl'))[-1]

OPEN = '''
import pickle, sys, torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
G = pickle.load(open(sys.argv[2], 'rb'))['G_ema']
assert not any(name.split('.')[0] in ('spider_plugin', 'torch_utils_ext') for name in sys.modules)
z = torch.linspace(-2, 2, 3 * G.z_dim).reshape(3, G.z_dim).sin()
torch.save([G(z, None, noise_mode='const').detach(), type(G).__name__], sys.argv[3])
'''

def assert_opens_alike(path, checkout, tmp_path, name):
    """Check that a snapshot draws the same images without the plugin and by the plugin's reader."""
    (tmp_path / 'open.py').write_text(OPEN)
    bare = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    subprocess.run([sys.executable, 'open.py', ROOT / 'reference_host', path, 'out.pt'], cwd=tmp_path, check=True, env=bare)
    images, class_name = torch.load(tmp_path / 'out.pt')
    G = load_generator(path)
    z = torch.linspace(-2, 2, 3 * G.z_dim).reshape(3, G.z_dim).sin()
    assert class_name == type(G).__name__ == name and images.std() > 0
    assert (G(z, None, noise_mode='const') - images).abs().max() <= 1e-5 * images.abs().max()

#----------------------------------------------------------------------------

def test_separable_layers_with_a_source(train, checkout, tmp_path):
    run_dir, out = train(*SG2, '--dsc', '--dsc-order=pointwise', '--dsc-rank=2', '--fast', '--spider-source=S')
    options = json.loads((run_dir / 'training_options.json').read_text())
    assert options['G_kwargs']['dsc'] == dict(order='pointwise', rank=2, res=[0, 16])
    assert options['loss_kwargs']['r1_gamma'] > 0 and options['loss_kwargs']['pl_weight'] > 0
    assert 'DSC layers:          5, pointwise first, rank 2' in out
    assert_opens_alike(snapshot(run_dir), checkout, tmp_path, 'SpiderDSCFastGenerator')
    done = run(['-m', 'spider_plugin.cli', 'generate', f'--network={snapshot(run_dir)}', '--seeds=0-1',
                f'--outdir={tmp_path}/g'], ROOT)
    assert done.returncode == 0 and len(list((tmp_path / 'g').glob('*.png'))) >= 2, done.stderr

@pytest.mark.slow
def test_a_dense_snapshot_warms_separable_layers(train, checkout, tmp_path):
    dense, _ = train(*SG2, '--fast')
    assert_opens_alike(snapshot(dense), checkout, tmp_path, 'FastGenerator')
    run_dir, out = train(*SG2, '--dsc', f'--resume={snapshot(dense)}')
    assert out.count('fitted to the dense kernel, relative error 0.') == 5
    assert_opens_alike(snapshot(run_dir), checkout, tmp_path, 'DSCGenerator')
    resumed = run(['train.py', f'--outdir={tmp_path}', f'--data={train.data}/D.zip', *TINY, *SG2, '--dsc', '--dsc-rank=2',
                   f'--resume={snapshot(run_dir)}'], checkout)
    assert resumed.returncode == 2 and '--dsc-rank=1; pass that' in resumed.stderr

@pytest.mark.slow
def test_fast_layers_of_both_networks(train, checkout, tmp_path):
    """R1 and path length run through them; the snapshot, D included, opens without the plugin, and goes on with and without."""
    run_dir, out = train(*SG2, '--fast', '--cbase=512', '--cmax=32')
    options = json.loads((run_dir / 'training_options.json').read_text())
    assert options['D_kwargs']['class_name'].endswith('fastdisc_on_training__networks_stylegan2.FastDiscriminator')
    assert options['loss_kwargs']['r1_gamma'] > 0 and options['loss_kwargs']['pl_weight'] > 0
    assert 'D convolves by kernels' in out
    assert_opens_alike(snapshot(run_dir), checkout, tmp_path, 'FastGenerator')
    for more in (['--fast'], []):
        resumed, _ = train(*SG2, *more, '--cbase=512', '--cmax=32', f'--resume={snapshot(run_dir)}')
        assert snapshot(resumed).stat().st_size > 0

@pytest.mark.slow
def test_stylegan3_t(train, checkout, tmp_path):
    run_dir, _ = train('--cfg=stylegan3-t', '--dsc', '--fast')
    assert_opens_alike(snapshot(run_dir), checkout, tmp_path, 'DSCFastGenerator')

@pytest.mark.slow
def test_two_ranks_and_a_cascade(train):
    source = snapshot(train(*SG2, '--dsc', '--dsc-rank=3', '--gpus=2', '--mbstd-group=2')[0])
    run_dir, out = train(*SG2, '--dsc', f'--spider-source={source}', '--spider-bank=32')
    assert 'SpiderDSCGenerator' in out and snapshot(run_dir).stat().st_size > 0

@pytest.mark.parametrize('args, sentence', [
    (['--cfg=stylegan3-r', '--dsc'], '1x1 already'),
    (['--cfg=stylegan3-t', '--dsc', '--dsc-order=pointwise'], '--dsc-order=pointwise'),
    (['--cfg=dcgan', '--dsc'], '--cfg=dcgan'),
    ([*SG2, '--dsc-rank=2'], 'no effect without --dsc'),
    *(pytest.param([*SG2, '--dsc', f'--dsc-res={value}'], sentence, marks=pytest.mark.slow) for value, sentence in (
        ('512-1024', 'no layer with a 3x3 kernel at resolutions from 512 to 1024'), ('64-8', 'not a resolution or two'))),
])
def test_errors_of_users(args, sentence, train, checkout, tmp_path):
    done = run(['train.py', f'--outdir={tmp_path}', f'--data={train.data}/D.zip', *TINY, *args], checkout)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
