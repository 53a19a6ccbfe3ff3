"""The cases of the kernel tests: every op on a shape and a dtype, against `_ref` in float64 and its autograd.

Shared by the emulated tests, by those on a GPU, and by the sanitized runs."""

import torch

from torch_utils_ext.ops.affine_glu import affine_glu_ref
from torch_utils_ext.ops.conv3x3 import conv3x3_down2_ref, conv3x3_ref
from torch_utils_ext.ops.conv4x4 import conv4x4_down2_ref
from torch_utils_ext.ops.depthwise import depthwise_ref
from torch_utils_ext.ops.depthwise_up2 import depthwise_up2_epilogue_ref, depthwise_up2_ref
from torch_utils_ext.ops.epilogue import epilogue_ref

TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-14}   # of the largest value
SHAPES = [(1, 1, 1, 1), (2, 3, 4, 4), (1, 1, 5, 17), (2, 5, 8, 8), (3, 2, 16, 16), (1, 3, 7, 36), (2, 2, 33, 40), (1, 1, 3, 300)]

#----------------------------------------------------------------------------

class Draw:
    """Tensors from a seed with values that their dtype holds exactly, and the same in float64 for the reference."""

    def __init__(self, dtype, device='cpu', seed=0):
        self.generator, self.dtype, self.device = torch.Generator().manual_seed(seed), dtype, device
        self.side = torch.float64 if dtype == torch.float64 else torch.float32

    def __call__(self, *shape, dtype=None):
        return torch.randn(shape, generator=self.generator).to(self.dtype if dtype is None else dtype).to(self.device)

    def side_input(self, *shape):
        return self(*shape, dtype=self.side)

def exact(*tensors):
    return [t.detach().cpu().double().requires_grad_() for t in tensors]

def gradients(y, g, inputs):
    return torch.autograd.grad(y, inputs, g.detach().cpu().double())

#----------------------------------------------------------------------------
# Each case: a generator of (name, what the kernel gave, what it should be), and for sums that may cancel their length.

def depthwise(library, draw, N, C, H, W, shared):
    x, g, k = draw(N, C, H, W), draw(N, C, H, W), draw.side_input(1 if shared else N, C, 3, 3)
    x64, k64 = exact(x, k.expand(N, C, 3, 3))
    y = depthwise_ref(x64, k64)
    gx, gk = gradients(y, g, [x64, k64])
    yield 'y', library.depthwise(x, k), y
    yield 'gx', library.depthwise(g, k, flip=True), gx
    yield 'gk', library.depthwise_weight_grad(x, g), gk
    both = library.depthwise_backward(x, k, g)
    yield 'gx of both', both[0], gx
    yield 'gk of both', both[1], gk

def depthwise_up2(library, draw, N, C, H, W, shared):
    x, g, k = draw(N, C, H, W), draw(N, C, 2 * H, 2 * W), draw.side_input(1 if shared else N, C, 4, 3, 3)
    x64, k64 = exact(x, k.expand(N, C, 4, 3, 3))
    y = depthwise_up2_ref(x64, k64)
    gx, gk = gradients(y, g, [x64, k64])
    yield 'y', library.depthwise_up2(x, k), y
    yield 'gx', library.depthwise_up2_transpose(g, k), gx
    yield 'gk', library.depthwise_up2_weight_grad(x, g), gk
    both = library.depthwise_up2_backward(x, k, g)
    yield 'gx of both', both[0], gx
    yield 'gk of both', both[1], gk

