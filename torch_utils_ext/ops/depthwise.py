"""Depthwise 3x3 correlation with a filter per sample, and the gradient of its filters.

Both can be differentiated to any order, because their derivatives are these two ops:

    d depthwise(x, k)            = depthwise(., flip k) for x,   depthwise_weight_grad(x, .) for k
    d depthwise_weight_grad(x, g) = depthwise(g, flip .) for x,  depthwise(x, .) for g

This module is portable."""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from torch_utils_ext.dispatch import run_op

#----------------------------------------------------------------------------
# Filters, sums and side inputs are float64 if the activations are, else float32.

def accumulation_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32

def in_accumulation_dtype(x: torch.Tensor, *sides: 'torch.Tensor | None') -> 'list[torch.Tensor | None]':
    """The tensors that go with x, or None; without a call for those that have the dtype already, which small layers notice."""
    dtype = accumulation_dtype(x)
    return [t if t is None or t.dtype == dtype else t.to(dtype) for t in sides]

#----------------------------------------------------------------------------

def depthwise(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """y[n, c] = x[n, c] correlated with k[n, c], zero padding 1.

    x: [N, C, H, W], float32, float16, bfloat16 or float64.
    k: [N, C, 3, 3], or [1, C, 3, 3] shared by the samples; float32 (float64 if x is).
    returns [N, C, H, W] in x's dtype."""
    return run_op('depthwise', depthwise_ref, x, *in_accumulation_dtype(x, k))

def depthwise_ref(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    N, C, H, W = x.shape
    v = x.to(k.dtype)
    if x.numel() == 0:      # no images: torch convolves no groups
        return (v * k.sum()).to(x.dtype)
    if k.shape[0] == 1:
        y = F.conv2d(v, k.reshape(C, 1, 3, 3), padding=1, groups=C)
    else:
        y = F.conv2d(v.reshape(1, N * C, H, W), k.reshape(N * C, 1, 3, 3), padding=1, groups=N * C).reshape(N, C, H, W)
    return y.to(x.dtype)

#----------------------------------------------------------------------------

def depthwise_weight_grad(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Gradient of sum(g * depthwise(x, k)) for k, per sample: [n, c, u, v] = sum_hw g[h, w] x[h + u - 1, w + v - 1].

    x, g: [N, C, H, W] of one dtype.
    returns [N, C, 3, 3], float32 (float64 if x is)."""
    return run_op('depthwise_weight_grad', depthwise_weight_grad_ref, x, g.to(x.dtype))

def depthwise_weight_grad_ref(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    N, C, H, W = x.shape
    v, g = (t.to(accumulation_dtype(x)) for t in (x, g))
    if x.numel() == 0:
        return (v * g).sum(dim=[2, 3])[:, :, None, None].expand(N, C, 3, 3)
    v, g = (t.reshape(1, N * C, H, W) for t in (v, g))
    return conv2d_weight(v, [N * C, 1, 3, 3], g, padding=1, groups=N * C).reshape(N, C, 3, 3)

#----------------------------------------------------------------------------

def depthwise_backward(x: torch.Tensor, k: torch.Tensor, g: torch.Tensor) -> 'tuple[torch.Tensor, torch.Tensor]':
    """Both gradients of sum(g * depthwise(x, k)); a kernel reads g once for the two.

    x, g: [N, C, H, W] of one dtype; k as for depthwise.
    returns ([N, C, H, W] in x's dtype, [N, C, 3, 3] as depthwise_weight_grad, also where the samples share k)."""
    return run_op('depthwise_backward', depthwise_backward_ref, x, *in_accumulation_dtype(x, k), g.to(x.dtype))

def depthwise_backward_ref(x: torch.Tensor, k: torch.Tensor, g: torch.Tensor) -> 'tuple[torch.Tensor, torch.Tensor]':
    return depthwise_ref(g, k.flip([2, 3])), depthwise_weight_grad_ref(x, g)

#----------------------------------------------------------------------------
