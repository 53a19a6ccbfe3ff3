"""4x4 convolution of many channels at every second pixel, which halves an image, and its transpose, which doubles one.

Kernels are for CPUs, by Winograd's minimal filtering of even and odd pixels, with 0.39 of the products. In float32 their error is
about 1e-5 of the largest value for hundreds of channels. On other devices torch's convolutions serve.

    d conv4x4_down2(x, w)   = conv4x4_up2(., w) for x, and a correlation of x with the gradient for w
    d conv4x4_up2(y, w)     = conv4x4_down2(., w) for y, and the same correlation for w

This module is portable."""

import torch
import torch.nn.functional as F

from torch_utils_ext.dispatch import run_op

#----------------------------------------------------------------------------

def conv4x4_down2(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return x correlated with w at every second pixel, zero padding 1.

    x: [N, I, H, W], H and W even, float32, float16, bfloat16 or float64; w: [O, I, 4, 4] of the same dtype.
    returns [N, O, H / 2, W / 2]."""
    return run_op('conv4x4_down2', conv4x4_down2_ref, x, w) if x.is_cpu else conv4x4_down2_ref(x, w)

def conv4x4_down2_ref(x: torch.Tensor, w: torch.Tensor, transposed: bool = False) -> torch.Tensor:
    return F.conv_transpose2d(x, w, stride=2, padding=1) if transposed else F.conv2d(x, w, stride=2, padding=1)

def conv4x4_up2(y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the transpose of conv4x4_down2: zeros inserted into y, then the kernel w turned by 180 degrees.

    y: [N, O, h, w], float32, float16, bfloat16 or float64; w: [O, I, 4, 4] of the same dtype.
    returns [N, I, 2h, 2w]."""
    return run_op('conv4x4_down2', conv4x4_down2_ref, y, w, True) if y.is_cpu else conv4x4_down2_ref(y, w, True)

#----------------------------------------------------------------------------
