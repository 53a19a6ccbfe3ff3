"""One convolution of a FastGAN block with a depthwise separable filter as one autograd function: [nearest x2 and] depthwise 3x3,
pointwise, noise, batch norm, gated linear unit.

Intermediate tensors are computed twice instead of kept. Only the pointwise output is saved, not the upsampled image or the
depthwise output. On a CPU there is a product of matrices for each sample, and elementwise steps are applied to as many channels
as its cache holds. On other devices each step is one operation on the whole batch, since launches cost there. If a second
derivative is needed, the gradient is that of the composition below, separable_glu_ref.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import torch

from torch_utils_ext.dispatch import run_op
from torch_utils_ext.ops.affine_glu import affine_glu
from torch_utils_ext.ops.depthwise import depthwise, depthwise_backward
from torch_utils_ext.ops.depthwise_up2 import depthwise_up2, depthwise_up2_backward, up2_filters_nearest

#----------------------------------------------------------------------------

def separable_glu(x, depthwise_weight, pointwise_weight, scale, shift, noise=None, strength=None, up=False, eps=1e-5):
    """Return GLU(v) with v = scale (z - mean) / std + shift over the batch and z = pointwise(depthwise(x)) + strength * noise.

    x:                [N, I, H, W].
    depthwise_weight: [I, 1, 3, 3].
    pointwise_weight: [2 O, I, 1, 1].
    scale, shift:     [2 O].
    noise, strength:  [N, 1, H', W'] and [1], or None.
    up:               whether x is first enlarged by two, nearest neighbour; then H' = 2 H, else H' = H.
    returns           [N, O, H', W'], and mean and variance [2 O] of z, without gradient.

    Activations have x's dtype, or autocast's; moments and the gradients of weights have the dtype of the weights."""
    device = x.device.type
    x = x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) and x.dtype != torch.float64 else x
    with torch.autocast(device, enabled=False):
        filters = _filters(depthwise_weight, up)
        return _SeparableGLUFunction.apply(x, filters, pointwise_weight.flatten(1), scale, shift, noise, strength, eps)

def separable_glu_ref(x, filters, matrix, scale, shift, noise, strength, eps):
    """Return the same by a composition of public ops; filters and matrix as below."""
    z = _depthwise(x, filters)
    z = torch.einsum('oi,nihw->nohw', matrix.to(z.dtype), z)
    if noise is not None:
        z = (z + strength * noise).to(z.dtype)
    var, mean = torch.var_mean(z.to(scale.dtype), dim=[0, 2, 3], unbiased=False)
    a = scale * (var + eps).rsqrt()
    return affine_glu(z, a, shift - a * mean), mean, var

#----------------------------------------------------------------------------
# Filters are [1, I, 3, 3], or [1, I, 4, 3, 3] for layers that enlarge.

def _filters(weight, up):
    weight = weight.transpose(0, 1)
    return up2_filters_nearest(weight) if up else weight

def _depthwise(x, filters):
    return depthwise_up2(x, filters) if filters.ndim == 5 else depthwise(x, filters)

def _depthwise_backward(x, filters, g):
    """Return the gradients of sum(g * _depthwise(x, filters)) for x and filters."""
    gx, gk = (depthwise_up2_backward if filters.ndim == 5 else depthwise_backward)(x, filters, g)
    return gx, gk.sum(dim=0, keepdim=True)

#----------------------------------------------------------------------------

class _SeparableGLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, filters, matrix, scale, shift, noise, strength, eps):
        pointwise = _pointwise_of_samples if _on_cpu(x) else _pointwise
        z, mean, var = pointwise(_depthwise(x, filters), matrix, noise, strength)
        r = (var + eps).rsqrt()
        a = scale * r
        b = torch.addcmul(shift, a, mean, value=-1)
        ctx.save_for_backward(x, filters, matrix, scale, shift, noise, strength, z, mean, r, a, b)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return affine_glu(z, a, b), mean, var

    @staticmethod
    def backward(ctx, g, _mean, _var):
        with torch.autocast(g.device.type, enabled=False):
            return _SeparableGLUFunction.gradients(ctx, g)

    @staticmethod
    def gradients(ctx, g):
        *inputs, z, mean, r, a, b = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_composed_backward(inputs, ctx.needs_input_grad[:7], ctx.eps, g), None
        x, filters, matrix, _, _, noise, strength = inputs
        v, gscale, gshift, _ = run_op('affine_glu_backward', _glu_backward_ref, g, z, a, b, None)
        gscale, gshift = gscale.sum(dim=0), gshift.sum(dim=0)
        gscale = r * torch.addcmul(gscale, mean, gshift, value=-1)
        norm = mean, r, a, gscale, gshift
        backward = _pointwise_backward_of_samples if _on_cpu(x) else _pointwise_backward
        gh, gmatrix, gnoise, gstrength = backward(_depthwise(x, filters), matrix, v, z, norm, noise, strength,
                                                  ctx.needs_input_grad[5])
        gx, gfilters = _depthwise_backward(x, filters, gh)
        return gx, gfilters, gmatrix, gscale, gshift, gnoise, gstrength, None

def _composed_backward(inputs, wanted, eps, g):
    with torch.enable_grad():
        y, _, _ = separable_glu_ref(*inputs, eps)
        asked = [t for t, want in zip(inputs, wanted, strict=True) if want]
        grads = iter(torch.autograd.grad(y, asked, g, create_graph=True))
    return [next(grads) if want else None for want in wanted]

#----------------------------------------------------------------------------
# The steps on the whole batch. z = matrix h + strength noise, with its mean and variance.

def _pointwise(h, matrix, noise, strength):
    """Return (z [N, M, H, W], mean [M], var [M]) for h [N, I, H, W]."""
    z = _product(matrix, h)
    if noise is not None:
        z.addcmul_(noise, strength)
    var, mean = torch.var_mean(z.to(matrix.dtype), dim=[0, 2, 3], unbiased=False)
    return z, mean, var

def _pointwise_backward(h, matrix, v, z, norm, noise, strength, wants_noise):
    """Return the gradients of h [N, I, H, W], matrix, noise and strength.

    v:      [N, M, H, W], the gradient of the norm's output times a.
    norm:   mean of z, 1 / its deviation, a, and the gradients of scale and shift, [M]."""
    mean, r, *_ = norm
    # torch's gradient of batch norm multiplies that of its output by r and the scale. v has both already, so the scale is 1 / r.
    gz = torch.ops.aten.native_batch_norm_backward(v, z, r.reciprocal(), None, None, mean, r, True, 0.0, [True, False, False])[0]
    gnoise = gstrength = None
    if noise is not None:
        summed = gz.sum(dim=1, keepdim=True, dtype=matrix.dtype)
        gnoise = (summed * strength).to(noise.dtype) if wants_noise else None
        gstrength = torch.dot(summed.flatten(), noise.flatten().to(summed.dtype)).reshape(1)
    gmatrix = torch.bmm(gz.flatten(2), h.flatten(2).mT).sum(dim=0, dtype=matrix.dtype)
    return _product(matrix.t(), gz), gmatrix, gnoise, gstrength

def _product(matrix, x):
    """Return matrix [O, I] times x [N, I, H, W] by one product of batches: a plain `matrix @ x` copies x to transpose it."""
    return torch.bmm(matrix.to(x.dtype).expand(len(x), -1, -1), x.flatten(2)).unflatten(2, x.shape[2:])

# With v = a z + b, y = v1 sigmoid(v2): dv1 = g s, dv2 = g v1 s (1 - s), s = sigmoid(v2). The kernel's arguments and results.

def _glu_backward_ref(g, z, a, b, _noise):
    """Return (a dv [N, 2 C, H, W], sum dv z [1, 2 C], sum dv [1, 2 C], None)."""
    if _on_cpu(z):
        return _glu_backward_of_rows(g, z, a, b)
    scale, shift = a[:, None, None], b[:, None, None]
    dv = torch.ops.aten.glu_backward(g.to(a.dtype), torch.addcmul(shift, z.to(a.dtype), scale), 1)
    gshift, gscale = dv.sum(dim=[0, 2, 3]), (dv * z).sum(dim=[0, 2, 3])
    return dv.mul_(scale).to(z.dtype), gscale.unsqueeze(0), gshift.unsqueeze(0), None

#----------------------------------------------------------------------------
# The steps on a CPU: a product for each sample, since that of a batch is slower there, and elementwise steps on as many channels
# as the second-level cache of a core holds.

def _on_cpu(x):
    return x.device.type == 'cpu'

def _rows(z):
    """Return slices of channels of z [N, C, L] that hold about 2^17 numbers."""
    size = max((1 << 17) // z.shape[2], 1)
    return [slice(i, min(i + size, z.shape[1])) for i in range(0, z.shape[1], size)]

# The samples' moments are joined as in Chan et al. 1983.

def _pointwise_of_samples(h, matrix, noise, strength):
    """Return (z [N, M, H, W], mean [M], var [M]) for h [N, I, H, W]."""
    N, _, H, W = h.shape
    h, noise, wide, count = h.flatten(2), None if noise is None else noise.flatten(2), matrix.dtype, H * W
    z, matrix = h.new_empty([N, len(matrix), count]), matrix.to(h.dtype)
    for n in range(N):
        torch.mm(matrix, h[n], out=z[n])
        if noise is not None:
            z[n].addcmul_(noise[n], strength)
    z = z.reshape(N, -1, H, W)
    means, squares = (t.double() for t in run_op('moments', _moments_of_rows, z))
    mean = means.mean(dim=0)
    var = squares.sum(dim=0) / (N * count) + (means - mean).square().mean(dim=0)
    return z, mean.to(wide), var.to(wide)

# The kernels' arguments and results.

def _moments_of_rows(z):
    """Return the mean of each plane of z [N, M, H, W], and the sum of squared distances from it, [N, M]."""
    z, wide = z.flatten(2), torch.promote_types(z.dtype, torch.float32)
    means, squares = (z.new_empty(z.shape[:2], dtype=wide) for _ in range(2))
    for n in range(len(z)):
        for rows in _rows(z):
            part = z[n, rows].to(wide)
            torch.mean(part, dim=1, out=means[n, rows])
            squares[n, rows] = torch.linalg.vector_norm(part - means[n, rows, None], dim=1).square_()
    return means, squares

def _norm_gradient_of_rows(v, z, b, d):
    """Return v + b z + d, [N, M, H, W], with b and d [M], in the memory of v."""
    v_rows, z, b, d = v.flatten(2), z.flatten(2), b[:, None], d[:, None]
    for n in range(len(z)):
        for rows in _rows(z):
            v_rows[n, rows] = torch.addcmul(d[rows], z[n, rows], b[rows]).add_(v_rows[n, rows])
    return v

def _glu_backward_of_rows(g, z, a, b):
    shape, g, z = z.shape, g.flatten(2), z.flatten(2)
    C = g.shape[1]
    v, a, b = torch.empty_like(z), a.unsqueeze(1), b.unsqueeze(1)
    gscale, gshift = a.new_zeros([z.shape[1]]), a.new_zeros([z.shape[1]])
    for n in range(len(z)):
        for first in _rows(g):
            second = slice(first.start + C, first.stop + C)
            value = torch.addcmul(b[first], z[n, first], a[first])
            gate = torch.addcmul(b[second], z[n, second], a[second]).sigmoid_()
            dv1 = torch.mul(g[n, first], gate, out=v[n, first])
            dv2 = torch.mul(dv1, value, out=v[n, second])
            dv2 -= value.copy_(dv2).mul_(gate)
            for rows, dv in ((first, dv1), (second, dv2)):
                gshift[rows] += dv.sum(dim=1, dtype=a.dtype)
                gscale[rows] += torch.mul(dv, z[n, rows], out=value).sum(dim=1)
                dv *= a[rows]
    return v.reshape(shape), gscale.unsqueeze(0), gshift.unsqueeze(0), None

# Batch norm: gz = v + b z + d with per-channel b, d (Ioffe and Szegedy 2015, section 3).

def _norm_coefficients(z, mean, r, a, gscale, gshift):
    """Return (b, d), [M]."""
    count = z.numel() // z.shape[1]
    b = -a * r * gscale / count
    d = -a * gshift / count - b * mean
    return b, d

def _pointwise_backward_of_samples(h, matrix, v, z, norm, noise, strength, wants_noise):
    """Replace h [N, I, H, W] by its gradient, and return the same as _pointwise_backward. v is used up."""
    v = run_op('norm_gradient', _norm_gradient_of_rows, v, z, *_norm_coefficients(z, *norm)).flatten(2)
    gh, h = h, h.flatten(2)
    gmatrix, transposed = torch.zeros_like(matrix), matrix.t().contiguous().to(h.dtype)
    gnoise = torch.empty_like(noise) if noise is not None and wants_noise else None
    gstrength = None if noise is None else torch.zeros_like(strength)
    for n in range(len(v)):
        if noise is not None:
            summed = v[n].sum(dim=0, dtype=matrix.dtype)
            gstrength += torch.dot(summed, noise[n].flatten().to(summed.dtype))
            if gnoise is not None:
                gnoise[n] = (summed * strength).reshape(gnoise[n].shape)
        if h.dtype == gmatrix.dtype:
            gmatrix.addmm_(v[n], h[n].t())
        else:
            gmatrix += torch.mm(v[n], h[n].t())
        torch.mm(transposed, v[n], out=h[n])
    return gh, gmatrix, gnoise, gstrength

#----------------------------------------------------------------------------
