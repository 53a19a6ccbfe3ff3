"""The second half of a FastGAN block in one pass, which is a norm's scale and shift per channel, noise and gated linear unit.

This module is portable."""

import torch
import torch.nn.functional as F

from torch_utils_ext.dispatch import run_op
from torch_utils_ext.ops.depthwise import accumulation_dtype, in_accumulation_dtype

#----------------------------------------------------------------------------

def affine_glu(x: torch.Tensor, scale: 'torch.Tensor | None' = None, shift: 'torch.Tensor | None' = None,
               noise: 'torch.Tensor | None' = None) -> torch.Tensor:
    """v = scale * x + shift + noise; the first half of v's channels times the sigmoid of the second half.

    x:      [N, 2C, H, W], float32, float16, bfloat16 or float64.
    scale:  [2C] or None; scale, shift and noise are converted to float32 (float64 if x is).
    shift:  [2C] or None.
    noise:  [N, 1, H, W], [1, 1, H, W] or None; added to all 2C channels.
    returns [N, C, H, W] in x's dtype."""
    if x.shape[1] % 2:
        raise ValueError(f'affine_glu halves the channels of x, but x has {x.shape[1]}')
    return run_op('affine_glu', affine_glu_ref, x, *in_accumulation_dtype(x, scale, shift, noise))

def affine_glu_ref(x: torch.Tensor, scale: 'torch.Tensor | None' = None, shift: 'torch.Tensor | None' = None,
                   noise: 'torch.Tensor | None' = None) -> torch.Tensor:
    v = x.to(accumulation_dtype(x))
    scale, shift = (None if t is None else t.reshape(-1, 1, 1) for t in (scale, shift))
    if scale is not None and shift is not None:
        v = torch.addcmul(shift, v, scale)
    elif scale is not None:
        v = v * scale
    elif shift is not None:
        v = v + shift
    if noise is not None:
        v = v + noise
    return F.glu(v, dim=1).to(x.dtype)

#----------------------------------------------------------------------------
