"""A host's own generator, fed from an image source.

A bundle (bundles/source.py) joins these mixins with a host's Generator, MappingNetwork and SynthesisNetwork. Names and shapes
of the host's parameters stay as they are, so stock pickles resume into the result.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import contextlib

import torch
import torch.nn.functional as F

from spider_plugin.portable.source.arguments import attach_spider
from spider_plugin.portable.source.encoder import SourceEncoder
from spider_plugin.portable.source.key import key_slots, pack_key
from spider_plugin.portable.source.mapping import build_input
from spider_plugin.portable.source.residual import ResidualMixin

#----------------------------------------------------------------------------
# z -> source image -> vector -> the host's mapping network; or, for the residual kind, z -> the host's mapping network,
# and the source's key in the trailing rows of ws.

class SpiderMappingMixin:
    def attach_source(self, source, kind, z_dim):
        self.source = source
        self.source_input = build_input(kind, source, z_dim)
        self.key_slots = 0
        if self.source_input is None:
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
# Residual synthesis (residual.py) over a host's. With s the source image, e a small encoder, a = source_gain, the constant input
# becomes lerp(const, e(s), a). In a fresh run the RGB weights are zero, so that the output starts at zero.

class SpiderSynthesisMixin(ResidualMixin):
    def attach_source(self, source, gain, learn_skip=False):
        block = getattr(self, 'b4', None)
        if getattr(block, 'const', None) is None or not hasattr(block, 'conv1'):
            raise ValueError('the residual mapping needs a synthesis network that starts from a constant 4x4 input')
        self.source_encoder = SourceEncoder(source.resolution, source.channels, out_channels=block.const.shape[0])
        self.attach_gains(source, gain, learn_skip)
        if gain > 0:
            self._clear_rgb()

    def _clear_rgb(self):
        with torch.no_grad():
            for name, module in self.named_modules():
                if name.split('.')[-1] == 'torgb':
                    module.weight.zero_()

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
            out = super().forward(ws[:, : self.num_ws], *args, **kwargs)
        x, *more = out if isinstance(out, (tuple, list)) else (out,)    # some hosts return features beside the image
        s = F.interpolate(image.to(x.dtype), size=x.shape[-2:], mode='bilinear', align_corners=False)
        drawn = self.add_source(x, s)
        return (drawn, *more) if isinstance(out, (tuple, list)) else drawn

#----------------------------------------------------------------------------

class SpiderGeneratorMixin:
    """spider: JSON, as SpiderArguments reads it; source: see attach_spider."""

    def __init__(self, *args, spider, source=None, **kwargs):
        super().__init__(*args, **kwargs)
        arguments = attach_spider(self, spider, source)
        self.mapping.__class__ = self.mapping_class
        self.mapping.attach_source(self.source, arguments.mapping, self.z_dim)
        if arguments.residual:
            self.num_ws = self.mapping.num_ws
            self.synthesis.__class__ = self.synthesis_class
            self.synthesis.attach_source(self.source, arguments.gain, arguments.learn_skip)

#----------------------------------------------------------------------------
