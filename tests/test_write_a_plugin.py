"""docs/write-a-plugin.md: its package is built from the page, installed beside the plugin, and used by every command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'write-a-plugin.md'
TINY = ['--gpus=1', '--batch=8', '--gamma=1', '--kimg=0.016', '--tick=0.008', '--snap=1', '--threads=1']

def page_files():
    """{name: text} of the files on the page."""
    text = PAGE.read_text(encoding='utf-8')
    return dict(re.findall(r'<!-- file: (\S+) -->\n```\w+\n(.*?)^```$', text, re.DOTALL | re.MULTILINE))

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The folder that pip installs the page's package into."""
    tree, site = tmp_path_factory.mktemp('sketch-gan'), tmp_path_factory.mktemp('site')
    for name, text in page_files().items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding='utf-8')
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-build-isolation', f'--target={site}', tree]
    done = subprocess.run(list(map(str, command)), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return site

@pytest.fixture(scope='module')
def spider(site, tmp_path_factory):
    """spider(*args, package=True) -> CompletedProcess of a command, with the package on the path or without it."""
    cwd = tmp_path_factory.mktemp('work')
    def run(*args, package=True):
        paths = [str(site)] * package + [str(ROOT)]
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
        return subprocess.run([sys.executable, '-m', 'spider_plugin.cli', *map(str, args)], env=env, cwd=cwd, text=True,
                              capture_output=True)
    return run

@pytest.fixture(scope='module')
def train(spider, make_zip, tmp_path_factory):
    """train(*options) -> (snapshot, launch log and messages) of a run of two ticks on tiny images."""
    path = tmp_path_factory.mktemp('data')
    target = make_zip(path / 'target.zip', n=16, res=16, seed=1)
    make_zip(path / 'flies.zip', n=24, res=16, seed=2)
    def run(*options, source=path / 'flies.zip'):
        outdir = tmp_path_factory.mktemp('runs')
        done = spider('train', f'--outdir={outdir}', f'--data={target}', *TINY, f'--spider-source={source}', *options)
        assert done.returncode == 0, done.stderr + done.stdout
        return sorted(next(outdir.iterdir()).glob('network-snapshot-*.pkl'))[-1], done.stdout + done.stderr
    return run

@pytest.fixture(scope='module')
def sketch(train):
    return train('--cfg=sketch')

@pytest.fixture(scope='module')
def palette(train):
    return train('--cfg=dcgan', '--spider-mapping=palette')

#----------------------------------------------------------------------------

def test_a_mapping_kind_is_one_file_and_a_generator_two(site):
    python = sorted(name for name in page_files() if name.endswith('.py') and '__init__' not in name)
    assert python == ['sketch_gan/declare.py', 'sketch_gan/net.py', 'sketch_gan/palette.py']
    assert 'registry.mappings' in page_files()['sketch_gan/palette.py']
    assert 'registry.generators' in page_files()['sketch_gan/declare.py']

def test_a_generator_trains_with_a_source(sketch):
    snapshot, log = sketch
    assert 'spider-plugin: sketch-net adds generator sketch' in log and 'sketch-palette adds mapping palette' in log
    assert 'spider_plugin.bundles.sketch_gan__net.SketchGenerator' in log and 'Note: snapshots' not in log

OPEN = """
import pickle, sys, torch
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] not in ('spider_plugin', 'torch_utils_ext', 'sketch_gan'), name
sys.meta_path.insert(0, Forbidden())
sys.path.insert(0, sys.argv[1])
with open(sys.argv[2], 'rb') as f:
    G = pickle.load(f)['G_ema']
z = torch.randn([2, G.z_dim], generator=torch.Generator().manual_seed(0))
torch.save(G(z, None, noise_mode='const'), sys.argv[3])
"""

@pytest.mark.parametrize('run', ['sketch', 'palette'])
def test_a_snapshot_opens_without_package_and_plugin(run, request, tmp_path, spider):
    snapshot, _ = request.getfixturevalue(run)
    done = subprocess.run([sys.executable, '-c', OPEN, ROOT / 'reference_host', snapshot, tmp_path / 'images.pt'], cwd=tmp_path,
                          env={**os.environ, 'PYTHONPATH': ''}, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    images = torch.load(tmp_path / 'images.pt')
    assert images.shape == (2, 3, 16, 16) and images.isfinite().all() and images.std() > 0

@pytest.mark.parametrize('run', ['sketch', pytest.param('palette', marks=pytest.mark.slow)])
def test_generate_and_export(run, request, spider, tmp_path):
    snapshot, _ = request.getfixturevalue(run)
    done = spider('generate', f'--network={snapshot}', '--seeds=0-1', f'--outdir={tmp_path}')
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob('seed*.png'))) == 2
    done = spider('export', snapshot, '--out', tmp_path / 'weights.pt')
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / 'weights.pt', weights_only=True)

