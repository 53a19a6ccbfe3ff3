"""The demo's two datasets: neon digits (target) and crayon digits (source), 32x32 RGB, built from embedded assets.

Both are synthetic renderings of real scans: 2x2 mosaics of handwritten digits. The target shows digits of half B as glowing
neon on a brick wall; the source shows digits of the other half, A, turned, shifted and scaled a little, in flat colour on
black. No scan is in both. Origin and licences: assets/ATTRIBUTION.md."""

import hashlib
import io
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file

RESOLUTION = 32
ASSETS = Path(__file__).resolve().parent / 'assets'
ASSET_SHA256 = {
    'digits.npz': 'b3b9c8cc11d765ce4264d8748bf3edbafa5038d91c93cf713ddbd6ae8652b410',
    'brick.png':  '7e99c9ad11e9326631584a7b0e011a1e42e15bd3f5d68da3f52c19738d363d1a',
    'satellite.jpg': '6e77cc536a54abd0c81437455fe977b92864dddc3dc12f01cd6810402a90b045',
    'relief.jpg':    '428989df4eb2e05db4db53d835323992d0f7e5ad4b3282f568e14b512e979f36',
}
ATTRIBUTION = (
    'Digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, '
    'https://doi.org/10.24432/C50P49, CC BY 4.0; recoloured, enlarged and arranged in mosaics. '
    'Brick wall: CC0Textures (Bricks25) as distributed with scikit-image, CC0; reduced in size.')
HUES = torch.tensor([[1, 0.15, 0.55], [0.1, 0.9, 1], [1, 0.85, 0.1], [0.25, 1, 0.35]])  # pink, cyan, yellow, green

#----------------------------------------------------------------------------
# The embedded scans and the photograph, checked by their digests.

def read_asset(name):
    """Return the content of an embedded asset as bytes. Raises SpiderError if it is missing or altered."""
    path = ASSETS / name
    content = path.read_bytes() if path.is_file() else b''
    if hashlib.sha256(content).hexdigest() != ASSET_SHA256[name]:
        raise SpiderError(f'{path} is missing or altered; install spider-plugin again.')
    return content

@lru_cache(maxsize=1)
def load_digits():
    """Return halves A and B of the scans as {'A': (images, labels), 'B': (images, labels)}.

    images: float32 [N, 1, 16, 16] in [0, 1]; labels: [N]."""
    arrays = np.load(io.BytesIO(read_asset('digits.npz')))
    order = np.random.default_rng(0).permutation(len(arrays['labels']))
    images = torch.from_numpy(arrays['images'][order]).float().unsqueeze(1) / 16
    images = F.interpolate(images, size=(14, 14), mode='bicubic', align_corners=False).clamp(0, 1)
    images = F.pad(images, [1, 1, 1, 1])
    labels = torch.from_numpy(arrays['labels'][order]).long()
    middle = len(order) // 2
    return dict(A=(images[:middle], labels[:middle]), B=(images[middle:], labels[middle:]))

