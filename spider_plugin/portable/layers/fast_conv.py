"""The convolutions of StyleGAN2's layers on a CPU by the kernels of torch_utils_ext: the same functions, with derivatives of
every order, and rounding errors of about 1e-5 of the largest value in float32.

A 3x3 convolution of many channels, alone or with the filter that halves or doubles the image, is computed by minimal filtering;
bias, activation, gain and clamp are one pass. On a GPU the host's layers serve.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import math

import torch

from spider_plugin.portable.layers.host_arguments import check_defaults
from torch_utils_ext.ops.conv3x3 import conv3x3, conv3x3_down2, conv3x3_up2
from torch_utils_ext.ops.depthwise_up2 import depthwise_up2_transpose
from torch_utils_ext.ops.epilogue import epilogue

LEAST_CHANNELS = 32     # of a 3x3 convolution on both sides, and
LEAST_TILES    = 16     # of 4x4 pixels in a batch: for fewer, torch's convolution is as fast

#----------------------------------------------------------------------------

def filter_taps(f):
    """Return the four numbers whose outer product with themselves is the filter f [4, 4] of a layer, [] where there are none."""
    if f is None or f.shape != (4, 4):
        return []
    f = f.double()
    taps = f.sum(dim=1) / f.sum().clamp(min=1e-8).sqrt()
    return taps.tolist() if torch.allclose(torch.outer(taps, taps), f, rtol=1e-6, atol=0) else []

def fast_conv(x, w, taps, up=1, down=1):
    """Return what a host's conv2d_resample does with the taps of a filter and padding of half the kernel, None where no kernel
    serves.

    x: [N, I, H, W]; w: [O, I, K, K] in x's dtype, correlated where up is 1, convolved where it is 2."""
    if not x.is_cpu or w.shape[2] not in (1, 3):
        return None
    tiles = x.shape[0] * math.ceil(x.shape[2] / (4 * down)) * math.ceil(x.shape[3] / (4 * down))
    if w.shape[2] == 3 and (min(w.shape[:2]) < LEAST_CHANNELS or tiles < LEAST_TILES):
        return None
    if (up * down == 2 and not taps) or (down == 2 and (x.shape[2] % 2 or x.shape[3] % 2)):
        return None
    match (w.shape[2], up, down):
        case (3, 1, 1):
            return conv3x3(x, w)
        case (3, 1, 2):
            return conv3x3_down2(x, w, taps[::-1])      # hosts convolve with f
        case (3, 2, 1):
            return conv3x3_up2(x, w.transpose(0, 1), [2 * tap for tap in taps])
        case (1, 1, 1):
            return product(x, w)
        case (1, 1, 2):
            return product(halved(x, taps[::-1]), w)
    return None

def product(x, w):
    """Return the product over channels of x [N, I, H, W] and w [O, I, 1, 1], as [N, O, H, W]."""
    return torch.bmm(w.flatten(1).expand(len(x), -1, -1), x.flatten(2)).unflatten(2, x.shape[2:])

def halved(x, taps):
    """Return x [N, C, H, W] correlated with four taps in both dimensions at every second pixel, zero padding 1, as
    [N, C, H / 2, W / 2]."""
    t = taps
    phases = torch.tensor([[t[3], t[1], 0], [0, t[2], t[0]]], dtype=x.dtype)    # of the transpose: pixels 2i and 2i + 1
    k = (phases[:, None, :, None] * phases[None, :, None, :]).reshape(1, 1, 4, 3, 3)
    return depthwise_up2_transpose(x, k.expand(1, x.shape[1], 4, 3, 3))

#----------------------------------------------------------------------------
# The layer of StyleGAN2's discriminator.

class FastConv2dMixin:
    def attach_fast(self):
        self.fast_taps = filter_taps(self.resample_filter)

    def forward(self, x, gain=1, **others):
        """Return [N, O, H * up / down, W * up / down] from x [N, I, H, W]."""
        bare = self.activation == 'linear' and self.bias is None and self.conv_clamp is None
        w = (self.weight * (self.weight_gain * (self.act_gain * gain if bare else 1))).to(x.dtype)
        if not x.is_cpu or self.activation not in ('linear', 'lrelu') or self.padding != w.shape[2] // 2:
            return super().forward(x, gain=gain, **others)
        check_defaults(super().forward, others)
        y = fast_conv(x, w, self.fast_taps, self.up, self.down)
        if y is None:
            y = self.host.conv2d_resample.conv2d_resample(x, w, f=self.resample_filter, up=self.up, down=self.down,
                                                          padding=self.padding, flip_weight=self.up == 1)
        clamp = self.conv_clamp * gain if self.conv_clamp is not None else None
        return y if bare else epilogue(y, bias=self.bias, act=self.activation, gain=self.act_gain * gain, clamp=clamp)

class FastDiscriminatorMixin:
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for layer in self.modules():
            if type(layer) is self.fast_conv2d.host.Conv2dLayer:
                layer.__class__ = self.fast_conv2d
                layer.attach_fast()

#----------------------------------------------------------------------------
