"""Progressively grown networks (`--cfg=pggan`), after Karras et al. 2018 (arXiv 1710.10196), 4^2 to 1024^2.

How far a network has grown is a buffer of its own, so that it travels with averages, checks and snapshots: `progress` counts
phases, each as long as the schedule says (training/progressive.py): 4^2, fading in 8^2, 8^2, fading in 16^2, and so on.

Images are img_resolution wide whatever the stage: G repeats pixels, D averages them.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import math

import torch
import torch.nn.functional as F

from spider_plugin.portable.generators.dcgan import ClassProjection, minibatch_std, upsample_nearest
from spider_plugin.portable.generators.host_calls import HostCalls
from spider_plugin.portable.source.arguments import SpiderArguments, attach_spider
from spider_plugin.portable.source.encoder import SourceEncoder
from spider_plugin.portable.source.latent import LatentMapping, unit_rms
from spider_plugin.portable.source.residual import ResidualMixin

#----------------------------------------------------------------------------
# Stages.

def pggan_resolutions(img_resolution):
    """32 -> [4, 8, 16, 32]. Raises ValueError unless img_resolution is a power of two from 4 to 1024."""
    if img_resolution not in [2 ** i for i in range(2, 11)]:
        raise ValueError(f'pggan draws images whose side is a power of two from 4 to 1024, not {img_resolution}')
    return [2 ** i for i in range(2, int(math.log2(img_resolution)) + 1)]

def stage_and_fade(progress, num_stages):
    """(index of the newest resolution, how far it has faded in, up to 1) after so many phases."""
    phase = int(progress)
    if phase % 2 == 0 or phase > 2 * (num_stages - 1):
        return min(phase // 2, num_stages - 1), 1.0
    return (phase + 1) // 2, progress - phase

def faded(images, fade):
    """Images [N, C, R, R], R the newest resolution, as they look while it fades in: lerp(up(down(x)), x, fade)."""
    return images if fade == 1 else upsample_nearest(F.avg_pool2d(images, 2)).lerp(images, fade)

def down_to(images, resolution):
    """Averages blocks of pixels of images that are larger."""
    factor = images.shape[-1] // resolution
    return F.avg_pool2d(images, factor) if factor > 1 else images

class PGGANNetwork(torch.nn.Module):
    """What G's synthesis and D have in common: the stage, in a buffer, and layers by resolution."""

    def __init__(self, img_resolution, channel_base, channel_max):
        super().__init__()
        self.img_resolution, self.resolutions = img_resolution, pggan_resolutions(img_resolution)
        self.widths = [min(channel_base // r, channel_max) for r in self.resolutions]
        self.register_buffer('progress', torch.zeros([]))

    def stage(self):
        """(index into self.resolutions, fade)."""
        return stage_and_fade(float(self.progress), len(self.resolutions))

    def layer(self, name, index):
        """The module of a resolution by the beginning of its name."""
        return getattr(self, f'{name}{self.resolutions[index]}')

#----------------------------------------------------------------------------
# Layers with equalised learning rate (section 4.1): weights of unit variance, scaled by gain / sqrt(fan-in) when used.

class PGGANConv2d(torch.nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, gain=math.sqrt(2)):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain, self.padding = gain / math.sqrt(in_channels * kernel_size ** 2), kernel_size // 2

    def forward(self, x):
        return F.conv2d(x, self.weight * self.weight_gain, self.bias, padding=self.padding)

class PGGANLinear(torch.nn.Module):
    def __init__(self, in_features, out_features, gain=math.sqrt(2)):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]))
        self.bias = torch.nn.Parameter(torch.zeros([out_features]))
        self.weight_gain = gain / math.sqrt(in_features)

    def forward(self, x):
        return F.linear(x, self.weight * self.weight_gain, self.bias)

def leaky(x):
    return F.leaky_relu(x, 0.2)

def normalised(x):
    """Leaky ReLU, then pixel normalisation (section 4.2)."""
    return unit_rms(leaky(x))

class PGGANGrow(torch.nn.Module):
    """A resolution of G: nearest-neighbour x2 and two convolutions."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv0 = PGGANConv2d(in_channels, out_channels, 3)
        self.conv1 = PGGANConv2d(out_channels, out_channels, 3)

    def forward(self, x):
        return normalised(self.conv1(normalised(self.conv0(upsample_nearest(x)))))

class PGGANShrink(torch.nn.Module):
    """A resolution of D: two convolutions and an average over 2 x 2 pixels."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv0 = PGGANConv2d(in_channels, in_channels, 3)
        self.conv1 = PGGANConv2d(in_channels, out_channels, 3)

    def forward(self, x):
        return F.avg_pool2d(leaky(self.conv1(leaky(self.conv0(x)))), 2)

#----------------------------------------------------------------------------
# ws -> image, y = lerp(up(rgb'(x')), rgb(x), fade) with x' the features before the newest resolution. With a source image s at
# the newest resolution, e its encoding and a = gain:
#   features' = features + a e(s) before the first layer,   y' = lerp(y, tanh(y + atanh(s)), a)
# In a fresh run a = 1 is fixed and y starts at zero: the untrained generator returns s at each of its stages.
# Where a Gaussian generator is resumed, a starts at 0 and is learned.

