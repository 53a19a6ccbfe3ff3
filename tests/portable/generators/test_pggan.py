"""Progressively grown networks: stages and fades, identity at the start, published widths, snapshots."""

import importlib
import pickle

import pytest
import torch
import torch.nn.functional as F

from spider_plugin.portable.generators.pggan import PGGANDiscriminator, PGGANGenerator, down_to, faded, stage_and_fade

def latents(n=4, z_dim=32, seed=0):
    return torch.randn([n, z_dim], generator=torch.Generator().manual_seed(seed))

def networks(resolution=16, progress=0.0, c_dim=0, **kwargs):
    torch.manual_seed(0)
    sizes = dict(channel_base=128, channel_max=16)
    G, D = PGGANGenerator(32, c_dim, resolution, 3, **sizes, **kwargs).eval(), PGGANDiscriminator(c_dim, resolution, 3, **sizes)
    G.synthesis.progress.fill_(progress)
    D.progress.fill_(progress)
    return G, D

@pytest.fixture
def spider(prepared):
    return lambda kind='residual', **changes: dict(mapping=kind, source=prepared('bank', res=16), **changes)

#----------------------------------------------------------------------------

@pytest.mark.parametrize(['progress', 'expected'], [
    (0, (0, 1)), (0.9, (0, 1)), (1, (1, 0)), (1.25, (1, 0.25)), (2, (1, 1)), (2.9, (1, 1)), (3.5, (2, 0.5)), (4, (2, 1)),
    (5.5, (2, 1)), (1e9, (2, 1))])
def test_stages(progress, expected):
    assert stage_and_fade(progress, 3) == expected

@pytest.mark.parametrize(['progress', 'width'], [(0, 4), (1.3, 8), (2, 8), (3.7, 16), (9, 16)])
def test_shapes_at_every_stage(progress, width):
    G, D = networks(progress=progress)
    ws = G.mapping(latents(), None)
    small, full = G.synthesis(ws, full=False), G(latents(), None, noise_mode='const')
    assert small.shape == (4, 3, width, width) and full.shape == (4, 3, 16, 16)
    assert torch.equal(F.interpolate(small, size=16), full)
    assert torch.allclose(D(small, None), D(full, None), atol=1e-5) and D(full, None).shape == (4, 1)
    D(full, None).sum().backward()
    used = {name.split('.')[0] for name, p in [*G.synthesis.named_parameters(), *D.named_parameters()] if p.grad is not None}
    assert ('b16' in used) == (progress >= 3) and ('torgb16' in used) == (progress >= 3) and 'conv4' in used

@pytest.mark.parametrize('phase', [1, 3])
def test_a_fade_begins_and_ends_where_its_neighbours_are(phase):
    """Just after its beginning the images are those before; at its end the older way is closed; in between they are blends."""
    outputs = []
    for progress in (phase - 0.001, phase, phase + 0.5, phase + 0.999, phase + 1):
        G, D = networks(progress=progress)
        images = G(latents(), None)
        outputs.append((images, D(F.interpolate(outputs[0][0], size=16) if outputs else images, None)))
    before, start, middle, late, end = outputs
    assert torch.allclose(start[0], before[0], atol=1e-5) and torch.allclose(start[1], before[1], atol=1e-5)
    assert torch.allclose(late[0], end[0], atol=0.02) and torch.allclose(middle[0], start[0].lerp(end[0], 0.5), atol=1e-5)
    assert (before[0] - end[0]).abs().mean() > 0.1 < (middle[0] - end[0]).abs().mean()

def test_published_widths():
    with torch.device('meta'):
        G, D = PGGANGenerator(512, 0, 1024, 3), PGGANDiscriminator(0, 1024, 3)
    counts = [sum(p.numel() for p in network.parameters()) for network in (G, D)]
    assert [round(count / 1e6, 1) for count in counts] == [23.1, 23.1]
    assert G.synthesis.widths == [512, 512, 512, 512, 256, 128, 64, 32, 16]

def test_pixels_are_normalised_and_the_latent_is_on_a_sphere():
    G, _ = networks(progress=2)
    seen = []
    G.synthesis.b8.register_forward_hook(lambda module, args, out: seen.append(out))
    G(latents(), None)
    assert torch.allclose(seen[0].square().mean(dim=1), torch.ones([4, 8, 8]), atol=1e-4)
    assert torch.allclose(G.mapping(latents() * 7, None), G.mapping(latents(), None), atol=1e-5)

@pytest.mark.parametrize('kwargs', [dict(img_resolution=24), dict(img_resolution=2048), dict(w_dim=16)], ids=str)
def test_sizes_that_do_not_fit(kwargs):
    with pytest.raises(ValueError, match='power of two|must equal'):
        PGGANGenerator(**dict(dict(z_dim=32, c_dim=0, img_resolution=16, img_channels=3), **kwargs))

#----------------------------------------------------------------------------

@pytest.mark.parametrize('progress', [0, 1.5, 2, 3.2, 4])
@pytest.mark.parametrize('resolution', [16, 32])
def test_untrained_the_residual_is_the_source_at_each_stage(resolution, progress, spider):
    G, _ = networks(resolution, progress, spider=spider())
    stage, fade = G.synthesis.stage()
    source = faded(down_to(G.source.sample(latents()), G.synthesis.resolutions[stage]), fade).clamp(-0.96, 0.96)
    images = G.synthesis(G.mapping(latents(), None), full=False)
    assert images.shape == source.shape and (images - source).abs().mean() < 0.06 < source.std()

def test_a_resumed_gaussian_generator_starts_with_its_own_images(spider):
    stock, G = networks(progress=3.5)[0], networks(progress=3.5, spider=spider(gain=0.0))[0]
    missing, unexpected = G.load_state_dict(stock.state_dict(), strict=False)
    assert not unexpected and all('source' in name for name in missing)
    assert torch.allclose(G(latents(), None), stock(latents(), None), atol=1e-6)

@pytest.mark.parametrize('kind', ['residual', 'encoder', 'whitened', None])
def test_classes_and_sources_change_the_image(kind, spider):
    G, D = networks(progress=4, c_dim=3, spider=kind and spider(kind))
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    z, c = latents(), torch.eye(3)[[0, 1, 2, 0]]
    images = G(z, c)
    assert (images - G(z, c.roll(1, dims=0))).abs().max() > 0.01 and (images[0] - images[3]).abs().max() > 0.01
    assert not torch.equal(D(images, c), D(images, c.roll(1, dims=0)))

def test_a_pickle_in_mid_fade(host, spider):
    bundle = importlib.import_module('spider_plugin.bundles.pggan')
    torch.manual_seed(0)
    G = bundle.PGGANGenerator(32, 0, 16, 3, channel_base=128, channel_max=16, spider=spider()).eval()
    G.synthesis.progress.fill_(3.25)
    twin = pickle.loads(pickle.dumps(G))
    assert twin.synthesis.stage() == (2, 0.25) and torch.equal(twin(latents(), None), G(latents(), None))
