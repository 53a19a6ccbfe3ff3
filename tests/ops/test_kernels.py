"""Kernels against fp64 references: values over dtypes and odd shapes, first and second derivatives, torch's own checks of ops."""

import pytest
import torch

from torch_utils_ext.ops.affine_glu import affine_glu, affine_glu_ref
from torch_utils_ext.ops.depthwise import depthwise, depthwise_ref, depthwise_weight_grad, depthwise_weight_grad_ref
from torch_utils_ext.ops.depthwise_up2 import (
    depthwise_up2,
    depthwise_up2_epilogue,
    depthwise_up2_epilogue_ref,
    depthwise_up2_ref,
    depthwise_up2_transpose,
    depthwise_up2_transpose_ref,
    depthwise_up2_weight_grad,
    depthwise_up2_weight_grad_ref,
)
from torch_utils_ext.ops.epilogue import epilogue, epilogue_ref

pytestmark = pytest.mark.usefixtures('require_kernels')

TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-13}
SHAPES = [(1, 1, 1, 1), (2, 3, 4, 4), (1, 2, 3, 17), (3, 1, 16, 16), (2, 2, 9, 33), (1, 1, 70, 130), (2, 2, 1, 7)]

#----------------------------------------------------------------------------
# Each op as a function of its differentiable inputs, its reference, and those inputs in float64 for a shape of x.
# `n` is the first size of tensors that the samples may share.

def _randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

def _epilogue(**kwargs):
    def forward(x, d, b, z, f):
        return f(x, d, z, b, **kwargs)
    return (lambda x, d, b, z: forward(x, d, b, z, epilogue), lambda x, d, b, z: forward(x, d, b, z, epilogue_ref))

def _up2_epilogue(**kwargs):
    return (lambda x, k, b, z: depthwise_up2_epilogue(x, k, z, b, **kwargs),
            lambda x, k, b, z: depthwise_up2_epilogue_ref(x, k, z, b, **kwargs))

def _epilogue_inputs(N, C, H, W, n):
    return [_randn(N, C, H, W), _randn(N, C, seed=1), _randn(C, seed=2), _randn(n, 1, H, W, seed=3)]

CASES = {
    'depthwise': (depthwise, depthwise_ref, lambda N, C, H, W, n: [_randn(N, C, H, W), _randn(n, C, 3, 3, seed=1)]),
    'depthwise_weight_grad': (depthwise_weight_grad, depthwise_weight_grad_ref,
                              lambda N, C, H, W, n: [_randn(N, C, H, W), _randn(N, C, H, W, seed=1)]),
    'depthwise_up2': (depthwise_up2, depthwise_up2_ref,
                      lambda N, C, H, W, n: [_randn(N, C, H, W), _randn(n, C, 4, 3, 3, seed=1)]),
    'depthwise_up2_epilogue': (*_up2_epilogue(act='lrelu', alpha=0.2, gain=1.5, clamp=1.3),
                               lambda N, C, H, W, n: [_randn(N, C, H, W), _randn(n, C, 4, 3, 3, seed=1) / 4, _randn(C, seed=2),
                                                      _randn(n, 1, 2 * H, 2 * W, seed=3)]),
    'depthwise_up2_transpose': (depthwise_up2_transpose, depthwise_up2_transpose_ref,
                                lambda N, C, H, W, n: [_randn(N, C, 2 * H, 2 * W), _randn(n, C, 4, 3, 3, seed=1)]),
    'depthwise_up2_weight_grad': (depthwise_up2_weight_grad, depthwise_up2_weight_grad_ref,
                                  lambda N, C, H, W, n: [_randn(N, C, H, W), _randn(N, C, 2 * H, 2 * W, seed=1)]),
    'epilogue': (*_epilogue(act='lrelu', alpha=0.2, gain=1.5, clamp=1.3), _epilogue_inputs),
    'epilogue linear': (*_epilogue(gain=0.7), _epilogue_inputs),
    'epilogue from its output': (lambda x, b, z: epilogue(x, None, z, b, 'lrelu', clamp=1.3),
                                 lambda x, b, z: epilogue_ref(x, None, z, b, 'lrelu', clamp=1.3),
                                 lambda N, C, H, W, n: [_randn(N, C, H, W), _randn(C, seed=2), _randn(n, 1, H, W, seed=3)]),
    'epilogue bare': (lambda x: epilogue(x, act='lrelu'), lambda x: epilogue_ref(x, act='lrelu'),
                      lambda N, C, H, W, n: [_randn(N, C, H, W)]),
    'affine_glu': (affine_glu, affine_glu_ref,
                   lambda N, C, H, W, n: [_randn(N, 2 * C, H, W), _randn(2 * C, seed=1), _randn(2 * C, seed=2),
                                          _randn(n, 1, H, W, seed=3)]),
    'affine_glu bare': (affine_glu, affine_glu_ref, lambda N, C, H, W, n: [_randn(N, 2 * C, H, W)]),
}

