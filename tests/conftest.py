"""Fixtures for all tests: one thread, a separate cache, tiny datasets, snapshots, Spider generators."""

import functools
import getpass
import importlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import types
import zipfile
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'     # before torch is imported, and for every process that a test starts
os.environ.setdefault('TORCH_UTILS_EXT', 'off')     # references, except where tests ask for kernels
os.environ.setdefault('SPIDER_DRY_RUN', 'off')      # hosts/test_dry_run.py and tests/checkouts have it on

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:       # of a shell's background job; the processes of tests would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import PIL.Image
import pytest
import torch

from spider_plugin import registry
from spider_plugin.bundles.names import spider_class_name
from spider_plugin.resources import resource_dir

torch.set_num_threads(1)

#----------------------------------------------------------------------------

@pytest.fixture(scope='session', autouse=True)
def spider_cache(tmp_path_factory):
    """Set the caches of the plugin and of the hosts to a directory of this session, and return it."""
    path = tmp_path_factory.mktemp('cache')
    os.environ['SPIDER_CACHE_DIR'] = str(path)
    os.environ['DNNLIB_CACHE_DIR'] = str(path / 'dnnlib')
    return path

#----------------------------------------------------------------------------
# Tests marked `alone`, each in a separate process: no other test sees what it loads and defines there.

ALONE = 'SPIDER_TEST_ALONE'     # set in that process

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.get_closest_marker('alone') and ALONE not in os.environ:
        item.setup = lambda: None       # the fixtures are made in the other process
        item.runtest = lambda: run_alone(item)

def run_alone(item):
    command = [sys.executable, '-m', 'pytest', '-c', item.config.inipath, '-p', 'no:cacheprovider', '-q', '-rs', '-n0', '-m', '',
               f'{item.path}::{item.nodeid.partition("::")[2]}']
    done = subprocess.run(command, env=dict(os.environ, **{ALONE: '1'}), text=True, capture_output=True)
    skipped = [line for line in done.stdout.splitlines() if line.startswith('SKIPPED')]
    if skipped:
        pytest.skip(skipped[0].split(': ', 1)[1])
    assert done.returncode == 0 and '1 passed' in done.stdout, done.stdout + done.stderr

@pytest.fixture(scope='session')
def torchvision():
    """Make torchvision importable, for tests marked `alone` of packages that import it: see mend_torchvision."""
    sys.path.append(str(Path(__file__).parent / 'checkouts'))
    import harness
    library = harness.mend_torchvision()
    yield
    del library

#----------------------------------------------------------------------------
# Kernels of torch_utils_ext, built once per machine and sources, in a separate cache that outlives the session: its keys are
# hashes of the sources, so a stale build is never found in it.

_opened = []     # the kernels that serve CPU tensors now

@pytest.fixture(scope='session')
def kernel_cache():
    path = Path(tempfile.gettempdir(), f'torch_utils_ext-{getpass.getuser()}')
    path.mkdir(exist_ok=True)
    return path

@pytest.fixture
def open_kernels(kernel_cache, monkeypatch):
    """open_kernels('cpu' or 'emulated') makes these kernels serve CPU tensors for the rest of the test, or raises an error.

    'emulated' are the CUDA kernels on the emulation of CUDA. Returns a function of an op, its kernel calls so far."""
    from torch_utils_ext import backend, build

    def open_kernels(kind):
        monkeypatch.setenv('TORCH_UTILS_EXT', 'require')
        if _opened != [kind]:
            with monkeypatch.context() as patch:
                patch.setenv('SPIDER_CACHE_DIR', str(kernel_cache))
                path = build.library(kind)
                assert backend.load('cpu', path) is True, backend.status()['libraries']['cpu']
            _opened[:] = [kind]
        return lambda op: backend.status()['kernel_calls'].get(op, 0)
    return open_kernels

#----------------------------------------------------------------------------

