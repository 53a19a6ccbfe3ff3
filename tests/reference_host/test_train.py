"""train.py, calc_metrics.py and gen_images.py as a user runs them: the files of a run, repeatability, errors."""

import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch

HOST = pathlib.Path(__file__).parents[2] / 'reference_host'
TINY = ['--cfg=stylegan2', '--gpus=1', '--batch=8', '--gamma=1', '--cbase=128', '--cmax=8', '--map-depth=2', '--kimg=0.04',
        '--tick=0.02', '--snap=2', '--threads=1']
AUGMENTED = ['--aug=fixed', '--p=0.5', '--augpipe=bgcfnc']

class Pooled(torch.nn.Module):
    """A detector of twelve features, the image pooled to 2x2."""
    def forward(self, img: torch.Tensor, return_features: bool = False):
        return torch.nn.functional.adaptive_avg_pool2d(img.to(torch.float32) / 128, 2).flatten(1)

#----------------------------------------------------------------------------
# Fixtures.

def run(script, *args, code=0):
    """Run a script in a separate process, and return its stdout, or its stderr if it must fail."""
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    result = subprocess.run([sys.executable, str(HOST / script), *map(str, args)], capture_output=True, text=True, env=env)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stderr if code else result.stdout

@pytest.fixture(scope='module')
def space(tmp_path_factory, make_zip):
    """A folder with images, labelled images and a detector."""
    path = tmp_path_factory.mktemp('train')
    make_zip(path / 'set.zip', n=24, res=16)
    make_zip(path / 'labelled.zip', n=24, res=16, labels=3, channels=1)
    torch.jit.script(Pooled()).save(str(path / 'pooled.pt'))
    return path

@pytest.fixture(scope='module')
def trained(space):
    """The run directory of a run with all augmentations, path length, style mixing, R1, two data workers and metrics."""
    out = run('train.py', f'--outdir={space}/runs', f'--data={space}/set.zip', *TINY, *AUGMENTED, '--workers=2',
              '--metrics=fid1k', f'--detector={space}/pooled.pt', '--metric-at-start=True')
    path = space / 'runs/00000-stylegan2-set-gpus1-batch8-gamma1'
    (path / 'stdout.txt').write_text(out)
    return path

def load(path):
    import legacy
    with open(path, 'rb') as f:
        return legacy.load_network_pkl(f)

def last_snapshot(run_dir):
    return load(max(run_dir.glob('network-snapshot-*.pkl')))

def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]

#----------------------------------------------------------------------------
# What a run leaves.

def test_run_directory(trained):
    assert {'training_options.json', 'log.txt', 'stats.jsonl', 'reals.png', 'fakes_init.png', 'fakes000000040.png',
            'network-snapshot-000000040.pkl', 'training-state-000000040.pt', 'network-snapshot-latest',
            'metric-fid1k.jsonl'} <= set(os.listdir(trained))
    assert not [name for name in os.listdir(trained) if name.endswith('.tmp')]
    options = json.loads((trained / 'training_options.json').read_text())
    assert options['G_kwargs']['class_name'] == 'training.networks_stylegan2.Generator'
    assert options['training_set_kwargs']['max_size'] == 24 and options['total_kimg'] == 0.04
    log, out = (trained / 'log.txt').read_text(), (trained / 'stdout.txt').read_text()
    assert '"r1_gamma": 1.0' in out and '\r' not in out and '\x1b' not in log
    ticks = [line for line in log.splitlines() if line.startswith('tick')]
    assert len(ticks) == 2 and ticks == [line for line in out.splitlines() if line.startswith('tick')]
    assert all(word in ticks[0] for word in ('0.024/0.04 kimg', 'img/s', 'ETA', ' G ', ' D ', ' r1 ', ' pl '))

