"""Layers of D and G that convolve by kernels equal the host's: outputs, first derivatives, and second ones as R1 has them."""

import importlib
import sys

import pytest
import torch

from spider_plugin.bundles.names import class_with, fast_discriminator
from spider_plugin.portable.layers.fast_conv import filter_taps
from spider_plugin.resources import resource_dir

@pytest.fixture
def calls(open_kernels):
    """Return a function of an op, its kernel calls so far; references are errors."""
    return open_kernels('cpu')

def host():
    if str(resource_dir('reference_host')) not in sys.path:
        sys.path.insert(0, str(resource_dir('reference_host')))
    return importlib.import_module('training.networks_stylegan2')

def bundle(class_name):
    return importlib.import_module(class_name.rpartition('.')[0])

def pair_of_layers(*args, **kwargs):
    """A convolution of the reference host's D, and the same with kernels; both in float64."""
    torch.manual_seed(0)
    stock, fast = [host().Conv2dLayer(*args, **kwargs).double() for _ in range(2)]
    for layer in (stock, fast):
        layer.resample_filter = layer.resample_filter.float()    # hosts filter with float32
    fast.load_state_dict(stock.state_dict())
    fast.__class__ = bundle(fast_discriminator('training.networks_stylegan2.Discriminator')).FastConv2d
    fast.attach_fast()
    return stock, fast

def derivatives(layer, x, gain):
    """Return the output, the gradients, and those of a penalty on the gradient for x."""
    x = x.clone().requires_grad_()
    y = layer(x, gain=gain)
    parameters = list(layer.parameters())
    first = torch.autograd.grad(y.square().sum(), [x, *parameters], create_graph=True)
    r1, = torch.autograd.grad(y.sum(), x, create_graph=True)
    return [y, *first, *torch.autograd.grad(r1.square().sum() + first[0].pow(3).sum(), parameters)]

LAYERS = {
    '3x3': (dict(kernel_size=3, activation='lrelu', conv_clamp=256), ['conv3x3', 'epilogue']),
    '3x3 with a clamp that is reached': (dict(kernel_size=3, activation='lrelu', conv_clamp=0.7), ['conv3x3']),
    '3x3 down': (dict(kernel_size=3, activation='lrelu', down=2), ['conv3x3_down2', 'epilogue']),
    '3x3 up': (dict(kernel_size=3, activation='lrelu', up=2), ['conv3x3_up2']),
    '1x1 down without bias': (dict(kernel_size=1, bias=False, down=2), ['depthwise_up2_transpose']),
    '1x1': (dict(kernel_size=1, activation='lrelu'), ['epilogue']),
    'another filter': (dict(kernel_size=3, down=2, resample_filter=[1, 2, 4, 3]), ['conv3x3_down2']),
    'a filter of six': (dict(kernel_size=3, down=2, resample_filter=[1, 2, 3, 3, 2, 1]), ['epilogue']),
    'no filter': (dict(kernel_size=3, down=2, resample_filter=None), ['epilogue']),
    'another activation': (dict(kernel_size=3, activation='sigmoid'), []),
}

@pytest.mark.parametrize('case', LAYERS)
def test_layers_equal_the_hosts(case, calls):
    kwargs, ops = LAYERS[case]
    stock, fast = pair_of_layers(33, 40, **kwargs)
    x = torch.randn([8, 33, 8, 12], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = [calls(op) for op in ops]
    results = derivatives(fast, x, gain=0.5 ** 0.5)
    assert all(calls(op) > count for op, count in zip(ops, before))
    tolerance = 1e-6 if case == 'another filter' else 1e-11    # float32 has [1, 3, 3, 1] / 8, but not [1, 2, 4, 3] / 10
    for got, want in zip(results, derivatives(stock, x, gain=0.5 ** 0.5), strict=True):
        assert got.shape == want.shape and (got - want).abs().max() <= tolerance * want.abs().max()

@pytest.mark.parametrize('channels, side, down, samples, served', [
    ((32, 64), 8, 1, 4, True), ((31, 64), 8, 1, 4, False), ((64, 31), 8, 1, 4, False), ((32, 32), 7, 2, 16, False),
    ((32, 32), 6, 2, 16, True), ((32, 32), 8, 1, 3, False), ((32, 32), 6, 2, 15, False)])
def test_few_channels_few_pixels_and_odd_images_are_left_to_torch(channels, side, down, samples, served, calls):
    stock, fast = pair_of_layers(*channels, kernel_size=3, down=down)
    x = torch.randn([samples, channels[0], side, side], dtype=torch.float64)
    before = calls('conv3x3') + calls('conv3x3_down2')
    y, want = fast(x), stock(x)
    assert (calls('conv3x3') + calls('conv3x3_down2') > before) == served
    assert y.shape == want.shape and (y - want).abs().max() <= 1e-7 * want.abs().max()

def test_a_whole_discriminator_with_r1(calls):
    kwargs = dict(c_dim=0, img_resolution=32, img_channels=3, channel_base=2048, channel_max=64, num_fp16_res=0)
    torch.manual_seed(0)
    stock = host().Discriminator(**kwargs)
    class_name = fast_discriminator('training.networks_stylegan2.Discriminator')
    fast = bundle(class_name).FastDiscriminator(**kwargs)
    fast.load_state_dict(stock.state_dict())
    images = torch.randn([4, 3, 32, 32])
    results = []
    for D in (stock, fast):
        x = images.clone().requires_grad_()
        logits = D(x, None)
        gradient, = torch.autograd.grad(logits.sum(), x, create_graph=True)
        loss = torch.nn.functional.softplus(logits).sum() + gradient.square().sum()
        results.append([logits, *torch.autograd.grad(loss, list(D.parameters()))])
    for want, got in zip(*results, strict=True):
        assert (got - want).abs().max() <= 2e-4 * want.abs().max()
    assert calls('conv3x3') > 0 and calls('conv3x3_down2') > 0

@pytest.mark.parametrize('up', [1, 2])
def test_dense_layers_of_the_generator(up, calls):
    torch.manual_seed(0)
    stock, fast = [host().SynthesisLayer(40, 33, w_dim=4, resolution=16, up=up) for _ in range(2)]
    fast.__class__ = bundle(class_with('training.networks_stylegan2.Generator', 'fast')).FastLayer
    fast.attach_fast()
    fast.load_state_dict(stock.state_dict())
    x, w = torch.randn([4, 40, 16 // up, 16 // up]), torch.randn([4, 4])
    before = calls('conv3x3') + calls('conv3x3_up2')
    got, want = [layer(x, w, noise_mode='const', fused_modconv=False) for layer in (fast, stock)]
    assert calls('conv3x3') + calls('conv3x3_up2') == before + 1
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()

def test_filter_taps():
    f = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    assert filter_taps(torch.outer(f, f)) == f.tolist()
    assert filter_taps(torch.outer(f, f.flip(0) + torch.arange(4))) == []
    assert filter_taps(torch.eye(4)) == [] and filter_taps(None) == [] and filter_taps(torch.ones(1, 1)) == []
