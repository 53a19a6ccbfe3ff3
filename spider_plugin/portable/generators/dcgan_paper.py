"""The networks of Radford et al. 2015 (`--cfg=dcgan_paper`): fractionally strided 5x5 convolutions, batch norm, 16^2 to 128^2.

The published ones are those for 64^2, 1024 maps at 4^2 and half as many at each doubling; other sizes start or end elsewhere on
the same ladder. Running statistics are equal in all ranks (portable/layers/norms.py). D normalises with its batch's own
statistics whenever it looks at one.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import math

import torch
import torch.nn.functional as F

from spider_plugin.portable.generators.dcgan import ClassProjection
from spider_plugin.portable.generators.host_calls import HostCalls
from spider_plugin.portable.layers.norms import RankBatchNorm2d
from spider_plugin.portable.source.arguments import SpiderArguments, attach_spider
from spider_plugin.portable.source.latent import LatentMapping

#----------------------------------------------------------------------------

def dcgan_paper_resolutions(img_resolution):
    """64 -> [4, 8, 16, 32]: those that have feature maps. Raises ValueError unless img_resolution is 16, 32, 64 or 128."""
    if img_resolution not in (16, 32, 64, 128):
        raise ValueError(f'dcgan_paper draws images whose side is a power of two from 16 to 128, not {img_resolution}')
    return [2 ** i for i in range(2, int(math.log2(img_resolution)))]

def dcgan_paper_widths(img_resolution, channel_base, channel_max):
    """[1024, 512, 256, 128] for 64: channel_base / resolution, by default 64 img_resolution / resolution."""
    base = channel_base or 64 * img_resolution
    return [max(min(base // r, channel_max), 1) for r in dcgan_paper_resolutions(img_resolution)]

def init_normal(module):
    """Weights N(0, 0.02), scales N(1, 0.02), no biases (section 4)."""
    for part in module.modules():
        if isinstance(part, (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)):
            torch.nn.init.normal_(part.weight, std=0.02)
        elif isinstance(part, (RankBatchNorm2d, BatchStatNorm2d)):
            torch.nn.init.normal_(part.weight, mean=1.0, std=0.02)

class BatchStatNorm2d(torch.nn.Module):
    """Batch normalisation with the statistics of the batch, in evaluation too: no buffers."""

    def __init__(self, channels):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones([channels]))
        self.bias = torch.nn.Parameter(torch.zeros([channels]))

    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)

#----------------------------------------------------------------------------
# ws -> image: dense to 4^2, then an upsampling convolution to each resolution; ReLU, tanh at the end.

class RadfordSynthesis(torch.nn.Module):
    def __init__(self, w_dim, img_resolution, img_channels, channel_base, channel_max):
        super().__init__()
        self.w_dim, self.img_resolution, self.img_channels, self.num_ws = w_dim, img_resolution, img_channels, 1
        widths = dcgan_paper_widths(img_resolution, channel_base, channel_max)
        self.dense = torch.nn.Linear(w_dim, widths[0] * 16, bias=False)
        self.up = torch.nn.ModuleList([torch.nn.ConvTranspose2d(a, b, 5, stride=2, padding=2, output_padding=1, bias=False)
                                       for a, b in zip(widths[:-1], widths[1:], strict=True)])
        self.norms = torch.nn.ModuleList([RankBatchNorm2d(width) for width in widths])
        self.to_pixels = torch.nn.ConvTranspose2d(widths[-1], img_channels, 5, stride=2, padding=2, output_padding=1)
        init_normal(self)
        torch.nn.init.zeros_(self.to_pixels.bias)

    def forward(self, ws, **_unused):
        """ws [N, 1, w_dim] -> images [N, C, R, R] in [-1, 1]. Keywords of hosts (noise_mode, force_fp32) change nothing."""
        x = self.dense(ws[:, 0].to(self.dense.weight.dtype)).reshape(ws.shape[0], -1, 4, 4)
        x = F.relu(self.norms[0](x))
        for layer, norm in zip(self.up, self.norms[1:], strict=True):
            x = F.relu(norm(layer(x)))
        return torch.tanh(self.to_pixels(x))

#----------------------------------------------------------------------------

class RadfordGenerator(HostCalls, torch.nn.Module):
    """DCGAN's generator with the hosts' interface; Gaussian, or fed with a vector from an image source.

    z_dim, w_dim:   length of the latent; w_dim (default: the same) must equal it.
    c_dim:          classes, whose embedding is added to the latent; a class has source images of its own where the source has.
    spider, source: see attach_spider; any mapping but residual.
    channel_base, channel_max: feature maps at resolution r are channel_base / r (default 64 img_resolution / r), at most
                    channel_max.
    forward(z [N, z_dim], c [N, c_dim] or None) -> float32 [N, img_channels, img_resolution, img_resolution] in [-1, 1].
    Raises ValueError for sizes that do not fit, and for the residual mapping, which has a network of its own (dcgan.py)."""

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, w_dim=None, spider=None, channel_base=None,
                 channel_max=1024, source=None):
        super().__init__()
        w_dim = w_dim or z_dim
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        arguments = SpiderArguments.read(spider)
        if arguments is not None and arguments.residual:
            raise ValueError('dcgan_paper has no residual mapping; dcgan has')
        attach_spider(self, arguments, source)
        self.synthesis = RadfordSynthesis(w_dim, img_resolution, img_channels, channel_base, channel_max)
        self.mapping = LatentMapping(z_dim, c_dim, w_dim, self.source, kind=arguments and arguments.mapping)
        self.num_ws = self.mapping.num_ws

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff, update_emas=update_emas)
        return self.synthesis(ws, **synthesis_kwargs)

#----------------------------------------------------------------------------

class RadfordDiscriminator(torch.nn.Module):
    """DCGAN's discriminator: strided 5x5 convolutions, batch norm but in the first, leaky ReLU, one linear layer.

    c_dim > 0 makes it a projection discriminator. channel_base, channel_max: as for the generator.
    forward(img [N, C, R, R] in [-1, 1], c [N, c_dim] or None) -> logits [N, 1]."""

    def __init__(self, c_dim, img_resolution, img_channels, channel_base=None, channel_max=1024):
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        widths = dcgan_paper_widths(img_resolution, channel_base, channel_max)[::-1]
        self.first = torch.nn.Conv2d(img_channels, widths[0], 5, stride=2, padding=2)
        self.down = torch.nn.ModuleList([torch.nn.Conv2d(a, b, 5, stride=2, padding=2, bias=False)
                                         for a, b in zip(widths[:-1], widths[1:], strict=True)])
        self.norms = torch.nn.ModuleList([BatchStatNorm2d(width) for width in widths[1:]])
        self.out = torch.nn.Linear(widths[-1] * 16, 1)
        self.project = ClassProjection(c_dim, widths[-1] * 16) if c_dim > 0 else None
        init_normal(self)

    def forward(self, img, c, update_emas=False):
        x = F.leaky_relu(self.first(img), 0.2)
        for layer, norm in zip(self.down, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), 0.2)
        x = x.flatten(1)
        return self.out(x) if self.project is None else self.out(x) + self.project(x, c)

#----------------------------------------------------------------------------