def test_statistics_and_metrics_of_a_run(trained):
    stats = lines(trained / 'stats.jsonl')
    assert [round(line['Progress/kimg']['mean'] * 1000) for line in stats] == [24, 40]
    for name in ('Loss/G/loss', 'Loss/D/loss', 'Loss/r1_penalty', 'Loss/pl_penalty', 'Loss/scores/fake', 'Loss/signs/real'):
        assert math.isfinite(stats[0][name]['mean']) and stats[0][name]['num'] > 0
    scores = lines(trained / 'metric-fid1k.jsonl')
    assert [line['cur_nimg'] for line in scores] == [0, 40]
    assert all(line['results']['fid1k'] > 0 for line in scores)
    assert scores[0]['results'] != scores[1]['results']
    assert scores[1]['snapshot_pkl'] == 'network-snapshot-000000040.pkl' and scores[1]['detector'] == 'pooled'
    best = min(scores, key=lambda line: line['results']['fid1k'])
    assert os.readlink(trained / 'network-snapshot-best') == best['snapshot_pkl']
    said = 'the best fid1k of this run is that of its start' in (trained / 'log.txt').read_text()
    assert said == (best is scores[0])

def test_snapshot(trained):
    data = last_snapshot(trained)
    assert set(data) == {'G', 'D', 'G_ema', 'augment_pipe', 'training_set_kwargs'} and data['augment_pipe'].p == 0.5
    for name in ('G', 'D', 'G_ema', 'augment_pipe'):
        assert not data[name].training and not any(param.requires_grad for param in data[name].parameters())
    G, G_ema = data['G'].state_dict(), data['G_ema'].state_dict()
    assert torch.equal(G['mapping.w_avg'], G_ema['mapping.w_avg']) and G['mapping.w_avg'].abs().max() > 0
    assert not torch.equal(G['mapping.fc0.weight'], G_ema['mapping.fc0.weight'])
    image = data['G_ema'](torch.randn([2, 512]), torch.zeros([2, 0]), noise_mode='const')
    assert image.shape == (2, 3, 16, 16) and image.isfinite().all()

def test_grids(trained, space):
    from training.dataset import ImageFolderDataset
    reals, init, last = (np.array(PIL.Image.open(trained / name))
                         for name in ('reals.png', 'fakes_init.png', 'fakes000000040.png'))
    assert reals.shape == init.shape == last.shape == (8 * 16, 16 * 16, 3) and not np.array_equal(init, last)
    dataset = ImageFolderDataset(space / 'set.zip')
    assert any(np.array_equal(reals[:16, :16], dataset[i][0].transpose(1, 2, 0)) for i in range(24))

def test_same_seed_same_bits(trained, space):
    """With augmentation, R1, path length and style mixing. Metrics, which the second run leaves out, draw their own
    random numbers."""
    run('train.py', f'--outdir={space}/again', f'--data={space}/set.zip', *TINY, *AUGMENTED, '--workers=2')
    other = space / 'again' / trained.name
    first, second = last_snapshot(trained), last_snapshot(other)
    for name in ('G', 'D', 'G_ema'):
        expected = second[name].state_dict()
        for key, value in first[name].state_dict().items():
            assert torch.equal(value, expected[key]), f'{name}.{key}'
    for name in ('fakes000000040.png', 'reals.png'):
        assert (trained / name).read_bytes() == (other / name).read_bytes()

def test_labels_accumulation_resume_and_numbers(space):
    """A run with grey images, labels, parts of a batch and no metric; then a run from its snapshot, with frozen layers."""
    args = [f'--outdir={space}/labelled', f'--data={space}/labelled.zip', *TINY, '--workers=0', '--cond=True',
            '--mirror=True', '--batch-gpu=4', '--desc=x', '--kimg=0.032', '--target=-0.99']
    run('train.py', *args)
    first = space / 'labelled/00000-stylegan2-labelled-gpus1-batch8-gamma1-x'
    assert not list(first.glob('metric-*'))
    before = last_snapshot(first)
    assert before['G_ema'].c_dim == 3 and before['G_ema'].img_channels == 1
    assert before['training_set_kwargs']['xflip'] and before['training_set_kwargs']['use_labels']
    assert np.array(PIL.Image.open(first / 'reals.png')).ndim == 2
    probability = float(before['augment_pipe'].p)
    assert probability > 0

    # With learning rates of zero the result equals the input.
    run('train.py', *args, f'--resume={first}/network-snapshot-000000032.pkl', '--glr=0', '--dlr=0', '--freezed=1')
    after = last_snapshot(space / 'labelled/00001-stylegan2-labelled-gpus1-batch8-gamma1-x')
    for name in ('G', 'D'):
        expected = dict(after[name].state_dict())
        for key, value in before[name].named_parameters():
            assert torch.equal(value, expected[key]), f'{name}.{key}'
    assert after['augment_pipe'].p > probability # It continues from its last value.