class PGGANSynthesis(ResidualMixin, PGGANNetwork):
    def __init__(self, w_dim, img_resolution, img_channels, channel_base, channel_max, source=None, gain=1.0):
        super().__init__(img_resolution, channel_base, channel_max)
        self.w_dim, self.img_channels, self.source, self.num_ws = w_dim, img_channels, None, 1
        self.dense = PGGANLinear(w_dim, self.widths[0] * 16, gain=math.sqrt(2) / 4)
        self.conv4 = PGGANConv2d(self.widths[0], self.widths[0], 3)
        self.torgb4 = PGGANConv2d(self.widths[0], img_channels, 1, gain=1)
        for r, before, width in zip(self.resolutions[1:], self.widths, self.widths[1:]):
            self.add_module(f'b{r}', PGGANGrow(before, width))
            self.add_module(f'torgb{r}', PGGANConv2d(width, img_channels, 1, gain=1))
        if source is not None:
            self._attach_source(source, gain)

    def _attach_source(self, source, gain):
        self.source_encoder = SourceEncoder(source.resolution, source.channels, out_channels=self.widths[0])
        self.attach_gains(source, gain, channels=self.img_channels)
        if gain > 0:
            with torch.no_grad():
                for i in range(len(self.resolutions)):
                    self.layer('torgb', i).weight.zero_()

    def _join(self, y, s, fade):
        if s.shape[-1] < y.shape[-1]:
            s = F.interpolate(s, size=y.shape[-2:], mode='bilinear', align_corners=False)
        s = faded(down_to(s, y.shape[-1]), fade)
        return self.add_source(y, s)

    def forward(self, ws, source_image=None, full=True, **_unused):
        """ws [N, num_ws of the mapping, w_dim] -> images [N, C, R, R], about [-1, 1].

        source_image: float32 [N, C, r, r] in [-1, 1], in place of the one the key names (source interpolation).
        full:         False leaves images at the newest resolution.
        Other keywords of hosts (noise_mode, force_fp32, update_emas) change nothing."""
        stage, fade = self.stage()
        x = self.dense(ws[:, 0].to(self.dense.weight.dtype)).reshape(ws.shape[0], -1, 4, 4)
        if self.source is not None:
            s = (self.source_image(ws) if source_image is None else source_image).to(x.dtype)
            x = x + self.source_gain * self.source_encoder(down_to(s, self.source.resolution))
        x = normalised(self.conv4(normalised(x)))
        for i in range(1, stage + 1):
            before, x = x, self.layer('b', i)(x)
        y = self.layer('torgb', stage)(x)
        if fade < 1:
            y = upsample_nearest(self.layer('torgb', stage - 1)(before)).lerp(y, fade)
        if self.source is not None:
            y = self._join(y, s, fade)
        while full and y.shape[-1] < self.img_resolution:
            y = upsample_nearest(y)
        return y

#----------------------------------------------------------------------------

class PGGANGenerator(HostCalls, torch.nn.Module):
    """Progressively grown generator with the hosts' interface; Gaussian, fed with a vector from an image source, or its residual.

    z_dim, w_dim:   length of the latent, which is put on a sphere; w_dim (default: the same) must equal it.
    c_dim:          classes, whose embedding is added to the latent; a class has source images of its own where the source has.
    spider, source: see attach_spider.
    channel_base, channel_max: feature maps at resolution r are channel_base / r, at most channel_max; the defaults are as
                    published.
    forward(z [N, z_dim], c [N, c_dim] or None) -> float32 [N, img_channels, img_resolution, img_resolution], about [-1, 1].
    Raises ValueError for sizes that do not fit, and for an unknown mapping."""

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, w_dim=None, spider=None, channel_base=16384,
                 channel_max=512, source=None):
        super().__init__()
        w_dim = w_dim or z_dim
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        arguments = attach_spider(self, spider, source) or SpiderArguments('residual')
        residual = self.source if arguments.residual else None
        self.synthesis = PGGANSynthesis(w_dim, img_resolution, img_channels, channel_base, channel_max, residual, arguments.gain)
        self.mapping = LatentMapping(z_dim, c_dim, w_dim, self.source, arguments.mapping, spherical=True)
        self.num_ws = self.mapping.num_ws

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff, update_emas=update_emas)
        return self.synthesis(ws, **synthesis_kwargs)

#----------------------------------------------------------------------------

class PGGANDiscriminator(PGGANNetwork):
    """Progressively grown discriminator; c_dim > 0 makes it a projection discriminator.

    channel_base, channel_max: as for the generator.
    forward(img [N, C, R, R] of img_resolution, or of the newest one; c [N, c_dim] or None) -> logits [N, 1]."""

    def __init__(self, c_dim, img_resolution, img_channels, channel_base=16384, channel_max=512, mbstd_group_size=4):
        super().__init__(img_resolution, channel_base, channel_max)
        self.c_dim, self.img_channels, self.mbstd_group_size = c_dim, img_channels, mbstd_group_size
        for r, before, width in zip(self.resolutions, self.widths[:1] + self.widths, self.widths):
            self.add_module(f'fromrgb{r}', PGGANConv2d(img_channels, width, 1))
            if r > 4:
                self.add_module(f'b{r}', PGGANShrink(width, before))
        width = self.widths[0]
        self.conv4 = PGGANConv2d(width + 1, width, 3)
        self.hidden = PGGANLinear(width * 16, width)
        self.out = PGGANLinear(width, 1, gain=1)
        self.project = ClassProjection(c_dim, width) if c_dim > 0 else None

    def forward(self, img, c, update_emas=False):
        stage, fade = self.stage()
        img = down_to(img, self.resolutions[stage])
        x = leaky(self.layer('fromrgb', stage)(img))
        for i in range(stage, 0, -1):
            x = self.layer('b', i)(x)
            if i == stage and fade < 1:
                x = leaky(self.layer('fromrgb', i - 1)(F.avg_pool2d(img, 2))).lerp(x, fade)
        x = leaky(self.conv4(minibatch_std(x, self.mbstd_group_size)))
        x = leaky(self.hidden(x.flatten(1)))
        return self.out(x) if self.project is None else self.out(x) + self.project(x, c)

#----------------------------------------------------------------------------