def _op_of(case):
    return case.split()[0]

# Which inputs are activations: x always, and g of the weight gradients.
def _typed(case, inputs, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return [t.to(dtype if i == 0 or 'weight_grad' in case else wide) for i, t in enumerate(inputs)]

def _error(low, high):
    return ((low.detach().double() - high.detach()).abs().max() / high.detach().abs().max().clamp(min=1e-30)).item()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_values_and_gradients_over_odd_shapes(case, dtype, require_kernels):
    function, reference, make = CASES[case]
    before = require_kernels(_op_of(case))
    calls = 0
    for N, C, H, W in SHAPES:
        for n in {1, N}:
            inputs = _typed(case, make(N, C, H, W, n), dtype)
            exact = [t.detach().double().requires_grad_() for t in inputs]
            inputs = [t.requires_grad_() for t in inputs]
            y, want = function(*inputs), reference(*exact)
            calls += 1
            assert y.shape == want.shape and _error(y, want) <= TOLERANCE[dtype], (N, C, H, W, n)
            g = _randn(*y.shape, seed=9).to(y.dtype)
            # Elements at a kink or a bound of the epilogue may fall on either side of it in low precision.
            if 'epilogue' in case and dtype != torch.float64:
                low = 1e-5 if dtype == torch.float32 else 3e-2
                g = g * ((want.abs() > low) & ((want.abs() - 1.3).abs() > low)).to(g.dtype)
            got = torch.autograd.grad(y, inputs, g)
            expected = torch.autograd.grad(want, exact, g.double())
            for t, e, i in zip(got, expected, inputs):
                scale = e.abs().max().clamp(min=(g.numel() / e.numel()) ** 0.5)    # a sum may cancel by chance
                assert t.dtype == i.dtype and ((t.double() - e).abs().max() / scale) <= 4 * TOLERANCE[dtype], (N, C, H, W, n)
    assert require_kernels(_op_of(case)) == before + calls

@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('n', [1, 2])
def test_gradcheck_and_gradgradcheck(case, n, require_kernels):
    function, _, make = CASES[case]
    inputs = [t.requires_grad_() for t in make(2, 2, 3, 2, n)]
    before = require_kernels(_op_of(case))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
    assert require_kernels(_op_of(case)) > before

@pytest.mark.parametrize('case', ['depthwise', 'depthwise_up2', 'epilogue', 'epilogue from its output', 'affine_glu'])
def test_second_derivatives_of_single_inputs(case):
    """If some inputs need no gradient, the backward pass takes other branches."""
    function, reference, make = CASES[case]
    for needed in range(len(make(2, 2, 3, 4, 1))):
        grads = []
        for f in (function, reference):
            inputs = make(2, 2, 3, 4, 1)
            inputs[needed].requires_grad_()
            y = f(*inputs)
            first, = torch.autograd.grad((y * y).sum(), inputs[needed], create_graph=True)
            second, = torch.autograd.grad((first ** 3).sum(), inputs[needed])
            grads.append((first, second))
        for got, want in zip(*grads):
            assert _error(got, want) < 1e-12

#----------------------------------------------------------------------------

@pytest.mark.parametrize('case', CASES)
def test_same_bits_twice_and_any_layout(case):
    function, _, make = CASES[case]
    inputs = [t.float() for t in make(2, 3, 9, 17, 2)]
    y = function(*inputs)
    assert torch.equal(y, function(*inputs)) and y.is_contiguous()
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in inputs]
    assert not strided[0].is_contiguous() and torch.equal(y, function(*strided))
    last = [t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in inputs]
    assert torch.equal(y, function(*last))

