"""Radford et al.'s networks: published sizes, statistics, classes, sources, snapshots."""

import importlib
import json
import pickle

import numpy as np
import pytest
import torch

from spider_plugin.portable.generators.dcgan_paper import RadfordDiscriminator, RadfordGenerator

SMALL = dict(channel_base=128, channel_max=32)

def latents(n=6, z_dim=64):
    return torch.randn([n, z_dim], generator=torch.Generator().manual_seed(0))

@pytest.fixture
def textures(tmp_path):
    """Directory of a source of eight noise images."""
    np.save(tmp_path / 'images.npy', np.random.RandomState(0).randint(0, 256, [8, 3, 32, 32]).astype(np.uint8))
    identity = {'name': 'marked', 'sha256': '0' * 64, 'transform': 'none', 'licence': 'CC0'}
    (tmp_path / 'bank.json').write_text(json.dumps(dict(identity=identity, labels=None)))
    return str(tmp_path)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('resolution', [16, 32, 64, 128])
def test_shapes(resolution):
    G, D = RadfordGenerator(64, 0, resolution, 3, **SMALL), RadfordDiscriminator(0, resolution, 3, **SMALL)
    images = G(latents(2), None, noise_mode='const')
    assert images.shape == (2, 3, resolution, resolution) and images.abs().max() <= 1 and D(images, None).shape == (2, 1)

def test_published_widths_at_64():
    with torch.device('meta'):
        G, D = RadfordGenerator(100, 0, 64, 3), RadfordDiscriminator(0, 64, 3)
    assert [norm.num_features for norm in G.synthesis.norms] == [1024, 512, 256, 128]
    assert [layer.out_channels for layer in [D.first, *D.down]] == [128, 256, 512, 1024]
    assert {layer.kernel_size for layer in [*G.synthesis.up, G.synthesis.to_pixels, D.first, *D.down]} == {(5, 5)}

@pytest.mark.parametrize(['kwargs', 'words'], [
    (dict(img_resolution=24), 'power of two'), (dict(img_resolution=256), 'power of two'), (dict(w_dim=8), 'must equal'),
    (dict(spider=dict(mapping='residual', source='x')), 'no residual')])
def test_what_does_not_fit(kwargs, words):
    with pytest.raises(ValueError, match=words):
        RadfordGenerator(**dict(dict(z_dim=64, c_dim=0, img_resolution=16, img_channels=3), **kwargs))

def test_in_evaluation_no_sample_depends_on_its_batch():
    G = RadfordGenerator(64, 0, 16, 3, **SMALL)
    for _ in range(100):
        trained = G(torch.randn([32, 64]), None)
    images = G.eval()(latents(), None)
    assert torch.allclose(G(latents()[2:3], None), images[2:3], atol=1e-5)
    assert abs(images.std() / trained.std() - 1) < 0.3          # running statistics are those of the batches

@pytest.mark.parametrize('kind', ['paper-16x32', 'encoder', 'whitened'])
def test_source_and_classes_decide(kind, textures, host, tmp_path):
    from spider_plugin.snapshots.rebuild import load_generator
    z_dim = 512 if kind.startswith('paper') else 64
    bundle = importlib.import_module('spider_plugin.bundles.dcgan_paper')
    torch.manual_seed(0)
    G = bundle.RadfordGenerator(z_dim, 3, 16, 3, **SMALL, spider=dict(mapping=kind, source=textures)).eval()
    z, c = latents(16, z_dim), torch.eye(3)[[0] * 16]
    images, names = G(z, c), G.source.key(z)[:, 0].tolist()
    assert 1 < len(set(names)) < 16
    for i in range(1, 16):
        assert torch.allclose(images[0], images[i], atol=1e-6) == (names[0] == names[i])
    assert not torch.allclose(G(z, c.roll(1, dims=1)), images, atol=1e-6)
    path = tmp_path / 'snapshot.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=bundle.RadfordDiscriminator(3, 16, 3, **SMALL), G_ema=G)))
    assert torch.equal(load_generator(str(path))(z, c), images)

def test_every_parameter_gets_a_gradient_and_r1_a_second_one():
    G, D = RadfordGenerator(64, 2, 16, 3, **SMALL), RadfordDiscriminator(2, 16, 3, **SMALL)
    c = torch.eye(2).repeat(4, 1)
    images = G(latents(8), c)
    D(images, c).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in [*G.parameters(), *D.parameters()])
    x = images.detach().requires_grad_(True)
    penalty = torch.autograd.grad(D(x, c).sum(), x, create_graph=True)[0].square().sum()
    D.zero_grad()
    penalty.backward()
    assert D.first.weight.grad.isfinite().all() and D.first.weight.grad.abs().max() > 0
