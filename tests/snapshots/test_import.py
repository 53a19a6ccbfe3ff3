"""`spider import`: state dicts of StyleGAN2 and StyleGAN3 become network pickles that draw the same and that every door takes."""

import argparse
import importlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.errors import SpiderError
from spider_plugin.files import checksum
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.host_door import read_networks
from spider_plugin.snapshots.import_file import import_file
from spider_plugin.snapshots.rebuild import add_host_to_path, load_generator
from spider_plugin.snapshots.records import read_pickle
from spider_plugin.snapshots.state_dicts import Unfit, channel_budget
from tests.snapshots import sequential_stylegan2 as sequential
from tests.snapshots.readers import READERS

ROOT = Path(__file__).resolve().parents[2]
SAVE = {
    '.pt':          lambda contents, path: torch.save(contents, path),
    '.pth':         lambda contents, path: torch.save(contents, path, _use_new_zipfile_serialization=False),
    '.safetensors': lambda contents, path: importlib.import_module('safetensors.torch').save_file(contents, path),
}

def built(family, seed=0, **kwargs):
    """A generator of the reference host with random numbers in every tensor that training changes."""
    add_host_to_path()
    torch.manual_seed(seed)
    G = importlib.import_module(f'training.networks_{family}').Generator(**kwargs).eval()
    G.mapping.w_avg.normal_()
    for name, tensor in G.named_parameters():
        if name.endswith(('noise_strength', 'bias')):
            tensor.data.normal_()
    return G

SIZES = dict(z_dim=12, w_dim=16, img_channels=3, mapping_kwargs=dict(num_layers=2))
NVLABS = {
    'stylegan2':            ('stylegan2', dict(c_dim=0, img_resolution=32, channel_base=256, channel_max=16)),
    'stylegan2, classes':   ('stylegan2', dict(c_dim=3, img_resolution=16, channel_base=256, channel_max=16)),
    'stylegan2, grey':      ('stylegan2', dict(c_dim=0, img_resolution=16, channel_base=256, channel_max=64, img_channels=1)),
    'stylegan2, resnet':    ('stylegan2', dict(c_dim=0, img_resolution=16, channel_base=256, channel_max=8,
                                               architecture='resnet')),
    'stylegan2, orig':      ('stylegan2', dict(c_dim=0, img_resolution=16, channel_base=256, channel_max=8,
                                               architecture='orig')),
    'stylegan2, no noise':  ('stylegan2', dict(c_dim=0, img_resolution=16, channel_base=256, channel_max=8, use_noise=False)),
    'stylegan2, filter':    ('stylegan2', dict(c_dim=0, img_resolution=16, channel_base=256, channel_max=8,
                                               resample_filter=[1, 4, 6, 4, 1])),
    'stylegan2, mapping':   ('stylegan2', dict(c_dim=2, img_resolution=16, channel_base=256, channel_max=8,
                                               mapping_kwargs=dict(num_layers=3, embed_features=5, layer_features=20))),
    'stylegan3-t':          ('stylegan3', dict(c_dim=0, img_resolution=16, channel_base=256, channel_max=16, num_layers=6)),
    'stylegan3-r':          ('stylegan3', dict(c_dim=2, img_resolution=32, channel_base=1024, channel_max=32, num_layers=5,
                                               conv_kernel=1, use_radial_filters=True)),
}

def images(G, seed=0):
    z = torch.randn([2, G.z_dim], generator=torch.Generator().manual_seed(seed))
    c = torch.nn.functional.one_hot(torch.tensor([0, G.c_dim - 1]), G.c_dim).float() if G.c_dim else torch.zeros([2, 0])
    with torch.no_grad():
        return torch.cat([G(z, c, noise_mode='const'), G(z, c, truncation_psi=0.5, noise_mode='const')])

