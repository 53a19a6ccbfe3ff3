"""A host's own generator, fed from an image source.

A bundle (bundles/source.py) joins these mixins with a host's Generator, MappingNetwork and SynthesisNetwork. Names and shapes
of the host's parameters stay as they are, so stock pickles resume into the result.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import contextlib

import torch
import torch.nn.functional as F

from spider_plugin.portable.source.bank import open_spider_source
from spider_plugin.portable.source.encoder import SourceEncoder, add_skip_gain
from spider_plugin.portable.source.key import key_slots, keyed_images, pack_key
from spider_plugin.portable.source.mapping import mapping_input

#----------------------------------------------------------------------------
# z -> source image -> vector -> the host's mapping network; or, for the residual kind, z -> the host's mapping network,
# and the source's key in the trailing rows of ws.

class SpiderMappingMixin:
    def attach_source(self, source, kind, z_dim):
        self.source = source
        self.source_input = mapping_input(kind, source, z_dim)
        self.key_slots = 0
        if kind == 'residual':
            self.key_slots = key_slots(source.key_dim, self.w_dim)
            self.num_ws += self.key_slots  # the host's forward broadcasts to this many rows, and tools read it

    def forward(self, z, c, *args, **kwargs):
        """z [N, z_dim], c [N, c_dim] or None -> ws [N, num_ws, w_dim], the last key_slots rows of it the source's key."""
        if self.source_input is not None:
            return super().forward(self.source_input(self.source.sample(z, c)), c, *args, **kwargs)
        ws = super().forward(z, c, *args, **kwargs)
        rows = pack_key(self.source.key(z, c), self.key_slots, self.w_dim, ws.dtype)
        return torch.cat([ws[:, : -self.key_slots], rows], dim=1)

#----------------------------------------------------------------------------
# Residual synthesis. With s the source image, x the host's output, e a small encoder, a = source_gain, k = source_skip_gain:
#   y      = lerp(x, tanh(x + k atanh(s)), a)
#   const' = lerp(const, e(s), a)
# a = 1, fixed, in a fresh run, where x starts near zero: the untrained generator is the identity on s. a = 0, learned,
# where a stock generator is resumed: the first output is the stock one. k starts at 1 and is learned unless it is fixed.

class SpiderSynthesisMixin:
    def attach_source(self, source, gain, learn_skip=False):
        self.source = source
        block = getattr(self, 'b4', None)
        if getattr(block, 'const', None) is None or not hasattr(block, 'conv1'):
            raise ValueError('the residual mapping needs a synthesis network that starts from a constant 4x4 input')
        self.source_encoder = SourceEncoder(source.resolution, source.channels, out_channels=block.const.shape[0])
        if gain > 0:
            self.register_buffer('source_gain', torch.tensor(float(gain)))
            self._shrink_rgb(0.05)
        else:
            self.source_gain = torch.nn.Parameter(torch.zeros([]))
        add_skip_gain(self, learn_skip)

    def _shrink_rgb(self, factor):
        with torch.no_grad():
            for name, module in self.named_modules():
                if name.split('.')[-1] == 'torgb':
                    module.weight.mul_(factor)

    def source_image(self, ws):
        """The image that the key in ws [N, rows, w_dim] names; the mean source image where there is no intact key."""
        return keyed_images(ws[:, self.num_ws :], self.source)

    @contextlib.contextmanager
    def _replaced_const(self, features):
        def hook(_module, args):
            x, *rest = args
            return x + self.source_gain.to(x.dtype) * (features.to(x.dtype) - x), *rest
        handle = self.b4.conv1.register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def forward(self, ws, *args, source_image=None, **kwargs):
        """ws [N, num_ws (+ key rows), w_dim] -> images [N, C, R, R] in [-1, 1].

        source_image: float32 [N, C, r, r] in [-1, 1], in place of the one the key names (source interpolation)."""
        image = self.source_image(ws) if source_image is None else source_image
        weights_dtype = self.source_encoder.layers[0].weight.dtype
        with self._replaced_const(self.source_encoder(image.to(weights_dtype))):
            x = super().forward(ws[:, : self.num_ws], *args, **kwargs)
        s = F.interpolate(image.to(x.dtype), size=x.shape[-2:], mode='bilinear', align_corners=False)
        s = torch.atanh(s.clamp(-0.96, 0.96)) * self.source_skip_gain.to(x.dtype)
        return torch.lerp(x, torch.tanh(x + s), self.source_gain.to(x.dtype))

#----------------------------------------------------------------------------
# `spider` is JSON: {"mapping": kind, "source": prepared directory, "noise": std, "embed": MiB, "gain": 1.0 or 0.0,
# "learn_skip": bool, "classes": None or the source class of each target class, -1 for any}.

class SpiderGeneratorMixin:
    def __init__(self, *args, spider, **kwargs):
        super().__init__(*args, **kwargs)
        self.spider_format = 1
        kind = spider['mapping']
        self.source = open_spider_source(spider)
        self.mapping.__class__ = self.mapping_class
        self.mapping.attach_source(self.source, kind, self.z_dim)
        if kind == 'residual':
            self.num_ws = self.mapping.num_ws
            self.synthesis.__class__ = self.synthesis_class
            self.synthesis.attach_source(self.source, spider.get('gain', 1.0), spider.get('learn_skip', False))

#----------------------------------------------------------------------------
