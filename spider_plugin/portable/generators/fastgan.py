"""FastGAN's generator (Liu et al. 2021, "Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis"),
as Projected GAN (Sauer et al. 2021) uses it, big and lite, with classes, an image source, and depthwise separable convolutions.

State-dict keys are those of Projected GAN's generator. docs/fastgan.md says what differs.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import functools
import warnings

import torch
import torch.nn.functional as F

from spider_plugin.portable.generators.host_calls import HostCalls
from spider_plugin.portable.layers.norms import RankBatchNorm2d, buffers_move, track_statistics
from spider_plugin.portable.layers.separable_glu import separable_glu
from spider_plugin.portable.layers.spectral_norm import (
    SeparableSpectralConv2d,
    SpectralConv2d,
    SpectralConvTranspose2d,
    SpectralLinear,
)
from spider_plugin.portable.source.arguments import SpiderArguments, attach_spider
from spider_plugin.portable.source.encoder import SourceEncoder
from spider_plugin.portable.source.latent import LatentMapping, unit_rms
from spider_plugin.portable.source.residual import ResidualMixin
from torch_utils_ext.ops.affine_glu import affine_glu

#----------------------------------------------------------------------------
# Feature maps, in units of ngf; resolutions whose features excite those of a higher one.

FASTGAN_WIDTHS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
FASTGAN_SKIPS  = {64: 4, 128: 8, 256: 16, 512: 32}

def fastgan_widths(img_resolution, ngf, channel_max=None):
    """{resolution: feature maps} up to the image's. Raises ValueError for sizes that FastGAN does not have."""
    if img_resolution not in [r for r in FASTGAN_WIDTHS if r >= 16]:
        raise ValueError(f'fastgan draws images whose side is a power of two from 16 to 1024, not {img_resolution}')
    widths = {r: min(int(m * ngf), channel_max or 1 << 20) for r, m in FASTGAN_WIDTHS.items() if r <= img_resolution}
    if min(widths.values()) < 1:
        raise ValueError(f'ngf={ngf} leaves no feature map at {img_resolution} pixels')
    return widths

#----------------------------------------------------------------------------
# What `dsc` means for a block: {"order": "depthwise", "rank": 1, "res": [low, high], "convs": [1, 2]}, all of it with a default.

def separable_convs(dsc, resolution):
    """Which convolutions of the block are depthwise separable. Raises ValueError for layers that FastGAN does not have."""
    if dsc is None:
        return ()
    if dsc.get('order', 'depthwise') != 'depthwise' or dsc.get('rank', 1) != 1:
        raise ValueError('separable layers of FastGAN are depthwise first and of rank 1')
    low, high = dsc.get('res') or (0, resolution)
    return tuple(dsc.get('convs', (1, 2))) if low <= resolution <= high else ()

#----------------------------------------------------------------------------
# z -> ws. The first row is z, or a vector made from the source image; the class follows, one-hot, in rows of its own (the one
# way in which hosts that call synthesis(ws) can tell it the class), then the source's key.

class FastGANMapping(LatentMapping):
    def __init__(self, z_dim, c_dim, source=None, kind='residual'):
        super().__init__(z_dim, 0, z_dim, source, kind)
        self.c_dim, self.class_rows = c_dim, -(-c_dim // z_dim)
        self.num_ws += self.class_rows
        self._truncation_said = False

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=None, **_unused):
        """z [N, z_dim], c [N, c_dim] or None -> ws [N, num_ws, w_dim]; without c the class rows are zero: no class."""
        if truncation_psi != 1 and self.source_input is None and not self._truncation_said:
            self._truncation_said = True
            warnings.warn('truncation has no effect on FastGAN, which scales every latent to the same length', stacklevel=2)
        ws = super().forward(z, c, truncation_psi, truncation_cutoff, update_emas)
        if self.class_rows == 0:
            return ws
        rows = ws.new_zeros([ws.shape[0], self.c_dim]) if c is None else F.one_hot(c.argmax(dim=1), self.c_dim).to(ws.dtype)
        rows = F.pad(rows, [0, self.class_rows * self.w_dim - self.c_dim])
        return torch.cat([ws[:, :1], rows.reshape(ws.shape[0], self.class_rows, self.w_dim), ws[:, 1:]], dim=1)