@pytest.mark.parametrize('suffix', SAVE)
@pytest.mark.parametrize('case', NVLABS)
def test_a_state_dict_of_nvlabs(case, suffix, tmp_path):
    family, kwargs = NVLABS[case]
    G = built(family, **(SIZES | kwargs))
    SAVE[suffix]({name: tensor.contiguous() for name, tensor in G.state_dict().items()}, tmp_path / f'g{suffix}')
    import_file(tmp_path / f'g{suffix}', tmp_path / 'g.pkl')
    assert torch.equal(images(load_generator(tmp_path / 'g.pkl')), images(G))

#----------------------------------------------------------------------------
# rosinality.

@pytest.fixture(scope='module')
def states():
    """(state dict of a generator, of a discriminator, average w) by the names of rosinality."""
    return sequential.generator_state(), sequential.discriminator_state(), torch.linspace(-1, 1, 12)

CONTAINERS = {
    'a training checkpoint':    lambda g, d, avg: dict(g=g, d=d, g_ema=g, g_optim={}, latent_avg=avg),
    'a published checkpoint':   lambda g, d, avg: dict(g_ema=g, latent_avg=avg),
    'with options':             lambda g, d, avg: dict(g_ema=g, args=argparse.Namespace(lr=1), latent_avg=avg),
    'a bare state dict':        lambda g, d, avg: g | dict(latent_avg=avg),
    'of DataParallel':          lambda g, d, avg: dict(g_ema={f'module.{name}': tensor for name, tensor in g.items()},
                                                       latent_avg=avg),
    'a decoder of an encoder':  lambda g, d, avg: dict(state_dict={f'decoder.{name}': tensor for name, tensor in g.items()} |
                                                       {'encoder.body.0.weight': torch.zeros(3, 3)}, latent_avg=avg.repeat(7, 1)),
}

@pytest.mark.parametrize('suffix', ['.pt', '.pth'])
@pytest.mark.parametrize('case', CONTAINERS)
def test_rosinality(case, suffix, states, tmp_path):
    g, d, average = states
    SAVE[suffix](CONTAINERS[case](g, d, average), tmp_path / f'r{suffix}')
    import_file(tmp_path / f'r{suffix}', tmp_path / 'r.pkl')
    G, z = load_generator(tmp_path / 'r.pkl'), torch.randn([3, 12])
    w = sequential.mapping(g, z)
    expected = torch.cat([sequential.generate(g, row) for row in w])
    torch.testing.assert_close(G(z, None, noise_mode='const'), expected, rtol=0, atol=1e-4)
    assert 2 < expected.std() < 20
    expected = torch.cat([sequential.generate(g, average + 0.5 * (row - average)) for row in w])
    torch.testing.assert_close(G(z, None, truncation_psi=0.5, noise_mode='const'), expected, rtol=0, atol=1e-4)

def test_the_discriminator_of_rosinality(states, tmp_path):
    g, d, average = states
    torch.save(dict(g=g, d=d, g_ema=g, latent_avg=average), tmp_path / 'r.pt')
    assert 'discriminator: 23 tensors' in import_file(tmp_path / 'r.pt', tmp_path / 'r.pkl').lines
    networks = read_networks(tmp_path / 'r.pkl')
    D = importlib.import_module('training.networks_stylegan2').Discriminator(
        c_dim=0, img_resolution=32, img_channels=3, channel_base=256, channel_max=16).eval()
    missing = D.load_state_dict(networks['D'].state_dict(), strict=False)
    assert not missing.unexpected_keys and all(name.endswith('resample_filter') for name in missing.missing_keys)
    x = torch.randn([4, 3, 32, 32])
    torch.testing.assert_close(D(x, None), sequential.discriminate(d, x), rtol=1e-4, atol=1e-5)

