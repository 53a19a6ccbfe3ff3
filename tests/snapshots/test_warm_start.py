"""Separable layers from a dense snapshot: best products, and a network that starts close to the dense one."""

import importlib
import sys

import pytest
import torch

from spider_plugin.bundles.names import class_with
from spider_plugin.portable.layers.dsc import effective_kernel
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.warm_start import fit_kernel, fit_layers

@pytest.fixture(scope='module')
def networks():
    """networks(dsc or None) -> a tiny StyleGAN2 generator of the reference host, dense or with separable layers."""
    if str(resource_dir('reference_host')) not in sys.path:
        sys.path.insert(0, str(resource_dir('reference_host')))
    def make(dsc=None):
        torch.manual_seed(0)
        class_name = 'training.networks_stylegan2.Generator'
        module, _, name = (class_name if dsc is None else class_with(class_name, 'dsc')).rpartition('.')
        return getattr(importlib.import_module(module), name)(
            z_dim=16, c_dim=0, w_dim=16, img_resolution=16, img_channels=3, channel_base=128, channel_max=16, num_fp16_res=0,
            **({} if dsc is None else dict(dsc=dsc)))
    return make

#----------------------------------------------------------------------------

@pytest.mark.parametrize('pointwise_first', [False, True])
def test_the_fit_is_the_best_of_its_rank(pointwise_first):
    W = torch.randn([5, 4, 3, 3], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.rand([4 if pointwise_first else 5], generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    scale = rows[None, :, None, None] if pointwise_first else rows[:, None, None, None]
    slices = (W * scale).flatten(2) if pointwise_first else (W * scale).flatten(2).transpose(0, 1)
    for rank in (1, 2, 4, 9):
        found = effective_kernel(*fit_kernel(W, rank, pointwise_first, rows), pointwise_first)
        best = torch.linalg.svdvals(slices)[:, rank:].square().sum()
        assert ((found - W) * scale).square().sum() == pytest.approx(float(best), abs=1e-9)

@pytest.mark.parametrize('order', ['depthwise', 'pointwise'])
def test_layers_of_full_rank_draw_what_the_dense_ones_draw(networks, order):
    dense, separable = networks(), networks(dict(order=order, rank=9, res=[0, 16]))
    dense.mapping.w_avg.copy_(torch.randn([16]))
    state, errors = fit_layers(dense.state_dict(), separable)
    separable.load_state_dict(state)
    assert len(errors) == 5 and max(errors.values()) < 1e-5
    z = torch.randn([3, 16])
    a, b = (G.eval()(z, None, noise_mode='const') for G in (dense, separable))
    assert (a - b).abs().max() < 1e-3 * a.abs().max()
    for layer in separable.modules():
        if hasattr(layer, 'dw_weight'):
            assert float(layer.pw_weight.detach().square().mean()) == pytest.approx(1, rel=1e-3)

def test_an_average_that_is_not_a_number_weighs_nothing(networks):
    dense, separable = networks(), networks(dict(order='depthwise', rank=1, res=[0, 16]))
    dense.mapping.w_avg.fill_(float('nan'))
    weighted, errors = fit_layers(dense.state_dict(), separable)
    plain, _ = fit_layers(dense.state_dict(), separable, weighted=False)
    assert len(errors) == 5 and all(torch.equal(weighted[name], plain[name]) for name in plain if 'pw_weight' in name)
    with torch.no_grad():
        dense.synthesis.b8.conv0.weight.fill_(float('nan'))
    assert len(fit_layers(dense.state_dict(), separable)[1]) == 4

def test_only_layers_in_the_window_are_fitted(networks):
    state, errors = fit_layers(networks().state_dict(), networks(dict(order='depthwise', rank=1, res=[8, 8])))
    assert sorted(errors) == ['synthesis.b8.conv0', 'synthesis.b8.conv1'] and all(0.5 < error < 1 for error in errors.values())
    assert 'synthesis.b4.conv1.weight' in state and 'synthesis.b8.conv1.weight' not in state
