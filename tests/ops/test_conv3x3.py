"""conv3x3, conv3x3_down2, conv4x4_down2 and their transposes by their kernels, which only CPUs have, against torch's
convolutions in float64: values over dtypes and odd shapes, first and second derivatives, torch's own checks of ops."""

import pytest
import torch
import torch.nn.functional as F

from torch_utils_ext.ops.conv3x3 import (
    conv3x3,
    conv3x3_down2,
    conv3x3_down2_ref,
    conv3x3_ref,
    conv3x3_up2,
    conv3x3_up2_ref,
)
from torch_utils_ext.ops.conv4x4 import conv4x4_down2, conv4x4_down2_ref, conv4x4_up2

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-13}
SIZES = [(1, 1, 1, 1, 1), (2, 3, 5, 4, 4), (1, 17, 2, 3, 17), (3, 1, 33, 8, 8), (2, 20, 18, 9, 5), (1, 2, 3, 35, 33),
         (2, 2, 2, 1, 7)]
TAPS = [0.1, 0.3, 0.4, 0.25]    # of no symmetry

@pytest.fixture
def calls(open_kernels):
    """Set TORCH_UTILS_EXT=require, and return a function of an op, its kernel calls so far."""
    return open_kernels('cpu')

def _randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

# Each op: the function, its reference, and for sizes (samples, channels of its input and output, small image) its inputs.

OPS = {
    'conv3x3': (conv3x3, conv3x3_ref, lambda N, I, O, H, W: [_randn(N, I, H, W), _randn(O, I, 3, 3, seed=1)]),
    'conv3x3_down2': (lambda x, w: conv3x3_down2(x, w, TAPS), lambda x, w: conv3x3_down2_ref(x, w, TAPS),
                      lambda N, I, O, H, W: [_randn(N, I, 2 * H, 2 * W), _randn(O, I, 3, 3, seed=1)]),
    'conv3x3_up2': (lambda x, w: conv3x3_up2(x, w, TAPS), lambda x, w: conv3x3_up2_ref(x, w, TAPS),
                    lambda N, I, O, H, W: [_randn(N, I, H, W), _randn(I, O, 3, 3, seed=1)]),
    'conv4x4_down2': (conv4x4_down2, conv4x4_down2_ref,
                      lambda N, I, O, H, W: [_randn(N, I, 2 * H, 2 * W), _randn(O, I, 4, 4, seed=1)]),
    'conv4x4_up2': (conv4x4_up2, lambda y, w: conv4x4_down2_ref(y, w, transposed=True),
                    lambda N, I, O, H, W: [_randn(N, I, H, W), _randn(I, O, 4, 4, seed=1)]),
}
KERNEL = {'conv4x4_up2': 'conv4x4_down2'}   # of an op that has another's

def _error(got, want):
    return ((got.detach().double() - want.detach()).abs().max() / want.detach().abs().max().clamp(min=1e-30)).item()

def _all_derivatives(function, inputs, g):
    """Return the output, both gradients, and the gradients of sums of their squares, as a penalty on them has."""
    y = function(*inputs)
    first = torch.autograd.grad(y, inputs, g, create_graph=True)
    second = [torch.autograd.grad(t.square().sum(), [*inputs, g], retain_graph=True, allow_unused=True) for t in first]
    return [y, *first, *(t for ts in second for t in ts if t is not None)]

@pytest.mark.parametrize('op', OPS)
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_values_and_gradients_over_odd_shapes(op, dtype, calls):
    function, reference, make = OPS[op]
    kernel = KERNEL.get(op, op)
    before = calls(kernel)
    for sizes in SIZES:
        inputs = [t.to(dtype).requires_grad_() for t in make(*sizes)]
        exact = [t.detach().double().requires_grad_() for t in inputs]
        y, want = function(*inputs), reference(*exact)
        assert y.shape == want.shape and y.dtype == dtype and _error(y, want) <= TOLERANCE[dtype], sizes
        g = _randn(*y.shape, seed=9).to(dtype)
        for got, expected in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(want, exact, g.double()), strict=True):
            scale = expected.abs().max().clamp(min=(g.numel() / expected.numel()) ** 0.5)    # a sum may cancel by chance
            assert got.dtype == dtype and ((got.double() - expected).abs().max() / scale) <= 4 * TOLERANCE[dtype], sizes
    assert calls(kernel) >= before + len(SIZES)

@pytest.mark.parametrize('op', OPS)
def test_gradcheck_and_gradgradcheck(op, calls):
    function, _, make = OPS[op]
    inputs = [t.requires_grad_() for t in make(2, 2, 3, 3, 2)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)

@pytest.mark.parametrize('op', OPS)
@pytest.mark.parametrize('sizes', SIZES[1:4], ids=str)
def test_second_derivatives(op, sizes, calls):
    function, reference, make = OPS[op]
    results = []
    for f in (function, reference):
        inputs = [t.requires_grad_() for t in make(*sizes)]
        results.append(_all_derivatives(f, inputs, _randn(*f(*inputs).shape, seed=9).requires_grad_()))
    for got, want in zip(*results, strict=True):
        assert _error(got, want) < 1e-12

