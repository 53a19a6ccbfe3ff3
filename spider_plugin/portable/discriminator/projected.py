"""The discriminator of Projected GAN (Sauer et al. 2021). It has a frozen feature network, frozen random projections that mix its
channels (CCM) and scales (CSM), and a small discriminator, called a head, on each of the four projected maps.

State-dict keys are those of the public code, so that its heads and projections can be loaded. The feature network is not part of
the state dict, because its weights are published.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import math

import torch
import torch.nn.functional as F

from spider_plugin.portable.discriminator.diffaug import diffaug
from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures
from spider_plugin.portable.layers.norms import RankBatchNorm2d
from spider_plugin.portable.layers.spectral_norm import SpectralConv2d

#----------------------------------------------------------------------------
# Projections are buffers, drawn from a seed with the distribution of torch's convolutions.

class FrozenConv(torch.nn.Module):
    """A 1x1 convolution that is not trained; `weight` [out, in, 1, 1] and `bias` [out] are buffers."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.register_buffer('weight', torch.zeros([out_channels, in_channels, 1, 1]))
        self.register_buffer('bias', torch.zeros([out_channels]))

    def draw(self, rng):    # Not done in the constructor, because pickles keep its arguments and cannot keep a generator.
        bound = self.weight.shape[1] ** -0.5
        for buffer in (self.weight, self.bias):
            buffer.copy_((torch.rand(buffer.shape, generator=rng) * 2 - 1) * bound)

class Fusion(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.out_conv = FrozenConv(in_channels, out_channels)

class ProjectedFeatures(torch.nn.Module):
    """Maps images to the four projected maps.

    In the public order of operations, from the smallest map f_3 up, y_l = C_l(up(y_{l+1} + A_l(f_l))), with affine 1x1 maps A_l
    and C_l, and bilinear `up`. 1x1 maps and interpolation commute, and C_l A_l is one map, so y_l = up(C_l y_{l+1} +
    (C_l A_l) f_l) is the same with a quarter of the pixels.

    backbone, weights, embed: name, file and storage of the feature network, see FrozenFeatures.
    width:      channels of the largest map.
    precision:  dtype of passes without a gradient on cuda, 'float32', 'float16' or 'bfloat16'."""

    def __init__(self, backbone, weights=None, embed=True, width=64, seed=0, precision='float32'):
        super().__init__()
        self.features, self.precision = FrozenFeatures(backbone, weights, embed), precision
        mixed = [width, width * 2, width * 4, width * 8]
        self.channels = [width, width, width * 2, width * 4]    # channels of the projected maps
        self.scratch = torch.nn.Module()
        for i, (channels, out) in enumerate(zip(self.features.channels, mixed, strict=True)):
            self.scratch.add_module(f'layer{i}_ccm', FrozenConv(channels, out))
        for i, (channels, out) in enumerate(zip(mixed, self.channels, strict=True)):
            self.scratch.add_module(f'layer{i}_csm', Fusion(channels, out))
        rng = torch.Generator().manual_seed(seed)
        for module in self.scratch.modules():
            if isinstance(module, FrozenConv):
                module.draw(rng)

    def forward(self, x, planes=False):
        """Return maps [N, C_l, H / 2 / 2^l, W / 2 / 2^l], l = 0 .. 3, float32, of x [N, 3, H, W] in [-1, 1].

        The sides of x are multiples of 32. planes: whether the largest map has channels first, as 4x4 convolutions on a CPU take
        it; others have channels last there."""
        dtype = getattr(torch, self.precision) if self._may_round(x) else x.dtype
        maps = self.features.features(x, dtype)
        with torch.autocast(x.device.type, enabled=False):
            return [y.to(x.dtype) for y in self._project(maps, dtype, planes)]

    def _may_round(self, x):
        """Return whether this pass may use 16 bits, which is so if nothing is differentiated.

        In 16 bits the error of the maps is half a percent, but that of the images' gradient is a fifth with trained weights,
        because the backward pass crosses many kinks."""
        return x.is_cuda and not (x.requires_grad and torch.is_grad_enabled())

    def _project(self, maps, dtype, planes=False):
        y, projected, wide = None, [], torch.promote_types(dtype, torch.float32)
        for i in (3, 2, 1, 0):
            mix, fuse = getattr(self.scratch, f'layer{i}_ccm'), getattr(self.scratch, f'layer{i}_csm').out_conv
            matrix = fuse.weight[:, :, 0, 0].to(wide)
            weight = (matrix @ mix.weight[:, :, 0, 0].to(wide))[:, :, None, None].to(dtype)
            bias = (matrix @ mix.bias.to(wide) + fuse.bias.to(wide)).to(dtype)
            z = F.conv2d(maps[i], weight, bias)
            if y is not None:
                z = z + F.conv2d(y, fuse.weight.to(dtype))
            z = z.contiguous() if planes and i == 0 else z      # a quarter of what the enlarged map would be to copy
            y = F.interpolate(z, scale_factor=2, mode='bilinear', align_corners=True)
            projected.insert(0, y)
        return projected

#----------------------------------------------------------------------------
# Heads. The widths of maps of 2^n pixels, from the input down to 8 pixels, follow from 256-pixel images for data of every size.
# The public code found that best, and so its heads can be loaded for all sizes.

_WIDTHS = {128: 64, 64: 64, 32: 128, 16: 256, 8: 512}

class SeparableConv(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.depthwise = SpectralConv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = SpectralConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))

