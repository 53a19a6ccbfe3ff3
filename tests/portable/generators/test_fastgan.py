"""FastGAN: the hosts' interface, keys, classes, sources, separable convolutions."""

import copy
import importlib
import os
import pickle
import subprocess
import sys
import warnings

import pytest
import torch

from spider_plugin.portable.generators.fastgan import FastGANBlock, FastGANGenerator
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.resume_plan import make_plan

DSC = dict(order='depthwise', rank=1, res=None)

def latents(n=4, z_dim=16, seed=0):
    return torch.randn([n, z_dim], generator=torch.Generator().manual_seed(seed))

def small(**kwargs):
    torch.manual_seed(0)
    return FastGANGenerator(**dict(dict(z_dim=16, img_resolution=16, ngf=4), **kwargs))

def draw(G, z, c=None, **kwargs):
    torch.manual_seed(3)    # of the noise layers
    return G(z, c, **kwargs)

#----------------------------------------------------------------------------
# Interface.

@pytest.mark.parametrize('lite', [False, True])
@pytest.mark.parametrize('classes', [0, 3, 40])
@pytest.mark.parametrize('resolution, ngf', [(16, 2), (32, 2), (64, 2), (128, 2), (256, 2), (512, 4), (1024, 8)])
def test_every_resolution_with_and_without_classes(resolution, ngf, classes, lite):
    if resolution > 256 and classes == 40:
        pytest.skip('said by the other resolutions')
    G = small(img_resolution=resolution, ngf=ngf, c_dim=classes, lite=lite, img_channels=1).eval()
    c = torch.eye(classes)[[0, classes - 1]] if classes else None
    ws = G.mapping(latents(2), c, truncation_psi=1, truncation_cutoff=None, update_emas=False)
    assert ws.shape == (2, G.num_ws, G.w_dim) and G.num_ws == G.mapping.num_ws == G.synthesis.num_ws
    with torch.no_grad():
        images = G.synthesis(ws, update_emas=False, noise_mode='const', force_fp32=True)
        assert images.shape == (2, 1, resolution, resolution)
        assert torch.equal(images, G.synthesis(ws, c, update_emas=False, noise_mode='const')) # as projected-gan calls it

@pytest.mark.parametrize(['kwargs', 'words'], [
    (dict(img_resolution=24), 'power of two'), (dict(img_resolution=8), 'power of two'), (dict(w_dim=32), 'must equal'),
    (dict(img_resolution=1024), 'no feature map'), (dict(dsc=dict(DSC, rank=2)), 'rank 1'),
    (dict(dsc=dict(DSC, order='pointwise')), 'depthwise first'),
])
def test_what_does_not_fit_is_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        small(**kwargs)

