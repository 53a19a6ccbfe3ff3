"""Spider generators over the reference host's networks, with sources that mark what they give."""

import importlib
import json
import sys
import types

import numpy as np
import pytest
import torch

from spider_plugin.bundles.source import spider_class_name
from spider_plugin.resources import resource_dir

IDENTITY = {'name': 'marked', 'sha256': '0' * 64, 'transform': 'none', 'licence': 'CC0'}
HOST_GENERATOR = 'training.networks_stylegan2.Generator'

#----------------------------------------------------------------------------

@pytest.fixture(scope='session')
def host():
    """The reference host's StyleGAN2 module, imported as its scripts import it."""
    tree = str(resource_dir('reference_host'))
    if tree not in sys.path:
        sys.path.insert(0, tree)
    return importlib.import_module('training.networks_stylegan2')

class Painter(torch.nn.Module):
    """A stand-in for a pretrained generator: three latents are the colour."""

    def __init__(self, z_dim):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones([]))
        self.z_dim = z_dim

    def forward(self, z, c, noise_mode='random'):
        return (z[:, :3] * self.gain / 4).clamp(-1, 1)[:, :, None, None].repeat(1, 1, 16, 16)

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
            module = types.ModuleType('painter_module')
            module.Painter = Painter
            monkeypatch.setitem(sys.modules, 'painter_module', module)
            info = {'format': 1, 'identity': IDENTITY, 'class_name': 'painter_module.Painter', 'z_dim': z_dim, 'c_dim': 0,
                    'init_kwargs': {'z_dim': z_dim}, 'resolution': res, 'channels': channels}
            (path / 'generator.json').write_text(json.dumps(info))
            torch.save(Painter(z_dim).state_dict(), path / 'weights.pt')
        return str(path)
    return prepare

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
