"""Vectors made from a source image, fed to a host's mapping network in place of z.

The two `paper-*` kinds compute the vector of the public Spider StyleGAN code (arXiv 2305.07613); the others are the plugin's own.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import torch
import torch.nn.functional as F

from spider_plugin.portable.layers.equalized import EqualLinear
from spider_plugin.portable.source.encoder import SourceEncoder

#----------------------------------------------------------------------------
# The public code flattens a grey, resized image: mean over channels, bilinear resize without antialiasing (what the
# resize of its time did to tensors), rows joined, the first 512 values kept (23 x 23 = 529 loses its last 17 pixels).

def paper_vector(images, height, width):
    """images float32 [N, C, R, R] -> float32 [N, 512]."""
    grey = images.to(torch.float64).mean(dim=1, keepdim=True)
    grey = F.interpolate(grey, size=[height, width], mode='bilinear', align_corners=False, antialias=False)
    return grey.flatten(1)[:, :512].to(images.dtype)

class PaperInput(torch.nn.Module):
    """`paper-16x32` or `paper-23x23`: image -> [N, 512], no parameters."""

    def __init__(self, height, width):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images):
        return paper_vector(images, self.height, self.width)

#----------------------------------------------------------------------------
class EncoderInput(torch.nn.Module):
    """`encoder`: a learned map, image -> [N, z_dim]."""

    def __init__(self, resolution, channels, z_dim):
        super().__init__()
        self.features = SourceEncoder(resolution, channels, out_channels=64)
        self.linear = EqualLinear(64 * 4 * 4, z_dim, activate=False)

    def forward(self, images):
        return self.linear(self.features(images).flatten(1))

#----------------------------------------------------------------------------
# The paper's input has an effective dimension of about 5 of 512. Whitening by principal components of the source's own
# pixels spreads it over all of them: v = Lambda^(-1/2) U^T (x - mu), x the image averaged down to at most 16 x 16.

class WhitenedInput(torch.nn.Module):
    """`whitened`: image -> [N, z_dim]; components beyond the source's rank are zero."""

    def __init__(self, images, z_dim, max_resolution=16, floor=1e-3):
        """images: float32 [M, C, R, R], a sample of the source; floor: smallest eigenvalue kept, of the largest."""
        super().__init__()
        self.resolution = min(images.shape[-1], max_resolution)
        x = self._pixels(images).to(torch.float64)
        mean = x.mean(dim=0)
        values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / max(len(x) - 1, 1))
        values, vectors = values.flip(0)[:z_dim], vectors.flip(1)[:, :z_dim]
        keep = values > floor ** 2 * values[0]
        matrix = torch.zeros([z_dim, x.shape[1]], dtype=torch.float64)
        matrix[: len(values)][keep] = (vectors[:, keep] / values[keep].sqrt()).T
        self.register_buffer('mean', mean.to(torch.float32))
        self.register_buffer('matrix', matrix.to(torch.float32))

    def _pixels(self, images):
        return F.adaptive_avg_pool2d(images, self.resolution).flatten(1)

    def forward(self, images):
        return F.linear(self._pixels(images) - self.mean, self.matrix)

#----------------------------------------------------------------------------
# Mapping kinds by name. `residual` has no input module: z stays in the mapping network, and the source joins the pixels.

MAPPING_INPUTS = {}     # kind -> build(source, z_dim), which returns the module that makes the mapping network's input
UNCLAMPED      = set()  # kinds that take a generator's output as it is, beyond [-1, 1], as the public code does

def mapping_input(kind, clamp=True):
    """Decorator: files a function build(source, z_dim) -> module, images [N, C, R, R] -> [N, z_dim], under the name of a kind.

    A function, not the module's class: hosts replace the class by one that can be pickled after this module has run.
    clamp: False leaves a generator's output unclamped. Raises TypeError for a class, ValueError for the name of another module's
    kind."""
    def decorator(build):
        if isinstance(build, type):
            raise TypeError(f'the mapping {kind} needs a function that builds {build.__name__}, not the class')
        if MAPPING_INPUTS.get(kind, build).__module__ != build.__module__:
            raise ValueError(f'there is a mapping named {kind!r} already')
        MAPPING_INPUTS[kind] = build
        UNCLAMPED.update([] if clamp else [kind])
        return build
    return decorator

def build_input(kind, source, z_dim):
    """The module that turns source images into the mapping network's input; None for `residual`. Raises ValueError for an unknown
    kind, and where z_dim does not fit."""
    if kind == 'residual':
        return None
    if kind not in MAPPING_INPUTS:
        raise ValueError(f'unknown mapping {kind!r}; known are {", ".join(["residual", *MAPPING_INPUTS])}')
    return MAPPING_INPUTS[kind](source, z_dim)

def _paper_input(height, width, z_dim):
    if z_dim != 512:
        raise ValueError(f'paper-{height}x{width} makes 512 values, but the mapping network takes z_dim={z_dim}')
    return PaperInput(height, width)

@mapping_input('paper-16x32', clamp=False)
def _paper_16x32(source, z_dim):
    return _paper_input(16, 32, z_dim)

@mapping_input('paper-23x23', clamp=False)
def _paper_23x23(source, z_dim):
    return _paper_input(23, 23, z_dim)

@mapping_input('encoder')
def _encoder(source, z_dim):
    return EncoderInput(source.resolution, source.channels, z_dim)

@mapping_input('whitened')
def _whitened(source, z_dim):
    z = torch.randn([4096, z_dim], generator=torch.Generator().manual_seed(0))
    return WhitenedInput(source.sample(z), z_dim)

#----------------------------------------------------------------------------