@pytest.mark.parametrize('lite', [False, True])
def test_keys_are_projected_gans(lite):
    keys = set(small(img_resolution=64, lite=lite).state_dict())
    sn = lambda name: {f'{name}.weight_{part}' for part in ('orig', 'u', 'v')}
    bn = lambda name: {f'{name}.{part}' for part in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')}
    expected = {'mapping.w_avg', 'synthesis.to_big.bias', *sn('synthesis.to_big'), *sn('synthesis.init.init.0'),
                *bn('synthesis.init.init.1'), *sn('synthesis.se_64.main.1'), *sn('synthesis.se_64.main.3')}
    for block in (f'synthesis.feat_{r}' for r in (8, 16, 32, 64)):
        if lite:
            expected |= sn(f'{block}.1') | bn(f'{block}.2')
        else:
            expected |= {f'{block}.2.weight', f'{block}.6.weight'}
            expected |= sn(f'{block}.1') | bn(f'{block}.3') | sn(f'{block}.5') | bn(f'{block}.7')
    assert keys == expected

def test_classes_change_the_image_and_ride_in_ws():
    G = small(c_dim=20).eval()                              # two rows of 16
    with torch.no_grad():
        for p in G.synthesis.embed.parameters():
            p.mul_(3)
    c = torch.eye(20)[[1, 17, 4, 19]]
    images = draw(G, latents(), c, noise_mode='const')
    assert G.num_ws == 3 and (draw(G, latents(), c.roll(1, 0), noise_mode='const') - images).abs().max() > 1e-3
    alone = G.synthesis(latents().unsqueeze(1), c, noise_mode='const')  # ws of projected-gan's own mapping
    assert torch.allclose(alone, images, atol=1e-6)

def test_truncation_is_said_to_do_nothing():
    G = small().eval()
    with pytest.warns(UserWarning, match='no effect on FastGAN'):
        half = G(latents(), None, truncation_psi=0.5, noise_mode='const')
    assert torch.allclose(half, G(latents(), None, noise_mode='const'), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        G(latents(), None, truncation_psi=0.5)              # once

def test_noise_modes():
    G = small().eval()
    with torch.no_grad():
        for p in G.parameters():
            if p.shape == (1,):
                p.fill_(1)
    random, const, none = ([G(latents(), None, noise_mode=mode) for _ in range(2)] for mode in ('random', 'const', 'none'))
    assert not torch.equal(*random) and torch.equal(*const) and torch.equal(*none) and not torch.equal(const[0], none[0])

def test_a_copy_after_a_training_pass():
    G = small(dsc=DSC, c_dim=0)
    G(latents(), None).sum().backward()
    assert torch.equal(draw(copy.deepcopy(G).eval(), latents()), draw(G.eval(), latents()))

#----------------------------------------------------------------------------
# Separable convolutions: the step of its own against the same layers one after the other.

@pytest.mark.parametrize('lite', [False, True])
def test_separable_layers_fused_and_not(lite, monkeypatch):
    G = small(img_resolution=32, lite=lite, dsc=DSC)
    with torch.no_grad():
        for p in G.parameters():
            p.add_(0.1 * torch.randn_like(p))
    H = copy.deepcopy(G)
    found = []
    for net in (G, H):
        image = draw(net, latents())
        torch.manual_seed(4)
        (image * torch.randn_like(image)).sum().backward()
        found.append([image, *(p.grad for p in net.parameters()), *(b.float() for b in net.buffers())])
        monkeypatch.setattr(FastGANBlock, '_fused', staticmethod(
            lambda x, conv, norm, noise, strength, up: FastGANBlock._plain(x, conv, norm, noise, strength, None, up)))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max() + 1e-7

def test_which_convolutions_are_separable():
    separable = lambda dsc: {name for name, module in small(img_resolution=32, dsc=dsc).named_modules()
                             if hasattr(module, 'dw_weight')}
    both = {f'synthesis.feat_{r}.{i}' for r in (8, 16, 32) for i in (1, 5)}
    assert separable(None) == set() and separable(DSC) == both
    assert separable(dict(DSC, res=[16, 16])) == {'synthesis.feat_16.1', 'synthesis.feat_16.5'}
    assert separable(dict(DSC, convs=[2])) == {name for name in both if name.endswith('5')}

#----------------------------------------------------------------------------
# Sources.

@pytest.mark.parametrize('lite, classes, dsc', [(False, 0, None), (True, 3, None), (True, 0, DSC)])
def test_untrained_a_residual_is_the_identity(lite, classes, dsc, prepared):
    G = small(lite=lite, c_dim=classes, dsc=dsc, spider=dict(mapping='residual', source=prepared('bank')))
    c = torch.eye(3)[[0, 1, 2, 0]] if classes else None
    images, source = draw(G, latents(), c), G.source.sample(latents(), c)
    assert (images - source.clamp(-0.96, 0.96)).abs().max() < 1e-6 and source.std() > 0.05

def test_a_resumed_stock_generator_starts_with_its_own_images(prepared):
    stock = small().eval()
    G = small(spider=dict(mapping='residual', source=prepared('bank'), gain=0.0)).eval()
    missing, unexpected = G.load_state_dict(stock.state_dict(), strict=False)
    assert not unexpected and all('source' in name or 'output_gain' in name for name in missing)
    assert torch.allclose(draw(G, latents()), draw(stock, latents()), atol=1e-6)
    draw(G.train(), latents()).square().mean().backward()
    assert G.synthesis.source_gain.grad.abs() > 0

def test_the_key_alone_decides_and_a_torn_one_gives_the_mean(prepared):
    G = small(c_dim=3, spider=dict(mapping='residual', source=prepared('bank'))).eval()
    c = torch.eye(3)[[0, 1, 2, 0]]
    ws = G.mapping(latents(), c)
    assert torch.equal(G.synthesis.source_image(ws), G.source.sample(latents(), c))
    assert torch.equal(G.synthesis.source_image(ws.lerp(ws.roll(1, 0), 0.5)), G.source.mean_image.repeat(4, 1, 1, 1))

@pytest.mark.parametrize('kind', ['encoder', 'whitened', 'paper-16x32', 'paper-23x23'])
def test_vectors_of_the_source_take_the_place_of_z(kind, prepared):
    z_dim = 512 if kind.startswith('paper') else 16
    G = small(z_dim=z_dim, spider=dict(mapping=kind, source=prepared('bank', res=32)))
    z = latents(z_dim=z_dim)
    images = draw(G, z)
    images.square().sum().backward()
    assert images.isfinite().all() and all(p.grad is not None for p in G.parameters())
    assert (draw(G, z.roll(1, 0)) - images).abs().max() > 1e-3

#----------------------------------------------------------------------------
# Resume and snapshots.

def test_the_first_rows_of_an_embedding_are_resumed():
    there = small(c_dim=1000).state_dict()
    here = small(c_dim=10)
    plan = make_plan('G', there, here)
    assert torch.equal(plan.copied['synthesis.embed.weight'], there['synthesis.embed.weight'][:10]) and not plan.differ
    assert '1 of them by their first rows: synthesis.embed.weight 1000 -> 10' in plan.line()

OPEN_WITHOUT_PLUGIN = '''
import pickle, sys, torch
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] != 'spider_plugin', name
        if name.split('.')[0] == 'torch_utils_ext':
            raise ImportError(name)
sys.meta_path.insert(0, Forbidden())
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
with open('nets.pkl', 'rb') as f:
    data = pickle.load(f)
torch.save(data['G'](data['z'], None, noise_mode='const'), 'out.pt')
'''

@pytest.mark.parametrize('dsc', [None, DSC])
def test_a_snapshot_opens_without_the_plugin(host, prepared, dsc, tmp_path):
    bundle = importlib.import_module('spider_plugin.bundles.fastgan')
    G = bundle.FastGANGenerator(z_dim=16, img_resolution=16, ngf=4, dsc=dsc,
                                spider=dict(mapping='residual', source=prepared('bank'))).eval()
    (tmp_path / 'nets.pkl').write_bytes(pickle.dumps(dict(G=G, z=latents())))
    (tmp_path / 'open.py').write_text(OPEN_WITHOUT_PLUGIN)
    env = dict(os.environ, TORCH_UTILS_EXT='auto')  # there is nothing to require in that process
    subprocess.run([sys.executable, 'open.py', str(resource_dir('reference_host'))], cwd=tmp_path, env=env, check=True)
    assert torch.allclose(torch.load(tmp_path / 'out.pt'), G(latents(), None, noise_mode='const'), atol=1e-6)
