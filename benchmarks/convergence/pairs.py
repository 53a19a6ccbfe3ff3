"""The pairs of the convergence study: what is to be learned, and the neighbour that shall help.

All is drawn, or made of the demo's assets (their origin and licences: spider_plugin/demo/assets/ATTRIBUTION.md). No scan of a
digit is in both sets of a pair. Rates were tuned on `grey` alone; `carved` and `wall` were written down before the first run on
them, and nothing was chosen by them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common import grey_pair
from benchmarks.neighbors.sources import train_neutral_detector
from spider_plugin.demo import data

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Pair:
    """target(n, seed), source(n, seed): uint8 [n, channels, resolution, resolution]."""

    about:      str
    resolution: int
    channels:   int
    tuned_on:   bool
    target:     Callable
    source:     Callable

#----------------------------------------------------------------------------
# carved: one digit as large as the image, cut into brick; its source is one digit of other scans, light on black, jittered.

def single_digits(half, n, rng, jittered):
    """float32 [n, 1, 16, 16] in [0, 1], light on black."""
    tiles = grey_pair.halves()[half][0]
    x = tiles[torch.from_numpy(rng.integers(len(tiles), size=n))]
    x = grey_pair.jitter(x, rng) if jittered else x
    return F.interpolate(x, size=16, mode='bilinear', align_corners=False).clamp(0, 1)

def brick_windows(n, rng, scales=(1,)):
    """Windows of the brick wall at any of the scales: float32 [n, 1, 16, 16] in [0, 1]."""
    x = torch.empty([n, 1, 16, 16])
    picked = rng.integers(len(scales), size=n)
    for i, scale in enumerate(scales):
        wall = F.avg_pool2d(data.load_brick()[None, None], scale)[0, 0].unfold(0, 16, 1).unfold(1, 16, 1)
        rows = np.flatnonzero(picked == i)
        y, column = (torch.from_numpy(rng.integers(side, size=len(rows))) for side in wall.shape[:2])
        x[torch.from_numpy(rows)] = wall[y, column].unsqueeze(1)
    return x

def carved_target(n, seed):
    rng = np.random.default_rng([seed, *b'carved target'])
    ground, digits = brick_windows(n, rng), single_digits('B', n, rng, jittered=False)
    return grey_pair.to_uint8((0.35 + 0.65 * ground) * (1 - 0.85 * digits))

def carved_source(n, seed):
    rng = np.random.default_rng([seed, *b'carved source'])
    return grey_pair.to_uint8(single_digits('A', n, rng, jittered=True))

#----------------------------------------------------------------------------
# wall: a photograph of bricks; its source is drawn masonry, every stone of its own grey, with light joints, at any offset.

def wall_target(n, seed):
    return grey_pair.to_uint8(brick_windows(n, np.random.default_rng([seed, *b'wall target']), scales=(1, 2)))

def wall_source(n, seed):
    rng = np.random.default_rng([seed, *b'wall source'])
    height, width = rng.integers(3, 8, [n, 1, 1]), rng.integers(6, 17, [n, 1, 1])
    y = np.arange(16)[None, :, None] + rng.integers(0, 16, [n, 1, 1])
    row = y // height
    x = np.arange(16)[None, None, :] + rng.integers(0, 32, [n, 1, 1]) + (row % 2) * (width // 2)
    greys = rng.uniform(0.2, 0.7, [n, 16, 16])
    stones = greys[np.arange(n)[:, None, None], row % 16, x // width % 16]
    joint = (y % height == 0) | (x % width == 0)
    return grey_pair.to_uint8(torch.from_numpy(np.where(joint, 0.85, stones)).float().unsqueeze(1))

#----------------------------------------------------------------------------

PAIRS = dict(      # in the order of the tables: first those that no rate was tuned on
    carved  = Pair('a dark digit cut into brick <- a light digit of other scans on black, jittered', 16, 1, False,
                   carved_target, carved_source),
    wall    = Pair('windows of a photographed brick wall <- drawn masonry', 16, 1, False, wall_target, wall_source),
    grey    = Pair('mosaics of four digits <- the same of other scans, turned, shifted, scaled', 16, 1, True,
                   grey_pair.target_images, grey_pair.source_images),
    demo    = Pair("the demo's neon digits <- its crayon digits, in colour", 32, 3, True, data.target_images, data.source_images),
)

IMAGES = 8000       # of each set

def build(folder, name, images=IMAGES):
    """Writes target.zip, source.zip and plain.zip, which is mid-grey throughout, of a pair into folder / name."""
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    pair = PAIRS[name]
    plain = lambda n, seed: torch.full([64, pair.channels, pair.resolution, pair.resolution], 128, dtype=torch.uint8)
    for side, draw in dict(target=pair.target, source=pair.source, plain=plain).items():
        path = folder / f'{side}.zip'
        if not path.is_file():
            data.write_zip(path, draw(images, 0))

#----------------------------------------------------------------------------
# Features, two spaces: those of the neutral detector of neighbors/sources.py, which has seen no image of these sets, and the
# first 32 principal components of the target's own pixels. The detector sees grey images of 16x16.

class PixelComponents:
    def __init__(self, images, count=32):
        x = images.flatten(1).double()
        self.mean = x.mean(dim=0)
        self.basis = torch.linalg.eigh(torch.cov(x.T)).eigenvectors[:, -count:] / 127.5

    def __call__(self, images):
        """uint8 [N, C, R, R] -> float64 [N, count]."""
        return (images.flatten(1).double() - self.mean) @ self.basis

def neutral_features(detector, images):
    """uint8 [N, C, R, R] -> float64 [N, F]."""
    x = images.float().mean(dim=1, keepdim=True)
    x = F.avg_pool2d(x, images.shape[-1] // 16)
    with torch.no_grad():
        return torch.cat([detector(part) for part in x.round().to(torch.uint8).split(250)]).double()

def train_detector(path, iterations):
    """The neutral detector; about a minute on one thread."""
    grey_pair.ITERATIONS = iterations
    train_neutral_detector(path)

#----------------------------------------------------------------------------