def test_what_a_file_does_not_hold_is_said(tmp_path):
    g = sequential.generator_state(kernels=False, noises=False)
    torch.save(dict(g_ema=g), tmp_path / 'r.pt')
    lines = '\n'.join(import_file(tmp_path / 'r.pt', tmp_path / 'r.pkl').lines)
    assert 'noise images of seed 0' in lines and 'the low-pass filter [1, 3, 3, 1]' in lines
    assert 'mean over 10000 latents' in lines and 'discriminator: none that is read' in lines
    G = load_generator(tmp_path / 'r.pkl')
    mean = sequential.mapping(g, torch.randn([20_000, 12])).mean(0)
    torch.testing.assert_close(G.mapping.w_avg, mean, rtol=0, atol=0.05)
    z = torch.randn([1, 12])
    without_noise = g | {name: torch.zeros([1]) for name in g if name.endswith('noise.weight')} | \
        {f'noises.noise_{i}': torch.zeros([]) for i in range(7)}
    torch.testing.assert_close(G(z, None, noise_mode='none'), sequential.generate(without_noise, sequential.mapping(g, z)[0]),
                               rtol=0, atol=1e-4)

#----------------------------------------------------------------------------
# Pickled modules, and files of the plugin.

@pytest.mark.parametrize('suffix', ['.pt', '.pth'])
def test_a_pickled_module(make_snapshot, suffix, tmp_path):
    with open(make_snapshot(), 'rb') as file:
        G = pickle.load(file)['G_ema']
    for contents in (G, dict(G_ema=G, step=5), dict(G=G)):
        SAVE[suffix](contents, tmp_path / f'm{suffix}')
        import_file(tmp_path / f'm{suffix}', tmp_path / 'm.pkl')
        assert torch.equal(images(load_generator(tmp_path / 'm.pkl')), images(G))

@pytest.mark.parametrize('kind', [dict(), dict(dcgan=True), dict(pggan=True), dict(c_dim=2)], ids=str)
@pytest.mark.parametrize('suffix', ['.pt', '.safetensors'])
def test_an_exported_file_comes_back(kind, suffix, make_snapshot, tmp_path):
    path = make_snapshot(**kind)
    export(path, tmp_path / f'g{suffix}')
    lines = import_file(tmp_path / f'g{suffix}', tmp_path / 'g.pkl').lines
    assert 'generator: by its card of `spider export`' in lines
    assert torch.equal(images(load_generator(tmp_path / 'g.pkl')), images(load_generator(path)))

def test_a_card_of_another_file_is_not_used(make_snapshot, tmp_path):
    export(make_snapshot(), tmp_path / 'g.pt')
    card = json.loads((tmp_path / 'g.json').read_text())
    for changed in (card | dict(file='other.pt'), card | dict(network=5), card | dict(format=2), [], 'x'):
        (tmp_path / 'g.json').write_text(json.dumps(changed))
        assert 'generator: the whole file' in import_file(tmp_path / 'g.pt', tmp_path / 'g.pkl').lines

#----------------------------------------------------------------------------
# What is written.

def test_every_door_takes_it(states, tmp_path):
    torch.save(dict(g_ema=states[0], latent_avg=states[2]), tmp_path / 'r.pt')
    path = str(tmp_path / 'r.pkl')
    said = CliRunner().invoke(cli.main, ['import', str(tmp_path / 'r.pt'), '--out', path])
    assert said.exit_code == 0 and f'{path}: stylegan2, 3 x 32 x 32, z 12, w 12' in said.output
    for door in ('load', 'trust', 'source', 'neighbors', 'generate', 'export', 'host'):
        READERS[door](path)
    assert checksum.check(path)
    assert set(read_pickle(path)) == {'G', 'D', 'G_ema', 'augment_pipe', 'training_set_kwargs'}
    assert not read_networks(path)['D'].state_dict() and read_networks(path)['G'].state_dict()

@pytest.mark.parametrize('key, words', [('theirs', 'generator: theirs'), ('none', 'give --key one of: theirs, x.')])
def test_the_entry_can_be_named(key, words, states, tmp_path):
    torch.save(dict(theirs=states[0], x=1), tmp_path / 'r.pt')
    said = CliRunner().invoke(cli.main, ['import', str(tmp_path / 'r.pt'), '--out', str(tmp_path / 'r.pkl'), '--key', key])
    assert words in said.output and said.exit_code == (0 if key == 'theirs' else 2)