class DownBlock(torch.nn.Module):
    """Maps [N, in_channels, H, W] to [N, out_channels, H / 2, W / 2]."""

    def __init__(self, in_channels, out_channels, separable):
        super().__init__()
        conv = SeparableConv(in_channels, out_channels) if separable else SpectralConv2d(in_channels, out_channels, 4, 2, 1)
        layers = [conv, RankBatchNorm2d(out_channels), torch.nn.LeakyReLU(0.2, inplace=True)]
        self.main = torch.nn.Sequential(*layers, *([torch.nn.AvgPool2d(2)] if separable else []))

    def forward(self, x):
        return self.main(x)

class Head(torch.nn.Module):
    """Maps [N, channels, H, W] and labels to logits [N, number], one for each 4x4 window at the lowest resolution.

    size:       side of the map at 256-pixel images, which decides the number of blocks.
    c_dim:      number of classes; if it is not 0, the head has a projection of the class (Miyato and Koyama 2018)."""

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
        x = self.main(self._laid_out(x))
        if self.conditional:
            x = self.cls(x)
            label = self.embed_proj(self.embed(c.argmax(dim=1)))
            x = (x * label[:, :, None, None]).sum(dim=1) / math.sqrt(x.shape[1])
        return x.flatten(1)

    # On a CPU the frozen network and separable layers are fastest with channels last, 4x4 convolutions with channels first.
    def _laid_out(self, x):
        if x.device.type != 'cpu':
            return x
        return x.contiguous(memory_format=torch.channels_last if self.separable else torch.contiguous_format)

    @property
    def separable(self):
        return isinstance(self.main[0].main[0], SeparableConv)

class Heads(torch.nn.Module):
    """Heads on the last `number` of the projected maps, the coarsest ones; their names count all maps."""

    def __init__(self, channels, separable, c_dim, number=4):
        super().__init__()
        self.mini_discs = torch.nn.ModuleDict({
            str(i): Head(width, 128 >> i, separable, c_dim) for i, width in enumerate(channels) if i >= len(channels) - number})

    @property
    def separable(self):
        return next(iter(self.mini_discs.values())).separable

    def forward(self, maps, c):
        return torch.cat([head(maps[int(i)], c) for i, head in self.mini_discs.items()], dim=1)

#----------------------------------------------------------------------------

class ProjectedDiscriminator(torch.nn.Module):
    """Projected GAN's discriminator with the hosts' interface.

    c_dim:          number of classes, whose labels are one-hot; 0 without classes.
    img_resolution: side of the images. Images below 224 are resized to 224, larger ones to a multiple of 32.
    img_channels:   1 or 3; grey images become RGB.
    backbone:       name of the feature network; `random` needs no weights.
    weights:        file of its weights, as weights.py prepares it.
    heads:          'standard', or 'separable' with a fourteenth of the parameters.
    maps:           how many of the four maps have a head, 1 to 4, from the coarsest on.
    augment:        whether every image is augmented by DiffAugment.
    feature_resolution: side of the images for the feature network, a multiple of 32, at least 128. None for the rule above.
    embed:          whether a pickle carries the feature network, or only the path of its file.
    precision:      dtype of the frozen part on cuda in the phases that train D, 'float32', 'float16' or 'bfloat16'. All other
                    computation is in float32.
    seed:           seed of the random projections.

    forward(img [N, C, H, W] in [-1, 1], c [N, c_dim] or None, parts=1) returns logits [N, 25 for each head at 256 pixels], over
    which a loss takes the mean. `parts` is the number of batches of equal length that img consists of, for example fakes and
    reals. One pass of the feature network serves all; batch norm in the heads is computed for each part.
    The feature network is the same in training mode and in evaluation; norms and spectral norms of the heads follow the mode."""

    def __init__(self, c_dim, img_resolution, img_channels, backbone='random', weights=None, heads='standard', augment=True,
                 feature_resolution=None, embed=True, precision='float32', seed=0, maps=4):
        super().__init__()
        if maps not in (1, 2, 3, 4):
            raise ValueError(f'one to four of the four maps have a head, not {maps}')
        if img_channels not in (1, 3):
            raise ValueError(f'a projected discriminator takes grey or RGB images, not {img_channels} channels')
        if heads not in ('standard', 'separable'):
            raise ValueError(f'heads are standard or separable, not {heads}')
        if feature_resolution is None:
            feature_resolution = 224 if img_resolution < 224 else round(img_resolution / 32) * 32
        if feature_resolution % 32 != 0 or feature_resolution < 128:
            raise ValueError(f'the feature network needs a multiple of 32 pixels, at least 128, not {feature_resolution}')
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.augment, self.feature_resolution = augment, feature_resolution
        self.feature_network = ProjectedFeatures(backbone, weights, embed, seed=seed, precision=precision)
        self.discriminator = Heads(self.feature_network.channels, heads == 'separable', c_dim, maps)

    def forward(self, img, c=None, update_emas=False, parts=1):
        if c is None and self.c_dim > 0:
            raise ValueError(f'a discriminator with c_dim={self.c_dim} needs labels c [N, {self.c_dim}]; give them, or c_dim=0')
        maps = self.feature_network(self._prepared(img), planes=img.is_cpu and self.training and not self.discriminator.separable)
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