@pytest.mark.parametrize('case', CASES)
def test_results_do_not_depend_on_threads(case):
    function, _, make = CASES[case]
    inputs = [t.float() for t in make(2, 8, 40, 40, 2)]
    y = function(*inputs)
    torch.set_num_threads(2)
    try:
        assert torch.equal(y, function(*inputs))
    finally:
        torch.set_num_threads(1)

def test_special_values_in_half_precision():
    values = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        x = values.view(dtype).reshape(1, 1, 256, 256)
        y = epilogue(x)
        assert torch.equal(y.isnan(), x.isnan()) and torch.equal(y.nan_to_num(0, 0, 0), x.nan_to_num(0, 0, 0))
        wide = (torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 3)
        side = torch.ones(1, 1, 64, 64)
        assert torch.equal(epilogue(torch.zeros_like(wide).to(dtype), noise=wide * side), wide.to(dtype))

def test_sigmoid_saturates():
    x = torch.tensor([-1e30, -100, -20, 0, 20, 100, 1e30]).repeat(2, 1).reshape(1, 2, 1, 7)
    y = affine_glu(torch.cat([torch.ones(1, 1, 1, 7), x[:, 1:]], dim=1))
    assert torch.allclose(y, torch.sigmoid(x[:, 1:]), rtol=1e-6, atol=1e-37)

#----------------------------------------------------------------------------

def test_opcheck(require_kernels):
    ops, opcheck = torch.ops.torch_utils_ext, torch.library.opcheck
    x, g, k = _randn(2, 3, 4, 5), _randn(2, 3, 4, 5, seed=1), _randn(2, 3, 3, 3, seed=2)
    k4, big = _randn(1, 3, 4, 3, 3, seed=3), _randn(2, 3, 8, 10, seed=4)
    d, z, b = _randn(2, 3, seed=5), _randn(1, 1, 4, 5, seed=6), _randn(3, seed=7)
    wide, s = _randn(2, 6, 4, 5, seed=8), _randn(6, seed=9)
    scalars = (1, 0.2, 1.5, 1.0)
    for t in (x, g, k, k4, big, d, z, b, wide, s):
        t.requires_grad_()
    for op, args in [(ops.depthwise, (x, k, False)), (ops.depthwise, (x, k, True)), (ops.depthwise_weight_grad, (x, g)),
                     (ops.depthwise_backward, (x, k, g)), (ops.depthwise_up2, (x, k4)), (ops.depthwise_up2_transpose, (big, k4)),
                     (ops.depthwise_up2_epilogue, (x, k4, None, b, *scalars)),
                     (ops.depthwise_up2_weight_grad, (x, big)), (ops.depthwise_up2_backward, (x, k4, big)),
                     (ops.epilogue, (x, d, z, b, *scalars)), (ops.epilogue, (x, None, None, None, *scalars)),
                     (ops.epilogue_slope, (g, x, False, d, z, b, *scalars)),
                     (ops.epilogue_backward, (g, x, False, d, z, b, *scalars, True, True, True)),
                     (ops.affine_glu, (wide, s, s, z)), (ops.affine_glu_backward, (g, wide, s, s, z))]:
        assert set(opcheck(op, args).values()) == {'SUCCESS'}

def test_tensors_that_an_epilogue_saves(require_kernels):
    """It saves the output without demodulation, as the next layer keeps it, and the input with it; nothing else of that size."""
    x, d, b = torch.randn(2, 3, 8, 8).requires_grad_(), torch.rand(2, 3).requires_grad_(), torch.randn(3).requires_grad_()
    for demod in (None, d):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t) or t, lambda t: t):
            y = epilogue(x * 1, demod, None, b, 'lrelu')
        large = [t for t in saved if t.numel() == x.numel()]
        assert len(large) == 1 and (torch.equal(large[0], y) if demod is None else torch.equal(large[0], x))
