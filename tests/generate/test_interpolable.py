"""What tools of hosts do to ws, with the plugin's hooks on the network, for each residual generator."""

import copy

import numpy as np
import pytest
import scipy.interpolate
import torch

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.generate.interpolable import held, interpolable, styles
from spider_plugin.generate.projection import rows_near

N = 6
CFGS = ['stylegan2', *sorted(registry.generators)]

@pytest.fixture(params=CFGS)
def network(request, every_network, build_network, prepared, stirred):
    """A residual generator of each cfg, with weights as after training, and a bank of 50 colours."""
    found = [entry['G_kwargs'] for entry in every_network[request.param]
             if not entry['refused'] and (entry['G_kwargs'].get('spider') or {}).get('mapping') == 'residual']
    if not found:
        pytest.skip(f'{request.param} has no residual mapping')
    G = build_network(found[0], z_dim=64, spider=dict(found[0]['spider'], source=prepared('bank'))).eval().requires_grad_(False)
    for name, buffer in G.named_buffers():
        if name.endswith('progress'):
            buffer.fill_(1e3)
    return stirred(G)

def z_of(seeds, dim=64):
    return torch.from_numpy(np.stack([np.random.RandomState(seed).randn(dim) for seed in seeds])).float()

def draw(G, ws, **kwargs):
    return G.synthesis(ws, noise_mode='const', **kwargs)

@torch.no_grad()
def test_frames_of_a_video_are_neither_grey_nor_equal(network):
    """As NVlabs/stylegan3's gen_video.py does it: a cubic spline through whole ws, in float64."""
    z = z_of(range(4))
    plain = network(z, torch.zeros([4, 0]), noise_mode='const')
    mean = draw(network, network.mapping(z, None)[:, : network.synthesis.num_ws])   # styles alone: the mean of the source
    G = interpolable(network, 'snapshot.pkl')
    ws = G.mapping(z, None)
    curve = scipy.interpolate.interp1d(np.arange(-4, 8), np.tile(ws.numpy(), [3, 1, 1]), kind='cubic', axis=0)
    frames = torch.cat([draw(G, torch.from_numpy(curve(t)).unsqueeze(0)).float() for t in np.linspace(0, 3, 13)])
    assert (frames[::4] - plain).abs().max() < 1e-3         # the keyframes are the images of the seeds
    apart = (plain[0] - plain[1]).abs().mean()
    assert all((a - b).abs().mean() > 0.01 * apart for a, b in zip(frames, frames[1:]))
    assert (frames[:4] - mean[:1]).abs().mean() > 0.1 * apart   # on the way, too, it is not the image of the mean

@torch.no_grad()
def test_truncation_outside_keeps_the_image(network):
    z = z_of([0])
    source = network.source.sample(z)
    G = interpolable(network, 'snapshot.pkl')
    ws = G.mapping.w_avg + 0.7 * (G.mapping(z, None) - G.mapping.w_avg)
    expected = draw(G, ws[:, : styles(G)], source_image=source)
    assert torch.allclose(draw(G, ws), expected, atol=1e-5)
    assert torch.allclose(draw(copy.deepcopy(G), ws), expected, atol=1e-5)      # as a projector copies it

def test_a_projector_of_w_alone_is_refused(network):
    G = interpolable(network, 'snapshot.pkl')
    w = torch.zeros([1, 1, G.w_dim], requires_grad=True)
    with pytest.raises(SpiderError, match='spider project'):
        draw(G, w.repeat(1, G.num_ws, 1))

@torch.no_grad()
def test_a_walk_through_z_is_refused(network):
    G, (a, b) = interpolable(network, 'snapshot.pkl'), z_of([0, 1])
    G.mapping(a[None], None)
    G.mapping(b[None], None)    # other seeds are no walk
    with pytest.raises(SpiderError, match='spider video'):
        G.mapping(torch.lerp(b, a, 0.05)[None], None)

@torch.no_grad()
def test_path_lengths_hold_the_source(network):
    z = z_of(range(N))
    sources, weight = network.source.sample(z), 1e-4
    with held(network):
        w, other = network.mapping(torch.cat([z, z_of(range(9, 9 + N))]), None).chunk(2)
        images = draw(network, torch.cat([w, w.lerp(other, weight)]))
    start, end = w[:, : styles(network)], w.lerp(other, weight)[:, : styles(network)]
    assert torch.allclose(images[:N], draw(network, start, source_image=sources), atol=1e-6)
    assert torch.allclose(images[N:], draw(network, end, source_image=sources), atol=1e-6)
    assert not network.mapping._forward_hooks and not network.synthesis._forward_pre_hooks

@torch.no_grad()
def test_the_nearest_source_images_come_first(network):
    wanted = network.source.fetch(torch.tensor([[7.0, 0.0]]))
    ws = rows_near(network, wanted, torch.zeros([1, 0]), 5)
    assert ws.shape == (5, network.num_ws, network.w_dim)
    images = network.synthesis.source_image(ws)
    assert torch.equal(images[:1], wanted)
    far = (images - wanted).square().mean(dim=[1, 2, 3])
    assert (far.diff() >= 0).all()

@torch.no_grad()
def test_more_images_than_the_rows_of_the_key_hold(network):
    seeds = range(3 * network.w_dim)
    G, z = interpolable(network, 'snapshot.pkl'), z_of(seeds)
    expected = G.source.sample(z)
    ws = G.mapping(z, None)
    last = draw(G, ws[-1:])
    assert torch.allclose(last, draw(G, ws[-1:, : styles(G)], source_image=expected[-1:]), atol=1e-5)

@torch.no_grad()
def test_a_snapshot_without_images_is_refused(network):
    network.source.images = network.source.images[:0]
    G = interpolable(network, 'snapshot.pkl')
    weights = G.mapping(z_of([0, 1]), None)
    weights[:, styles(G) :] = 0
    weights[0, styles(G), :2] = 2048.0      # halves of two images
    from spider_plugin.generate import interpolable as module
    hooks = module.Weights(G, module.Between(G.source, 'snapshot.pkl'))
    hooks.keys = [torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])]
    with pytest.raises(SpiderError, match='carries no source images'):
        hooks.read((weights[:1],), {})
