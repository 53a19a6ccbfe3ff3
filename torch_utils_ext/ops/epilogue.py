"""The epilogue of a modulated layer in one pass: demodulation, noise, bias, activation, gain and clamp after its product.

This module is portable."""

import torch
import torch.nn.functional as F

from torch_utils_ext.dispatch import run_op
from torch_utils_ext.ops.depthwise import accumulation_dtype, in_accumulation_dtype

#----------------------------------------------------------------------------

def epilogue(x: torch.Tensor, demod: 'torch.Tensor | None' = None, noise: 'torch.Tensor | None' = None,
             bias: 'torch.Tensor | None' = None, act: str = 'linear', alpha: float = 0.2, gain: float = 1.0,
             clamp: 'float | None' = None) -> torch.Tensor:
    """clamp(gain * act(x * demod + noise + bias)).

    x:      [N, C, H, W], float32, float16, bfloat16 or float64.
    demod:  [N, C] or None; demod, noise and bias are converted to float32 (float64 if x is).
    noise:  [N, 1, H, W], [1, 1, H, W] or None.
    bias:   [C] or None.
    act:    'linear' or 'lrelu' with slope alpha.
    clamp:  bound of the absolute value of the result, or None.
    returns [N, C, H, W] in x's dtype."""
    check_act(act)
    sides = in_accumulation_dtype(x, demod, noise, bias)
    return run_op('epilogue', epilogue_ref, x, *sides, act, float(alpha), float(gain), clamp)

def check_act(act: str) -> None:
    if act not in ('linear', 'lrelu'):
        raise ValueError(f"act is {act!r}, expected 'linear' or 'lrelu'")

def epilogue_ref(x: torch.Tensor, demod: 'torch.Tensor | None' = None, noise: 'torch.Tensor | None' = None,
                 bias: 'torch.Tensor | None' = None, act: str = 'linear', alpha: float = 0.2, gain: float = 1.0,
                 clamp: 'float | None' = None) -> torch.Tensor:
    y = x.to(accumulation_dtype(x))
    if demod is not None:
        y = y * demod.reshape(*demod.shape, 1, 1)
    if noise is not None:
        y = y + noise
    if bias is not None:
        y = y + bias.reshape(-1, 1, 1)
    if act == 'lrelu':
        y = F.leaky_relu(y, alpha)
    if gain != 1:
        y = y * gain
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    return y.to(x.dtype)

#----------------------------------------------------------------------------