@pytest.mark.parametrize('signs, target, steps, p', [([1.0, 1, 1], 0.6, 1, 0.3), ([-1.0, 1], 0.6, 1, 0.1), ([1.0], 0.6, 50, 1.0),
                                                     ([-1.0], 0.6, 50, 0.0), ([1.0], None, 3, 0.2)])
def test_adaption_steers_the_mean_sign(signs, target, steps, p):
    from torch_utils import training_stats
    from training.training_loop import AdaptiveAugment
    pipe = torch.nn.Module()
    pipe.register_buffer('p', torch.tensor(0.2))
    augment = AdaptiveAugment(pipe, target, kimg=0.1)
    for _ in range(steps):
        training_stats.report('Loss/signs/real', signs)
        augment.adapt(10)
    assert float(pipe.p) == pytest.approx(p)

def test_gradients_do_not_depend_on_the_parts_of_a_batch():
    """Two parts of four images equal one of eight, for losses that are means over images."""
    from dnnlib import EasyDict
    from training.loss import StyleGAN2Loss
    from training.networks_stylegan2 import Discriminator, Generator
    from training.training_loop import run_phase
    torch.manual_seed(0)
    G = Generator(z_dim=8, c_dim=0, w_dim=8, img_resolution=8, img_channels=1, channel_base=64, channel_max=8)
    D = Discriminator(c_dim=0, img_resolution=8, img_channels=1, channel_base=64, channel_max=8,
                      epilogue_kwargs=dict(mbstd_num_channels=0))
    G.synthesis.requires_grad_(False)
    real, z, c = torch.randn([8, 1, 8, 8]), torch.randn([8, 8]), torch.zeros([8, 0])
    class Recorder:
        def zero_grad(self, set_to_none):
            D.zero_grad(set_to_none=True)
        def step(self):
            self.grads = [param.grad.clone() for param in D.parameters() if param.grad is not None]
    found = []
    for part in (8, 4):
        loss, opt = StyleGAN2Loss(torch.device('cpu'), G, D, r1_gamma=1), Recorder()
        run_phase(loss, EasyDict(name='Dreg', module=D, opt=opt, interval=16), list(zip(real.split(part), c.split(part))),
                  z.split(part), c.split(part), cur_nimg=0)
        found.append(opt.grads)
    assert max(grad.abs().max() for grad in found[0]) > 0
    for whole, parts in zip(*found):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)

#----------------------------------------------------------------------------
# The other scripts.

def test_calc_metrics_repeats_the_scores_of_training(trained, space):
    score = lines(trained / 'metric-fid1k.jsonl')[1]['results']
    run('calc_metrics.py', f'--network={trained}/network-snapshot-000000040.pkl', '--metrics=fid1k',
        f'--detector={space}/pooled.pt', '--threads=1')
    assert lines(trained / 'metric-fid1k.jsonl')[2]['results'] == score

def test_gen_images(trained, tmp_path):
    run('gen_images.py', f'--network={trained}/network-snapshot-000000040.pkl', '--seeds=0-1,5', f'--outdir={tmp_path}/out',
        '--trunc=0.7')
    assert sorted(os.listdir(tmp_path / 'out')) == ['seed0000.png', 'seed0001.png', 'seed0005.png']
    images = [np.array(PIL.Image.open(tmp_path / 'out' / name)) for name in sorted(os.listdir(tmp_path / 'out'))]
    G = last_snapshot(trained)['G_ema']
    z = torch.from_numpy(np.random.RandomState(5).randn(1, 512)).float()
    truth = G(z, torch.zeros([1, 0]), truncation_psi=0.7, noise_mode='const')[0].permute(1, 2, 0) * 127.5 + 128
    assert np.abs(images[2].astype(int) - truth.clamp(0, 255).numpy().astype(int)).max() <= 1
    assert not np.array_equal(images[0], images[1])