@pytest.mark.parametrize('op', OPS)
def test_only_the_gradient_that_is_asked_for(op, calls):
    """R1 takes the gradient for images alone; nothing is computed for weights that need gradients."""
    function, _, make = OPS[op]
    x, w = [t.requires_grad_() for t in make(1, 2, 3, 2, 2)]
    y = function(x, w)
    with torch.profiler.profile() as recorded:
        torch.autograd.grad(y.sum(), x)
    assert not [event.key for event in recorded.key_averages() if 'weight_grad' in event.key]

@pytest.mark.parametrize('op', OPS)
def test_many_channels_and_samples_in_float32(op, calls):
    """More samples than are computed at once, and more channels than a vector has lanes."""
    function, reference, make = OPS[op]
    inputs = [t.float().requires_grad_() for t in make(7, 150, 200, 24, 32)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    y, want = function(*inputs), reference(*exact)
    g = _randn(*y.shape, seed=9).float()
    assert _error(y, want) < 2e-5
    for got, expected in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(want, exact, g.double())):
        assert _error(got, expected) < 2e-5

@pytest.mark.parametrize('op', OPS)
def test_same_bits_twice_in_any_layout_and_on_any_number_of_threads(op, calls):
    function, _, make = OPS[op]
    inputs = [t.float() for t in make(3, 20, 40, 20, 24)]
    y = function(*inputs)
    assert torch.equal(y, function(*inputs)) and y.is_contiguous()
    assert torch.equal(y, function(*[t.contiguous(memory_format=torch.channels_last) for t in inputs]))
    torch.set_num_threads(2)
    try:
        assert torch.equal(y, function(*inputs))
    finally:
        torch.set_num_threads(1)

@pytest.mark.parametrize('op', OPS)
@pytest.mark.parametrize('sizes', [(1, 260, 180, 2, 3), (2, 40, 700, 5, 4)], ids=str)
def test_kernels_that_are_made_a_part_at_a_time(op, sizes, calls):
    """Few tiles and many channels: kernels of all channels do not fit into the cache that holds a part."""
    function, reference, make = OPS[op]
    results = []
    for f in (function, reference):
        inputs = [t.requires_grad_() for t in make(*sizes)]
        y = f(*inputs)
        results.append([y, *torch.autograd.grad(y, inputs, _randn(*y.shape, seed=9))])
    for got, want in zip(*results, strict=True):
        assert _error(got, want) < 1e-12

def test_opcheck(calls):
    ops, opcheck = torch.ops.torch_utils_ext, torch.library.opcheck
    x, w, y, small = _randn(2, 3, 4, 6), _randn(5, 3, 3, 3, seed=1), _randn(2, 5, 4, 6, seed=2), _randn(2, 5, 2, 3, seed=3)
    w4 = _randn(5, 3, 4, 4, seed=4)
    for t in (x, w, y, small, w4):
        t.requires_grad_()
    conv3x3(x, w)
    for op, args in [(ops.conv3x3, (x, w, False)), (ops.conv3x3, (y, w, True)), (ops.conv3x3_weight_grad, (x, y)),
                     (ops.conv3x3_down2, (x, w, TAPS)), (ops.conv3x3_up2, (small, w, TAPS)),
                     (ops.conv3x3_down2_weight_grad, (x, small, TAPS)), (ops.conv4x4_down2, (x, w4, False)),
                     (ops.conv4x4_down2, (small, w4, True)), (ops.conv4x4_down2_weight_grad, (x, small))]:
        assert set(opcheck(op, args).values()) == {'SUCCESS'}

@pytest.mark.parametrize('x, w, message', [
    ((1, 2, 4, 4), (3, 5, 3, 3), 'weights of shape'), ((1, 2, 4, 4), (3, 2, 1, 1), 'weights of shape'),
    ((1, 2, 5, 4), (3, 2, 3, 3), 'even height')])
def test_shapes_that_do_not_fit(x, w, message, calls):
    with pytest.raises(RuntimeError, match=message):
        conv4x4_down2(torch.zeros(x), torch.zeros(*w[:2], *(size + 1 for size in w[2:])))
    with pytest.raises(RuntimeError, match=message):
        conv3x3_down2(torch.zeros(x), torch.zeros(w), TAPS)

#----------------------------------------------------------------------------
# The references, in terms of what StyleGAN2's hosts do.

def test_references_are_filter_and_convolution():
    x, w, f = _randn(2, 3, 6, 8), _randn(4, 3, 3, 3, seed=1), torch.tensor(TAPS, dtype=torch.float64)
    fir = torch.outer(f, f).expand(3, 1, 4, 4)
    want = F.conv2d(F.conv2d(F.pad(x, [2, 2, 2, 2]), fir, groups=3), w)[:, :, ::2, ::2]
    assert _error(conv3x3_down2_ref(x, w, TAPS), want) < 1e-14
    y = _randn(2, 4, 3, 4, seed=2)
    large = torch.zeros(2, 4, 6, 8, dtype=torch.float64)
    large[:, :, ::2, ::2] = y
    want = F.conv2d(F.pad(large, [2, 1, 2, 1]), w.transpose(0, 1).flip([2, 3]))     # zeros inserted, the kernel turned
    want = F.conv2d(F.pad(want, [1, 2, 1, 2]), fir.flip([2, 3]), groups=3)
    assert _error(conv3x3_up2_ref(y, w, TAPS), want[:, :, :6, :8]) < 1e-14
