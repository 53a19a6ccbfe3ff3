"""The C ABI of torch_utils_ext/csrc/abi.h by ctypes: the ops as functions of tensors, on any library that implements it.

It is imported by tests/kernels and benchmarks/cost/kernel_bandwidth.py. Outputs are NaN before a call, so that missing values are
seen."""

import ctypes
import math

import torch

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}

class EpilogueArgs(ctypes.Structure):
    _fields_ = [('demod', ctypes.c_void_p), ('noise', ctypes.c_void_p), ('bias', ctypes.c_void_p),
                ('noise_per_sample', ctypes.c_int), ('act', ctypes.c_int),
                ('alpha', ctypes.c_double), ('gain', ctypes.c_double), ('clamp', ctypes.c_double)]

class KernelError(RuntimeError):
    pass

#----------------------------------------------------------------------------

def accumulator(x):
    return torch.float64 if x.dtype == torch.float64 else torch.float32

def _pointer(t):
    if t is None:
        return None
    assert t.is_contiguous()
    return ctypes.c_void_p(t.data_ptr())

def nan_filled(shape, dtype, device):
    return torch.full(shape, math.nan, dtype=dtype, device=device)

#----------------------------------------------------------------------------

class Library:
    """The ops of one library. Tensors are contiguous, on the library's device; `stream` is a torch.cuda.Stream or None."""

    def __init__(self, path):
        self.handle = ctypes.CDLL(str(path))
        self.handle.tux_error_string.restype = ctypes.c_char_p
        self.stream = None
        self.fresh = nan_filled     # makes outputs and workspaces; benchmarks take torch.empty

    def empty(self, shape, dtype, like):
        return self.fresh(list(shape), dtype=dtype, device=like.device)

    def call(self, name, *args, shape):
        sizes = [ctypes.c_int64(size) for size in shape]
        stream = None
        if any(isinstance(arg, torch.Tensor) and arg.is_cuda for arg in args):
            stream = ctypes.c_void_p((self.stream or torch.cuda.current_stream()).cuda_stream)
        args = [_pointer(arg) if isinstance(arg, torch.Tensor) else arg for arg in args]
        code = getattr(self.handle, name)(*args, *sizes, stream)
        if code != 0:
            raise KernelError(self.handle.tux_error_string(code).decode())

    def workspace(self, name, x, shape):
        size = getattr(self.handle, name + '_workspace')
        size.restype = ctypes.c_int64
        count = size(DTYPES[x.dtype], *[ctypes.c_int64(n) for n in shape])
        return self.empty([-(-count // 4)], torch.float32, x) if count else None

    # Depthwise.

    def depthwise(self, x, k, flip=False):
        y = self.empty(x.shape, x.dtype, x)
        self.call('tux_depthwise', DTYPES[x.dtype], x, k, int(k.shape[0] == x.shape[0]), int(flip), y, shape=x.shape)
        return y

    def depthwise_weight_grad(self, x, g):
        gk = self.empty([*x.shape[:2], 3, 3], accumulator(x), x)
        workspace = self.workspace('tux_depthwise_weight_grad', x, x.shape)
        self.call('tux_depthwise_weight_grad', DTYPES[x.dtype], x, g, gk, workspace, shape=x.shape)
        return gk

    def depthwise_backward(self, x, k, g):
        gx, gk = self.empty(x.shape, x.dtype, x), self.empty([*x.shape[:2], 3, 3], accumulator(x), x)
        workspace = self.workspace('tux_depthwise_weight_grad', x, x.shape)
        self.call('tux_depthwise_backward', DTYPES[x.dtype], x, k, int(k.shape[0] == x.shape[0]), g, gx, gk, workspace,
                  shape=x.shape)
        return gx, gk

    # Twofold upsampling.

    def depthwise_up2(self, x, k):
        N, C, H, W = x.shape
        y = self.empty([N, C, 2 * H, 2 * W], x.dtype, x)
        self.call('tux_depthwise_up2', DTYPES[x.dtype], x, k, int(k.shape[0] == N), y, shape=x.shape)
        return y

    def depthwise_up2_transpose(self, g, k):
        N, C, H, W = g.shape[0], g.shape[1], g.shape[2] // 2, g.shape[3] // 2
        gx = self.empty([N, C, H, W], g.dtype, g)
        self.call('tux_depthwise_up2_transpose', DTYPES[g.dtype], g, k, int(k.shape[0] == N), gx, shape=[N, C, H, W])
        return gx

    def depthwise_up2_weight_grad(self, x, g):
        gk = self.empty([*x.shape[:2], 4, 3, 3], accumulator(x), x)
        workspace = self.workspace('tux_depthwise_up2_weight_grad', x, x.shape)
        self.call('tux_depthwise_up2_weight_grad', DTYPES[x.dtype], x, g, gk, workspace, shape=x.shape)
        return gk

    def depthwise_up2_backward(self, x, k, g):
        gx, gk = self.empty(x.shape, x.dtype, x), self.empty([*x.shape[:2], 4, 3, 3], accumulator(x), x)
        workspace = self.workspace('tux_depthwise_up2_weight_grad', x, x.shape)
        self.call('tux_depthwise_up2_backward', DTYPES[x.dtype], x, k, int(k.shape[0] == x.shape[0]), g, gx, gk, workspace,
                  shape=x.shape)
        return gx, gk

    # Epilogue.

    def epilogue_args(self, x, demod=None, noise=None, bias=None, act='linear', alpha=0.2, gain=1.0, clamp=None):
        address = lambda t: None if t is None else t.data_ptr()
        per_sample = noise is not None and noise.shape[0] == x.shape[0]
        return ctypes.byref(EpilogueArgs(address(demod), address(noise), address(bias), per_sample, int(act == 'lrelu'), alpha,
                                         gain, -1.0 if clamp is None else clamp))

    def epilogue(self, x, **options):
        y = self.empty(x.shape, x.dtype, x)
        self.call('tux_epilogue', DTYPES[x.dtype], x, self.epilogue_args(x, **options), y, shape=x.shape)
        return y

    def depthwise_up2_epilogue(self, x, k, **options):
        N, C, H, W = x.shape
        y = self.empty([N, C, 2 * H, 2 * W], x.dtype, x)
        self.call('tux_depthwise_up2_epilogue', DTYPES[x.dtype], x, k, int(k.shape[0] == N), self.epilogue_args(x, **options), y,
                  shape=x.shape)
        return y

    def epilogue_slope(self, g, saved, from_output, **options):
        out = self.empty(g.shape, g.dtype, g)
        self.call('tux_epilogue_slope', DTYPES[g.dtype], g, saved, int(from_output), self.epilogue_args(g, **options), out,
                  shape=g.shape)
        return out

    def epilogue_backward(self, g, saved, from_output, wanted=('demod', 'noise', 'bias'), **options):
        """gx, gdemod [N, C], gnoise [N, 1, H, W], gbias [N, C] per sample; None where not wanted."""
        N, C, H, W = g.shape
        gx = self.empty(g.shape, g.dtype, g)
        shapes = dict(demod=[N, C], noise=[N, 1, H, W], bias=[N, C])
        sums = [self.empty(shape, accumulator(g), g) if name in wanted else None for name, shape in shapes.items()]
        workspace = self.workspace('tux_epilogue_backward', g, g.shape)
        self.call('tux_epilogue_backward', DTYPES[g.dtype], g, saved, int(from_output), self.epilogue_args(g, **options), gx,
                  *sums, workspace, shape=g.shape)
        return gx, *sums

    # Convolution, of libraries for CPUs. Taps make it the one behind a filter that halves the image.

    def conv3x3(self, x, w, taps=None):
        scale = 1 if taps is None else 2
        y = self.empty([x.shape[0], w.shape[0], x.shape[2] // scale, x.shape[3] // scale], x.dtype, x)
        self._convolution('', x, y, x, w, taps, y, transposed=0)
        return y

    def conv3x3_transpose(self, y, w, taps=None):
        scale = 1 if taps is None else 2
        x = self.empty([y.shape[0], w.shape[1], scale * y.shape[2], scale * y.shape[3]], y.dtype, y)
        self._convolution('' if taps is None else '_transpose', x, y, y, w, taps, x, transposed=1)
        return x

    def conv3x3_weight_grad(self, x, g, taps=None):
        gw = self.empty([g.shape[1], x.shape[1], 3, 3], x.dtype, x)
        self._convolution('_weight_grad', x, g, x, g, taps, gw)
        return gw

    def _convolution(self, function, x, y, first, second, taps, out, transposed=None):
        """x, y: the images of the channels I and O, for sizes."""
        shape = [x.shape[0], x.shape[1], y.shape[1], *x.shape[2:]]
        name = 'tux_conv3x3' if taps is None else 'tux_conv3x3_down2'
        option = [transposed] if taps is None else [(ctypes.c_double * 4)(*taps)]
        option = [] if option == [None] else option
        workspace = self.workspace(name, x, shape)
        self.call(name + function, DTYPES[x.dtype], first, second, *option, out, workspace, shape=shape)

    # 4x4 convolution at every second pixel, of libraries for CPUs.

    def conv4x4_down2(self, x, w):
        return self._conv4x4('', x.shape, x, w, [x.shape[0], w.shape[0], x.shape[2] // 2, x.shape[3] // 2])

    def conv4x4_down2_transpose(self, y, w):
        shape = [y.shape[0], w.shape[1], 2 * y.shape[2], 2 * y.shape[3]]
        return self._conv4x4('_transpose', shape, y, w, shape)

    def conv4x4_down2_weight_grad(self, x, g):
        return self._conv4x4('_weight_grad', x.shape, x, g, [g.shape[1], x.shape[1], 4, 4])

    def _conv4x4(self, function, large, first, second, result):
        """large: shape of the large image; result: that of the result."""
        channels = second.shape[1] if function == '_weight_grad' else second.shape[0]
        shape, out = [*large[:2], channels, *large[2:]], self.empty(result, first.dtype, first)
        workspace = self.workspace('tux_conv4x4_down2', first, shape)
        self.call('tux_conv4x4_down2' + function, DTYPES[first.dtype], first, second, out, workspace, shape=shape)
        return out

    # Batch norm, of libraries for CPUs.

    def moments(self, x):
        mean, squares = (self.empty(x.shape[:2], accumulator(x), x) for _ in range(2))
        self.call('tux_moments', DTYPES[x.dtype], x, mean, squares, shape=x.shape)
        return mean, squares

    def norm_gradient(self, v, x, factor, constant):
        gx = self.empty(x.shape, x.dtype, x)
        self.call('tux_norm_gradient', DTYPES[x.dtype], v, x, factor, constant, gx, shape=x.shape)
        return gx

    # Affine and gated linear unit.

    def affine_glu(self, x, scale=None, shift=None, noise=None):
        N, C, H, W = x.shape[0], x.shape[1] // 2, x.shape[2], x.shape[3]
        y = self.empty([N, C, H, W], x.dtype, x)
        per_sample = int(noise is not None and noise.shape[0] == N)
        self.call('tux_affine_glu', DTYPES[x.dtype], x, scale, shift, noise, per_sample, y, shape=y.shape)
        return y

    def affine_glu_backward(self, g, x, scale=None, shift=None, noise=None, wanted=('scale', 'shift', 'noise')):
        """gx, gscale [N, 2C], gshift [N, 2C] per sample, gnoise [N, 1, H, W]; None where not wanted."""
        N, C, H, W = g.shape
        gx = self.empty(x.shape, x.dtype, x)
        shapes = dict(scale=[N, 2 * C], shift=[N, 2 * C], noise=[N, 1, H, W])
        sums = [self.empty(shape, accumulator(g), g) if name in wanted else None for name, shape in shapes.items()]
        per_sample = int(noise is not None and noise.shape[0] == N)
        workspace = self.workspace('tux_affine_glu_backward', g, g.shape)
        self.call('tux_affine_glu_backward', DTYPES[g.dtype], g, x, scale, shift, noise, per_sample, gx, *sums, workspace,
                  shape=g.shape)
        return gx, *sums

#----------------------------------------------------------------------------
