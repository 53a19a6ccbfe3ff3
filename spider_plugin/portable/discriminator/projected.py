"""The discriminator of Projected GAN (Sauer et al. 2021): a frozen feature network, frozen random projections that mix its
channels (CCM) and scales (CSM), and four small discriminators, heads, on the four maps that come out.

State-dict keys are those of the public code, so that its heads and projections carry over; the feature network is no part of
the state dict, its weights are published ones.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import math

import torch
import torch.nn.functional as F

from spider_plugin.portable.discriminator.diffaug import diffaug
from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures
from spider_plugin.portable.layers.norms import RankBatchNorm2d
from spider_plugin.portable.layers.spectral_norm import SpectralConv2d

#----------------------------------------------------------------------------
# Projections: buffers, drawn as torch draws a convolution, from a seed.

class FrozenConv(torch.nn.Module):
    """A 1x1 convolution that nobody trains: `weight` [out, in, 1, 1] and `bias` [out] are buffers."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.register_buffer('weight', torch.zeros([out_channels, in_channels, 1, 1]))
        self.register_buffer('bias', torch.zeros([out_channels]))

    def draw(self, rng):    # No argument of the constructor: pickles keep those, and a generator is no data.
        bound = self.weight.shape[1] ** -0.5
        for buffer in (self.weight, self.bias):
            buffer.copy_((torch.rand(buffer.shape, generator=rng) * 2 - 1) * bound)

class Fusion(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.out_conv = FrozenConv(in_channels, out_channels)

class ProjectedFeatures(torch.nn.Module):
    """Images -> the four projected maps.

    The public order of operations, from the smallest map f_3 up:  y_l = C_l(up(y_{l+1} + A_l(f_l))), A_l and C_l affine 1x1 maps,
    up bilinear. 1x1 maps and interpolation commute, and C_l A_l is one map:  y_l = up(C_l y_{l+1} + (C_l A_l) f_l), which does
    the same at a quarter of the pixels.

    backbone, weights, embed: name, file and storage of the feature network, see FrozenFeatures.
    width:      channels of the largest map.
    precision:  dtype of passes without a gradient where images are on cuda: 'float32', 'float16' or 'bfloat16'."""

    def __init__(self, backbone, weights=None, embed=True, width=64, seed=0, precision='float32'):
        super().__init__()
        self.features, self.precision = FrozenFeatures(backbone, weights, embed), precision
        mixed = [width, width * 2, width * 4, width * 8]
        self.channels = [width, width, width * 2, width * 4]    # of the maps that come out
        self.scratch = torch.nn.Module()
        for i, (channels, out) in enumerate(zip(self.features.channels, mixed, strict=True)):
            self.scratch.add_module(f'layer{i}_ccm', FrozenConv(channels, out))
        for i, (channels, out) in enumerate(zip(mixed, self.channels, strict=True)):
            self.scratch.add_module(f'layer{i}_csm', Fusion(channels, out))
        rng = torch.Generator().manual_seed(seed)
        for module in self.scratch.modules():
            if isinstance(module, FrozenConv):
                module.draw(rng)

    def forward(self, x):
        """x [N, 3, H, W] in [-1, 1], sides multiples of 32 -> [N, C_l, H / 2 / 2^l, W / 2 / 2^l], l = 0 .. 3, float32."""
        dtype = getattr(torch, self.precision) if self._may_round(x) else x.dtype
        maps = self.features.features(x, dtype)
        with torch.autocast(x.device.type, enabled=False):
            maps = [y.to(x.dtype) for y in self._project(maps, dtype)]
        # On a CPU the frozen network is fastest with channels last, the heads' 4x4 convolutions with channels first.
        return [y.contiguous() for y in maps] if x.device.type == 'cpu' else maps

    def _may_round(self, x):
        """Where nothing is differentiated. In 16 bits the maps are off by half a percent, but the gradient of the images by a
        fifth with trained weights: many kinks lie on the way back."""
        return x.is_cuda and not (x.requires_grad and torch.is_grad_enabled())

    def _project(self, maps, dtype):
        y, projected, wide = None, [], torch.promote_types(dtype, torch.float32)
        for i in (3, 2, 1, 0):
            mix, fuse = getattr(self.scratch, f'layer{i}_ccm'), getattr(self.scratch, f'layer{i}_csm').out_conv
            matrix = fuse.weight[:, :, 0, 0].to(wide)
            weight = (matrix @ mix.weight[:, :, 0, 0].to(wide))[:, :, None, None].to(dtype)
            bias = (matrix @ mix.bias.to(wide) + fuse.bias.to(wide)).to(dtype)
            z = F.conv2d(maps[i], weight, bias)
            if y is not None:
                z = z + F.conv2d(y, fuse.weight.to(dtype))
            y = F.interpolate(z, scale_factor=2, mode='bilinear', align_corners=True)
            projected.insert(0, y)
        return projected

#----------------------------------------------------------------------------
# Heads. Widths of a map of 2^n pixels on the way down to 8, which follow from 256-pixel images whatever the data's size: the
# public code found that best, and its heads carry over to all sizes.

_WIDTHS = {128: 64, 64: 64, 32: 128, 16: 256, 8: 512}

class SeparableConv(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.depthwise = SpectralConv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = SpectralConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))

