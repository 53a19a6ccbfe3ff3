"""Snapshots of unmodified checkouts are read without executing anything in them: tensors equal, and images, once rebuilt."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from spider_plugin.files import checksum
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.families import network_family
from spider_plugin.snapshots.records import PersistentRecord, read_pickle

ROOT = pathlib.Path(__file__).parents[2]
HARNESS = pathlib.Path(__file__).with_name('pickles_harness.py')

SIZES = dict(z_dim=8, c_dim=3, w_dim=8, img_resolution=16, img_channels=3)
FLAT = dict(SIZES, channel_base=128, channel_max=8, mapping_kwargs=dict(num_layers=2))
NESTED = dict(SIZES, mapping_kwargs=dict(num_layers=2), synthesis_kwargs=dict(channel_base=128, channel_max=8, num_fp16_res=2))
CLAMPED = dict(NESTED, synthesis_kwargs=dict(NESTED['synthesis_kwargs'], conv_clamp=1))
THIRD = dict(FLAT, num_layers=6, num_critical=1)
RADIAL = dict(THIRD, conv_kernel=1, use_radial_filters=True)
FASTGAN = dict(z_dim=8, img_resolution=256, img_channels=3, ngf=2)
CLASSES = dict(FASTGAN, c_dim=3, cond=1, synthesis_kwargs=dict(num_classes=3))

SG2, SG3, ADA = 'training.networks_stylegan2.Generator', 'training.networks_stylegan3.Generator', 'training.networks.Generator'
PG_SG2, PG_FASTGAN = 'pg_modules.networks_stylegan2.Generator', 'pg_modules.networks_fastgan.Generator'

SNAPSHOTS = {   # host, class, arguments, family, other hosts whose class it is rebuilt by
    'stylegan3 stylegan2':      ('stylegan3', SG2, FLAT, 'stylegan2', ['stylegan2-ada-pytorch', 'projected-gan']),
    'stylegan3 stylegan3-t':    ('stylegan3', SG3, THIRD, 'stylegan3', ['reference_host', 'stylegan2-ada-pytorch']),
    'stylegan3 stylegan3-r':    ('stylegan3', SG3, RADIAL, 'stylegan3', ['projected-gan']),
    'ada':                      ('stylegan2-ada-pytorch', ADA, NESTED, 'stylegan2', ['reference_host']),
    'ada clamped':              ('stylegan2-ada-pytorch', ADA, CLAMPED, 'stylegan2', ['stylegan3']),
    'projected-gan stylegan2':  ('projected-gan', PG_SG2, dict(FLAT, fused_modconv_default='inference_only'), 'stylegan2',
                                 ['reference_host', 'stylegan2-ada-pytorch']),
    'projected-gan fastgan':    ('projected-gan', PG_FASTGAN, FASTGAN, 'fastgan', []),
    'projected-gan lite':       ('projected-gan', PG_FASTGAN, dict(FASTGAN, synthesis_kwargs=dict(lite=True)), 'fastgan', []),
    'projected-gan classes':    ('projected-gan', PG_FASTGAN, CLASSES, 'fastgan', []),
}

def checkout(name):
    if name == 'reference_host':
        return ROOT / name
    path = pathlib.Path(os.environ.get('SPIDER_HOSTS') or os.devnull, name)
    if not (path / 'torch_utils').is_dir():
        pytest.skip(f'needs a checkout as $SPIDER_HOSTS/{name}')
    return path

def run(host, call, snapshot, *rest):
    results = snapshot.with_name(f'{call}-{host.name}.pt')
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep))
    command = [sys.executable, HARNESS, host, call, snapshot, results, *rest]
    done = subprocess.run(command, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(results, weights_only=True)

def assert_equal(tensors, expected):
    assert list(tensors) == list(expected)
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())

def assert_close(images, expected):
    assert expected.std() > 0.01 and (images - expected).abs().max() < 1e-4 * expected.abs().max()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('case', SNAPSHOTS)
def test_snapshot(case, tmp_path):
    name, class_name, kwargs, family, others = SNAPSHOTS[case]
    host, snapshot = checkout(name), tmp_path / 'network-snapshot.pkl'
    written = run(host, 'write', snapshot, class_name, json.dumps(kwargs))
    contents = read_pickle(snapshot)
    record = contents['G_ema']
    assert_equal(record.state_dict(), written['state'])
    assert network_family(record) == family
    assert contents['training_set_kwargs'] == {'path': 'none'}
    if contents['D'] is not None:
        assert isinstance(contents['D'], PersistentRecord) and len(contents['D'].state_dict()) > 10

    export(snapshot, tmp_path / 'g.pt')
    assert_equal(torch.load(tmp_path / 'g.pt', weights_only=True), written['state'])
    assert json.loads((tmp_path / 'g.json').read_text())['network']['resolution'] == kwargs['img_resolution']

    assert checksum.check(snapshot)
    if contents['D'] is not None:   # which projected-gan's reader wants
        assert torch.equal(run(host, 'stock', snapshot)['images'], written['images'])
    here = run(host, 'rebuild', snapshot)
    assert class_name.rpartition('.')[0] in here['modules'] and torch.equal(here['images'], written['images'])
    for other in others:
        assert_close(run(checkout(other), 'rebuild', snapshot)['images'], written['images'])

@pytest.mark.parametrize('case', ['projected-gan stylegan2', 'projected-gan fastgan'])
def test_best_model_by_dill(case, tmp_path):
    if importlib.util.find_spec('dill') is None:
        pytest.skip('needs dill, which projected-gan writes best_model.pkl by')
    name, class_name, kwargs, *_ = SNAPSHOTS[case]
    host = checkout(name)
    written = run(host, 'write', tmp_path / 'best_model.pkl', class_name, json.dumps(kwargs), 'dill')
    assert_equal(read_pickle(tmp_path / 'best_model.pkl')['G_ema'].state_dict(), written['state'])
    assert torch.equal(run(host, 'rebuild', tmp_path / 'best_model.pkl')['images'], written['images'])
