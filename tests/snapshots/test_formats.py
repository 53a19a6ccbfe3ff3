"""Snapshots of released versions, one of every kind, go on working: they open with the plugin and without it, generate, export
and resume. formats/VERSION was written by that version (tools/make_format_snapshots.py) and is never written again."""

import importlib
import json
import lzma
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

from spider_plugin.cli import main
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.snapshots.records import read_pickle

ROOT    = Path(__file__).resolve().parents[2]
FORMATS = Path(__file__).resolve().parent / 'formats'
ABOUT   = {path.parent.name: json.loads(path.read_text()) for path in sorted(FORMATS.glob('*/cases.json'))}
CASES   = [f'{version}/{name}' for version, about in ABOUT.items() for name in about['cases']]

@pytest.fixture(scope='module')
def snapshots(tmp_path_factory):
    """Folder with VERSION/NAME.pkl of every case."""
    path = tmp_path_factory.mktemp('formats')
    for case in CASES:
        (path / case).parent.mkdir(exist_ok=True)
        (path / f'{case}.pkl').write_bytes(lzma.decompress((FORMATS / f'{case}.pkl.xz').read_bytes()))
    return path

def seeds(case):
    return ABOUT[case.partition('/')[0]]['seeds']

def inputs(case, G):
    """The latents that hosts draw for the seeds, and classes by turns."""
    z = torch.from_numpy(np.stack([np.random.RandomState(seed).randn(G.z_dim) for seed in seeds(case)]))
    return z, torch.eye(max(G.c_dim, 1))[[seed % max(G.c_dim, 1) for seed in seeds(case)]][:, : G.c_dim]

def expected(case):
    with np.load(FORMATS / f'{case}.npz') as file:
        return {name: torch.from_numpy(file[name]) for name in ('images', 'logits')}

def same(there, here):
    """To 1e-5 of the largest number: machines and versions of torch add up in other orders."""
    return there.shape == here.shape and (there - here).abs().max() <= 1e-5 * there.abs().max()

#----------------------------------------------------------------------------

def test_every_kind_is_there():
    """Of the first release; a release that adds a kind adds a folder."""
    assert {'stylegan2_residual', 'stylegan2_dsc', 'stylegan3_encoder', 'dcgan_gaussian', 'dcgan_residual', 'dcgan_paper_16x32',
            'pggan_residual', 'fastgan_lite_dsc', 'dcgan_cascade'} <= set(ABOUT['0.1.0']['cases'])
    files = {path.relative_to(FORMATS).as_posix() for path in FORMATS.glob('*/*') if path.name != 'cases.json'}
    assert files == {f'{case}{ending}' for case in CASES for ending in ('.pkl.xz', '.npz')}

OPEN_AS_HOSTS_DO = '''
import pathlib, pickle, sys, torch
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] != 'spider_plugin', name
        if name.split('.')[0] == 'torch_utils_ext':     # bundles ask for kernels, and do without
            raise ImportError(name)
sys.meta_path.insert(0, Forbidden())
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
torch.set_grad_enabled(False)
for path in map(pathlib.Path, sys.argv[2:]):
    data, (z, c) = pickle.loads(path.read_bytes()), torch.load(path.with_suffix('.in.pt'))
    images = data['G_ema'](z, c, noise_mode='const')
    torch.manual_seed(0)    # a projected D augments what it sees
    torch.save([images, data['D'](images, c), data['G'].state_dict(), data['D'].state_dict()], path.with_suffix('.out.pt'))
'''

