"""Small convolutional networks (`--cfg=dcgan`), after Radford et al. 2015: a generator fed with Gaussian noise, with a vector
made from an image source, or, as a residual, with the image itself; and a discriminator. Both take classes.

No layer keeps running statistics and no sample depends on its batch: the generator normalises in groups of channels (Wu and
He 2018). G draws at half the resolution and moves channels into pixels last.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import math

import torch
import torch.nn.functional as F

from spider_plugin.portable.generators.host_calls import HostCalls
from spider_plugin.portable.layers.equalized import EqualConv2d, EqualLinear
from spider_plugin.portable.source.arguments import SpiderArguments, attach_spider
from spider_plugin.portable.source.latent import LatentMapping
from spider_plugin.portable.source.residual import ResidualMixin, bounded_atanh

#----------------------------------------------------------------------------
# Internal resolutions, from the lowest to half the image's, and the feature maps at each.

def dcgan_resolutions(img_resolution, lowest=4):
    """32 -> [4, 8, 16]. Raises ValueError unless img_resolution is a power of two from 16 to 1024."""
    if img_resolution not in [2 ** i for i in range(4, 11)]:
        raise ValueError(f'dcgan draws images whose side is a power of two from 16 to 1024, not {img_resolution}')
    return [lowest * 2 ** i for i in range(int(math.log2(img_resolution // 2 // lowest)) + 1)]

def dcgan_widths(resolutions, channel_base, channel_max):
    """Feature maps: channel_base / resolution, rounded to eights, at most channel_max."""
    base = channel_base or 24 * resolutions[-1]
    return [min(max(base // r // 8 * 8, 8), channel_max) for r in resolutions]

#----------------------------------------------------------------------------
# Convolution, group normalisation, ReLU.

class NormConv2d(torch.nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1):
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=(kernel_size - 1) // 2)
        self.norm = torch.nn.GroupNorm(max(out_channels // 8, 1), out_channels)
        torch.nn.init.normal_(self.conv.weight, std=0.05)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))

def upsample_nearest(x):
    """[N, C, H, W] -> [N, C, 2 H, 2 W]. On a CPU several times as fast as F.interpolate, both ways."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)

#----------------------------------------------------------------------------
# ws -> image. With s the source image, e its encoding, f the features of the latent, x the decoder's output, a = source_gain,
# k = source_skip_gain:
#   bottleneck = lerp(f, e(s), a),   skips = a e(s),   y = tanh(x + a k atanh(s))
# In a fresh run a = 1 is fixed, there is no f, and x starts at zero: the untrained generator returns s. With classes, a linear
# map of the class's embedding is added to its bottleneck. Where a Gaussian generator is resumed, a starts at 0 and is learned.
# k starts at 1 and is learned unless it is fixed. Without a source, y = tanh(x) with features f.

