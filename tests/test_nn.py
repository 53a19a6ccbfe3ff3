"""SeparableConv2d against the two convolutions that it stands for, to second derivatives, on references and on kernels."""

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.nn import SeparableConv2d

def pair(activation='lrelu', bias=True, gain=1.5):
    """The layer, and torch's modules with its weights."""
    torch.manual_seed(0)
    layer = SeparableConv2d(5, 7, bias=bias, activation=activation, gain=gain)
    stock = torch.nn.Sequential(torch.nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False), torch.nn.Conv2d(5, 7, 1, bias=bias))
    stock[0].weight, stock[1].weight = layer.dw_weight, layer.pw_weight
    if bias:
        stock[1].bias = layer.bias
    act = (lambda x: torch.nn.functional.leaky_relu(x, 0.2)) if activation == 'lrelu' else lambda x: x
    return layer, lambda x: gain * act(stock(x))

def derivatives(function, layer, x):
    """[y, first derivatives, second derivatives] of sums with fixed weights, for x and the parameters."""
    x = x.detach().requires_grad_()
    inputs = [x, *layer.parameters()]
    weigh = lambda tensors: sum((t * torch.linspace(-1, 1, t.numel()).reshape(t.shape).to(t.dtype)).sum() for t in tensors)
    y = function(x)
    first = torch.autograd.grad(weigh([y, y.square()]), inputs, create_graph=True)
    second = torch.autograd.grad(weigh(first), inputs, allow_unused=True, materialize_grads=True)
    return [y, *first, *second]

def assert_all_close(actual, stock, tolerance):
    for a, b in zip(actual, stock, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1)

@pytest.mark.parametrize('activation', ['linear', 'lrelu'])
@pytest.mark.parametrize('bias', [True, False])
def test_equals_two_convolutions_to_second_derivatives(activation, bias):
    layer, stock = pair(activation, bias)
    x = torch.randn([2, 5, 9, 6])
    assert_all_close(derivatives(layer, layer, x), derivatives(stock, layer, x), 1e-5)

def test_derivatives_are_those_of_differences():
    layer, _ = pair()
    layer.double()
    x = torch.randn([2, 5, 4, 3], dtype=torch.float64, requires_grad=True)
    inputs = (x, *layer.parameters())
    call = lambda x, *weights: torch.func.functional_call(layer, dict(zip(['dw_weight', 'pw_weight', 'bias'], weights)), (x,))
    assert [name for name, _ in layer.named_parameters()] == ['dw_weight', 'pw_weight', 'bias']
    assert torch.autograd.gradcheck(call, inputs) and torch.autograd.gradgradcheck(call, inputs)

@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-5), (torch.float16, 1e-2)])
def test_kernels_serve_it(open_kernels, dtype, tolerance):
    calls = open_kernels('cpu')
    before = calls('depthwise'), calls('epilogue')
    layer, stock = pair()
    x = torch.randn([2, 5, 9, 6])
    actual = derivatives(layer, layer, x.to(dtype))
    assert calls('depthwise') > before[0] and calls('epilogue') > before[1]
    assert actual[0].dtype == dtype
    assert_all_close([t.float() for t in actual[:5]], derivatives(stock, layer, x.to(dtype).float())[:5], tolerance)
    if dtype == torch.float32:
        assert_all_close(actual[5:], derivatives(stock, layer, x)[5:], tolerance)

def test_half_precision_and_autocast():
    layer, stock = pair()
    x = torch.randn([2, 5, 9, 6])
    wanted = stock(x)
    for dtype in (torch.float16, torch.bfloat16):
        y = layer(x.to(dtype))
        assert y.dtype == dtype and (y.float() - wanted).abs().max() < 0.05
    with torch.autocast('cpu', torch.bfloat16):
        y = layer(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())

def test_starts_as_torch_does():
    torch.manual_seed(0)
    layer = SeparableConv2d(64, 256)
    stock = torch.nn.Conv2d(64, 64, 3, groups=64), torch.nn.Conv2d(64, 256, 1)
    for actual, expected in ((layer.dw_weight, stock[0].weight), (layer.pw_weight, stock[1].weight), (layer.bias, stock[1].bias)):
        assert actual.shape == expected.shape
        assert actual.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=0.05)
        assert actual.std().item() == pytest.approx(expected.std().item(), rel=0.15)

def test_refusals():
    unknown = "'relu' is unknown; use 'linear' or 'lrelu'"
    for kwargs, words in ((dict(activation='relu'), unknown), (dict(gain=0), 'not positive')):
        with pytest.raises(SpiderError, match=words):
            SeparableConv2d(4, 4, **kwargs)
    with pytest.raises(SpiderError, match=r'takes images \[N, 4, H, W\], not \[2, 3, 8, 8\]'):
        SeparableConv2d(4, 4)(torch.zeros([2, 3, 8, 8]))