#----------------------------------------------------------------------------
# Refusals. One process tries them all.

DRIVER = '''
import importlib, json, sys
from click.testing import CliRunner
sys.path.insert(0, sys.argv[1])
names = dict(train='main', calc_metrics='calc_metrics', gen_images='generate_images')
for script, args in json.load(sys.stdin):
    result = CliRunner().invoke(getattr(importlib.import_module(script), names[script]), args)
    print(json.dumps([result.exit_code, result.output]))
'''

@pytest.fixture(scope='module')
def refusals(space, trained, make_zip, make_png):
    """{case: (words of the message, exit code, output)}."""
    make_zip(space / 'mixed.zip', n=3, extra={'00000/img00000002.png': make_png(np.zeros([8, 8, 3], np.uint8))})
    make_zip(space / 'oblong.zip', n=3, extra={'00000/img00000000.png': make_png(np.zeros([8, 16, 3], np.uint8))})
    (space / 'corrupt.zip').write_bytes(b'PK no')
    (space / 'file').write_text('a file')
    network = f'{trained}/network-snapshot-000000040.pkl'

    def train(**kwargs):
        args = dict(dict(outdir=f'{space}/none', data=f'{space}/set.zip', cfg='stylegan2', batch=8, gamma=1), **kwargs)
        return ['train', [f'--{name.replace("_", "-")}={value}' for name, value in args.items()]]

    cases = dict(
        cfg           = (train(cfg='biggan'), ['--cfg', 'stylegan2']),
        batch         = (train(batch=0), ['--batch', '0']),
        gamma         = (train(gamma='x'), ['--gamma', 'x']),
        aug           = (train(aug='diff'), ['--aug', 'noaug']),
        p             = (train(p=0.3), ['--p', '--aug=ada', '--aug=fixed']),
        target        = (train(target=0.5, aug='fixed'), ['--target', '--aug=fixed']),
        gpus          = (train(gpus=3), ['--batch', '--gpus', '3']),
        batch_gpu     = (train(batch_gpu=3), ['--batch-gpu=3', '8']),
        mbstd         = (train(batch_gpu=2), ['--mbstd-group', '2']),
        missing       = (train(data=f'{space}/nothing.zip'), ['--data', 'nothing.zip']),
        corrupt       = (train(data=f'{space}/corrupt.zip'), ['--data', 'corrupt.zip']),
        mixed         = (train(data=f'{space}/mixed.zip'), ['--data', 'img00000002.png', '8x8', 'dataset_tool']),
        oblong        = (train(data=f'{space}/oblong.zip'), ['--data', 'img00000000.png', '16x8', 'dataset_tool']),
        cond          = (train(cond=True), ['--cond', 'set.zip']),
        resume        = (train(resume=f'{space}/nothing.pkl'), ['--resume', 'nothing.pkl']),
        outdir        = (train(outdir=f'{space}/file/runs'), ['--outdir', 'file']),
        metric        = (train(metrics='fid3'), ['--metrics', 'fid3', 'fid5k']),
        detector      = (train(metrics='fid1k'), ['--detector', 'fid1k']),
        bad_detector  = (train(metrics='fid1k', detector=f'{space}/set.zip'), ['--detector', 'set.zip']),
        equivariance  = (train(metrics='eqt1k_int'), ['--metrics', 'StyleGAN3']),
        demo_detector = (train(metrics='fid1k', detector='demo'), ['--detector', '32x32', '16x16']),
        network       = (['gen_images', ['--network', f'{space}/set.zip', '--seeds=0', '--outdir=x']], ['--network', 'set.zip']),
        seeds         = (['gen_images', ['--network', network, '--seeds=a', '--outdir=x']], ['--seeds', 'a']),
        translate     = (['gen_images', ['--network', network, '--seeds=0', '--outdir=x', '--translate=1,0']], ['--translate']),
        no_detector   = (['calc_metrics', ['--network', network]], ['--detector', 'fid50k_full']),
        other_data    = (['calc_metrics', ['--network', network, '--metrics=fid1k', f'--detector={space}/pooled.pt',
                                           f'--data={space}/labelled.zip']], ['--data', 'labelled.zip']))
    cases['dry_run'] = ['train', train(outdir=f'{space}/dry')[1] + ['--dry-run']], []
    cases['alias_free'] = ['train', train(outdir=f'{space}/dry', cfg='stylegan3-r', batch=32)[1] + ['--dry-run']], []
    cases['small'] = ['train', train(outdir=f'{space}/dry')[1] + ['--dry-run', '--style-mixing=0', '--pl-weight=0']], []
    cases.update(other_size=(train(resume=network, cbase=256, cmax=16, kimg=0.008, workers=0, outdir=f'{space}/resumed'),
                             ['--resume', 'network-snapshot-000000040.pkl']))
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    env.update(https_proxy='http://127.0.0.1:9', DNNLIB_CACHE_DIR=f'{space}/empty') # No network, no detector.
    result = subprocess.run([sys.executable, '-c', DRIVER, str(HOST)], capture_output=True, text=True, env=env,
                            input=json.dumps([call for call, _words in cases.values()]))
    assert result.returncode == 0, result.stderr
    outcomes = map(json.loads, result.stdout.splitlines())
    return {name: (words, *outcome) for (name, (_call, words)), outcome in zip(cases.items(), outcomes, strict=True)}

