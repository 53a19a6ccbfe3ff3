"""Small convolutional networks: the hosts' interface, identity at the start, no sample that depends on its batch."""

import copy
import importlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from spider_plugin.portable.generators.dcgan import DCGANDiscriminator, DCGANGenerator, minibatch_std, upsample_nearest
from spider_plugin.resources import resource_dir

IDENTITY = {'name': 'marked', 'sha256': '0' * 64, 'transform': 'none', 'licence': 'CC0'}

def latents(n=6, z_dim=64, seed=0):
    return torch.randn([n, z_dim], generator=torch.Generator().manual_seed(seed))

@pytest.fixture
def spider(prepared):
    """spider(**changes) -> the `spider` argument for a bank of random images."""
    return lambda channels=3, res=16, **changes: dict(
        dict(mapping='residual', source=prepared('bank', channels=channels, res=res)), **changes)

def trained(G, seed=1):
    """The generator with every parameter moved, so that nothing is zero by initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in G.parameters():
            param.add_(0.1 * torch.randn(param.shape, generator=generator))
    return G.eval()

def write_bank(path, images, labels=None):
    np.save(path / 'images.npy', images)
    (path / 'bank.json').write_text(json.dumps(dict(identity=IDENTITY, labels=labels)))
    return str(path)

@pytest.fixture
def prepared_classes(tmp_path):
    """Directory of a source with two images of each of five classes: image j of class i has the value 51 i + 5 j."""
    values = np.array([51 * i + 5 * j for j in range(2) for i in range(5)], np.uint8)
    return write_bank(tmp_path, np.broadcast_to(values[:, None, None, None], [10, 3, 16, 16]), [0, 1, 2, 3, 4] * 2)

@pytest.fixture
def textures(tmp_path):
    """Directory of a source of eight noise images."""
    return write_bank(tmp_path, np.random.RandomState(0).randint(0, 256, [8, 3, 32, 32]).astype(np.uint8))

#----------------------------------------------------------------------------
# Interface.

@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('resolution', [16, 32, 64, 128])
def test_shapes_and_contract(resolution, channels, spider):
    for extra in ({}, dict(spider=spider(channels, res=16))):
        G = DCGANGenerator(64, 0, resolution, channels, **extra)
        z = latents(2)
        ws = G.mapping(z, None, truncation_psi=1, truncation_cutoff=None, update_emas=False)
        assert ws.shape == (2, G.num_ws, G.w_dim) and G.num_ws == G.mapping.num_ws == (2 if extra else 1)
        images = G.synthesis(ws, update_emas=False, noise_mode='const', force_fp32=True)
        assert images.shape == (2, channels, resolution, resolution) and images.abs().max() <= 1
        assert torch.equal(images, G(z, None, noise_mode='const'))
        assert DCGANDiscriminator(0, resolution, channels)(images, None).shape == (2, 1)

@pytest.mark.parametrize(['kwargs', 'words'], [
    (dict(img_resolution=24), 'power of two'), (dict(img_resolution=8), 'power of two'), (dict(w_dim=32), 'must equal'),
])
def test_sizes_that_do_not_fit_are_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        DCGANGenerator(**dict(dict(z_dim=64, c_dim=0, img_resolution=16, img_channels=3), **kwargs))

def test_a_source_of_other_channels_is_named(spider):
    with pytest.raises(ValueError, match='1 channels'):
        DCGANGenerator(64, 0, 16, 3, spider=spider(channels=1))

@pytest.mark.parametrize('fed', [False, True])
def test_no_sample_depends_on_its_batch_or_mode(fed, spider):
    G = trained(DCGANGenerator(64, 0, 16, 3, spider=spider() if fed else None))
    z = latents()
    images = G(z, None)
    assert torch.allclose(G(z[2:3], None), images[2:3], atol=1e-4)
    assert torch.equal(G.train()(z, None), images)
    assert (images[0] - images[1]).abs().max() > 0.01

def test_truncation_scales_the_latent_and_leaves_the_key(spider):
    G = trained(DCGANGenerator(64, 0, 16, 3, spider=spider()))
    z = latents()
    full, half = G.mapping(z, None), G.mapping(z, None, truncation_psi=0.5)
    assert torch.allclose(half[:, 0], full[:, 0] / 2) and torch.equal(half[:, 1:], full[:, 1:])
    assert torch.equal(G.mapping(z, None, truncation_psi=0.5, truncation_cutoff=0), full)

def test_classes_change_the_image():
    G, D = trained(DCGANGenerator(64, 3, 16, 1)), DCGANDiscriminator(3, 16, 1)
    z, c = latents(3), torch.eye(3)
    images = G(z, c)
    assert (G(z, c.roll(1, dims=0)) - images).abs().max() > 0.01
    assert D(images, c).shape == (3, 1)
    assert not torch.equal(D(images, c), D(images, c.roll(1, dims=0)))

#----------------------------------------------------------------------------
# The residual.

@pytest.mark.parametrize('resolution', [16, 32])
def test_untrained_it_is_the_identity_on_the_source(resolution, spider):
    G = DCGANGenerator(64, 0, resolution, 3, spider=spider(res=16))
    z = latents()
    source = torch.nn.functional.interpolate(G.source.sample(z), size=resolution, mode='bilinear').clamp(-0.96, 0.96)
    assert (G(z, None) - source).abs().mean() < 0.05 < source.std()

def test_the_key_alone_decides_and_a_torn_one_gives_the_mean(spider):
    G = trained(DCGANGenerator(64, 0, 16, 3, spider=spider()))
    ws = G.mapping(latents(), None)
    assert torch.equal(G.synthesis.source_image(ws), G.source.sample(latents()))
    torn = ws.clone()
    torn[:3, 1:] *= 0.7
    expected = G.synthesis(ws, source_image=torch.cat([G.source.mean_image.repeat(3, 1, 1, 1), G.source.sample(latents())[3:]]))
    assert torch.allclose(G.synthesis(torn), expected, atol=1e-6)
    assert torch.isfinite(G.synthesis(ws.roll(1, dims=0).lerp(ws, 0.5))).all()

def test_any_latent_gives_a_valid_image(spider):
    for extra in ({}, dict(spider=spider())):
        G = trained(DCGANGenerator(64, 0, 16, 3, **extra))
        z = latents(4).double()
        z[0], z[1, 0], z[2] = float('nan'), float('inf'), -float('inf')
        images = G(z, None)
        assert torch.isfinite(images).all() and images.abs().max() <= 1

def test_a_resumed_gaussian_generator_starts_with_its_own_images(spider):
    stock = trained(DCGANGenerator(64, 0, 16, 3))
    G = DCGANGenerator(64, 0, 16, 3, spider=spider(gain=0.0))
    missing, unexpected = G.load_state_dict(stock.state_dict(), strict=False)
    assert not unexpected and all('encoder' in name or 'source' in name for name in missing)
    assert torch.allclose(G(latents(), None), stock(latents(), None), atol=1e-6)
    G(latents(), None).square().mean().backward()
    assert G.synthesis.source_gain.grad.abs() > 0

def test_a_learned_skip_starts_at_one_and_moves(spider):
    argument = spider()
    G, fixed = (DCGANGenerator(64, 0, 16, 3, spider=argument | dict(learn_skip=learn)) for learn in (True, False))
    fixed.load_state_dict(G.state_dict())       # under the same name, whether learned or not
    assert torch.equal(G(latents(), None), fixed(latents(), None))
    assert G.synthesis.source_skip_gain == 1 and 'synthesis.source_skip_gain' not in dict(fixed.named_parameters())
    (G(latents(), None) - 1).square().mean().backward()
    assert G.synthesis.source_skip_gain.grad.abs() > 0

def test_source_and_copy_are_shared_and_hold_no_parameter(spider):
    G = DCGANGenerator(64, 0, 16, 3, spider=spider())
    twin = copy.deepcopy(G)
    assert twin.source is G.source is twin.synthesis.source is twin.mapping.source
    names = {name for name, _ in [*G.named_parameters(), *G.named_buffers()]}
    assert not any('source' in name and 'gain' not in name for name in names)

#----------------------------------------------------------------------------
# A vector made from the source in place of the latent.

@pytest.mark.parametrize('kind', ['paper-16x32', 'paper-23x23', 'encoder', 'whitened'])
def test_a_vector_of_the_source_is_the_latent(kind, textures):
    z_dim = 512 if kind.startswith('paper') else 64
    G = trained(DCGANGenerator(z_dim, 0, 16, 3, spider=dict(mapping=kind, source=textures)))
    z = latents(16, z_dim)
    ws = G.mapping(z, None)
    assert ws.shape == (16, 1, z_dim) and torch.allclose(ws.square().mean(dim=2), torch.ones([16, 1]), atol=1e-3)
    same = G.source.key(z)[:, 0].tolist()
    twin = DCGANGenerator(z_dim, 0, 16, 3)                      # the Gaussian network, unchanged
    twin.synthesis.load_state_dict(G.synthesis.state_dict())
    assert torch.equal(twin.synthesis(ws), G(z, None)) and 1 < len(set(same)) < 16
    for i in range(1, 16):
        assert torch.allclose(ws[0], ws[i], atol=1e-5) == (same[0] == same[i])

def test_the_mean_latent_of_a_source_is_tracked_in_training_alone(textures):
    G = DCGANGenerator(512, 0, 16, 3, spider=dict(mapping='paper-23x23', source=textures)).eval()
    z = latents(64, 512)
    G.mapping(z, None), G.train().mapping(z, None, update_emas=False)
    assert G.mapping.w_avg.abs().max() == 0
    for _ in range(2000):
        ws = G.mapping(z, None)
    assert torch.allclose(G.mapping.w_avg, ws.mean(dim=[0, 1]), atol=1e-3) and ws.mean(dim=0).norm() > 1
    assert torch.allclose(G.mapping(z, None, truncation_psi=0, update_emas=False)[0, 0], G.mapping.w_avg)

#----------------------------------------------------------------------------
# Classes.

@pytest.mark.parametrize('kind', ['residual', 'encoder'])
def test_classes_change_what_is_made_of_one_source_image(kind, spider, host):
    bundle = importlib.import_module('spider_plugin.bundles.dcgan')
    fed = spider(mapping=kind)
    G = trained(bundle.DCGANGenerator(64, 3, 16, 3, spider=fed))
    z, c = latents(1).repeat(3, 1), torch.eye(3)
    assert torch.equal(*G.source.sample(z, c)[:2])
    images = G(z, c)
    assert min((images[i] - images[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.01
    if kind == 'residual':
        fresh = bundle.DCGANGenerator(64, 3, 16, 3, spider=fed)
        assert (fresh(z, c) - fresh.source.sample(z).clamp(-0.96, 0.96)).abs().mean() < 0.1
    assert torch.equal(pickle.loads(pickle.dumps(G))(z, c), images)

def test_a_class_has_the_source_images_that_were_said(prepared_classes):
    G = DCGANGenerator(64, 3, 16, 3, spider=dict(mapping='residual', source=prepared_classes, classes=[4, -1, 0])).eval()
    z = latents(200)
    def drawn(label):
        c = torch.nn.functional.one_hot(torch.full([200], label), 3).float()
        return set((G.synthesis.source_image(G.mapping(z, c)).mean(dim=[1, 2, 3]) * 127.5 + 127.5).round().int().tolist())
    assert drawn(0) == {204, 209} and drawn(2) == {0, 5} and len(drawn(1)) == 10

def test_the_projection_is_that_of_the_paper():
    D = DCGANDiscriminator(3, 16, 1)
    x, c = torch.randn([6, 1, 16, 16]), torch.eye(3).repeat(2, 1)
    h = D.hidden(minibatch_std(D.layers(torch.nn.functional.pixel_unshuffle(x, 2)), 8).flatten(1))
    by_hand = D.out(h)[:, 0] + torch.stack([h[i] @ D.project.weight[:, i % 3] for i in range(6)]) / 8
    assert torch.allclose(D(x, c)[:, 0], by_hand, atol=1e-5)
    assert (D(x, c) - D(x, c.roll(1, dims=0))).abs().max() > 1e-3

#----------------------------------------------------------------------------
# Snapshots.

OPEN_WITHOUT_PLUGIN = '''
import pickle, sys, torch
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] not in ('spider_plugin', 'torch_utils_ext'), name
sys.meta_path.insert(0, Forbidden())
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
with open('nets.pkl', 'rb') as f:
    data = pickle.load(f)
images = data['G'](data['z'], None)
torch.save([images, data['D'](images, None)], 'out.pt')
'''

def test_a_snapshot_opens_without_the_plugin(host, spider, tmp_path):
    bundle = importlib.import_module('spider_plugin.bundles.dcgan')
    G, D = trained(bundle.DCGANGenerator(64, 0, 16, 3, spider=spider(noise=0.1))), bundle.DCGANDiscriminator(0, 16, 3)
    (tmp_path / 'nets.pkl').write_bytes(pickle.dumps(dict(G=G, D=D, z=latents())))
    (tmp_path / 'open.py').write_text(OPEN_WITHOUT_PLUGIN)
    subprocess.run([sys.executable, 'open.py', str(resource_dir('reference_host'))], cwd=tmp_path, check=True)
    images, logits = torch.load(tmp_path / 'out.pt')
    assert torch.equal(images, G(latents(), None)) and torch.equal(logits, D(images, None))

#----------------------------------------------------------------------------
# Training.

@pytest.mark.parametrize('fed', [False, True])
def test_every_parameter_gets_a_gradient(fed, spider, stirred):
    G = stirred(DCGANGenerator(64, 0, 16, 3, spider=spider() if fed else None))
    D = DCGANDiscriminator(0, 16, 3)
    D(G(latents(8), None), None).sum().backward()
    for name, param in [*G.named_parameters(), *D.named_parameters()]:
        assert param.grad is not None and param.grad.abs().max() > 0, name

def test_the_discriminator_is_twice_differentiable():
    torch.manual_seed(0)    # with other weights the step of the difference may cross a kink of leaky ReLU
    D = DCGANDiscriminator(0, 16, 1).double()
    x = torch.randn([4, 1, 16, 16], dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    penalty = lambda x: torch.autograd.grad(D(x, None).sum(), x, create_graph=True)[0].square().sum()
    penalty(x).backward()
    weight = D.layers[0].weight
    analytic, step = weight.grad[0, 0, 1, 1].item(), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0, 1, 1] += sign * step
        values.append(penalty(x).item())
        with torch.no_grad():
            weight[0, 0, 1, 1] -= sign * step
    assert analytic == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-8) and analytic != 0

def test_minibatch_std_sees_variety_and_takes_any_batch():
    x = torch.randn([6, 4, 5, 5], generator=torch.Generator().manual_seed(0))
    same = x[:1].expand(6, -1, -1, -1)
    assert minibatch_std(same, 8)[:, 4].max() < 1e-3 < minibatch_std(x, 8)[:, 4].min()
    assert minibatch_std(x[:5], 8).shape == (5, 5, 5, 5)
    by_hand = x.reshape(3, 2, 4, 5, 5).var(dim=0, unbiased=False).add(1e-8).sqrt().mean(dim=[1, 2, 3])
    assert torch.allclose(minibatch_std(x, 4)[:, 4, 0, 0], by_hand.repeat(3))

def test_upsample_nearest():
    x = torch.randn([2, 3, 4, 5])
    assert torch.equal(upsample_nearest(x), torch.nn.functional.interpolate(x, scale_factor=2))