def png_bytes(array):
    """Return the bytes of a PNG of uint8 [H, W] or [H, W, C]."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, format='png', compress_level=0)
    return buffer.getvalue()

def write_zip(path, n=32, res=16, channels=3, labels=None, seed=0, extra=None):
    """Write a dataset zip of smooth random images, and return its path.

    labels:  None, a number of classes (image i gets class i % labels), or a list with one label per image.
    extra:   {file name: bytes}, added to the zip or replacing its files."""
    rng = np.random.RandomState(seed)
    coarse = rng.randint(0, 256, size=(n, 4, 4, channels)).astype(np.uint8)
    images = coarse.repeat(-(-res // 4), axis=1).repeat(-(-res // 4), axis=2)[:, :res, :res]
    names = [f'{i // 1000:05d}/img{i:08d}.png' for i in range(n)]
    files = {name: png_bytes(image.squeeze(-1) if channels == 1 else image) for name, image in zip(names, images)}
    if labels is not None:
        values = [i % labels for i in range(n)] if isinstance(labels, int) else labels
        files['dataset.json'] = json.dumps({'labels': list(map(list, zip(names, values)))}).encode()
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in {**files, **(extra or {})}.items():
            archive.writestr(name, data)
    return str(path)

@pytest.fixture(scope='session')
def make_zip():
    """The function `write_zip`."""
    return write_zip

@pytest.fixture(scope='session')
def make_png():
    """The function `png_bytes`."""
    return png_bytes

#----------------------------------------------------------------------------

@pytest.fixture(scope='session')
def make_snapshot(tmp_path_factory):
    """make_snapshot(spider=None, c_dim=0, dcgan=False, ...) -> path of a host pickle of a tiny generator.

    The generator is also stored as D.
    spider: the `spider` argument of a Spider generator; its class is used then.
    dcgan, pggan: plugin generators in place of the reference host's StyleGAN2; the latter is fading in 16^2."""
    from spider_plugin.snapshots.rebuild import add_host_to_path

    def make(spider=None, c_dim=0, dcgan=False, pggan=False, seed=0, res=16, channels=3, z_dim=16):
        add_host_to_path()
        class_name = 'training.networks_stylegan2.Generator'
        kwargs = dict(w_dim=16, channel_base=256, channel_max=16, num_fp16_res=0, mapping_kwargs=dict(num_layers=2))
        if dcgan:
            class_name, kwargs = 'spider_plugin.bundles.dcgan.DCGANGenerator', {}
        elif pggan:
            class_name, kwargs = 'spider_plugin.bundles.pggan.PGGANGenerator', dict(channel_base=256, channel_max=16)
        elif spider:
            class_name = spider_class_name(class_name)
        if spider:
            kwargs['spider'] = spider
        module, _, name = class_name.rpartition('.')
        torch.manual_seed(seed)
        G = getattr(importlib.import_module(module), name)(
            z_dim=z_dim, c_dim=c_dim, img_resolution=res, img_channels=channels, **kwargs)
        G.mapping.w_avg.normal_()
        with torch.no_grad():
            for parameter in G.parameters():
                if parameter.ndim > 1 and not parameter.any():      # where a residual starts; training moves it
                    parameter.normal_(std=0.01 if dcgan else 0.05)
        if pggan:
            G.synthesis.progress.fill_(3.4)
        path = tmp_path_factory.mktemp('snapshot') / 'network-snapshot-000001.pkl'
        with open(path, 'wb') as file:
            pickle.dump(dict(G=G, D=G, G_ema=G, augment_pipe=None, training_set_kwargs={}), file)
        return str(path)
    return make

#----------------------------------------------------------------------------
# Every network there is to train (every_network.py): plugin generators and the reference host's, mapping kinds, features.

@pytest.fixture(scope='session')
def every_network(tmp_path_factory):
    """{cfg: [{options, refused, G_kwargs, D_kwargs}, ...]}; at least one of each cfg is accepted."""
    path = tmp_path_factory.mktemp('networks')
    data = write_zip(path / 'data.zip', n=8)
    command = [sys.executable, Path(__file__).parent / 'every_network.py', data, path / 'networks.json']
    done = subprocess.run(command, cwd=path, env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1])), text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads((path / 'networks.json').read_text())

