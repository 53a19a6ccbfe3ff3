"""Twofold upsampling and a depthwise filter in one step, by four 3x3 filters on the small image, one per output phase.

Zero insertion, a FIR of four taps and a 3x3 kernel (StyleGAN2), or nearest neighbour and a 3x3 kernel (FastGAN), are linear
maps whose output pixel (2i + a, 2j + b) sees only the 3x3 neighbourhood of (i, j). The phase filters below are exactly equal.

    d depthwise_up2(x, k)             = depthwise_up2_transpose(., k) for x,  depthwise_up2_weight_grad(x, .) for k
    d depthwise_up2_transpose(g, k)   = depthwise_up2(., k) for g,            depthwise_up2_weight_grad(., g) for k
    d depthwise_up2_weight_grad(x, g) = depthwise_up2_transpose(g, .) for x,  depthwise_up2(x, .) for g

This module is portable."""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from torch_utils_ext.dispatch import run_op
from torch_utils_ext.ops.depthwise import accumulation_dtype, in_accumulation_dtype
from torch_utils_ext.ops.epilogue import check_act, epilogue_ref

#----------------------------------------------------------------------------

def depthwise_up2(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """y[n, c, 2i + a, 2j + b] = the 3x3 neighbourhood of x[n, c, i, j] (zeros outside) times k[n, c, 2a + b].

    x: [N, C, H, W], float32, float16, bfloat16 or float64.
    k: [N, C, 4, 3, 3], or [1, C, 4, 3, 3] shared by the samples; float32 (float64 if x is).
    returns [N, C, 2H, 2W] in x's dtype."""
    return run_op('depthwise_up2', depthwise_up2_ref, x, *in_accumulation_dtype(x, k))

def depthwise_up2_ref(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    N, C, H, W = x.shape
    if x.numel() == 0:      # no images: torch convolves no groups
        return (x.to(k.dtype) * k.sum()).repeat(1, 1, 2, 2).to(x.dtype)
    k = k.expand(N, -1, -1, -1, -1).reshape(N * C * 4, 1, 3, 3)
    y = F.conv2d(x.to(k.dtype).reshape(1, N * C, H, W), k, padding=1, groups=N * C)
    return F.pixel_shuffle(y.reshape(N, C * 4, H, W), 2).to(x.dtype)

#----------------------------------------------------------------------------

def depthwise_up2_epilogue(x: torch.Tensor, k: torch.Tensor, noise: 'torch.Tensor | None' = None,
                           bias: 'torch.Tensor | None' = None, act: str = 'linear', alpha: float = 0.2, gain: float = 1.0,
                           clamp: 'float | None' = None) -> torch.Tensor:
    """epilogue(depthwise_up2(x, k), None, noise, bias, ...), on a GPU in one pass.

    x, k: as for depthwise_up2; the others as for epilogue, with the size of the result.
    returns [N, C, 2H, 2W] in x's dtype."""
    check_act(act)
    sides = in_accumulation_dtype(x, k, noise, bias)
    return run_op('depthwise_up2_epilogue', depthwise_up2_epilogue_ref, x, *sides, act, float(alpha), float(gain), clamp)

def depthwise_up2_epilogue_ref(x: torch.Tensor, k: torch.Tensor, noise: 'torch.Tensor | None' = None,
                               bias: 'torch.Tensor | None' = None, act: str = 'linear', alpha: float = 0.2, gain: float = 1.0,
                               clamp: 'float | None' = None) -> torch.Tensor:
    return epilogue_ref(depthwise_up2_ref(x, k), None, noise, bias, act, alpha, gain, clamp)

#----------------------------------------------------------------------------

def depthwise_up2_transpose(g: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """The transpose of depthwise_up2 for its input.

    g: [N, C, 2H, 2W]; k as for depthwise_up2.
    returns [N, C, H, W] in g's dtype."""
    return run_op('depthwise_up2_transpose', depthwise_up2_transpose_ref, g, *in_accumulation_dtype(g, k))

def depthwise_up2_transpose_ref(g: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    N, C, H, W = g.shape[0], g.shape[1], g.shape[2] // 2, g.shape[3] // 2
    if g.numel() == 0:
        return (g.to(k.dtype) * k.sum())[:, :, ::2, ::2].to(g.dtype)
    k = k.expand(N, -1, -1, -1, -1).flip([3, 4]).reshape(N * C, 4, 3, 3)
    phases = F.pixel_unshuffle(g.to(k.dtype), 2).reshape(1, N * C * 4, H, W)
    return F.conv2d(phases, k, padding=1, groups=N * C).reshape(N, C, H, W).to(g.dtype)

#----------------------------------------------------------------------------

def depthwise_up2_weight_grad(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Gradient of sum(g * depthwise_up2(x, k)) for k, per sample.

    x: [N, C, H, W]; g: [N, C, 2H, 2W], of one dtype.
    returns [N, C, 4, 3, 3], float32 (float64 if x is)."""
    return run_op('depthwise_up2_weight_grad', depthwise_up2_weight_grad_ref, x, g.to(x.dtype))

def depthwise_up2_weight_grad_ref(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    N, C, H, W = x.shape
    v, g = (t.to(accumulation_dtype(x)) for t in (x, g))
    if x.numel() == 0:
        return (v * g[:, :, ::2, ::2]).sum(dim=[2, 3])[:, :, None, None, None].expand(N, C, 4, 3, 3)
    g = F.pixel_unshuffle(g, 2).reshape(1, N * C * 4, H, W)
    gk = conv2d_weight(v.reshape(1, N * C, H, W), [N * C * 4, 1, 3, 3], g, padding=1, groups=N * C)
    return gk.reshape(N, C, 4, 3, 3)

#----------------------------------------------------------------------------

def depthwise_up2_backward(x: torch.Tensor, k: torch.Tensor, g: torch.Tensor) -> 'tuple[torch.Tensor, torch.Tensor]':
    """Both gradients of sum(g * depthwise_up2(x, k)); a kernel reads g once for the two.

    x: [N, C, H, W]; g: [N, C, 2H, 2W], of one dtype; k as for depthwise_up2.
    returns ([N, C, H, W] in x's dtype, [N, C, 4, 3, 3] as depthwise_up2_weight_grad, also where the samples share k)."""
    return run_op('depthwise_up2_backward', depthwise_up2_backward_ref, x, *in_accumulation_dtype(x, k), g.to(x.dtype))

def depthwise_up2_backward_ref(x: torch.Tensor, k: torch.Tensor, g: torch.Tensor) -> 'tuple[torch.Tensor, torch.Tensor]':
    return depthwise_up2_transpose_ref(g, k), depthwise_up2_weight_grad_ref(x, g)

#----------------------------------------------------------------------------
# With K = 4 w * f (both as true convolutions), zero insertion and K give out[2i + a] = sum_d x[i + d] K[a + 2 - 2d], so that
# tap u = d + 1 of phase a is K[a + 4 - 2u] = sum_p w[p] f[a + 4 - 2u - p].

def up2_filters(w: torch.Tensor, resample_filter: 'torch.Tensor | list[float]', flip_weight: bool = False) -> torch.Tensor:
    """Phase filters of zero insertion x2, kernel w and a FIR of four taps: StyleGAN2's up convolution, exactly.

    w:               [..., 3, 3].
    resample_filter: [4] or [4, 4], such as [1, 3, 3, 1]; its sum is normalised to 1, and the gain is 4, as in StyleGAN2.
    flip_weight:     whether w is correlated; if not, it is convolved, as in StyleGAN2's up layers.
    returns [..., 4, 3, 3]."""
    f = torch.as_tensor(resample_filter, dtype=w.dtype, device=w.device)
    return phase_filters(w.flip([-2, -1]) if flip_weight else w, up2_phases(f))

def phase_filters(w: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    """The phase filters of w [..., 3, 3] by up2_phases of a filter, [36, 9], which a layer can keep; returns [..., 4, 3, 3]."""
    return (w.flatten(-2) @ phases.T).unflatten(-1, (4, 3, 3))

def up2_phases(f: torch.Tensor) -> torch.Tensor:
    """The phase filters of the nine kernels that have a single tap, as columns [36, 9], for a resample_filter f [4] or [4, 4]."""
    f = torch.outer(f, f) if f.ndim == 1 else f
    if f.shape != (4, 4):
        raise ValueError(f'resample_filter has shape {list(f.shape)}, expected [4] or [4, 4]')
    taps = torch.eye(9, dtype=f.dtype, device=f.device).reshape(9, 1, 3, 3)
    kernels = F.conv2d(taps, f.flip([0, 1])[None, None] * (4 / f.sum()), padding=3)     # [9, 1, 6, 6], K above
    return kernels.reshape(9, 3, 2, 3, 2).permute(2, 4, 1, 3, 0).flip([2, 3]).reshape(36, 9)    # [(a, b, u, v), tap]

def up2_filters_nearest(w: torch.Tensor) -> torch.Tensor:
    """Phase filters of nearest-neighbour upsampling x2 and a correlation with w, zero padding 1: FastGAN's up convolution.

    w: [..., 3, 3]; returns [..., 4, 3, 3]."""
    # Phase 0 has the taps w0, w1 + w2, 0 and phase 1 has 0, w0 + w1, w2: tap u of phase a is the sum of the neighbours 2u - 1 - a
    # and 2u - a of w, with zeros around it. No constant is copied to the device for it.
    sums = F.avg_pool2d(F.pad(w.reshape(1, -1, 3, 3), [2, 2, 2, 2]), 2, stride=1, divisor_override=1)    # [1, C, 6, 6]
    phases = sums.reshape(-1, 3, 2, 3, 2).permute(0, 2, 4, 1, 3).reshape(*w.shape[:-2], 4, 3, 3)        # phase 1 first
    return phases.flip([-3])

#----------------------------------------------------------------------------
