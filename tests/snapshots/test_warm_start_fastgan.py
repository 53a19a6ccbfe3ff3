"""FastGAN's separable blocks from a dense snapshot give the same pictures if its kernels are separable, else close ones."""

import pytest
import torch

from spider_plugin.portable.generators.fastgan import FastGANGenerator
from spider_plugin.snapshots.resume_plan import convert
from spider_plugin.snapshots.warm_start_fastgan import fit_blocks

def networks(dsc=None, **kwargs):
    torch.manual_seed(0)
    G = FastGANGenerator(z_dim=16, img_resolution=32, ngf=8, dsc=dsc, **kwargs)
    with torch.no_grad():
        for p in G.parameters():
            if p.ndim == 1:
                p.add_(0.5 * torch.rand_like(p))
    return G

def images(G, c_dim=0):
    """Return images, without noise if there are classes, because then the two layers of a block share its strength."""
    z = torch.randn([8, 16], generator=torch.Generator().manual_seed(1))
    return G(z, torch.eye(c_dim)[torch.arange(8) % c_dim] if c_dim else None, noise_mode='none' if c_dim else 'const')

def trained(G, c_dim=0):
    """Return a network whose statistics and spectral vectors have converged."""
    with torch.no_grad():
        for _ in range(20):
            images(G.train(), c_dim)
    return G.eval()

@pytest.mark.parametrize('kwargs', [dict(), dict(lite=True), dict(c_dim=3)])
def test_separable_kernels_are_fitted_exactly(kwargs):
    """The norms adapt to the product's scale, which spectral norm changes."""
    dense, actual = networks(**kwargs), networks(dsc={}, **kwargs)
    layers = {name: layer for name, layer in actual.named_modules() if hasattr(layer, 'dw_weight')}
    with torch.no_grad():
        for name in layers:
            weight = dense.get_submodule(name).weight_orig
            weight.copy_(torch.randn_like(weight[:, :, :1, :1]) * torch.randn_like(weight[:1]) * 0.1)
    trained(dense, kwargs.get('c_dim', 0))
    state, errors = fit_blocks(dense.state_dict(), actual)
    assert errors.keys() == layers.keys() and max(errors.values()) < 1e-5
    actual.load_state_dict(state)
    with torch.no_grad():
        a, b = (images(G.eval(), kwargs.get('c_dim', 0)) for G in (dense, actual))
    assert (a - b).abs().max() < 2e-3 * a.abs().max()

def test_others_are_fitted_closely_and_train():
    dense, actual = trained(networks()), networks(dsc=dict(res=[16, 32], convs=[2]))
    before = images(actual.eval()).detach()
    state, errors = fit_blocks(dense.state_dict(), actual)
    assert errors.keys() == {'synthesis.feat_16.5', 'synthesis.feat_32.5'} and all(0.1 < e < 1 for e in errors.values())
    assert 'synthesis.feat_8.5.weight_orig' in state
    actual.load_state_dict(state)
    wanted = images(dense).detach()
    assert (images(actual) - wanted).square().mean() < 0.7 * (before - wanted).square().mean()
    images(actual.train()).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in actual.parameters())

def test_other_generators_are_not_changed():
    state = {'synthesis.b4.conv1.weight': torch.ones([2, 2, 3, 3])}
    assert fit_blocks(state, torch.nn.Linear(1, 1)) == (state, {})

def test_a_dense_snapshot_resumes_completely(tmp_path):
    dense, actual = trained(networks(lite=True)), networks(lite=True, dsc={})
    (tmp_path / 'dense.pkl').write_bytes(b'its content is not read again')
    _, plans, fits = convert(tmp_path / 'dense.pkl', dict(G=dense, G_ema=dense), dict(G=actual, D=None), fit_blocks)
    assert not plans['G'].new and not plans['G'].unused and not plans['G'].differ and not plans['G_ema'].new
    assert fits.keys() == {f'synthesis.feat_{r}.1' for r in (8, 16, 32)}
