"""The part that residual generators share: the source image joins the pixels.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import torch

from spider_plugin.portable.source.key import keyed_images

#----------------------------------------------------------------------------
# With s the source image, x the network's output, a = source_gain, k = source_skip_gain:
#   y = lerp(x, tanh(x + k atanh(s)), a)
# a = 1, fixed, in a fresh run, where x starts at zero: the untrained generator returns s, clamped to [-0.96, 0.96], to the last
# bits. Where a stock generator is resumed, a = 0 is learned: the first output is the stock one.

class ResidualMixin:
    """A synthesis network with `num_ws` rows of styles, after which ws may hold the key of a source image."""

    def attach_gains(self, source, gain, learn_skip=None, channels=None):
        """Sets `source`, `source_gain` and, unless learn_skip is None, `source_skip_gain`.

        gain:       above 0: fixed; 0: learned from 0 on.
        learn_skip: whether k is a parameter; None for a network without k.
        channels:   those of the network's images. Raises ValueError where the source has others."""
        if channels is not None and source.channels != channels:
            raise ValueError(f'the source has {source.channels} channels, the images have {channels}')
        self.source = source
        if gain > 0:
            self.register_buffer('source_gain', torch.tensor(float(gain)))
        else:
            self.source_gain = torch.nn.Parameter(torch.zeros([]))
        if learn_skip:
            self.source_skip_gain = torch.nn.Parameter(torch.ones([]))
        elif learn_skip is not None:
            self.register_buffer('source_skip_gain', torch.ones([]))

    def source_image(self, ws):
        """The image that the key in ws [N, rows, w_dim] names; the mean source image where there is no intact key."""
        return keyed_images(ws[:, self.num_ws :], self.source)

    def add_source(self, x, s, inner=None):
        """The output x with the source image s of the same shape and dtype in its pixels; inner: in place of x inside tanh."""
        pixels = bounded_atanh(s)
        if hasattr(self, 'source_skip_gain'):
            pixels = pixels * self.source_skip_gain.to(x.dtype)
        return torch.lerp(x, torch.tanh((x if inner is None else inner) + pixels), self.source_gain.to(x.dtype))

def bounded_atanh(s):
    """atanh of s clamped to [-0.96, 0.96], at most 1.95."""
    return torch.atanh(s.clamp(-0.96, 0.96))

#----------------------------------------------------------------------------
