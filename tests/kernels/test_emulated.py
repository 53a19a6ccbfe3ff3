"""The CUDA kernels on the CPU emulation, against the references in float64, under permuted schedules, differentiated twice."""

import ctypes
from pathlib import Path

import cases
import numpy as np
import pytest
import torch

from benchmarks.common.kernels import abi, builds

DTYPES = [torch.float32, torch.float16, torch.bfloat16]

#----------------------------------------------------------------------------

@pytest.fixture(autouse=True)
def ascending(emulated):
    yield
    emulated.handle.spider_emulation_schedule(0)

@pytest.mark.parametrize('op', cases.OPS)
@pytest.mark.parametrize('dtype', [*DTYPES, torch.float64], ids=str)
def test_equals_the_reference(emulated, op, dtype):
    for shape in cases.SHAPES:
        for shared in [False, True]:
            cases.outputs(op, emulated, dtype, shape, shared)

@pytest.mark.parametrize('op', cases.OPS)
def test_same_bits_in_any_schedule(emulated, op):
    for dtype in DTYPES:
        for shape in [(2, 3, 4, 4), (2, 3, 33, 40), (1, 2, 5, 17)]:
            once = cases.outputs(op, emulated, dtype, shape)
            for schedule in [0, 1, 2, 3]:
                emulated.handle.spider_emulation_schedule(schedule)
                again = cases.outputs(op, emulated, dtype, shape)
                assert all(torch.equal(once[name], again[name]) for name in once), (dtype, shape, schedule)
            emulated.handle.spider_emulation_schedule(0)

@pytest.mark.parametrize('op', cases.OPS)
def test_planes_in_slices(emulated, op):
    """Planes whose sums are spread over several blocks, and one channel walk in several chunks."""
    cases.outputs(op, emulated, torch.float16, (1, 1, 264, 512))
    cases.outputs(op, emulated, torch.float32, (1, 1, 137, 961))
    cases.outputs(op, emulated, torch.float32, (1, 70, 16, 20))

@pytest.mark.slow
@pytest.mark.parametrize('op', cases.OPS)
def test_tall_strips(emulated, op):
    cases.outputs(op, emulated, torch.float16, (1, 1, 4096, 4104))

@pytest.mark.parametrize('op', cases.OPS)
def test_pointers_that_no_vector_may_use(emulated, op, monkeypatch):
    """With storage that begins one element off, the kernels use single accesses and give the same results."""
    place = cases.Draw.__call__

    def off_by_one(self, *shape, dtype=None):
        t = place(self, *shape, dtype=dtype)
        return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(shape)
    monkeypatch.setattr(cases.Draw, '__call__', off_by_one)
    for dtype in DTYPES:
        cases.outputs(op, emulated, dtype, (2, 3, 8, 16))

def test_sizes_of_zero_do_nothing(emulated):
    for shape in [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)]:
        x = torch.zeros(shape)
        assert emulated.depthwise(x, torch.zeros(*shape[:2], 3, 3)).shape == shape
        assert emulated.epilogue(x).shape == shape

def test_errors_are_named(emulated):
    x, k = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3)
    with pytest.raises(abi.KernelError, match='dtype'):
        emulated.call('tux_depthwise', 7, x, k, 0, 0, x, shape=x.shape)
    with pytest.raises(abi.KernelError, match='too large'):
        emulated.call('tux_depthwise', 0, x, k, 0, 0, x, shape=[1, 1, 1 << 20, 1 << 20])

def test_divisions_by_inverses():
    source = Path(__file__).parent / 'divisions.cpp'
    core = [builds.CSRC / 'emulation' / name for name in ('fiber.cpp', 'machine.cpp')]
    command = [*builds.CXX, '-Werror', '-O1', '-shared', '-I', builds.CSRC, *core, source, '-o']
    built = builds.cached([*builds.sources(), source, builds.version('g++')],
                          lambda scratch: builds.run([*command, scratch / 'divisions.so']))
    most = 2 ** 31 - 1
    divisors = np.unique([*range(1, 300), *(2 ** i + j for i in range(9, 31) for j in (-1, 0, 1)), most - 1, most])
    multiples = [d * q + j for d in divisors.tolist() for q in (1, 2, most // d, most // d + 1, 2 ** 32 // d) for j in (-1, 0)]
    numbers = np.unique([0, 1, *multiples, 2 ** 31, 2 ** 32, 2 ** 40 + 12345])
    counted = ctypes.CDLL(str(built / 'divisions.so')).wrong_divisions
    counted.restype = ctypes.c_int64
    counted.argtypes = [ctypes.c_void_p, ctypes.c_int64] * 2
    assert counted(numbers.ctypes.data, len(numbers), divisors.ctypes.data, len(divisors)) == 0

#----------------------------------------------------------------------------
# The formulas that close the ops under differentiation, on kernels alone.

def closed_pair(forward, for_x, for_k):
    """Return (op(x, k), weight gradient(x, g)) as differentiable functions; for_x is the transpose of `forward` in x."""

    class Op(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, k):
            ctx.save_for_backward(x, k)
            return forward(x.contiguous(), k.contiguous())

        @staticmethod
        def backward(ctx, g):
            x, k = ctx.saved_tensors
            return Transpose.apply(g, k), WeightGrad.apply(x, g)

    class Transpose(torch.autograd.Function):
        @staticmethod
        def forward(ctx, g, k):
            ctx.save_for_backward(g, k)
            return for_x(g.contiguous(), k.contiguous())

        @staticmethod
        def backward(ctx, v):
            g, k = ctx.saved_tensors
            return Op.apply(v, k), WeightGrad.apply(v, g)

    class WeightGrad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, g):
            ctx.save_for_backward(x, g)
            return for_k(x.contiguous(), g.contiguous())

        @staticmethod
        def backward(ctx, v):
            x, g = ctx.saved_tensors
            return Transpose.apply(g, v), Op.apply(x, v)

    return Op.apply, Transpose.apply, WeightGrad.apply

@pytest.mark.parametrize('up', [False, True])
def test_gradients_of_gradients(emulated, up):
    if up:
        functions = closed_pair(emulated.depthwise_up2, emulated.depthwise_up2_transpose, emulated.depthwise_up2_weight_grad)
    else:
        flipped = lambda g, k: emulated.depthwise(g, k, flip=True)
        functions = closed_pair(emulated.depthwise, flipped, emulated.depthwise_weight_grad)
    draw = cases.Draw(torch.float64)
    x, k = draw(2, 2, 3, 4).requires_grad_(), draw(2, 2, *([4] if up else []), 3, 3).requires_grad_()
    g = draw(2, 2, *([6, 8] if up else [3, 4])).requires_grad_()
    for function, inputs in zip(functions, [(x, k), (g, k), (x, g)]):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)

#----------------------------------------------------------------------------
