"""One convolution of a FastGAN block with its depthwise separable filter, in a step of its own: [nearest x2 and] depthwise 3x3,
pointwise, noise, batch norm, gated linear unit.

What lies between input and output is made twice rather than kept: of the intermediate tensors only the pointwise output is
saved, never the upsampled image or the depthwise output. On a CPU the matrices are multiplied in tiles that stay in its cache,
and what is done per element is done to a tile while it is there. Where a second derivative is asked for, the gradient is that
of the composition below, separable_glu_ref.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import torch

from torch_utils_ext.ops.affine_glu import affine_glu
from torch_utils_ext.ops.depthwise import depthwise, depthwise_weight_grad
from torch_utils_ext.ops.depthwise_up2 import (
    depthwise_up2,
    depthwise_up2_transpose,
    depthwise_up2_weight_grad,
    up2_filters_nearest,
)

#----------------------------------------------------------------------------

def separable_glu(x, depthwise_weight, pointwise_weight, scale, shift, noise=None, strength=None, up=False, eps=1e-5):
    """z = pointwise(depthwise(x)) + strength * noise;  v = scale (z - mean) / std + shift, over the batch;  GLU(v).

    x:                [N, I, H, W].
    depthwise_weight: [I, 1, 3, 3].
    pointwise_weight: [2 O, I, 1, 1].
    scale, shift:     [2 O].
    noise, strength:  [N, 1, H', W'] and [1], or None.
    up:               x is first enlarged by two, nearest neighbour; H' = 2 H then, else H' = H.
    returns           [N, O, H', W'], and mean and variance [2 O] of z, without gradient."""
    filters = _filters(depthwise_weight, up)
    return _SeparableGLUFunction.apply(x, filters, pointwise_weight.flatten(1), scale, shift, noise, strength, eps)

def separable_glu_ref(x, filters, matrix, scale, shift, noise, strength, eps):
    """The composition of public ops; filters and matrix as below."""
    z = _depthwise(x, filters)
    z = torch.einsum('oi,nihw->nohw', matrix, z)
    if noise is not None:
        z = z + strength * noise
    var, mean = torch.var_mean(z, dim=[0, 2, 3], unbiased=False)
    a = scale * (var + eps).rsqrt()
    return affine_glu(z, a, shift - a * mean), mean, var

#----------------------------------------------------------------------------
# Filters are [1, I, 3, 3], or [1, I, 4, 3, 3] for what enlarges.

def _filters(weight, up):
    weight = weight.transpose(0, 1)
    return up2_filters_nearest(weight) if up else weight

def _depthwise(x, filters):
    return depthwise_up2(x, filters) if filters.ndim == 5 else depthwise(x, filters)

def _depthwise_backward(x, filters, g):
    """Gradients of sum(g * _depthwise(x, filters)) for x and filters."""
    if filters.ndim == 5:
        gx, gk = depthwise_up2_transpose(g, filters), depthwise_up2_weight_grad(x, g)
    else:
        gx, gk = depthwise(g, filters.flip([2, 3])), depthwise_weight_grad(x, g)
    return gx, gk.sum(dim=0, keepdim=True)

#----------------------------------------------------------------------------
# Columns of a tile: about what the second-level cache of a core holds. Elsewhere than on a CPU the tile is all there is.

def _tiles(z):
    size = 1024 if z.device.type == 'cpu' else z.shape[2]
    return [(n, slice(i, i + size)) for n in range(len(z)) for i in range(0, z.shape[2], size)]

def _rows(z):
    """Slices of channels of z [N, C, L] that hold about 2^15 numbers."""
    size = max((1 << 15) // z.shape[2], 1) if z.device.type == 'cpu' else z.shape[1]
    return [slice(i, min(i + size, z.shape[1])) for i in range(0, z.shape[1], size)]

class _SeparableGLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, filters, matrix, scale, shift, noise, strength, eps):
        z, mean, var = _pointwise_statistics(_depthwise(x, filters), matrix, noise, strength)
        a = scale * (var + eps).rsqrt()
        y = affine_glu(z, a, shift - a * mean)
        ctx.save_for_backward(x, filters, matrix, scale, shift, noise, strength, z, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx, g, _mean, _var):
        *inputs, z, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_composed_backward(inputs, ctx.needs_input_grad[:7], ctx.eps, g), None
        x, filters, matrix, scale, shift, noise, strength = inputs
        r = (var + ctx.eps).rsqrt()
        v, gscale, gshift = _glu_backward(g, z, scale * r, shift - scale * r * mean)
        gscale = r * (gscale - mean * gshift)
        # Batch norm: gz = a v + b z + d with per-channel a, b, d (Ioffe and Szegedy 2015, section 3).
        count = z.numel() // z.shape[1]
        a = scale * r
        b = -a * r * gscale / count
        d = -a * gshift / count - b * mean
        h = _depthwise(x, filters)
        gmatrix, gnoise, gstrength = _pointwise_backward(h, matrix, v, z, (a, b, d), noise, strength, ctx.needs_input_grad[5])
        gx, gfilters = _depthwise_backward(x, filters, h)
        return gx, gfilters, gmatrix, gscale, gshift, gnoise, gstrength, None

def _composed_backward(inputs, wanted, eps, g):
    with torch.enable_grad():
        y, _, _ = separable_glu_ref(*inputs, eps)
        asked = [t for t, want in zip(inputs, wanted, strict=True) if want]
        grads = iter(torch.autograd.grad(y, asked, g, create_graph=True))
    return [next(grads) if want else None for want in wanted]

#----------------------------------------------------------------------------
# z = matrix h + strength noise, with its mean and variance, tile by tile; the tiles' moments are joined as by Chan et al. 1983.

def _pointwise_statistics(h, matrix, noise, strength):
    """h [N, I, H, W] -> (z [N, M, H, W], mean [M], var [M])."""
    N, _, H, W = h.shape
    h, noise = h.flatten(2), None if noise is None else noise.flatten(2)
    z = h.new_empty([N, len(matrix), H * W])
    sums, squares, counts = [], [], []
    for n, columns in _tiles(h):
        tile = torch.mm(matrix, h[n, :, columns].contiguous())
        if noise is not None:
            tile += strength * noise[n, :, columns]
        z[n, :, columns] = tile
        counts.append(tile.shape[1])
        sums.append(tile.sum(dim=1))
        tile -= sums[-1].unsqueeze(1) / counts[-1]
        squares.append(torch.linalg.vector_norm(tile, dim=1).square())
    dtype = torch.float64 if h.device.type == 'cpu' else h.dtype
    sums, squares = (torch.stack(t).to(dtype) for t in (sums, squares))
    counts = torch.tensor(counts, dtype=dtype, device=h.device).unsqueeze(1)
    mean = sums.sum(dim=0) / counts.sum()
    var = (squares + (sums / counts - mean).square() * counts).sum(dim=0) / counts.sum()
    return z.reshape(N, -1, H, W), mean.to(h.dtype), var.to(h.dtype)

#----------------------------------------------------------------------------
# With v = a z + b, y = v1 sigmoid(v2): dv1 = g s, dv2 = g v1 s (1 - s), s = sigmoid(v2).

def _glu_backward(g, z, a, b):
    """(dv as [N, 2 C, L], sum dv z, sum dv)."""
    g, z = g.flatten(2), z.flatten(2)
    C = g.shape[1]
    v, a, b = torch.empty_like(z), a.unsqueeze(1), b.unsqueeze(1)
    gscale, gshift = z.new_zeros([z.shape[1]]), z.new_zeros([z.shape[1]])
    for n in range(len(z)):
        for first in _rows(g):
            second = slice(first.start + C, first.stop + C)
            value = torch.addcmul(b[first], z[n, first], a[first])
            gate = torch.addcmul(b[second], z[n, second], a[second]).sigmoid_()
            dv1 = torch.mul(g[n, first], gate, out=v[n, first])
            dv2 = torch.mul(dv1, value, out=v[n, second])
            dv2 -= value.copy_(dv2).mul_(gate)
            for rows, dv in ((first, dv1), (second, dv2)):
                gshift[rows] += dv.sum(dim=1)
                gscale[rows] += torch.mul(dv, z[n, rows], out=value).sum(dim=1)
    return v, gscale, gshift

#----------------------------------------------------------------------------

def _pointwise_backward(h, matrix, v, z, norm, noise, strength, wants_noise):
    """With gz = a v + b z + d: replaces h [N, I, H, W] by its gradient matrix^T gz; returns the gradients of matrix, noise and
    strength."""
    (a, b, d), h, z = [t.unsqueeze(1) for t in norm], h.flatten(2), z.flatten(2)
    gmatrix, transposed = torch.zeros_like(matrix), matrix.t().contiguous()
    gnoise = torch.empty_like(noise) if noise is not None and wants_noise else None
    gstrength = None if noise is None else torch.zeros_like(strength)
    for n, columns in _tiles(h):
        gz = torch.addcmul(d, z[n, :, columns], b).addcmul_(v[n, :, columns], a)
        gmatrix.addmm_(gz, h[n, :, columns].contiguous().t())
        h[n, :, columns] = torch.mm(transposed, gz)
        if noise is not None:
            summed = gz.sum(dim=0)
            gstrength += torch.dot(summed, noise[n].flatten()[columns])
            if gnoise is not None:
                gnoise[n].view(-1)[columns] = summed * strength
    return gmatrix, gnoise, gstrength

#----------------------------------------------------------------------------
