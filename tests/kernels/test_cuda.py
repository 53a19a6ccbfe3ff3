"""The kernels on a GPU: the cases of the emulation, streams, double backward. Skipped without a GPU or nvcc."""

import shutil

import cases
import pytest
import torch

from benchmarks.common.kernels import abi, builds

DTYPES = [torch.float32, torch.float16, torch.bfloat16]

@pytest.fixture(scope='module')
def library():
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    if shutil.which('nvcc') is None:
        pytest.skip('no nvcc on PATH to build the kernels with')
    major, minor = torch.cuda.get_device_capability()
    return abi.Library(builds.device([f'-arch=sm_{major}{minor}']) / 'device.so')

#----------------------------------------------------------------------------

@pytest.mark.parametrize('op', cases.OPS)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_equals_the_reference(library, op, dtype):
    for shape in [*cases.SHAPES, (2, 70, 16, 20), (1, 1, 264, 512), (1, 2, 137, 961), (8, 64, 128, 128)]:
        for shared in [False, True]:
            cases.outputs(op, library, dtype, shape, shared, device='cuda')

@pytest.mark.parametrize('op', cases.OPS)
def test_same_bits_twice(library, op):
    for dtype in DTYPES:
        once, again = [cases.outputs(op, library, dtype, (4, 16, 64, 64), device='cuda') for _ in range(2)]
        assert all(torch.equal(once[name], again[name]) for name in once)

@pytest.mark.parametrize('op', cases.OPS)
def test_more_planes_than_a_grid_is_high(library, op):
    cases.outputs(op, library, torch.float16, (2, 40000, 2, 4), device='cuda')

def test_more_elements_than_32_bits_count(library):
    x = torch.zeros([2, 1025, 1024, 1024], dtype=torch.float16, device='cuda')
    x[-1, -1, -3:, -3:] = 1
    y = library.depthwise(x, torch.ones(1, 1025, 3, 3, device='cuda'))
    assert y[-1, -1, -2, -2] == 9 and y.count_nonzero() == 16
    assert library.epilogue(x, bias=torch.zeros(1025, device='cuda')).sum() == 9

@pytest.mark.parametrize('op', cases.OPS)
def test_works_on_the_stream_it_is_given(library, op):
    """The inputs are written late on the stream of the call, so kernels on another stream would read old values."""
    stream = torch.cuda.Stream()
    late = cases.Draw.__call__

    class LateDraw(cases.Draw):
        def __call__(self, *shape, dtype=None):
            values = late(self, *shape, dtype=dtype)
            t = torch.full_like(values, torch.nan)
            torch.cuda.synchronize()
            torch.cuda._sleep(20_000_000)
            return t.copy_(values)
    with torch.cuda.stream(stream):
        for name, got, wanted, *terms in cases.OPS[op](library, LateDraw(torch.float32, 'cuda'), 2, 3, 33, 40, False):
            cases.check(name, got, wanted, cases.TOLERANCE[torch.float32], *terms)

#----------------------------------------------------------------------------
# The public ops, as layers call them.

@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_public_ops_and_second_derivatives(library, layout, dtype, monkeypatch):
    """Gradients of a gradient's norm (R1, path length) on cuda, by kernels only, against the references in float64."""
    monkeypatch.setenv('TORCH_UTILS_EXT', 'require')
    from torch_utils_ext.ops.depthwise import depthwise, depthwise_ref
    from torch_utils_ext.ops.epilogue import epilogue, epilogue_ref

    draw = cases.Draw(dtype, 'cuda')
    x, k, demod, bias = draw(2, 8, 16, 16), draw.side_input(2, 8, 3, 3), draw.side_input(2, 8), draw.side_input(8)

    def penalty(depthwise, epilogue, x, k, demod, bias):
        inputs = [t.requires_grad_() for t in [x, k, demod, bias]]
        y = epilogue(depthwise(x, k), demod, None, bias, 'lrelu', 0.2, 2 ** 0.5, None)
        first = torch.autograd.grad(y.to(k.dtype).square().sum() / y.numel(), inputs, create_graph=True)
        total = sum(g.to(k.dtype).square().sum() for g in first)
        return [*first, *torch.autograd.grad(total, inputs)]

    got = penalty(depthwise, epilogue, x.clone(memory_format=layout), k.clone(), demod.clone(), bias.clone())
    wanted = penalty(depthwise_ref, epilogue_ref, *[t.double().cpu() for t in [x, k, demod, bias]])
    for i, (a, b) in enumerate(zip(got, wanted)):
        cases.check(f'gradient {i}', a, b, {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype])

#----------------------------------------------------------------------------
