"""3x3 convolution by minimal filtering equals torch's in float64, is close in float32, and has derivatives of every order."""

import importlib
import sys

import pytest
import torch
import torch.nn.functional as F

from spider_plugin.bundles.names import class_with
from spider_plugin.portable.layers import winograd
from spider_plugin.portable.layers.winograd import conv3x3
from spider_plugin.resources import resource_dir

@pytest.fixture(params=[(1 << 17, 512), (200, 2)], ids=['whole', 'in pieces'])
def pieces(request, monkeypatch):
    """Run a test in one piece and in many."""
    monkeypatch.setattr(winograd, 'WINOGRAD_PIECE', request.param[0])
    monkeypatch.setattr(winograd, 'WINOGRAD_TILES', request.param[1])

def tensors(N, I, O, H, W, dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    shapes = [N, I, H, W], [O, I, 3, 3], [N, O, H, W]
    return [torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for shape in shapes]

def results(conv, x, w, g):
    """Return output, gradients, and gradients of the sums of their squares."""
    y = conv(x, w)
    first = torch.autograd.grad(y, [x, w], g, create_graph=True)
    second = [torch.autograd.grad(t.square().sum(), [x, w, g], retain_graph=True, allow_unused=True) for t in first]
    return [y, *first, *(t for ts in second for t in ts if t is not None)]

def plain(x, w):
    return F.conv2d(x, w, padding=1)

@pytest.mark.parametrize('shape', [(3, 5, 7, 8, 12), (1, 1, 2, 4, 4), (2, 3, 1, 16, 4)])
def test_it_is_the_convolution(pieces, shape):
    for actual, truth in zip(results(conv3x3, *tensors(*shape)), results(plain, *tensors(*shape)), strict=True):
        assert (actual - truth).abs().max() < 1e-11 * max(1, float(truth.detach().abs().max()))

def test_gradients_of_every_order(pieces):
    x, w, g = tensors(2, 2, 2, 4, 4)
    assert torch.autograd.gradgradcheck(conv3x3, (x, w), (g,))

def test_float32_loses_little(pieces):
    x, w, _ = tensors(2, 64, 64, 16, 16, torch.float32)
    truth = plain(x.double(), w.double())
    assert (conv3x3(x, w) - truth).abs().max() < 5e-5 * truth.abs().max()

def layer(I=128, O=128, resolution=16):
    """A dense layer of the reference host, and the same with factorised demodulation."""
    if str(resource_dir('reference_host')) not in sys.path:
        sys.path.insert(0, str(resource_dir('reference_host')))
    module = importlib.import_module('training.networks_stylegan2')
    dense, fast = [module.SynthesisLayer(I, O, w_dim=4, resolution=resolution) for _ in range(2)]
    bundle = importlib.import_module(class_with('training.networks_stylegan2.Generator', 'fast').rpartition('.')[0])
    fast.__class__ = bundle.FastLayer
    fast.attach_fast()
    fast.load_state_dict(dense.state_dict())
    return dense, fast

@pytest.mark.parametrize('size, served', [(dict(), True), (dict(I=64), False), (dict(resolution=8), False)])
def test_dense_layers_of_many_channels_and_pixels_use_it(size, served, monkeypatch):
    dense, fast = layer(**size)
    calls, run = [], winograd._convolve
    module = sys.modules[type(fast).__module__]
    monkeypatch.setattr(module, '_convolve', lambda *args: calls.append(0) or run(*args))
    x, w = torch.randn([8, dense.in_channels, dense.resolution, dense.resolution]), torch.randn([8, 4])
    actual, truth = [m(x, w, noise_mode='const', fused_modconv=False) for m in (fast, dense)]
    assert bool(calls) == served and (actual - truth).abs().max() < 1e-4 * truth.abs().max()