class DCGANSynthesis(ResidualMixin, torch.nn.Module):
    def __init__(self, w_dim, img_resolution, img_channels, channel_base, channel_max, source=None, gain=1.0, learn_skip=False,
                 c_dim=0):
        super().__init__()
        self.w_dim, self.img_resolution, self.img_channels, self.source = w_dim, img_resolution, img_channels, None
        self.resolutions = dcgan_resolutions(img_resolution)
        widths = dcgan_widths(self.resolutions, channel_base, channel_max)
        self.num_ws, self.bottleneck = 1, (widths[0], self.resolutions[0], self.resolutions[0])
        fresh = source is not None and gain > 0
        if not fresh:
            self.latent = torch.nn.Linear(w_dim, math.prod(self.bottleneck))
            self.latent_norm = torch.nn.GroupNorm(max(widths[0] // 8, 1), widths[0])
            torch.nn.init.normal_(self.latent.weight, std=0.1)
        self.decoder = torch.nn.ModuleList([NormConv2d(a, b) for a, b in zip(widths, widths[1:] + widths[-1:], strict=True)])
        self.to_pixels = torch.nn.Conv2d(widths[-1], 4 * img_channels, 3, padding=1)
        torch.nn.init.normal_(self.to_pixels.weight, std=0.05)
        torch.nn.init.zeros_(self.to_pixels.bias)
        if fresh:   # after the draw, so that layers made later get the same numbers as in a Gaussian generator
            torch.nn.init.zeros_(self.to_pixels.weight)
        if source is not None:
            self._attach_source(source, widths[::-1], gain, learn_skip)
        if fresh and c_dim > 0:
            self.class_features = torch.nn.Linear(w_dim, math.prod(self.bottleneck), bias=False)
            torch.nn.init.normal_(self.class_features.weight, std=0.1)

    def _attach_source(self, source, widths, gain, learn_skip):
        first = NormConv2d(4 * self.img_channels, widths[0])
        rest = [NormConv2d(a, b, 4, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        self.encoder = torch.nn.ModuleList([first, *rest])
        self.attach_gains(source, gain, learn_skip, channels=self.img_channels)

    def _encode(self, images):
        """Features at every internal resolution, the bottleneck's first."""
        features, x = [], F.pixel_unshuffle(images, 2)
        for layer in self.encoder:
            x = layer(x)
            features.insert(0, x)
        return features

    def _latent_features(self, ws):
        x = self.latent(ws[:, 0].to(self.latent.weight.dtype)).reshape(-1, *self.bottleneck)
        return F.leaky_relu(self.latent_norm(x), 0.2)

    def _decode(self, x, skips):
        for i, layer in enumerate(self.decoder):
            if i > 0:
                x = upsample_nearest(x)
                x = x if skips is None else x + skips[i] * self.source_gain
            x = layer(x)
        return F.pixel_shuffle(self.to_pixels(x), 2)

    def forward(self, ws, update_emas=False, source_image=None, **_unused):
        """ws [N, num_ws of the mapping, w_dim] -> images [N, C, R, R] in [-1, 1].

        source_image: float32 [N, C, r, r] in [-1, 1], in place of the one the key names (source interpolation).
        Other keywords of hosts (noise_mode, force_fp32) change nothing."""
        if self.source is None:
            return torch.tanh(self._decode(self._latent_features(ws), skips=None))
        s = self.source_image(ws) if source_image is None else source_image
        if s.shape[-1] != self.img_resolution:
            s = F.interpolate(s, size=[self.img_resolution] * 2, mode='bilinear', align_corners=False)
        s = s.to(self.to_pixels.weight.dtype)
        skips = self._encode(s)
        x = skips[0]
        if hasattr(self, 'latent'):
            x = self._latent_features(ws).lerp(x, self.source_gain)
        elif hasattr(self, 'class_features'):
            x = x + self.class_features(ws[:, 0].to(x.dtype)).reshape(-1, *self.bottleneck)
        return torch.tanh(self._decode(x, skips) + self.source_gain * self.source_skip_gain * bounded_atanh(s))

#----------------------------------------------------------------------------

class DCGANGenerator(HostCalls, torch.nn.Module):
    """Convolutional generator with the hosts' interface; Gaussian, fed with a vector from an image source, or its residual.

    z_dim, w_dim:   length of the latent; w_dim (default: the same) must equal it.
    c_dim:          classes, whose embedding is added to the latent; a class has source images of its own where the source has.
    spider, source: see attach_spider.
    channel_base, channel_max: feature maps at resolution r are channel_base / r (default 12 img_resolution / r), at most
                    channel_max.
    forward(z [N, z_dim], c [N, c_dim] or None) -> float32 [N, img_channels, img_resolution, img_resolution] in [-1, 1].
    Raises ValueError for sizes that do not fit, and for an unknown mapping."""

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, w_dim=None, spider=None, channel_base=None,
                 channel_max=32, source=None):
        super().__init__()
        w_dim = w_dim or z_dim
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        arguments = attach_spider(self, spider, source) or SpiderArguments('residual', gain=0.0)
        residual = self.source if arguments.residual else None
        self.synthesis = DCGANSynthesis(w_dim, img_resolution, img_channels, channel_base, channel_max, residual, arguments.gain,
                                        arguments.learn_skip, c_dim)
        self.mapping = LatentMapping(z_dim, c_dim, w_dim, self.source, arguments.mapping,
                                     class_alone=residual is not None and arguments.gain > 0)
        self.num_ws = self.mapping.num_ws

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff, update_emas=update_emas)
        return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)

#----------------------------------------------------------------------------
# Standard deviation over groups of the batch as an extra feature map (Karras et al. 2018, section 3).

def minibatch_std(x, group_size):
    """x [N, C, H, W] -> [N, C + 1, H, W]; the group is the largest divisor of N up to group_size."""
    group = max(g for g in range(1, group_size + 1) if len(x) % g == 0)
    y = x.reshape(group, -1, *x.shape[1:])
    y = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=[1, 2, 3])
    return torch.cat([x, y.repeat(group).reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], dim=1)

# A class's embedding is projected on the features: D(x, c) = psi(h) + <e(c), h> (Miyato and Koyama 2018, equation 2).

class ClassProjection(torch.nn.Module):
    def __init__(self, c_dim, features):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([features, c_dim]))
        self.gain = 1 / math.sqrt(features)

    def forward(self, h, c):
        """h [N, features], c [N, c_dim] -> [N, 1]."""
        return (F.linear(c.to(h.dtype), self.weight) * h).sum(dim=1, keepdim=True) * self.gain

#----------------------------------------------------------------------------

class DCGANDiscriminator(torch.nn.Module):
    """Convolutional discriminator with equalised learning rate; smooth enough for R1 (twice differentiable).

    c_dim > 0 makes it a projection discriminator.
    channel_base, channel_max: as for the generator.
    forward(img [N, C, R, R] in [-1, 1], c [N, c_dim] or None) -> logits [N, 1]."""

    def __init__(self, c_dim, img_resolution, img_channels, channel_base=None, channel_max=40, mbstd_group_size=8):
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.mbstd_group_size = mbstd_group_size
        resolutions = dcgan_resolutions(img_resolution, lowest=min(img_resolution // 4, 8))
        widths = dcgan_widths(resolutions, channel_base, channel_max)[::-1]
        layers = [EqualConv2d(4 * img_channels, widths[0], 4, stride=2)]
        layers += [EqualConv2d(a, b, 4, stride=2) for a, b in zip(widths[:-2], widths[1:-1], strict=True)]
        self.layers = torch.nn.Sequential(*layers, EqualConv2d(widths[-2], widths[-1], 3))
        self.hidden = EqualLinear((widths[-1] + 1) * resolutions[0] ** 2, 64)
        self.out = EqualLinear(64, 1, activate=False)
        self.project = ClassProjection(c_dim, 64) if c_dim > 0 else None

    def forward(self, img, c, update_emas=False):
        x = self.layers(F.pixel_unshuffle(img, 2))
        x = self.hidden(minibatch_std(x, self.mbstd_group_size).flatten(1))
        return self.out(x) if self.project is None else self.out(x) + self.project(x, c)

#----------------------------------------------------------------------------