def test_names_of_the_file_to_write(states, tmp_path):
    torch.save(states[0], tmp_path / 'r.pt')
    (tmp_path / 'folder.pkl').mkdir()
    for out, words in ((tmp_path / 'r.pt', 'does not end in .pkl'), (tmp_path / 'folder.pkl', 'is a folder'),
                       (tmp_path / 'r.pt' / 'r.pkl', 'Cannot write')):
        with pytest.raises(SpiderError, match=words):
            import_file(tmp_path / 'r.pt', out)

def test_a_checkout_that_lacks_the_family(tmp_path):
    """The reference host stands in, and its classes are pickled as its own."""
    for package in ('torch_utils', 'training', 'dnnlib'):
        (tmp_path / 'checkout' / package).mkdir(parents=True)
        (tmp_path / 'checkout' / package / '__init__.py').write_text('')
    family, kwargs = NVLABS['stylegan3-t']
    G = built(family, **(SIZES | kwargs))
    torch.save(G.state_dict(), tmp_path / 'g.pt')
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path / 'checkout'), str(ROOT)]))
    done = subprocess.run([sys.executable, '-m', 'spider_plugin.cli', 'import', 'g.pt', '--out', 'g.pkl'], cwd=tmp_path, env=env,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert torch.equal(images(load_generator(tmp_path / 'g.pkl')), images(G))

def test_a_url(states, tmp_path, monkeypatch):
    asked = []
    def download(file, path, what):
        asked.append((file.kinds, what))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        SAVE['.safetensors'](states[0], path)
    monkeypatch.setattr('spider_plugin.sources.obtain.download_once', download)
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    said = CliRunner().invoke(cli.main, ['import', 'https://example.org/g.safetensors', '--out', str(tmp_path / 'g.pkl')])
    assert said.exit_code == 0 and asked == [((), 'FILE=https://example.org/g.safetensors')]

def test_another_network_of_a_usual_name_is_left_out(states, tmp_path):
    other = {'layer.weight': torch.ones(2, 2)}
    torch.save(dict(g_ema=states[0], model=other, d=other), tmp_path / 'r.pt')
    lines = import_file(tmp_path / 'r.pt', tmp_path / 'r.pkl').lines
    assert 'G without the average over training: in the file' not in lines and lines[-1].startswith('discriminator: none')

#----------------------------------------------------------------------------
# Widths.

def test_bases_of_published_widths():
    def of_stylegan2(base, most, side):
        sides = [4 << i for i in range(side.bit_length() - 2)]
        return channel_budget((width := min(base // res, most), width * res, (width + 1) * res) for res in sides)
    for base, most, side in ((32768, 512, 1024), (16384, 512, 256), (65536, 1024, 256), (256, 16, 32), (1000, 100, 64)):
        found = of_stylegan2(base, most, side)
        assert [min(found[0] // (4 << i), found[1]) for i in range(9)][: side.bit_length() - 2] == \
            [min(base // (4 << i), most) for i in range(9)][: side.bit_length() - 2]
    assert of_stylegan2(32768, 512, 1024) == (32768, 512) and of_stylegan2(16384, 512, 256) == (16384, 512)
    with pytest.raises(Unfit):
        channel_budget([(4, 16, 20), (9, 72, 80)])

def test_a_zip_of_torch_has_one_pickle(tmp_path):
    torch.save(dict(a=torch.ones(2, 2)), tmp_path / 'a.pt')
    with zipfile.ZipFile(tmp_path / 'a.pt', 'a') as archive:
        archive.writestr('b/data.pkl', b'x')
    with pytest.raises(SpiderError, match='is not a complete checkpoint'):
        import_file(tmp_path / 'a.pt', tmp_path / 'a.pkl')
    assert not Path(tmp_path / 'a.pkl').exists()