def epilogue(library, draw, N, C, H, W, shared):
    """shared: one noise for all samples, all side inputs, lrelu and clamp; else none of these but the bias."""
    x, g = draw(N, C, H, W), draw(N, C, H, W)
    demod, noise, bias = draw.side_input(N, C), draw.side_input(1 if shared else N, 1, H, W), draw.side_input(C)
    for options in [dict(act='lrelu', gain=2 ** 0.5, clamp=1.25, alpha=0.2), dict(act='linear', gain=0.5, clamp=None)]:
        x64, demod64, noise64, bias64 = exact(x, demod, noise.expand(N, 1, H, W), bias.expand(N, C))
        u = x64 * demod64[:, :, None, None] + noise64 + bias64[:, :, None, None]
        y = epilogue_ref(u, **options)
        out = library.epilogue(x, demod=demod, noise=noise, bias=bias, **options)
        yield 'y', out, y
        gx, gdemod, gnoise, gbias = gradients(y, g, [x64, demod64, noise64, bias64])
        slope = library.epilogue_slope(g, x, False, demod=demod, noise=noise, bias=bias, **options)
        yield 'slope', slope, gx / demod64[:, :, None, None]
        got = library.epilogue_backward(g, x, False, demod=demod, noise=noise, bias=bias, **options)
        yield from zip(['gx', 'gdemod', 'gnoise', 'gbias'], got, [gx, gdemod, gnoise, gbias], [1, H * W, C, H * W])
        # From the output, whose clamp and sign are those of the rounded y: the slope that the kernel must take is read off y.
        yield from _epilogue_from_output(library, draw, g, out, demod, options)
    yield 'plain y', library.epilogue(x), x
    yield 'bias alone', library.epilogue(x, bias=bias), x.double().cpu() + bias.double().cpu().reshape(1, C, 1, 1)

def _epilogue_from_output(library, draw, g, y, demod, options):
    C, H, W = y.shape[1:]
    y64, g64, demod64 = y.detach().cpu().double(), g.detach().cpu().double(), demod.cpu().double()[:, :, None, None]
    alpha = options.get('alpha', 1.0)
    v = g64 * options['gain'] * ((y64 > 0).double() * (1 - alpha) + alpha)
    if options['clamp'] is not None:
        v = v * (y64.abs() < torch.tensor(options['clamp'], dtype=draw.side).to(draw.dtype).double())
    yield 'slope from y', library.epilogue_slope(g, y, True, **options), v
    gx, gdemod, gnoise, gbias = library.epilogue_backward(g, y, True, wanted=('noise', 'bias'), demod=demod, **options)
    assert gdemod is None
    yield 'gx from y', gx, v * demod64
    yield 'gnoise from y', gnoise, v.sum(dim=1, keepdim=True), C
    yield 'gbias from y', gbias, v.sum(dim=[2, 3]), H * W
    yield 'gx alone', library.epilogue_backward(g, y, True, wanted=(), **options)[0], v

def depthwise_up2_epilogue(library, draw, N, C, H, W, shared):
    x, k = draw(N, C, H, W), draw.side_input(1 if shared else N, C, 4, 3, 3) / 4    # results of about the size of the clamp
    noise, bias = draw.side_input(1 if shared else N, 1, 2 * H, 2 * W), draw.side_input(C)
    x64, k64, noise64, bias64 = exact(x, k.expand(N, C, 4, 3, 3), noise, bias)
    for name, options in [('y', dict(act='lrelu', gain=2 ** 0.5, clamp=1.25, alpha=0.2)), ('linear y', dict(gain=0.5))]:
        yield name, library.depthwise_up2_epilogue(x, k, noise=noise, bias=bias, **options), \
            depthwise_up2_epilogue_ref(x64, k64, noise64, bias64, **options)
    yield 'plain y', library.depthwise_up2_epilogue(x, k), depthwise_up2_ref(x64, k64)

def affine_glu(library, draw, N, C, H, W, shared):
    x, g = draw(N, 2 * C, H, W), draw(N, C, H, W)
    scale, shift, noise = draw.side_input(2 * C), draw.side_input(2 * C), draw.side_input(1 if shared else N, 1, H, W)
    x64, scale64, shift64, noise64 = exact(x, scale.expand(N, 2 * C), shift.expand(N, 2 * C), noise.expand(N, 1, H, W))
    v = x64 * scale64[:, :, None, None] + shift64[:, :, None, None]
    y = affine_glu_ref(v, noise=noise64)
    yield 'y', library.affine_glu(x, scale, shift, noise), y
    wanted = gradients(y, g, [x64, scale64, shift64, noise64])
    got = library.affine_glu_backward(g, x, scale, shift, noise)
    yield from zip(['gx', 'gscale', 'gshift', 'gnoise'], got, wanted, [1, H * W, H * W, 2 * C])
    x64, = exact(x)
    y = affine_glu_ref(x64)
    yield 'plain y', library.affine_glu(x), y
    yield 'plain gx', library.affine_glu_backward(g, x, wanted=())[0], gradients(y, g, [x64])[0]

