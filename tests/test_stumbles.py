"""Stumbles that users reported, by number, each by the command on which they stumbled."""

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
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.prepare import prepare_source

ROOT = Path(__file__).resolve().parents[1]
TINY = ['--batch=8', '--gamma=1', '--cbase=64', '--cmax=8', '--map-depth=1', '--workers=0', '--threads=1', '--tick=0.008',
        '--snap=1']

def command(*args, cwd=None, **environment):
    """Run `python ARGS` with the plugin on the path, as a process."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', **environment)
    return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, env=env, text=True, capture_output=True)

def process(*args, **kwargs):
    """Run `spider ARGS` as a process."""
    return command('-m', 'spider_plugin.cli', *args, **kwargs)

def spider(*args):
    """Run `spider ARGS` in this process."""
    return CliRunner().invoke(cli.main, list(map(str, args)))

@pytest.fixture(scope='module')
def work(tmp_path_factory, make_zip):
    """A folder with target.zip, faces.zip, and the run of a StyleGAN2 with faces.zip as its source."""
    path = tmp_path_factory.mktemp('work')
    make_zip(path / 'target.zip', n=16, seed=1)
    make_zip(path / 'faces.zip', n=24, seed=2)
    done = process('train', '--outdir=runs', '--cfg=stylegan2', '--data=target.zip', '--spider-source=faces.zip', '--kimg=0.032',
                   '--snap-minutes=0.0001', *TINY, cwd=path)
    assert done.returncode == 0, done.stderr
    (path / 'said.txt').write_text(done.stdout)
    return path

@pytest.fixture(scope='module')
def bank(make_zip, tmp_path_factory):
    """A prepared source of 24 images."""
    return prepare_source(make_zip(tmp_path_factory.mktemp('bank') / 'bank.zip', n=24, seed=4)).path

@pytest.fixture(scope='module')
def run(work):
    return next((work / 'runs').glob('00000-*'))

@pytest.fixture(scope='module')
def snapshot(run):
    return sorted(run.glob('network-snapshot-[0-9]*.pkl'))[-1]

#----------------------------------------------------------------------------

def test_1_resuming_a_snapshot_keeps_its_source(work, snapshot):
    done = process('train', '--outdir=new', '--cfg=stylegan2', '--data=target.zip', f'--resume={snapshot}', *TINY, '-n', cwd=work)
    assert done.returncode == 0 and 'as in the snapshot, 24 images from the cache' in done.stdout, done.stderr
    assert '.SpiderGenerator"' in done.stdout

def pixels(image):
    return np.asarray(image.convert('RGB')).astype(float)

@pytest.mark.parametrize('dcgan', [False, True])
def test_2_a_video_walks_from_source_to_source(dcgan, bank, make_snapshot, tmp_path):
    path = make_snapshot(spider=dict(mapping='residual', source=bank, embed=1), dcgan=dcgan)
    done = process('video', f'--network={path}', '--seeds=0,1', '--w-frames=4', '--output=walk.gif', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    video, drawn = PIL.Image.open(tmp_path / 'walk.gif'), spider('generate', f'--network={path}', '--seeds=0,1',
                                                                f'--outdir={tmp_path}')
    frames = [pixels(video.seek(i) or video) for i in range(video.n_frames)]
    seeds = [pixels(PIL.Image.open(tmp_path / f'seed000{i}.png')) for i in range(2)]
    far = np.abs(seeds[0] - seeds[1]).mean()
    assert drawn.exit_code == 0 and len(frames) == 8 and far > 10
    assert all(np.abs(frames[4 * i] - seeds[i]).mean() < 0.2 * far for i in range(2))      # neither grey nor one image
    assert all(np.abs(a - b).mean() > 0.01 * far for a, b in zip(frames, frames[1:]))

def test_2_a_projection_finds_the_source_image(bank, make_snapshot, tmp_path):
    path = make_snapshot(spider=dict(mapping='residual', source=bank, embed=1))
    spider('generate', f'--network={path}', '--seeds=0-5', f'--outdir={tmp_path}')
    done = process('project', f'--network={path}', '--target=seed0003.png', '--loss=pixel', '--num-steps=20', '--save-video=0',
                   '--outdir=.', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, *seeds = (pixels(PIL.Image.open(tmp_path / name)) for name in ('proj.png', *(f'seed000{i}.png' for i in range(6))))
    errors = [np.abs(found - seed).mean() for seed in seeds]
    assert np.argmin(errors) == 3 and errors[3] < 0.3 * sorted(errors)[1]

def test_2_path_lengths_that_do_not_exist_are_refused(bank, make_snapshot, tmp_path):
    path = make_snapshot(spider=dict(mapping='residual', source=bank, embed=1), dcgan=True)
    done = process('metrics', f'--network={path}', '--metrics=ppl2_wend', cwd=tmp_path)     # before a detector is fetched
    assert done.returncode == 2 and 'no path in W' in done.stderr and '`spider video`' in done.stderr, done.stdout + done.stderr

def test_3_a_run_says_how_long_it_takes_and_saves_by_the_clock(work, run):
    said = (work / 'said.txt').read_text()
    assert re.search(r'One iteration takes [\d.]+ s, so 0.032 kimg take', said)
    assert len(list(run.glob('fakes0*.png'))) >= 4     # at each iteration, as a ten thousandth of a minute has passed

@pytest.mark.slow   # options/test_resume.py has the kind
def test_4_stylegan3_has_a_default_mapping(work):
    done = process('train', '--outdir=new', '--cfg=stylegan3-t', '--data=target.zip', '--spider-source=faces.zip', *TINY, '-n',
                   cwd=work)
    assert done.returncode == 0 and '"mapping": "encoder"' in done.stdout, done.stderr

def test_5_what_made_a_run_is_in_the_run(run):
    assert '-from-faces-residual' in run.name
    assert 'Spider source' in (run / 'log.txt').read_text()
    made = json.loads((run / 'training_options.json').read_text())['spider_run']
    assert made['source']['name'] == 'faces' and made['source']['mapping'] == 'residual'
    assert 'Spider/skip' in (run / 'stats.jsonl').read_text()

def test_6_a_run_can_be_seen(run, tmp_path):
    assert (run / 'report.html').is_file()      # written by the run
    result = spider('report', run, f'--out={tmp_path / "page.html"}')
    assert result.exit_code == 0 and 'Images over time' in (tmp_path / 'page.html').read_text(encoding='utf-8')

@pytest.mark.slow   # hosts/test_hook.py has the kind
def test_7_metrics_can_be_found():
    said = process('train', '--help').stdout
    assert 'sid50k_full' in said and 'SPIDER_DETECTOR' in said

CALC_METRICS = """
import json