#----------------------------------------------------------------------------
# Layers.

class NoiseStrength(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

class ClassBatchNorm2d(torch.nn.Module):
    """Batch normalisation whose scale and shift are linear maps of the class's embedding (Brock et al. 2019, appendix B)."""

    def __init__(self, channels, embed_dim, eps=1e-5):
        super().__init__()
        self.gain = SpectralLinear(embed_dim, channels)
        self.bias = SpectralLinear(embed_dim, channels)
        self.eps = eps
        self.register_buffer('stored_mean', torch.zeros(channels))
        self.register_buffer('stored_var', torch.ones(channels))

    def forward(self, x, embedding):
        if self.training and buffers_move(self.gain.weight_orig):
            var, mean = torch.var_mean(x.detach(), dim=[0, 2, 3], unbiased=False)
            track_statistics(self.stored_mean, self.stored_var, mean, var, x.numel() // x.shape[1])
        stored = (None, None) if self.training else (self.stored_mean, self.stored_var)
        x = F.batch_norm(x, *stored, training=self.training, eps=self.eps)
        return x * (1 + self.gain(embedding))[:, :, None, None] + self.bias(embedding)[:, :, None, None]

#----------------------------------------------------------------------------
# nearest x2, then once or twice: convolution, noise (big only), batch norm, gated linear unit. The names of the layers are the
# places that they have in Projected GAN's sequences.

@functools.lru_cache(maxsize=32)    # of a graph that is traced, it is a constant
def constant_noise(height, width):
    return torch.randn([1, 1, height, width], generator=torch.Generator().manual_seed(height))

class FastGANBlock(torch.nn.Module):
    STAGES = {  # (lite, with classes): names of convolution, noise and norm of each stage
        (False, False): (('1', '2', '3'), ('5', '6', '7')),
        (True,  False): (('1', None, '2'),),
        (False, True):  (('conv1', 'noise', 'bn1'), ('conv2', 'noise', 'bn2')),
        (True,  True):  (('conv', None, 'bn'),),
    }

    def __init__(self, in_channels, out_channels, lite=False, embed_dim=0, separable=()):
        """separable: which convolutions are depthwise separable, 1 and 2."""
        super().__init__()
        self.stages = self.STAGES[lite, embed_dim > 0]
        for i, (conv, noise, norm) in enumerate(self.stages):
            sizes = (in_channels if i == 0 else out_channels, 2 * out_channels)
            self.add_module(conv, SeparableSpectralConv2d(*sizes) if i + 1 in separable else
                            SpectralConv2d(*sizes, 3, padding=1, bias=False))
            if noise is not None and noise not in self._modules:
                self.add_module(noise, NoiseStrength())
            self.add_module(norm, ClassBatchNorm2d(2 * out_channels, embed_dim) if embed_dim > 0 else
                            RankBatchNorm2d(2 * out_channels))

    def forward(self, x, embedding=None, noise_mode='random'):
        for i, names in enumerate(self.stages):
            conv, strength, norm = (None if name is None else self._modules[name] for name in names)
            noise = None
            if strength is not None and noise_mode != 'none':
                noise = self._noise(x, up=i == 0, constant=noise_mode == 'const')
            strength = None if noise is None else strength.weight
            if self.training and isinstance(conv, SeparableSpectralConv2d) and isinstance(norm, RankBatchNorm2d):
                x = self._fused(x, conv, norm, noise, strength, up=i == 0)
            else:
                x = self._plain(x, conv, norm, noise, strength, embedding, up=i == 0)
        return x

    @staticmethod
    def _noise(x, up, constant):
        height, width = (int(size) * (1 + up) for size in x.shape[2:])
        if constant:
            return constant_noise(height, width).to(x)
        return torch.randn([len(x), 1, height, width], device=x.device, dtype=x.dtype)

    @staticmethod
    def _plain(x, conv, norm, noise, strength, embedding, up):
        x = conv(F.interpolate(x, scale_factor=2, mode='nearest') if up else x)
        x = x if noise is None else x + strength * noise
        return affine_glu(norm(x) if embedding is None else norm(x, embedding))

    @staticmethod
    def _fused(x, conv, norm, noise, strength, up):
        noise = noise if noise is None or len(noise) == len(x) else noise.expand(len(x), -1, -1, -1)
        x, mean, var = separable_glu(x, conv.depthwise.normalized_weight(), conv.pointwise.normalized_weight(), norm.weight,
                                     norm.bias, noise, strength, up=up, eps=norm.eps)
        if buffers_move(norm.weight):
            norm.num_batches_tracked.add_(1)
            track_statistics(norm.running_mean, norm.running_var, mean, var, x.numel() // x.shape[1], norm.momentum)
        return x

class FastGANInit(torch.nn.Module):
    """z [N, z_dim] -> [N, C, 4, 4]."""

    def __init__(self, z_dim, channels):
        super().__init__()
        self.init = torch.nn.Sequential(SpectralConvTranspose2d(z_dim, 2 * channels, 4, bias=False),
                                        RankBatchNorm2d(2 * channels))

    def forward(self, z):
        return affine_glu(self.init(z[:, :, None, None]))

class FastGANSkip(torch.nn.Module):
    """Skip-layer excitation: x times a gate for each channel, made of features at a low resolution (section 3.1)."""

    def __init__(self, low_channels, channels):
        super().__init__()
        self.main = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), SpectralConv2d(low_channels, channels, 4, bias=False),
                                        torch.nn.SiLU(), SpectralConv2d(channels, channels, 1, bias=False), torch.nn.Sigmoid())

    def forward(self, low, x):
        return x * self.main(low)

#----------------------------------------------------------------------------
# With s the source image, e its encoding, a = source_gain, f4 the features of z, x the network's output, b = output_gain:
#   f4' = f4 + a e(s),   y = lerp(x, tanh(b x + atanh(s)), a)
# A fresh run has a = 1, fixed, and b = 0, learned (the last layer's spectrum is normalised, small weights would not do): the
# untrained generator is the identity on s, clamped to 0.96. Where a stock generator is resumed, b = 1 and a = 0 is learned: the
# first images are its own. A start at b = 0.05 put a pattern of one or two grey levels on every image (docs/real-images.md).

class FastGANSynthesis(ResidualMixin, torch.nn.Module):
    def __init__(self, z_dim, c_dim, img_resolution, img_channels, ngf=128, lite=False, channel_max=None, dsc=None,
                 source=None, gain=1.0):
        super().__init__()
        self.z_dim = self.w_dim = z_dim
        self.c_dim, self.class_rows = c_dim, -(-c_dim // z_dim)
        self.img_resolution, self.img_channels, self.source = img_resolution, img_channels, None
        self.num_ws = 1 + self.class_rows
        widths = fastgan_widths(img_resolution, ngf, channel_max)
        self.resolutions = [r for r in widths if r > 4]
        self.init = FastGANInit(z_dim, widths[4])
        for r in self.resolutions:
            self.add_module(f'feat_{r}', FastGANBlock(widths[r // 2], widths[r], lite, z_dim if c_dim else 0,
                                                      separable_convs(dsc, r)))
        for r, low in FASTGAN_SKIPS.items():
            if r <= img_resolution:
                self.add_module(f'se_{r}', FastGANSkip(widths[low], widths[r]))
        self.to_big = SpectralConv2d(widths[img_resolution], img_channels, 3, padding=1)
        if c_dim > 0:
            self.embed = torch.nn.Embedding(c_dim, z_dim)
        if source is not None:
            self._attach_source(source, widths[4], gain)

    def _attach_source(self, source, channels, gain):
        self.source_encoder = SourceEncoder(source.resolution, source.channels, channels)
        self.output_gain = torch.nn.Parameter(torch.tensor(0.0 if gain > 0 else 1.0))
        self.attach_gains(source, gain, channels=self.img_channels)

    def _embedding(self, ws, c):
        """Embedding of the class in ws; of c where ws has no rows for it."""
        if self.c_dim == 0:
            return None
        weight = self.embed.weight
        if ws.shape[1] < self.num_ws:
            return self.embed(c.argmax(dim=1))
        return ws[:, 1 : self.num_ws].flatten(1)[:, : self.c_dim].to(weight.dtype) @ weight

    def _image(self, z, embedding, encoding, noise_mode):
        features = {4: self.init(z)}
        if encoding is not None:
            features[4] = features[4] + self.source_gain * encoding
        x = features[4]
        for r in self.resolutions:
            x = self._modules[f'feat_{r}'](x, embedding, noise_mode)
            if r in FASTGAN_SKIPS:
                x = self._modules[f'se_{r}'](features[FASTGAN_SKIPS[r]], x)
            if r in FASTGAN_SKIPS.values():
                features[r] = x
        return self.to_big(x)

    def forward(self, ws, c=None, update_emas=False, noise_mode='random', source_image=None, **_unused):
        """ws [N, num_ws of the mapping, w_dim] -> images [N, C, R, R].

        c:            what Projected GAN's loss passes; used only where ws carries no class.
        noise_mode:   'random', 'const' or 'none'.
        source_image: float32 [N, C, r, r] in [-1, 1], in place of the one the key names (source interpolation)."""
        z = unit_rms(ws[:, 0].to(self.to_big.weight_orig.dtype))
        embedding = self._embedding(ws, c)
        if self.source is None:
            return self._image(z, embedding, None, noise_mode)
        s = (self.source_image(ws) if source_image is None else source_image).to(z.dtype)
        encoding = self.source_encoder(s if s.shape[-1] == self.source.resolution else F.interpolate(
            s, size=[self.source.resolution] * 2, mode='bilinear', align_corners=False))
        x = self._image(z, embedding, encoding, noise_mode)
        s = F.interpolate(s, size=x.shape[-2:], mode='bilinear', align_corners=False)
        return self.add_source(x, s, inner=self.output_gain * x)

#----------------------------------------------------------------------------

class FastGANGenerator(HostCalls, torch.nn.Module):
    """FastGAN's generator with the hosts' interface.

    z_dim, w_dim:   length of the latent; w_dim (default: the same) must equal it.
    c_dim:          classes, each with an embedding for the norms.
    ngf:            width: feature maps at resolution r are ngf times FASTGAN_WIDTHS[r], at most channel_max.
    lite:           one convolution in a block in place of two, no noise.
    spider, source: see attach_spider.
    dsc:            None, or which convolutions are depthwise separable, as above.
    forward(z [N, z_dim], c [N, c_dim] or None) -> [N, img_channels, img_resolution, img_resolution].
    Raises ValueError for sizes that do not fit, and for an unknown mapping."""

    resume_first_rows = ('synthesis.embed.weight',)     # snapshots/resume_plan.py: Projected GAN's has 1000 for any classes

    def __init__(self, z_dim=256, c_dim=0, img_resolution=256, img_channels=3, w_dim=None, ngf=128, lite=False,
                 channel_max=None, spider=None, dsc=None, source=None):
        super().__init__()
        if w_dim not in (None, 0, z_dim):
            raise ValueError(f'fastgan has no mapping network: w_dim={w_dim} must equal z_dim={z_dim}')
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, z_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        arguments = attach_spider(self, spider, source) or SpiderArguments('residual', gain=0.0)
        residual = self.source if arguments.residual else None
        self.synthesis = FastGANSynthesis(z_dim, c_dim, img_resolution, img_channels, ngf, lite, channel_max, dsc, residual,
                                          arguments.gain)
        self.mapping = FastGANMapping(z_dim, c_dim, self.source, arguments.mapping)
        self.num_ws = self.mapping.num_ws

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff, update_emas=update_emas)
        return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)

#----------------------------------------------------------------------------
