"""3x3 convolution of many channels on a CPU by Winograd's minimal filtering, with a quarter of the products (Lavin & Gray 2016,
"Fast algorithms for convolutional neural networks", F(4x4, 3x3)) and with derivatives of every order.

A tile of 4x4 outputs sees 6x6 inputs d. With small fixed matrices A, B, G, its correlation with a filter w is
    A^T [ (G w G^T) o (B^T d B) ] A,
so that convolving channels is 36 products of matrices, [O, I] x [I, tiles]; the gradient of w has the same form. Both factors of
the products are computed in pieces that stay in the cache. Rounding errors are about 1e-5 of the largest value in float32.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import torch
import torch.nn.functional as F

#----------------------------------------------------------------------------
# A, B and G for the points 0, 1, -1, 2, -2 and infinity, as products over rows and columns that act on flattened tiles.

def _on_tiles(rows, divisor=1):
    m = torch.tensor(rows, dtype=torch.float64) / divisor
    return torch.kron(m, m)

_TO_INPUT = _on_tiles([     # [36, 36]
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
_TO_KERNEL = _on_tiles([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], 24)               # [36, 9]
_TO_OUTPUT = _on_tiles([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])        # [16, 36]

WINOGRAD_PIECE = 1 << 17     # numbers in a piece of transformed tiles
WINOGRAD_TILES = 512         # least tiles in a product, if there are as many

def winograd_pays(x, channels):
    """Return whether conv3x3 can convolve x [N, I, H, W] to `channels` channels, and is faster than torch."""
    return (x.device.type == 'cpu' and x.dtype in (torch.float32, torch.float64) and x.shape[2] % 4 == 0 and x.shape[3] % 4 == 0
            and min(x.shape[1], channels) >= 128 and x.shape[0] * x.shape[2] * x.shape[3] >= 2048)

#----------------------------------------------------------------------------
# Tiles in the domain of the products: [36, C, N * tiles].

def _pieces(channels, tiles):
    step = max(1, WINOGRAD_PIECE // (36 * tiles))
    return [slice(c, min(c + step, channels)) for c in range(0, channels, step)]

def _transformed(x, matrix, size):
    """Return matrix [36, size^2] times the size x size tiles, 4 apart, of x [N, C, H, W]; [36, C, tiles].

    With size 6, x is padded by a border of zeros."""
    N, C, H, W = x.shape
    tiles, border = N * H * W // 16, (size - 4) // 2
    y = x.new_empty([36, C * tiles])
    for piece in _pieces(C, tiles):
        part = F.pad(x[:, piece], [border] * 4) if border else x[:, piece].contiguous()
        n, c, h, w = part.stride()
        part = part.as_strided([size, size, part.shape[1], N, H // 4, W // 4], [h, w, c, n, 4 * h, 4 * w])
        torch.mm(matrix, part.reshape(size ** 2, -1), out=y[:, piece.start * tiles:piece.stop * tiles])
    return y.unflatten(1, [C, tiles])

def _images(m, out):
    """Transform products m [36, C, N * tiles] into out [N, C, H, W]."""
    N, C, H, W = out.shape
    matrix, y = _TO_OUTPUT.to(m.dtype), out.view(N, C, H // 4, 4, W // 4, 4)
    for piece in _pieces(C, m.shape[2]):
        part = matrix @ m[:, piece].flatten(1)
        y[:, piece] = part.view(4, 4, -1, N, H // 4, W // 4).permute(3, 2, 4, 0, 5, 1)

def _batches(x):
    """Return slices of samples with enough tiles for a product."""
    step = max(1, WINOGRAD_TILES * 16 // (x.shape[2] * x.shape[3]))
    return [slice(n, n + step) for n in range(0, x.shape[0], step)]

def _convolve(x, w, transposed):
    kernel = (_TO_KERNEL.flip(1) if transposed else _TO_KERNEL).to(x.dtype)
    u = (kernel @ w.reshape(-1, 9).T).view(36, *w.shape[:2])
    u = u.mT if transposed else u
    y, matrix = x.new_empty([x.shape[0], u.shape[1], *x.shape[2:]]), _TO_INPUT.to(x.dtype)
    for batch in _batches(x):
        _images(u @ _transformed(x[batch], matrix, 6), y[batch])
    return y

def _correlate(x, g):
    u, matrix, adjoint = x.new_zeros([36, g.shape[1], x.shape[1]]), _TO_INPUT.to(x.dtype), _TO_OUTPUT.to(x.dtype).T
    for batch in _batches(x):
        u.baddbmm_(_transformed(g[batch], adjoint, 4), _transformed(x[batch], matrix, 6).mT)
    return (_TO_KERNEL.to(x.dtype).T @ u.flatten(1)).T.reshape(g.shape[1], x.shape[1], 3, 3)

#----------------------------------------------------------------------------
# The two are closed under differentiation.

class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, transposed):
        ctx.save_for_backward(x, w)
        ctx.transposed = transposed
        return _convolve(x, w, transposed)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        gx = _Conv3x3.apply(g, w, not ctx.transposed) if ctx.needs_input_grad[0] else None
        pair = (g, x) if ctx.transposed else (x, g)
        return gx, _Conv3x3WeightGrad.apply(*pair) if ctx.needs_input_grad[1] else None, None

class _Conv3x3WeightGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, g):
        ctx.save_for_backward(x, g)
        return _correlate(x, g)

    @staticmethod
    def backward(ctx, v):
        x, g = ctx.saved_tensors
        return (_Conv3x3.apply(g, v, True) if ctx.needs_input_grad[0] else None,
                _Conv3x3.apply(x, v, False) if ctx.needs_input_grad[1] else None)

def conv3x3(x, w):
    """Return x [N, I, H, W] correlated with w [O, I, 3, 3], zero padding 1, [N, O, H, W]; H and W are multiples of 4."""
    return _Conv3x3.apply(x, w, False)

#----------------------------------------------------------------------------