def conv3x3(library, draw, N, C, H, W, shared):
    """From C to C + 2 channels; shared: behind a filter that halves an image twice as large."""
    scale, taps = (2, [0.1, 0.3, 0.4, 0.25]) if shared else (1, None)
    x, g, w = draw(N, C, scale * H, scale * W), draw(N, C + 2, H, W), draw(C + 2, C, 3, 3)
    x64, w64 = exact(x, w)
    y = conv3x3_down2_ref(x64, w64, taps) if shared else conv3x3_ref(x64, w64)
    gx, gw = gradients(y, g, [x64, w64])
    yield 'y', library.conv3x3(x, w, taps), y
    yield 'gx', library.conv3x3_transpose(g, w, taps), gx
    yield 'gw', library.conv3x3_weight_grad(x, g, taps), gw

def conv4x4_down2(library, draw, N, C, H, W, shared):
    """From C to C + 2 channels, or to fewer."""
    outputs = max(C - 1, 1) if shared else C + 2
    x, g, w = draw(N, C, 2 * H, 2 * W), draw(N, outputs, H, W), draw(outputs, C, 4, 4)
    x64, w64 = exact(x, w)
    y = conv4x4_down2_ref(x64, w64)
    gx, gw = gradients(y, g, [x64, w64])
    yield 'y', library.conv4x4_down2(x, w), y
    yield 'gx', library.conv4x4_down2_transpose(g, w), gx
    yield 'gw', library.conv4x4_down2_weight_grad(x, g), gw

def moments(library, draw, N, C, H, W, shared):
    """shared: of images far from zero, as compared with their deviation."""
    x = draw(N, C, H, W) + (4 if shared else 0)
    mean, squares = library.moments(x)
    x64, = exact(x)
    yield 'mean', mean, x64.mean(dim=[2, 3])
    distances = x64 - (mean.double() if H * W == 1 else x64.mean(dim=[2, 3]))[:, :, None, None]
    yield 'squares', squares, distances.square().sum(dim=[2, 3])
    v, factor, constant = draw(N, C, H, W), draw.side_input(C), draw.side_input(C)
    v64, factor64, constant64 = exact(v, factor, constant)
    yield 'gx', library.norm_gradient(v, x, factor, constant), v64 + factor64[:, None, None] * x64 + constant64[:, None, None]

BOTH = dict(depthwise=depthwise, depthwise_up2=depthwise_up2, epilogue=epilogue, affine_glu=affine_glu)
OPS = dict(BOTH, depthwise_up2_epilogue=depthwise_up2_epilogue)     # of CUDA kernels, and
CPU_OPS = dict(BOTH, conv3x3=conv3x3, conv4x4_down2=conv4x4_down2, moments=moments)  # of libraries for CPUs
LOSS = dict.fromkeys(['conv3x3', 'conv4x4_down2'], {torch.float32: 3e-5, torch.float64: 5e-14})     # of ops that are less exact

#----------------------------------------------------------------------------

def outputs(op, library, dtype, shape, shared=False, device='cpu', seed=0):
    """Return {name: tensor} of all results of the library in one case, each compared with the reference."""
    named = {}
    tolerance = LOSS.get(op, {}).get(dtype, TOLERANCE[dtype])
    for i, (name, got, wanted, *terms) in enumerate((OPS | CPU_OPS)[op](library, Draw(dtype, device, seed), *shape, shared)):
        check(f'{op} {name} {dtype} {shape}', got, wanted, tolerance, *terms)
        named[f'{i} {name}'] = got
    return named

def check(what, got, wanted, tolerance, terms=1):
    """Return the error relative to the largest value, or to a sum of as many terms of size one."""
    got, wanted = got.detach().cpu().double(), wanted.detach().cpu().double()
    assert got.shape == wanted.shape, (what, got.shape, wanted.shape)
    scale = max(wanted.abs().max().item(), terms ** 0.5 if terms > 1 else 1e-3)
    error = (got - wanted).abs().max().item() / scale
    assert error <= tolerance, f'{what}: relative error {error:.2e}'

#----------------------------------------------------------------------------