CASES = ['cfg', 'batch', 'gamma', 'aug', 'p', 'target', 'gpus', 'batch_gpu', 'mbstd', 'missing', 'corrupt', 'mixed', 'oblong',
         'cond', 'resume', 'outdir', 'metric', 'detector', 'bad_detector', 'equivariance', 'demo_detector', 'network',
         'seeds', 'translate', 'no_detector', 'other_data', 'other_size']

@pytest.mark.parametrize('case', CASES)
def test_refusal_is_one_sentence_and_exit_code_2(refusals, case):
    words, code, output = refusals[case]
    assert code == 2, output
    message = output.strip().splitlines()[-1]
    assert message.startswith('Error: ') and output.count('Error') == 1 and 'Traceback' not in output
    for word in words:
        assert word in message

def test_refusal_of_the_script_goes_to_stderr(space):
    error = run('train.py', f'--outdir={space}/none', f'--data={space}/nothing.zip', *TINY, code=2)
    assert 'Error: --data' in error and 'Traceback' not in error

def test_refusals_leave_no_run_behind(refusals, space):
    assert not (space / 'none').exists()

def test_dry_run_makes_nothing(refusals, space):
    _words, code, output = refusals['dry_run']
    assert code == 0 and 'Dry run' in output and '--metrics=fid5k' in output and not (space / 'dry').exists()

def test_style_mixing_and_path_length_can_be_turned_off(refusals):
    for case, weight, prob, interval in [('dry_run', '2', '0.9', '4'), ('small', '0', '0.0', 'null')]:
        words = refusals[case][2].replace(' ', '')
        assert f'"pl_weight":{weight}' in words and f'"style_mixing_prob":{prob}' in words
        assert f'"G_reg_interval":{interval}' in words

def test_stylegan3_options(refusals):
    output = refusals['alias_free'][2]
    c = json.loads(output[output.index('{') : output.rindex('}') + 1])
    assert c['G_kwargs']['class_name'] == 'training.networks_stylegan3.Generator' and c['G_kwargs']['use_radial_filters']
    assert c['G_kwargs']['conv_kernel'] == 1 and c['G_kwargs']['channel_base'] == 2 * c['D_kwargs']['channel_base']
    assert c['G_kwargs']['magnitude_ema_beta'] == pytest.approx(0.998892, abs=1e-6) # Half after 20 kimg.
    assert c['loss_kwargs']['blur_init_sigma'] == 10 and c['loss_kwargs']['blur_fade_kimg'] == 200
    assert c['loss_kwargs']['pl_weight'] == c['loss_kwargs']['style_mixing_prob'] == 0 and c['G_reg_interval'] is None
    assert c['augment_kwargs']['class_name'] == 'training.augment.AugmentPipe' and c['ada_target'] == 0.6

#----------------------------------------------------------------------------