@pytest.fixture(scope='module')
def opened(snapshots):
    """{case: (G_ema by the restricted reader, images and logits of a process that has only the reference host, tensors of its G
    and D)}"""
    generators = {case: load_generator(snapshots / f'{case}.pkl') for case in CASES}
    for case, G in generators.items():
        torch.save(inputs(case, G), snapshots / f'{case}.in.pt')
    paths = [resource_dir('reference_host'), *(snapshots / f'{case}.pkl' for case in CASES)]
    command = [sys.executable, '-c', OPEN_AS_HOSTS_DO, *map(str, paths)]
    done = subprocess.run(command, cwd=snapshots, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {case: (G, *torch.load(snapshots / f'{case}.out.pt')) for case, G in generators.items()}

@pytest.mark.parametrize('case', CASES)
@torch.no_grad()
def test_it_opens(case, opened, snapshots):
    """By the restricted reader as it did when it was written, and without the plugin the same to the last bit."""
    G, images, logits, G_state, D_state = opened[case]
    there = expected(case)
    assert same(there['images'], G(*inputs(case, G), noise_mode='const')) and same(there['logits'], logits)
    assert torch.equal(images, G(*inputs(case, G), noise_mode='const'))
    assert torch.equal(images, load_generator(snapshots / f'{case}.pkl', trust=True)(*inputs(case, G), noise_mode='const'))
    contents = read_pickle(snapshots / f'{case}.pkl')
    for key, state in (('G', G_state), ('D', D_state)):
        read = contents[key].state_dict()
        assert list(read) == list(state) and all(map(torch.equal, read.values(), state.values()))

@pytest.mark.parametrize('case', CASES)
def test_the_command_generates(case, snapshots, tmp_path):
    path = snapshots / f'{case}.pkl'
    classes = [0, 1] if read_pickle(path)['G_ema'].init_kwargs['c_dim'] else [None]
    there = (expected(case)['images'] * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy().astype(int)
    source = ['--sources'] if read_pickle(path)['G_ema'].init_kwargs.get('spider') else []
    for label in classes:
        options = [f'--seeds={",".join(map(str, seeds(case)))}', *source, *([] if label is None else [f'--class={label}'])]
        done = CliRunner().invoke(main, ['generate', f'--network={path}', f'--outdir={tmp_path}', *options])
        assert done.exit_code == 0, done.output
        for seed, image in zip(seeds(case), there):
            if label in (None, seed % 2):
                assert abs(np.asarray(PIL.Image.open(tmp_path / f'seed{seed:04d}.png')) - image).max() <= 1
    if source:
        assert len(list(tmp_path.glob('*-source.png'))) == len(seeds(case))

def test_a_cascade_finds_its_parent(snapshots, tmp_path):
    path = snapshots / '0.1.0' / 'dcgan_cascade.pkl'
    done = CliRunner().invoke(main, ['generate', f'--network={path}', f'--outdir={tmp_path}', '--seeds=0,1', '--stages'])
    assert done.exit_code == 0 and (tmp_path / 'stages.png').is_file(), done.output

@pytest.mark.parametrize('case', CASES)
def test_it_is_exported(case, snapshots, tmp_path):
    written = export(snapshots / f'{case}.pkl', tmp_path / 'g.pt')
    record = read_pickle(snapshots / f'{case}.pkl')['G_ema']
    tensors = torch.load(tmp_path / 'g.pt', weights_only=True)
    assert tensors.keys() == record.state_dict().keys() and all(map(torch.equal, tensors.values(), record.state_dict().values()))
    card = json.loads((tmp_path / 'g.json').read_text())
    if 'spider' in record.init_kwargs:
        with np.load(written[2]) as bank:
            assert len(bank['images']) == card['source']['images'] == 24
    else:
        assert card['source'] is None and len(written) == 2

NAMES = [
    'spider_plugin.bundles.dcgan.DCGANGenerator', 'spider_plugin.bundles.dcgan.DCGANDiscriminator',
    'spider_plugin.bundles.dcgan_paper.RadfordGenerator', 'spider_plugin.bundles.dcgan_paper.RadfordDiscriminator',
    'spider_plugin.bundles.pggan.PGGANGenerator', 'spider_plugin.bundles.pggan.PGGANDiscriminator',
    'spider_plugin.bundles.fastgan.FastGANGenerator', 'spider_plugin.bundles.projected.ProjectedDiscriminator',
    'spider_plugin.bundles.spider_on_training__networks_stylegan2.SpiderGenerator',
    'spider_plugin.bundles.spider_dsc_fast_on_training__networks_stylegan2.SpiderDSCFastGenerator',
    'spider_plugin.bundles.dsc_on_training__networks_stylegan3.DSCGenerator',
    'spider_plugin.bundles.dcgan.ImageBank', 'torch_utils_ext.dispatch.run_op', 'torch_utils_ext.ops.depthwise.depthwise',
    'torch_utils_ext.ops.depthwise_up2.depthwise_up2', 'torch_utils_ext.ops.epilogue.epilogue',
    'torch_utils_ext.ops.affine_glu.affine_glu', 'torch_utils_ext.ops.bit_hash.hash_rows']

@pytest.mark.parametrize('name', NAMES)
def test_a_name_stays(name, host):
    """Configs of earlier runs, prepared sources and pickles by reference hold them."""
    module, _, name = name.rpartition('.')
    assert getattr(importlib.import_module(module), name)

@pytest.mark.slow
def test_the_next_release_can_be_written(tmp_path):
    """The tool works with this version."""
    command = [sys.executable, str(ROOT / 'tools' / 'make_format_snapshots.py'), f'--outdir={tmp_path / "new"}']
    done = subprocess.run([*command, '--only=dcgan_gaussian'], env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / 'new').iterdir()} == {'cases.json', 'dcgan_gaussian.npz', 'dcgan_gaussian.pkl.xz'}
    with np.load(tmp_path / 'new' / 'dcgan_gaussian.npz') as file:
        assert file['images'].shape == expected('0.1.0/dcgan_gaussian')['images'].shape

#----------------------------------------------------------------------------
# A tick more, in the reference host, with the options that it was trained with.

FAST = '0.1.0/dcgan_residual'

@pytest.mark.parametrize('case', [FAST, *(pytest.param(case, marks=pytest.mark.slow) for case in CASES if case != FAST)])
def test_it_resumes(case, snapshots, make_zip, host, tmp_path):
    """At rates of zero every tensor that an optimizer moves is what it was, so all of them were found."""
    version, _, name = case.partition('/')
    options = [option.replace('{DIR}', str(snapshots / version)) for option in ABOUT[version]['cases'][name]]
    data = make_zip(tmp_path / 'data.zip', n=24, res=16, labels=2)
    command = [sys.executable, '-m', 'spider_plugin.cli', 'train', *ABOUT[version]['run'], *options, f'--data={data}', '--glr=0',
               '--dlr=0', f'--outdir={tmp_path / "runs"}', '--kimg=0.004', '--tick=0.004', f'--resume={snapshots / case}.pkl']
    done = subprocess.run(command, env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    snapshot = max((tmp_path / 'runs').glob('*/network-snapshot-*.pkl'))
    before, after = read_pickle(snapshots / f'{case}.pkl'), read_pickle(snapshot)
    with open(snapshot, 'rb') as file:
        live = pickle.load(file)
    for key in ('G', 'D'):
        there, here = before[key].state_dict(), after[key].state_dict()
        assert there.keys() == here.keys()
        parameters = {name for name, _ in live[key].named_parameters()}
        assert parameters and all(torch.equal(there[name], here[name]) for name in parameters), key
    assert load_generator(snapshot).img_resolution == 16

#----------------------------------------------------------------------------
