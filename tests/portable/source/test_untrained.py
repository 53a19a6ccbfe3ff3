"""The untrained output of every residual generator is its source image, clamped to [-0.96, 0.96], to the last bits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spider_plugin import registry
from spider_plugin.portable.generators.pggan import faded
from spider_plugin.portable.source.residual import bounded_atanh

CFGS = ['stylegan2', 'stylegan3-t', 'stylegan3-r', *sorted(registry.generators)]

@pytest.fixture
def residuals(every_network, build_network, prepared):
    """residuals(cfg, channels=3, res=16, **spider) -> (options, G) of each network of the cfg that has the residual mapping, with
    every feature of layers, over a source of random pixels of 16^2; skips where there is none."""
    def build(cfg, channels=3, res=16, c_dim=0, **spider):
        source = prepared('bank', channels=channels)
        pixels = np.random.RandomState(1).randint(0, 256, [50, channels, 16, 16]).astype(np.uint8)
        np.save(f'{source}/images.npy', pixels)
        found = [network for network in every_network[cfg] if not network['refused']
                 and (network['G_kwargs'].get('spider') or {}).get('mapping') == 'residual']
        if not found:
            pytest.skip(f'{cfg} has no residual')
        for network in found:
            kwargs = network['G_kwargs']
            G = build_network(kwargs, img_channels=channels, img_resolution=res, c_dim=c_dim,
                              spider=dict(kwargs['spider'], source=source, **spider))
            yield network['options'], G
    return build

def latents(G, n=4):
    return torch.randn([n, G.z_dim], generator=torch.Generator().manual_seed(3))

def returned(s):
    """The pixels that a residual makes of source images s where its network gives zero."""
    return torch.tanh(bounded_atanh(s))

def progresses(G):
    """Each point in the growth of a growing network, from its first level to beyond its last, with fades; None for others."""
    buffers = [buffer for name, buffer in G.named_buffers() if name.endswith('progress')]
    if not buffers:
        yield None
        return
    for value in [*np.arange(0, 6, 0.5), 1e3]:
        for buffer in buffers:
            buffer.fill_(float(value))
        yield float(value)

#----------------------------------------------------------------------------

def test_what_is_returned_is_the_clamped_source():
    s = torch.linspace(-1, 1, 256)
    assert (returned(s) - s.clamp(-0.96, 0.96)).abs().max() < 1e-6

@pytest.mark.parametrize('learn_skip', [False, True])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('cfg', CFGS)
def test_untrained_a_residual_is_its_source(cfg, channels, learn_skip, residuals):
    """In training mode and in evaluation, with every feature; a growing network at every level, while it fades, too."""
    for options, G in residuals(cfg, channels, learn_skip=learn_skip):
        z = latents(G)
        for progress in progresses(G):
            s = G.source.sample(z)
            if progress is not None:
                stage, fade = G.synthesis.stage()
                side = G.synthesis.resolutions[stage]
                s = faded(F.avg_pool2d(s, 16 // side), fade)
            wanted = returned(s).repeat_interleave(16 // s.shape[-1], 2).repeat_interleave(16 // s.shape[-1], 3)
            for training in (True, False):
                assert torch.equal(G.train(training)(z, None), wanted), (options, progress)

@pytest.mark.parametrize('cfg', CFGS)
def test_with_classes_and_above_the_size_of_its_source(cfg, residuals):
    for options, G in residuals(cfg, res=32, c_dim=3):
        for _ in progresses(G):
            pass    # leaves a growing network at its last level
        z, c = latents(G), torch.eye(3)[[0, 1, 2, 0]]
        enlarged = F.interpolate(G.source.sample(z, c), size=[32, 32], mode='bilinear', align_corners=False)
        assert torch.equal(G(z, c), returned(enlarged)), options

@pytest.mark.parametrize('cfg', CFGS)
def test_it_learns_from_there(cfg, residuals):
    """The first step moves the output, the second one every layer."""
    for options, G in residuals(cfg):
        for _ in progresses(G):
            pass
        z, optimizer = latents(G), torch.optim.Adam(G.train().parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            (G(z, None, noise_mode='const') - 0.3).square().mean().backward()
            optimizer.step()
        still = {name for name, p in G.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
        assert not [name for name in still if not name.endswith(('const', 'noise_strength')) and 'torgb' not in name], \
            (options, still)
        assert all(p.isfinite().all() for p in G.parameters()) and not torch.equal(G(z, None), returned(G.source.sample(z)))