import click
import legacy

from metrics import metric_main

@click.command()
@click.option('--network', 'network_pkl')
@click.option('--metrics')
def calc_metrics(network_pkl, metrics):
    print(json.dumps(metric_main.list_valid_metrics()))

if __name__ == '__main__':
    calc_metrics()
"""
METRIC_MAIN = """
_metrics = {}

def register_metric(fn):
    _metrics[fn.__name__] = fn
    return fn

def is_valid_metric(name):
    return name in _metrics

def list_valid_metrics():
    return list(_metrics)
"""

@pytest.mark.slow
@pytest.mark.parametrize('kind', ['made up', 'stylegan3'])
def test_7_metrics_can_be_found_in_an_attached_checkout(kind, tmp_path):
    tree = tmp_path / 'checkout'
    if kind == 'stylegan3':
        source = Path(os.environ.get('SPIDER_HOSTS') or os.devnull, kind)
        if not (source / 'calc_metrics.py').is_file():
            pytest.skip('needs a checkout of NVlabs/stylegan3 as $SPIDER_HOSTS/stylegan3')
        shutil.copytree(source, tree, ignore=shutil.ignore_patterns('.git', 'media', 'docs'))
    else:
        (tree / 'metrics').mkdir(parents=True)
        for name, text in {'train.py': OWN_PRESET, 'calc_metrics.py': CALC_METRICS, 'legacy.py': '', 'metrics/__init__.py': '',
                           'metrics/metric_main.py': METRIC_MAIN}.items():
            (tree / name).write_text(text)
    assert spider('attach', tree).exit_code == 0
    done = command('calc_metrics.py', '--help', cwd=tree)
    said = ' '.join(done.stdout.split())
    assert done.returncode == 0 and 'sid50k_full, sid50k, sid5k, sid1k' in said, done.stderr
    assert 'SPIDER_DETECTOR=[FILE.pt|URL|demo|lite1]' in said

def test_8_what_a_third_party_draws_needs_an_explicit_word(make_foreign_snapshot, tmp_path):
    path = make_foreign_snapshot()
    result = spider('generate', f'--network={path}', '--seeds=0', f'--outdir={tmp_path}')
    assert result.exit_code == 2 and 'pass --trust-pickle if you trust the file' in ' '.join(result.output.split())
    result = spider('generate', f'--network={path}', '--seeds=0', f'--outdir={tmp_path}', '--trust-pickle')
    assert result.exit_code == 0 and PIL.Image.open(tmp_path / 'seed0000.png').size == (16, 16), result.output
    page = (ROOT / 'docs' / 'write-a-plugin.md').read_text(encoding='utf-8')
    assert all(word in page for word in ('mapping(z, c', 'synthesis(ws', 'num_ws', 'w_dim', 'float64'))

@pytest.fixture
def make_foreign_snapshot(tmp_path, monkeypatch):
    """make_foreign_snapshot() -> path of a pickle of a generator that no registry knows, whose module is on the path."""
    (tmp_path / 'somebody.py').write_text(
        'import torch\n'
        'class Sketch(torch.nn.Module):\n'
        '    def __init__(self):\n'
        '        super().__init__()\n'
        '        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.img_resolution, self.img_channels = 4, 0, 4, 1, 16, 3\n'
        '        self.mapping = Mapping()\n'
        '        self.synthesis = Synthesis()\n'
        '    def forward(self, z, c, truncation_psi=1, **kwargs):\n'
        '        return self.synthesis(self.mapping(z, c), **kwargs)\n'
        'class Mapping(torch.nn.Module):\n'
        '    num_ws = 1\n'
        '    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **kwargs):\n'
        '        return z.to(torch.float32).unsqueeze(1)\n'
        'class Synthesis(torch.nn.Module):\n'
        '    def forward(self, ws, **kwargs):\n'
        '        return ws[:, 0, :3].tanh()[:, :, None, None].repeat(1, 1, 16, 16)\n')
    monkeypatch.syspath_prepend(tmp_path)
    def make():
        import importlib
        import pickle
        G = importlib.import_module('somebody').Sketch()
        path = tmp_path / 'network-snapshot-000001.pkl'
        path.write_bytes(pickle.dumps(dict(G=G, D=None, G_ema=G, augment_pipe=None, training_set_kwargs={})))
        return path
    yield make
    sys.modules.pop('somebody', None)

@torch.no_grad()
@pytest.mark.parametrize('kind', ['.ts', pytest.param('.onnx', marks=pytest.mark.slow)])
def test_9_a_spider_generator_is_exported(kind, bank, make_snapshot, tmp_path):
    if kind == '.onnx':
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(package, reason='the extra `onnx` is not installed')
    path = make_snapshot(spider=dict(mapping='residual', source=bank, embed=1))
    result = spider('export', path, f'--out={tmp_path / "g"}{kind}')
    assert result.exit_code == 0, result.output
    z = torch.randn([3, 16], generator=torch.Generator().manual_seed(0))
    if kind == '.ts':
        images = torch.jit.load(str(tmp_path / 'g.ts'))(z)
    else:
        import onnxruntime
        images = torch.from_numpy(onnxruntime.InferenceSession(str(tmp_path / 'g.onnx')).run(None, dict(z=z.numpy()))[0])
    assert (images - load_generator(path)(z, torch.zeros([3, 0]), noise_mode='const')).abs().max() < 1e-4

def test_10_no_snapshot_names_the_cache(snapshot, spider_cache):
    assert str(spider_cache).encode() not in snapshot.read_bytes()

OWN_PRESET = """
import click
import legacy

