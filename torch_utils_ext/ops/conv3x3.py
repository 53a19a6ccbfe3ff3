"""3x3 convolution of many channels, alone and behind (or before) a filter that halves (or doubles) an image, as in StyleGAN2.

Kernels are for CPUs, by Winograd's minimal filtering: a quarter of the products without resampling, 0.56 of them with it. In
float32 their error is about 1e-5 of the largest value for hundreds of channels. On other devices torch's convolutions serve.

    d conv3x3(x, w)            = its transpose for x, and a correlation of x with the gradient for w
    d conv3x3_down2(x, w, t)   = conv3x3_up2(., w, t) for x, and a correlation for w
    d conv3x3_up2(y, w, t)     = conv3x3_down2(., w, t) for y, and the same correlation for w

This module is portable."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from torch_utils_ext.dispatch import run_op

#----------------------------------------------------------------------------

def conv3x3(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return x correlated with w, zero padding 1.

    x: [N, I, H, W], float32, float16, bfloat16 or float64; w: [O, I, 3, 3] of the same dtype.
    returns [N, O, H, W]."""
    return run_op('conv3x3', conv3x3_ref, x, w) if x.is_cpu else conv3x3_ref(x, w)

def conv3x3_ref(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, w, padding=1)

#----------------------------------------------------------------------------

def conv3x3_down2(x: torch.Tensor, w: torch.Tensor, taps: Sequence[float]) -> torch.Tensor:
    """Return x correlated with four taps in both dimensions, then with w at every second pixel.

    x:    [N, I, H, W], H and W even, float32, float16, bfloat16 or float64; two zeros around it count.
    w:    [O, I, 3, 3] of the same dtype.
    returns [N, O, H / 2, W / 2]."""
    return run_op('conv3x3_down2', conv3x3_down2_ref, x, w, taps) if x.is_cpu else conv3x3_down2_ref(x, w, taps)

def conv3x3_down2_ref(x: torch.Tensor, w: torch.Tensor, taps: Sequence[float]) -> torch.Tensor:
    return F.conv2d(F.conv2d(x, _filters(x, x.shape[1], taps), padding=2, groups=x.shape[1]), w, stride=2)

def conv3x3_up2(y: torch.Tensor, w: torch.Tensor, taps: Sequence[float]) -> torch.Tensor:
    """Return the transpose of conv3x3_down2: zeros inserted into y, the kernel w turned by 180 degrees, then the taps.

    y:    [N, O, h, w], float32, float16, bfloat16 or float64; w: [O, I, 3, 3] of the same dtype.
    returns [N, I, 2h, 2w]."""
    return run_op('conv3x3_up2', conv3x3_up2_ref, y, w, taps) if y.is_cpu else conv3x3_up2_ref(y, w, taps)

def conv3x3_up2_ref(y: torch.Tensor, w: torch.Tensor, taps: Sequence[float]) -> torch.Tensor:
    return F.conv_transpose2d(F.conv_transpose2d(y, w, stride=2), _filters(y, w.shape[1], taps), padding=2, groups=w.shape[1])

def _filters(x: torch.Tensor, channels: int, taps: Sequence[float]) -> torch.Tensor:
    t = torch.tensor(list(taps), dtype=x.dtype, device=x.device)
    return torch.outer(t, t).expand(channels, 1, 4, 4)

#----------------------------------------------------------------------------