class DownBlock(torch.nn.Module):
    """[N, in_channels, H, W] -> [N, out_channels, H / 2, W / 2]."""

    def __init__(self, in_channels, out_channels, separable):
        super().__init__()
        conv = SeparableConv(in_channels, out_channels) if separable else SpectralConv2d(in_channels, out_channels, 4, 2, 1)
        layers = [conv, RankBatchNorm2d(out_channels), torch.nn.LeakyReLU(0.2, inplace=True)]
        self.main = torch.nn.Sequential(*layers, *([torch.nn.AvgPool2d(2)] if separable else []))

    def forward(self, x):
        return self.main(x)

class Head(torch.nn.Module):
    """A map [N, channels, H, W] and labels -> logits [N, number], one for each 4x4 window at the lowest resolution.

    size:       side of the map at 256-pixel images, which decides the number of blocks.
    c_dim:      classes; with any, a projection of the class (Miyato and Koyama 2018)."""

    def __init__(self, channels, size, separable, c_dim=0, class_width=64, embed_width=128):
        super().__init__()
        widths = [channels, *(_WIDTHS[size >> i] for i in range(1, size.bit_length() - 3))]
        blocks = [DownBlock(a, b, separable) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        self.conditional = c_dim > 0
        if self.conditional:
            self.cls = SpectralConv2d(widths[-1], class_width, 4, bias=False)
            self.embed = torch.nn.Embedding(c_dim, embed_width)
            self.embed_proj = torch.nn.Sequential(torch.nn.Linear(embed_width, class_width), torch.nn.LeakyReLU(0.2))
            self.main = torch.nn.Sequential(*blocks)
        else:
            self.main = torch.nn.Sequential(*blocks, SpectralConv2d(widths[-1], 1, 4, bias=False))

    def forward(self, x, c):
        x = self.main(x)
        if self.conditional:
            x = self.cls(x)
            label = self.embed_proj(self.embed(c.argmax(dim=1)))
            x = (x * label[:, :, None, None]).sum(dim=1) / math.sqrt(x.shape[1])
        return x.flatten(1)

class Heads(torch.nn.Module):
    def __init__(self, channels, separable, c_dim):
        super().__init__()
        self.mini_discs = torch.nn.ModuleDict({
            str(i): Head(width, 128 >> i, separable, c_dim) for i, width in enumerate(channels)})

    def forward(self, maps, c):
        return torch.cat([head(x, c) for head, x in zip(self.mini_discs.values(), maps, strict=True)], dim=1)

#----------------------------------------------------------------------------

class ProjectedDiscriminator(torch.nn.Module):
    """Projected GAN's discriminator with the hosts' interface.

    c_dim:          classes; labels are one-hot. 0: unconditional.
    img_resolution: side of the images. Below 224 they are resized to 224, and to a multiple of 32 above.
    img_channels:   1 or 3; grey images become RGB.
    backbone:       name of the feature network; `random` needs no weights.
    weights:        its file, as weights.py prepares it.
    heads:          'standard', or 'separable' (a fourteenth of the parameters).
    augment:        DiffAugment of every image that goes in.
    feature_resolution: side at which the feature network sees the images, a multiple of 32, at least 128; None: as above.
    embed:          whether a pickle carries the feature network, or names its file only.
    precision:      of the frozen part on cuda, in D's own phase; 'float32', 'float16' or 'bfloat16'. All else is in float32.
    seed:           of the random projections.

    forward(img [N, C, H, W] in [-1, 1], c [N, c_dim] or None, parts=1) -> logits [N, 100 at 256 pixels], of which a loss takes
    the mean over all. parts: batches that img consists of, one after the other and equally long, fakes and reals for example;
    one pass of the feature network serves all, batch norm in the heads sees each on its own.
    In training mode and in evaluation the feature network is the same; the heads' norms and spectral norms follow the mode."""

    def __init__(self, c_dim, img_resolution, img_channels, backbone='random', weights=None, heads='standard', augment=True,
                 feature_resolution=None, embed=True, precision='float32', seed=0):
        super().__init__()
        if img_channels not in (1, 3):
            raise ValueError(f'a projected discriminator sees grey or RGB images, not {img_channels} channels')
        if heads not in ('standard', 'separable'):
            raise ValueError(f'heads are standard or separable, not {heads}')
        if feature_resolution is None:
            feature_resolution = 224 if img_resolution < 224 else round(img_resolution / 32) * 32
        if feature_resolution % 32 != 0 or feature_resolution < 128:
            raise ValueError(f'the feature network needs a multiple of 32 pixels, at least 128, not {feature_resolution}')
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.augment, self.feature_resolution = augment, feature_resolution
        self.feature_network = ProjectedFeatures(backbone, weights, embed, seed=seed, precision=precision)
        self.discriminator = Heads(self.feature_network.channels, heads == 'separable', c_dim)

    def forward(self, img, c=None, update_emas=False, parts=1):
        if c is None and self.c_dim > 0:
            raise ValueError(f'a discriminator with c_dim={self.c_dim} needs labels c [N, {self.c_dim}]; give them, or c_dim=0')
        maps = self.feature_network(self._prepared(img))
        logits = []
        for i, part in enumerate(zip(*(y.chunk(parts) for y in maps), strict=True)):
            logits.append(self.discriminator(part, None if c is None else c.chunk(parts)[i]))
        return torch.cat(logits)

    def _prepared(self, img):
        img = img.to(torch.float32) if img.dtype != torch.float64 else img
        if self.augment:
            img = diffaug(img)
        if img.shape[-1] != self.feature_resolution:
            img = F.interpolate(img, [self.feature_resolution] * 2, mode='bilinear', align_corners=False)
        return img.expand(-1, 3, -1, -1)

#----------------------------------------------------------------------------