@pytest.mark.slow
def test_without_the_package_a_sentence_names_what_is_missing(sketch, palette, spider, tmp_path):
    for (snapshot, _), words in ((sketch, 'SketchGenerator, which is not a known class'), (palette, "the mapping 'palette'"),
                                 (sketch, 'install sketch_gan, or'), (palette, 'install sketch_gan, or')):
        done = spider('generate', f'--network={snapshot}', '--seeds=0', f'--outdir={tmp_path}', package=False)
        assert done.returncode == 2 and words in done.stderr and 'Traceback' not in done.stderr

@pytest.mark.slow
def test_resume_goes_on_with_the_source(sketch, train):
    _, log = train('--cfg=sketch', f'--resume={sketch[0]}')
    assert re.search(r'G: (\d+) of \1 tensors copied', log)

@pytest.mark.slow
def test_a_cascade_draws_from_it(sketch, train):
    _, log = train('--cfg=dcgan', '--spider-mapping=palette', '--spider-bank=64', source=sketch[0])
    assert 'this generator <- network-snapshot' in log and '<- flies' in log

@pytest.mark.slow
def test_a_cascade_runs_it_for_every_batch(sketch, train):
    _, log = train('--cfg=dcgan', '--spider-bank=online', source=sketch[0])
    assert 'the generator runs for every batch' in log

@pytest.mark.slow
def test_the_mapping_kind_fits_other_generators(train):
    for cfg in (['--cfg=sketch'], ['--cfg=stylegan2', '--cbase=256', '--cmax=16', '--map-depth=2']):
        snapshot, log = train(*cfg, '--spider-mapping=palette')
        assert '_with_palette' in log

@pytest.mark.slow
def test_what_is_refused(spider, make_zip, tmp_path):
    target = make_zip(tmp_path / 'target.zip', n=16, res=16)
    command = ['train', f'--outdir={tmp_path}', f'--data={target}', '--cfg=sketch', '--gpus=1', '--batch=8', '--gamma=1']
    for options, words in ((['--map-depth=2'], '--map-depth cannot be used with --cfg=sketch'),
                           (['--cfg=dcgan', '--sketch-width=8'], '--sketch-width has no effect without --cfg=sketch'),
                           (['--sketch-width=0'], 'sketch-width'),
                           (['--cbase=64'], 'whose width is fixed')):
        done = spider(*command, *options)
        assert done.returncode == 2 and words in done.stderr, done.stderr

def test_it_brings_an_option(spider, make_zip, tmp_path):
    assert 'Sketch options:' in (text := spider('train', '--help').stdout) and '--sketch-width INT' in text
    preset = tmp_path / 'mine.json'
    preset.write_text('{"title": "mine", "options": {"sketch-width": {"value": 5}, "cfg": {"value": "sketch"}}}')
    target = make_zip(tmp_path / 'target.zip', n=16, res=16)
    command = ['train', f'--outdir={tmp_path}', f'--data={target}', '--gpus=1', '--batch=8', '--gamma=1', '--dry-run']
    for options, width in ((['--cfg=sketch'], 16), (['--cfg=sketch', '--sketch-width=8'], 8), ([f'--preset={preset}'], 5)):
        done = spider(*command, *options)
        assert done.returncode == 0 and f'"width": {width}' in done.stdout, done.stderr + done.stdout

#----------------------------------------------------------------------------

@pytest.mark.slow
def test_a_module_that_is_not_portable_is_said_at_launch(site, spider, make_zip, tmp_path):
    net, other = site / 'sketch_gan' / 'net.py', site / 'sketch_gan' / 'palette.py'
    stock = [(path, path.read_text()) for path in (net, other)]
    try:
        for path, text in stock:
            path.write_text(text.replace('import torch\n', 'import spider_plugin.errors\nimport torch\n', 1))
        target, flies = (make_zip(tmp_path / f'{name}.zip', n=16, res=16) for name in ('target', 'flies'))
        command = ['train', f'--outdir={tmp_path / "runs"}', f'--data={target}', *TINY, f'--spider-source={flies}']
        runs = [spider(*command, '--cfg=sketch'), spider(*command, '--cfg=dcgan', '--spider-mapping=palette'),
                spider(*command, '--cfg=sketch', '--spider-mapping=palette')]
    finally:
        for path, text in stock:
            path.write_text(text)
    note = 'Note: snapshots open only where sketch_gan is installed: '
    for done, what, module in zip(runs, ('--cfg=sketch', '--spider-mapping=palette'), ('net', 'palette')):
        words = f'{what} is not portable, since sketch_gan.{module} imports spider_plugin.errors as a module.'
        assert done.returncode == 0 and note + words in done.stdout, done.stderr + done.stdout
    assert runs[2].returncode == 2 and 'cannot be used here, since sketch_gan.net.SketchGenerator' in runs[2].stderr
    with open(sorted((tmp_path / 'runs').glob('*sketch*/network-snapshot-*.pkl'))[-1], 'rb') as file:
        assert b'sketch_gan.net' in file.read()

#----------------------------------------------------------------------------