@click.command()
@click.option('--outdir')
@click.option('--data')
@click.option('--preset', help='One of the host')
def main(**kwargs):
    print(kwargs['preset'])

def launch_training(c, desc, outdir, dry_run):
    pass

if __name__ == '__main__':
    main()
"""

@pytest.mark.slow   # hosts/test_hook.py has the kind
def test_11_a_host_with_a_preset_of_its_own(tmp_path):
    (tmp_path / 'train.py').write_text(OWN_PRESET)
    (tmp_path / 'legacy.py').write_text('')
    for args, words in ((['--help'], '--spider-preset'), (['--preset=CIFAR10'], 'CIFAR10')):
        done = process('run', 'train.py', *args, cwd=tmp_path)
        assert done.returncode == 0 and words in done.stdout, done.stderr

def test_12_a_source_that_fails_does_not_end_a_ranking(tmp_path, make_zip):
    target, near, far = (make_zip(tmp_path / f'{name}.zip', n=110, res=64, seed=seed) for seed, name in enumerate('abc'))
    result = spider('neighbors', f'--target={target}', near, far, tmp_path / 'gone.zip', '--detector=demo')
    said = ' '.join(result.output.split())
    left_out = re.search(r'gone\.zip was left out: (.*?) does not exist', said)
    assert left_out and '--spider-source' not in left_out[1] and 'Ranked by' in said and result.exit_code == 0, said

@pytest.mark.slow   # reference_host/test_dataset_tool.py has the kind
@pytest.mark.parametrize('args, code', [([], 2), (['--transform=center-crop'], 0), (['--transform=stretch'], 0)])
def test_13_photos_are_not_stretched_without_a_word(tmp_path, args, code):
    (tmp_path / 'photos').mkdir()
    for i, size in enumerate([(40, 60), (60, 40)]):
        PIL.Image.fromarray(np.full([*size, 3], 90 * i, dtype=np.uint8)).save(tmp_path / 'photos' / f'{i}.jpg')
    done = process('dataset', '--source=photos', '--dest=out.zip', '--resolution=32x32', *args, cwd=tmp_path)
    assert done.returncode == code and ('would stretch' in done.stderr) == (code == 2), done.stderr
    assert (tmp_path / 'out.zip').exists() == (code == 0)

@pytest.mark.slow   # test_cli.py has the kind
def test_14_the_command_line(tmp_path):
    assert re.match('spider, version ', spider('--version').output)
    for name in ('train', 'dataset', 'metrics'):
        done = process(name, '-h')
        assert done.returncode == 0 and done.stdout.startswith(f'Usage: spider {name} [OPTIONS]'), done.stderr
        if name == 'train':
            headings = re.findall(r'^(\w[\w ]*):$', done.stdout, re.MULTILINE)
            assert {'Photos', 'Features', 'Hyperparameters', 'Run', 'Spider options'} <= set(headings)

@pytest.mark.slow
@pytest.mark.parametrize('name', ['dataset', 'video', 'project', 'mix'])
def test_14_a_tool_needs_no_files_of_the_host(name, tmp_path):
    done = process(name, '--help', cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f'Usage: spider {name} [OPTIONS]') and 'python ' not in done.stdout
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize('args', [['generate', '--seeds=0', '--network={url}', '--outdir=.'], ['export', '{url}', '--out=x.pt']])
def test_14_a_url_is_not_mangled(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = spider(*(arg.format(url='http://127.0.0.1:9/x.pkl') for arg in args))
    assert result.exit_code == 2 and 'http://127.0.0.1:9/x.pkl' in ' '.join(result.output.split()), result.output

def test_14_a_walk_lands_in_the_folder_that_was_named(bank, make_snapshot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make_snapshot(spider=dict(mapping='residual', source=bank, embed=1), dcgan=True)
    options = ['generate', f'--network={path}', '--seeds=0,1', '--walk=both', '--outdir=o2']
    result = spider(*options, '--walk-out=o2/w.gif')
    said = ' '.join(result.output.split())
    assert result.exit_code == 2 and '--walk-out=o2/w.gif is not the name of a file in --outdir' in said
    assert spider(*options, '--walk-out=w.gif').exit_code == 0
    assert (tmp_path / 'o2' / 'w.gif').is_file() and not (tmp_path / 'o2' / 'o2').exists()

def test_15_doctor_speaks_of_its_kernels(monkeypatch):
    monkeypatch.setenv('SPIDER_NVCC', 'require')
    said = ' '.join(spider('doctor').output.split())
    assert 'compiles nothing' not in said and not re.search('SPIDER_NVCC[^.]*unknown', said)

def test_16_the_package_says_who_and_where():
    tomllib = pytest.importorskip('tomllib')    # of Python 3.11
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    assert project['urls']['Homepage'] and project['authors'] and (ROOT / 'CITATION.cff').is_file()
    assert (ROOT / 'spider_plugin' / 'py.typed').is_file()
    texts = [path.read_text(encoding='utf-8') for folder in ('spider_plugin', 'docs') for path in (ROOT / folder).rglob('*')
             if path.suffix in ('.py', '.md')]
    named = {extra for text in texts for names in re.findall(r'spider-plugin\[([\w,]+)\]', text) for extra in names.split(',')}
    assert named <= set(project['optional-dependencies']), 'a sentence names an extra that is not published'

def test_17_what_was_absent_is_there():
    assert re.search(r'!\[.*\]\(docs/.*png\)', (ROOT / 'README.md').read_text(encoding='utf-8'))
    assert (ROOT / 'examples' / 'journeys').is_dir() and (ROOT / 'docs' / 'api.md').is_file()
    assert spider('cache', 'list').exit_code == 0

@pytest.mark.slow   # options/test_presets.py has the kind
def test_18_a_preset_for_another_size_is_taken_with_a_remark(work):
    done = process('train', '--outdir=new', '--data=target.zip', '--preset=preset.json', *TINY, '-n', cwd=work)
    assert done.returncode == 2 and 'cannot be read' in done.stderr
    preset = dict(title='for large images', data=dict(name='x', resolution=256, channels=3, classes=0, images=100),
                  options=dict(cfg=dict(value='dcgan', known=True, source='')))
    (work / 'preset.json').write_text(json.dumps(preset))
    done = process('train', '--outdir=new', '--data=target.zip', '--preset=preset.json', '--batch=8', '--gamma=1', '-n', cwd=work)
    assert done.returncode == 0 and 'is a recipe for 256x256 images, but --data has 16x16' in done.stdout, done.stderr