@lru_cache(maxsize=1)
def load_brick():
    """Return the brick wall, float32 [H, W] in [0, 1]."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(read_asset('brick.png'))))).float() / 255

#----------------------------------------------------------------------------
# Shapes: mosaics of four digits, upright or jittered.

def mosaic(tiles, indices, rng=None):
    """Return mosaics of 2x2 tiles, float32 [N, 1, 32, 32] in [0, 1].

    tiles:   float32 [M, 1, 16, 16].
    indices: int64 [N, 4], the tiles of each mosaic.
    rng:     jitters every tile by up to 15 degrees, 8% shift and 12% scale; None leaves them upright."""
    x = tiles[indices.flatten()]
    if rng is not None:
        x = _jitter(x, rng)
    x = x.reshape(-1, 2, 2, 16, 16).permute(0, 1, 3, 2, 4)
    return x.reshape(-1, 1, RESOLUTION, RESOLUTION).clamp(0, 1)

def _jitter(x, rng):
    angle, scale, dx, dy = torch.from_numpy(rng.uniform(-1, 1, [4, len(x)])).float()
    angle, scale, dx, dy = angle * (np.pi / 12), 1 + 0.12 * scale, 0.16 * dx, 0.16 * dy
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([torch.stack([cos, -sin, dx], dim=1), torch.stack([sin, cos, dy], dim=1)], dim=1)
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)

#----------------------------------------------------------------------------
# Styles of painting a mosaic.

def paint_crayon(masks, rng):
    """Paint masks float32 [N, 1, 32, 32] in flat colour on black, one hue per image. Return [N, 3, 32, 32] in [0, 1]."""
    return (0.95 * masks * _hues(rng, len(masks), softness=0.2) + 0.03).clamp(0, 1)

def paint_neon(masks, rng):
    """Paint masks as glowing tubes, one hue per image, before a random piece of the brick wall. Shapes as in `paint_crayon`."""
    hue = _hues(rng, len(masks))
    wall = (_brick_patches(rng, len(masks)) - 0.2).clamp(0, 1) * torch.tensor([1.5, 0.82, 0.7]).reshape(3, 1, 1)
    lit = wall * (0.55 + 0.9 * _blur(masks, 2.6))       # the wall in the tube's light
    glow = 0.6 * _blur(masks, 1.9) * hue
    return (lit + glow + masks * (0.55 * hue + 0.35)).clamp(0, 1)

def _hues(rng, n, softness=0.0):
    hues = HUES * (1 - softness) + softness / 2
    return hues[torch.from_numpy(rng.integers(len(hues), size=n))].reshape(n, 3, 1, 1)

def _brick_patches(rng, n):
    wall = load_brick().unfold(0, RESOLUTION, 1).unfold(1, RESOLUTION, 1)
    y, x = rng.integers(wall.shape[0], size=n), rng.integers(wall.shape[1], size=n)
    patches = wall[torch.from_numpy(y), torch.from_numpy(x)].unsqueeze(1)
    return torch.where(torch.from_numpy(rng.random(n) < 0.5).reshape(n, 1, 1, 1), patches.flip(3), patches)

def _blur(x, sigma):
    kernel = torch.exp(-torch.arange(-6, 7).float().square() / (2 * sigma ** 2))
    kernel = (kernel / kernel.sum()).reshape(1, 1, 1, -1)
    x = F.pad(x, [6, 6, 6, 6], mode='replicate')
    return F.conv2d(F.conv2d(x, kernel), kernel.transpose(2, 3))

#----------------------------------------------------------------------------
# Sets of images.

PAINTERS = dict(neon=paint_neon, crayon=paint_crayon)

def render(style, half, n, seed, jitter=False):
    """Return `n` mosaics of the digits of one half in one style. Equal arguments give equal images.

    style:   'neon' or 'crayon'.
    half:    'A' or 'B'.
    jitter:  turn, shift and scale each digit a little.
    returns  (uint8 [n, 3, 32, 32], int64 [n, 4] the digit in each quarter)."""
    rng = np.random.default_rng([seed, *f'{style}{half}'.encode()])
    tiles, labels = load_digits()[half]
    indices = torch.from_numpy(rng.integers(len(tiles), size=[n, 4]))
    images = PAINTERS[style](mosaic(tiles, indices, rng if jitter else None), rng)
    return (images * 255).round().to(torch.uint8), labels[indices]

def target_images(n, seed=0):
    """Return neon digits of half B, uint8 [n, 3, 32, 32]."""
    return render('neon', 'B', n, seed)[0]

def source_images(n, seed=0):
    """Return crayon digits of half A, jittered, uint8 [n, 3, 32, 32]."""
    return render('crayon', 'A', n, seed, jitter=True)[0]

#----------------------------------------------------------------------------
# Dataset zips in the hosts' format; equal arguments give equal bytes.

def write_zip(path, images):
    """Write images uint8 [N, C, H, W] as the PNGs of a dataset zip, which appears complete or not at all."""
    with atomic_file(path) as temp, zipfile.ZipFile(temp, 'w', zipfile.ZIP_STORED) as archive:
        for index, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            buffer = io.BytesIO()
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, format='PNG', compress_level=1)
            archive.writestr(_entry(f'{index // 1000:05d}/img{index:08d}.png'), buffer.getvalue())
        archive.writestr(_entry('dataset.json'), '{"labels": null}')

def _entry(name):
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))

def build_datasets(outdir, seed=0, n=4000):
    """Write neon.zip (target) and crayon.zip (source), `n` images each, into `outdir`, and return the two paths."""
    outdir = Path(outdir)
    target, source = outdir / 'neon.zip', outdir / 'crayon.zip'
    write_zip(target, target_images(n, seed))
    write_zip(source, source_images(n, seed))
    return target, source

#----------------------------------------------------------------------------