@pytest.fixture(scope='session')
def build_network(host):
    """build_network(kwargs of a config, **changed) -> the network for images of 16^2, of the class that the config names."""
    def build(kwargs, **changed):
        kwargs = dict(c_dim=0, img_resolution=16, img_channels=3) | kwargs | changed
        module, _, name = kwargs.pop('class_name').rpartition('.')
        torch.manual_seed(0)
        return getattr(importlib.import_module(module), name)(**kwargs)
    return build

#----------------------------------------------------------------------------
# Spider generators over the reference host, with sources that mark the images they give.

IDENTITY = {'name': 'marked', 'sha256': '0' * 64, 'transform': 'none', 'licence': 'CC0'}
HOST_GENERATOR = 'training.networks_stylegan2.Generator'

@pytest.fixture(scope='session')
def host():
    """The reference host's StyleGAN2 module, imported as its scripts import it."""
    tree = str(resource_dir('reference_host'))
    if tree not in sys.path:
        sys.path.insert(0, tree)
    return importlib.import_module('training.networks_stylegan2')

class Painter(torch.nn.Module):
    """A stand-in for a pretrained generator, whose three latents are the colour."""

    def __init__(self, z_dim):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones([]))
        self.z_dim = z_dim

    def forward(self, z, c, noise_mode='random'):
        return (z[:, :3] * self.gain / 4).clamp(-1, 1)[:, :, None, None].repeat(1, 1, 16, 16)

def declare(monkeypatch, network):
    """Make a class one that a generator.json may name: that of a declared generator. Returns its dotted name."""
    module = types.ModuleType(f'{network.__name__.lower()}_module')
    setattr(module, network.__name__, network)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    declared = types.SimpleNamespace(class_name=f'{module.__name__}.{network.__name__}', module=module.__name__)
    monkeypatch.setattr(registry.generators, '_entries', registry.generators._loaded() | {module.__name__: declared})
    return declared.class_name

@pytest.fixture
def declare_generator(monkeypatch):
    return functools.partial(declare, monkeypatch)

@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """prepared('bank' or 'online', channels=3, res=16) -> directory of a prepared source of random images."""
    def prepare(kind, channels=3, res=16, n=50, seed=0, z_dim=64):
        path = tmp_path / f'{kind}-{channels}-{res}-{seed}'
        path.mkdir()
        images = np.random.RandomState(seed).randint(0, 256, [n, channels, 1, 1]).astype(np.uint8)
        np.save(path / 'images.npy', images.repeat(res, axis=2).repeat(res, axis=3))
        (path / 'bank.json').write_text(json.dumps({'format': 1, 'identity': IDENTITY, 'labels': None}))
        if kind == 'online':
            info = {'format': 1, 'identity': IDENTITY, 'class_name': declare(monkeypatch, Painter), 'z_dim': z_dim, 'c_dim': 0,
                    'init_kwargs': {'z_dim': z_dim}, 'resolution': res, 'channels': channels}
            (path / 'generator.json').write_text(json.dumps(info))
            torch.save(Painter(z_dim).state_dict(), path / 'weights.pt')
        return str(path)
    return prepare

@pytest.fixture(scope='session')
def stirred():
    """stirred(network) -> the network, every parameter moved: a fresh residual hides much behind weights of zero."""
    def stir(network):
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        return network
    return stir

@pytest.fixture
def make_generator(host):
    """make_generator(source directory, mapping='residual', ...) -> a tiny SpiderGenerator over the reference host."""
    def make(source, mapping='residual', gain=1.0, learn_skip=False, noise=0.0, seed=0, res=16, channels=3, **kwargs):
        module, _, name = spider_class_name(HOST_GENERATOR).rpartition('.')
        torch.manual_seed(seed)
        kwargs = {'z_dim': 64, 'c_dim': 0, 'w_dim': 32, 'channel_base': 128, 'channel_max': 16, 'num_fp16_res': 0,
                  'mapping_kwargs': {'num_layers': 2}} | kwargs
        spider = {'mapping': mapping, 'source': source, 'noise': noise, 'embed': 64, 'gain': gain,
                  'learn_skip': learn_skip}
        generator = getattr(importlib.import_module(module), name)
        return generator(img_resolution=res, img_channels=channels, spider=spider, **kwargs).eval()
    return make
