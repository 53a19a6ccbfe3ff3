"""The references against torch's operations: the definition of each op, and that its transposes are its gradients."""

import pytest
import torch
import torch.nn.functional as F

from torch_utils_ext.ops.affine_glu import affine_glu_ref
from torch_utils_ext.ops.depthwise import depthwise_ref, depthwise_weight_grad_ref
from torch_utils_ext.ops.depthwise_up2 import (
    depthwise_up2_ref,
    depthwise_up2_transpose_ref,
    depthwise_up2_weight_grad_ref,
    up2_filters,
    up2_filters_nearest,
)
from torch_utils_ext.ops.epilogue import epilogue_ref

#----------------------------------------------------------------------------

def _randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

def _close(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert (a - b).abs().max() <= 1e-12 * (1 + b.abs().max())

@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('shape', [(1, 1), (4, 4), (5, 17)])
def test_depthwise_is_conv2d_of_each_plane(n, shape):
    x, k = _randn(3, 2, *shape), _randn(n, 2, 3, 3, seed=1)
    planes = [[F.conv2d(x[i, c][None, None], k[i % n, c][None, None], padding=1)[0, 0] for c in range(2)] for i in range(3)]
    _close(depthwise_ref(x, k), torch.stack([torch.stack(p) for p in planes]))

@pytest.mark.parametrize('n', [1, 3])
def test_gradients_of_depthwise(n):
    x, k, g = _randn(3, 2, 5, 4).requires_grad_(), _randn(n, 2, 3, 3, seed=1).requires_grad_(), _randn(3, 2, 5, 4, seed=2)
    gx, gk = torch.autograd.grad(depthwise_ref(x, k), [x, k], g)
    _close(gx, depthwise_ref(g, k.flip([2, 3])))
    _close(gk, depthwise_weight_grad_ref(x, g).sum_to_size(k.shape))

@pytest.mark.parametrize('n', [1, 2])
def test_gradients_of_depthwise_up2(n):
    x, k, g = _randn(2, 2, 3, 5).requires_grad_(), _randn(n, 2, 4, 3, 3, seed=1).requires_grad_(), _randn(2, 2, 6, 10, seed=2)
    gx, gk = torch.autograd.grad(depthwise_up2_ref(x, k), [x, k], g)
    _close(gx, depthwise_up2_transpose_ref(g, k))
    _close(gk, depthwise_up2_weight_grad_ref(x, g).sum_to_size(k.shape))

@pytest.mark.parametrize('n, shape', [(0, (0, 2, 3, 4)), (1, (0, 2, 3, 4)), (2, (2, 0, 3, 4)), (2, (2, 3, 0, 4)),
                                      (1, (2, 3, 3, 0))])
def test_no_images_have_no_values_and_no_gradients(n, shape):
    N, C, H, W = shape
    transposed = lambda x, k: depthwise_up2_transpose_ref(x.repeat(1, 1, 2, 2), k)
    for ref, weight_grad, factor in ((depthwise_ref, depthwise_weight_grad_ref, 1), (transposed, None, 1),
                                     (depthwise_up2_ref, depthwise_up2_weight_grad_ref, 2)):
        x, k = _randn(*shape).requires_grad_(), _randn(n, C, *([3, 3] if ref is depthwise_ref else [4, 3, 3])).requires_grad_()
        y = ref(x.float(), k.float())
        assert y.shape == (N, C, factor * H, factor * W) and y.dtype == torch.float32
        gx, gk = torch.autograd.grad(y.double().sum(), [x, k])
        assert gx.shape == x.shape and torch.equal(gk, torch.zeros_like(k))
        if weight_grad is not None:
            found = weight_grad(x, _randn(N, C, factor * H, factor * W))
            assert torch.equal(found, torch.zeros(N, *k.shape[1:], dtype=torch.float64)) and found.requires_grad

#----------------------------------------------------------------------------
# Phase filters.

@pytest.mark.parametrize('shape', [(1, 1), (4, 4), (3, 7)])
@pytest.mark.parametrize('flip', [False, True])
def test_up2_filters_are_zero_insertion_fir_and_kernel(shape, flip):
    x, w, f = _randn(2, 3, *shape), _randn(3, 3, 3, seed=1), torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    # A strided transposed convolution with w, then the FIR on one row and column of zeros around it.
    y = F.conv_transpose2d(x, (w.flip([1, 2]) if flip else w).unsqueeze(1), stride=2, groups=3)
    y = F.conv2d(F.pad(y, [1, 1, 1, 1]), 4 * torch.outer(f, f).expand(3, 1, 4, 4), groups=3)
    for taps in [f, torch.outer(f, f), [1, 3, 3, 1]]:
        _close(depthwise_up2_ref(x, up2_filters(w, taps, flip_weight=flip).unsqueeze(0)), y)

def test_up2_filters_with_an_unsymmetric_fir():
    x, w, f = _randn(1, 1, 4, 5), _randn(1, 3, 3, seed=1), torch.tensor([1, 2, 3, 4], dtype=torch.float64)
    y = F.conv2d(F.pad(F.conv_transpose2d(x, w.unsqueeze(1), stride=2), [1, 1, 1, 1]),
                 (torch.outer(f, f) * 4 / 100).flip([0, 1])[None, None])
    _close(depthwise_up2_ref(x, up2_filters(w, f).unsqueeze(0)), y)
    with pytest.raises(ValueError, match='resample_filter'):
        up2_filters(w, [1, 2, 1])

@pytest.mark.parametrize('shape', [(1, 1), (4, 4), (3, 7)])
def test_nearest_filters(shape):
    x, w = _randn(2, 3, *shape), _randn(3, 3, 3, seed=1)
    y = F.conv2d(F.interpolate(x, scale_factor=2, mode='nearest'), w.unsqueeze(1), padding=1, groups=3)
    _close(depthwise_up2_ref(x, up2_filters_nearest(w).unsqueeze(0)), y)

def test_phase_filters_are_differentiable_and_take_leading_dimensions():
    w = _randn(2, 3, 3, 3).requires_grad_()
    for make in [up2_filters_nearest, lambda w: up2_filters(w, [1, 3, 3, 1])]:
        assert make(w).shape == (2, 3, 4, 3, 3)
        assert torch.autograd.gradcheck(make, (w,)) and torch.autograd.gradgradcheck(make, (w,))

#----------------------------------------------------------------------------

def test_epilogue():
    x, d, n, b = _randn(2, 3, 4, 5), _randn(2, 3, seed=1), _randn(2, 1, 4, 5, seed=2), _randn(3, seed=3)
    u = x * d[:, :, None, None] + n + b[:, None, None]
    _close(epilogue_ref(x, d, n, b, 'lrelu', 0.2, 1.5, 0.7), (torch.where(u > 0, u, 0.2 * u) * 1.5).clamp(-0.7, 0.7))
    _close(epilogue_ref(x, noise=n[:1]), x + n[:1])
    _close(epilogue_ref(x), x)

def test_affine_glu():
    x, s, t, n = _randn(2, 6, 4, 5), _randn(6, seed=1), _randn(6, seed=2), _randn(1, 1, 4, 5, seed=3)
    v = x * s[:, None, None] + t[:, None, None] + n
    _close(affine_glu_ref(x, s, t, n), F.glu(v, dim=1))
    _close(affine_glu_ref(x), F.glu(x, dim=1))

@pytest.mark.parametrize('dtype, bound', [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_is_rounded_once(dtype, bound):
    x, k, k4 = _randn(2, 3, 6, 5), _randn(2, 3, 3, 3, seed=1), _randn(2, 3, 4, 3, 3, seed=2)
    y = depthwise_ref(x.to(dtype), k.float())
    assert y.dtype == dtype and depthwise_weight_grad_ref(x.to(dtype), y).dtype == torch.float32
    for low, high in [(y, depthwise_ref(x, k)), (depthwise_up2_ref(x.to(dtype), k4.float()), depthwise_up2_ref(x, k4)),
                      (epilogue_ref(x.to(dtype), gain=3), 3 * x)]:
        assert (low.double() - high).abs().max() <= bound * high.abs().max()
