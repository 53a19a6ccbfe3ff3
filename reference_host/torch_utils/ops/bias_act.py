"""Bias, activation, gain and clamp in one call."""

import math

import torch
import torch.nn.functional as F

import dnnlib

#----------------------------------------------------------------------------
# {act: func(x, alpha), the default alpha, the default gain}. The gain keeps the second moment of a normal input near one.

def _activation(func, def_alpha=0.0, def_gain=1.0):
    return dnnlib.EasyDict(func=func, def_alpha=def_alpha, def_gain=def_gain)

activation_funcs = dict(
    linear   = _activation(lambda x, alpha: x),
    relu     = _activation(lambda x, alpha: F.relu(x),              def_gain=math.sqrt(2)),
    lrelu    = _activation(lambda x, alpha: F.leaky_relu(x, alpha), def_gain=math.sqrt(2), def_alpha=0.2),
    tanh     = _activation(lambda x, alpha: torch.tanh(x)),
    sigmoid  = _activation(lambda x, alpha: torch.sigmoid(x)),
    elu      = _activation(lambda x, alpha: F.elu(x)),
    selu     = _activation(lambda x, alpha: F.selu(x)),
    softplus = _activation(lambda x, alpha: F.softplus(x)),
    swish    = _activation(lambda x, alpha: torch.sigmoid(x) * x,   def_gain=math.sqrt(2)),
)

#----------------------------------------------------------------------------

def bias_act(x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, impl='ref'):
    """Return act(x + b) * gain, clamped to [-clamp, clamp]. It is differentiable any number of times.

    x: any shape and floating dtype; b: [x.shape[dim]] of the same dtype, added along dim, or None.
    act: a key of activation_funcs, whose alpha and gain are the defaults. clamp: a number, None for no clamp.
    impl: ignored; other hosts have several implementations. Raises ValueError for a wrong b.
    """
    spec = activation_funcs[act]
    if b is not None:
        if b.shape != x.shape[dim : dim + 1 or None]:
            raise ValueError(f'bias_act: bias of shape {list(b.shape)} along dimension {dim} of {list(x.shape)}.')
        x = x + b.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    x = spec.func(x, float(spec.def_alpha if alpha is None else alpha))
    gain = float(spec.def_gain if gain is None else gain)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)

#----------------------------------------------------------------------------
