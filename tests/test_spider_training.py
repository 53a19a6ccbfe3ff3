"""The main use in a new checkout: train.py --spider-source, then every tool on its results.

Training runs in separate processes, as a user starts them, with a spy that logs which code requests source images."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from spider_plugin.portable.source.bank import open_source
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.records import generator_record
from spider_plugin.sources.prepare import prepare_source

ROOT = Path(__file__).resolve().parents[1]
TINY = ['--cfg=stylegan2', '--gpus=1', '--batch=8', '--gamma=1', '--cbase=256', '--cmax=16', '--map-depth=2', '--tick=0.064',
        '--snap=1', '--threads=1']

#----------------------------------------------------------------------------
# Runs a script of a checkout as __main__ and writes, for every use of a source, the names of the functions on the stack,
# and the mean square of every gradient at the optimizers' first steps.

SPY = '''
import json, os, runpy, sys, traceback
import torch
tree, log, script = sys.argv[1:4]
sys.path.insert(0, tree)
sys.argv = [os.path.join(tree, script)] + sys.argv[4:]
from spider_plugin.bundles import spider_on_training__networks_stylegan2 as bundle
uses, grads = [], {}
def spied(name):
    stock = getattr(bundle.ImageBank, name)
    def use(self, *args):
        uses.append([name, [frame.name for frame in traceback.extract_stack()]])
        return stock(self, *args)
    setattr(bundle.ImageBank, name, use)
spied('key'), spied('fetch')
stock_step = torch.optim.Adam.step
def step(self, *args, **kwargs):
    for p in self.param_groups[0]['params']:
        grads[id(p)] = max(grads.get(id(p), 0.0), float(p.grad.square().mean()) if p.grad is not None else 0.0)
    return stock_step(self, *args, **kwargs)
torch.optim.Adam.step = step
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    with open(log, 'w') as f:
        json.dump({'uses': uses, 'grads': list(grads.values())}, f)
'''

def run(command, cwd, **kwargs):
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, env=env, text=True, capture_output=True, **kwargs)

def train(checkout, outdir, *args, log=None):
    script = ['spy.py', checkout, log, 'train.py'] if log else ['train.py']
    if log:
        (checkout / 'spy.py').write_text(SPY)
    done = run([*script, f'--outdir={outdir}', *TINY, *args], checkout)
    assert done.returncode == 0, done.stderr + done.stdout
    return next(outdir.iterdir()), done.stdout

@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """The result of `spider init DIR`."""
    path = tmp_path_factory.mktemp('init') / 'checkout'
    done = run(['-m', 'spider_plugin.cli', 'init', path], ROOT)
    assert done.returncode == 0, done.stderr
    return path

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    path = tmp_path_factory.mktemp('data')
    make_zip(path / 'D.zip', n=40, res=16, seed=1)
    make_zip(path / 'S.zip', n=40, res=16, seed=2)
    make_zip(path / 'other.zip', n=40, res=16, seed=3)
    bright = np.full([16, 16, 3], 230, np.uint8)
    make_marker(path / 'marker.zip', bright)
    return path

def make_marker(path, image):
    """Four images; one differs by a grey level in a corner, since equal ones are refused."""
    import io
    import zipfile
    with zipfile.ZipFile(path, 'w') as archive:
        for i in range(4):
            marked, buffer = image.copy(), io.BytesIO()
            marked[0, 0] += i == 3
            PIL.Image.fromarray(marked).save(buffer, format='png')
            archive.writestr(f'{i}.png', buffer.getvalue())

@pytest.fixture(scope='module')
def spider_run(checkout, data, tmp_path_factory):
    """(run directory, output, the spy's log) of a residual run with every regulariser, and a metric."""
    path = tmp_path_factory.mktemp('run')
    run_dir, printed = train(checkout, path / 'runs', f'--data={data}/D.zip', f'--spider-source={data}/S.zip', '--kimg=0.192',
                             '--workers=2', '--metrics=toy_mean', log=path / 'log.json')
    return run_dir, printed, json.loads((path / 'log.json').read_text())

@pytest.fixture(scope='module')
def still_run(checkout, data, tmp_path_factory):
    """Run directory of a generator that does not learn, with one bright image as its source."""
    return train(checkout, tmp_path_factory.mktemp('still'), f'--data={data}/D.zip', f'--spider-source={data}/marker.zip',
                 '--spider-match=none', '--kimg=0.064', '--workers=1', '--glr=0', '--metrics=toy_mean')[0]

def last_snapshot(run_dir):
    return sorted(run_dir.glob('network-snapshot-*.pkl'))[-1]

@pytest.fixture(scope='module', autouse=True)
def toy_metric(checkout):
    """A metric of the checkout that uses generated images without a detector."""
    (checkout / 'metrics' / 'toy.py').write_text(
        'import torch\n'
        'from metrics import metric_main\n'
        '@metric_main.register_metric\n'
        'def toy_mean(opts):\n'
        '    z = torch.randn([8, opts.G.z_dim], generator=torch.Generator().manual_seed(0))\n'
        '    return dict(toy_mean=float(opts.G(z, torch.zeros([8, 0])).mean()))\n')
    with open(checkout / 'metrics' / 'metric_main.py', 'a') as f:
        f.write('\nfrom metrics import toy\n')

#----------------------------------------------------------------------------

def test_weights_of_mapping_and_synthesis_moved(spider_run, still_run):
    before, after = (generator_record(last_snapshot(path), 'G').state_dict() for path in (still_run, spider_run[0]))
    still = {name for name, x in after.items() if x.is_floating_point() and torch.equal(x, before[name])}
    buffers = {name for name in still if name.endswith(('resample_filter', 'noise_const'))}
    assert still - buffers == {'synthesis.b4.const', 'synthesis.source_gain'}   # a fresh residual replaces the constant
    assert any(name.startswith('mapping.') for name in after) and len(after) > 30

def test_gradients_reach_both_networks(spider_run):
    grads = spider_run[2]['grads']
    assert sum(g > 0 for g in grads) >= len(grads) - 1                  # all but the constant

def test_every_rank_trains_the_spider_generator(checkout, data, tmp_path):
    """The ranks compare all of their tensors before the snapshot; a stock generator in one of them would have fewer."""
    run_dir, printed = train(checkout, tmp_path / 'runs', f'--data={data}/D.zip', f'--spider-source={data}/S.zip',
                             '--kimg=0.016', '--workers=0', '--gpus=2', '--aug=fixed', '--p=0.3')
    record = generator_record(last_snapshot(run_dir))
    assert 'gpus2' in run_dir.name and record.class_name == 'SpiderGenerator' and 'Spider source' in printed
    assert record.init_kwargs['spider']['source'] == json.loads((run_dir / 'training_options.json').read_text())[
        'G_kwargs']['spider']['source']

def test_the_edit_is_printed_and_saved(spider_run, data, spider_cache):
    run_dir, printed, _log = spider_run
    saved = json.loads((run_dir / 'training_options.json').read_text())['G_kwargs']
    assert saved['class_name'] == 'spider_plugin.bundles.spider_on_training__networks_stylegan2.SpiderGenerator'
    assert saved['spider']['mapping'] == 'residual' and (spider_cache / saved['spider']['source']).is_dir()
    assert saved['class_name'] in printed and 'Spider source:       S' in printed and 'Snapshots carry' in printed

def test_what_made_the_run_is_in_the_run(spider_run, tmp_path):
    run_dir, printed, _log = spider_run
    made = json.loads((run_dir / 'training_options.json').read_text())['spider_run']
    assert made['source']['name'] == 'S' and made['source']['match'] == 'covariance' and made['resumed'] is None
    assert run_dir.name.endswith('-from-S-residual-matched')
    for text in ((run_dir / 'log.txt').read_text(), printed):
        assert text.count('Spider source:       S') == 1 and 'moved to the mean and covariance of D' in text
    stats = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    skip = [line['Spider/skip']['mean'] for line in stats]
    assert 0.9 < skip[0] < 1.1 and len(set(skip)) == len(skip)      # from 1 on, and it moves
    assert all(stats[-1][name]['mean'] > 0 for name in ('Gradients/Gmain', 'Gradients/Dmain', 'Timing/images_per_sec',
                                                        'Resources/cpu_mem_gb'))
    card = json.loads(export(last_snapshot(run_dir), tmp_path / 'g.pt')[1].read_text())
    assert card['source']['match'] == 'covariance' and card['run'] == dict(source=made['source'], resumed=None)

def test_the_page_of_the_run(spider_run):
    page = (spider_run[0] / 'report.html').read_text()
    for words in ('toy_mean', 'factor of the source in the pixels', 'norm of the gradients of G', 'class="cell source"',
                  'S, residual'):
        assert words in page
    drawn = np.asarray(PIL.Image.open(spider_run[0] / 'sources.png'))
    assert drawn.shape == (8 * 16, 16 * 16, 3) and drawn.std() > 5

def test_no_snapshot_names_the_cache_of_this_machine(spider_run, spider_cache):
    """strings network-snapshot-*.pkl | grep CACHE"""
    saved = json.loads((spider_run[0] / 'training_options.json').read_text())['G_kwargs']['spider']
    pickled = last_snapshot(spider_run[0]).read_bytes()
    assert saved['source'].encode() in pickled and str(spider_cache).encode() not in pickled

#----------------------------------------------------------------------------
# Everything draws from the source.

USES = ['generator_main', 'path_length', 'discriminator_fake', 'save_images', 'toy_mean']

@pytest.mark.parametrize('where', USES)
def test_each_place_draws_from_the_source(where, spider_run):
    assert [u for u in spider_run[2]['uses'] if u[0] == 'fetch' and where in u[1]]

def test_style_mixing_draws_from_the_source(spider_run):
    keys = [stack for name, stack in spider_run[2]['uses'] if name == 'key' and 'run_G' in stack]
    images = [stack for name, stack in spider_run[2]['uses'] if name == 'fetch' and 'run_G' in stack]
    assert len(keys) > 1.5 * len(images)                                # two mappings to one synthesis, nine times in ten

def test_w_avg_draws_from_the_source(checkout, data, tmp_path):
    run_dir, _ = train(checkout, tmp_path / 'runs', f'--data={data}/D.zip', f'--spider-source={data}/marker.zip', '--kimg=0.064',
                       '--workers=1', '--spider-mapping=paper-23x23', '--glr=0', log=tmp_path / 'log.json')
    uses = json.loads((tmp_path / 'log.json').read_text())['uses']
    assert [u for u in uses if u[0] == 'fetch' and 'discriminator_fake' in u[1] and 'generator_main' not in u[1]]
    record = generator_record(last_snapshot(run_dir), 'G')
    mapping = record.state['_modules']['mapping'].state_dict()
    # Hardly more than one image, so one w: with a learning rate of zero the average is w (1 - beta^8), a Gaussian z would not be
    # parallel.
    sys.path.insert(0, str(checkout))
    from spider_plugin.snapshots.rebuild import rebuild_generator
    G = rebuild_generator(record, 'snapshot')
    w = G.mapping(torch.randn([3, 512]), None)[:, 0]
    assert torch.cosine_similarity(w[0], w[1], dim=0) > 0.9999
    assert torch.cosine_similarity(w[0], mapping['w_avg'], dim=0) > 0.9999

def test_grids_and_metrics_show_a_marker(still_run):
    marker = 230 / 127.5 - 1
    fakes = [np.asarray(PIL.Image.open(path)) / 127.5 - 1 for path in still_run.glob('fakes*.png')]
    assert len(fakes) >= 2 and all(abs(x.mean() - marker) < 0.05 for x in fakes)
    scores = [json.loads(line)['results']['toy_mean'] for line in (still_run / 'metric-toy_mean.jsonl').read_text().splitlines()]
    assert scores and all(abs(score - marker) < 0.05 for score in scores)

#----------------------------------------------------------------------------

OPEN = '''
import pickle, sys, torch
if sys.argv[3] == 'without':
    class Forbidden:
        def find_spec(self, name, path=None, target=None):
            assert name.split('.')[0] not in ('spider_plugin', 'torch_utils_ext'), name
    sys.meta_path.insert(0, Forbidden())
else:
    import spider_plugin.hosts.hook
with open(sys.argv[1], 'rb') as f:
    G = pickle.load(f)['G_ema']
z = torch.randn([6, G.z_dim], generator=torch.Generator().manual_seed(0))
torch.save([G(z, torch.zeros([6, 0]), noise_mode='const'), G.source.sample(z)], sys.argv[2])
'''

def open_snapshot(checkout, snapshot, out, how):
    (checkout / 'open_snapshot.py').write_text(OPEN)
    done = run(['open_snapshot.py', snapshot, out, how], checkout)
    assert done.returncode == 0, done.stderr
    return torch.load(out)

def test_the_snapshot_opens_without_the_plugin(checkout, spider_run, tmp_path):
    snapshot = last_snapshot(spider_run[0])
    with_plugin = open_snapshot(checkout, snapshot, tmp_path / 'a.pt', 'with')
    without = open_snapshot(checkout, snapshot, tmp_path / 'b.pt', 'without')
    assert (with_plugin[0] - without[0]).abs().max() == 0 and torch.equal(with_plugin[1], without[1])

def test_another_source_changes_the_output(checkout, spider_run, data):
    sys.path.insert(0, str(checkout))
    from spider_plugin.snapshots.rebuild import load_generator
    G = load_generator(last_snapshot(spider_run[0]))
    z, c = torch.randn([6, G.z_dim]), torch.zeros([6, 0])
    before = G(z, c, noise_mode='const')
    G.source = G.mapping.source = G.synthesis.source = open_source(prepare_source(f'{data}/other.zip').path)
    assert (before - G(z, c, noise_mode='const')).abs().mean() > 0.05

def test_gen_images_and_calc_metrics_take_the_snapshot(checkout, spider_run, data, tmp_path):
    snapshot = last_snapshot(spider_run[0])
    done = run(['gen_images.py', f'--network={snapshot}', '--seeds=0-2', f'--outdir={tmp_path}/images'], checkout)
    assert done.returncode == 0, done.stderr
    images = [np.asarray(PIL.Image.open(path)) for path in sorted((tmp_path / 'images').glob('*.png'))]
    assert len(images) == 3 and images[0].shape == (16, 16, 3) and not np.array_equal(images[0], images[1])
    done = run(['calc_metrics.py', f'--network={snapshot}', '--metrics=toy_mean', f'--data={data}/D.zip'], checkout)
    assert done.returncode == 0, done.stderr
    assert '"toy_mean"' in done.stdout

#----------------------------------------------------------------------------

def test_two_runs_of_one_seed_are_bit_equal(checkout, spider_run, data, tmp_path):
    again, _ = train(checkout, tmp_path / 'runs', f'--data={data}/D.zip', f'--spider-source={data}/S.zip', '--kimg=0.192',
                     '--workers=2')
    options = json.loads((again / 'training_options.json').read_text())
    assert options['loss_kwargs']['pl_weight'] > 0 and options['loss_kwargs']['style_mixing_prob'] > 0
    for key in ('G', 'D', 'G_ema'):
        a, b = (generator_record(last_snapshot(path), key).state_dict() for path in (spider_run[0], again))
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

def test_the_attached_line_without_the_plugin_is_stock_training(checkout, data, tmp_path):
    bare = tmp_path / 'bare'
    shutil.copytree(checkout, bare)
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | {'OMP_NUM_THREADS': '1'}
    code = ('import importlib.util, runpy, sys; find = importlib.util.find_spec; '
            'importlib.util.find_spec = lambda n, *a: None if n == "spider_plugin" else find(n, *a); '
            'sys.argv = ["train.py"] + sys.argv[1:]; sys.path.insert(0, "."); runpy.run_path("train.py", run_name="__main__")')
    done = subprocess.run([sys.executable, '-c', code, f'--outdir={tmp_path}/runs', f'--data={data}/D.zip', *TINY, '--kimg=0.064',
                           '--workers=1', '--dry-run'], cwd=bare, env=env, text=True, capture_output=True)
    assert done.returncode == 0 and 'networks_stylegan2.Generator' in done.stdout
    assert len(re.findall(r'spider-plugin', done.stderr)) >= 1 and len(done.stderr.strip().splitlines()) == 1

@pytest.mark.slow
def test_the_command_of_the_readme(checkout, data, tmp_path):
    done = run(['train.py', f'--outdir={tmp_path}/R', '--cfg=stylegan2', f'--data={data}/D.zip', '--gpus=1', '--batch=16',
                '--gamma=1', '--kimg=1', f'--spider-source={data}/S.zip'], checkout)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / 'R').glob('*/network-snapshot-*.pkl'))
