"""The candidates of the neighbours study: thirteen sets of 16x16 grey images, near and far from the target of
common/grey_pair.py, and a detector that has seen neither the target nor any of them.

All is drawn, or made of the demo's assets (their origin and licences: spider_plugin/demo/assets/ATTRIBUTION.md). Where a source
shows digits they are scans of half A, and the target's are of half B.
"""

import string

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from benchmarks.common import grey_pair
from spider_plugin.demo import data
from spider_plugin.sources import procedural

RESOLUTION = 16

#----------------------------------------------------------------------------
# Sources: (n, rng) -> uint8 [n, 1, 16, 16]. `turned` is the source of docs/convergence.md.

def turned(n, rng):
    return grey_pair.source_images(n)

def crayon(n, rng):
    return _grey(data.render('crayon', 'A', n, 0, jitter=True)[0])

def neon(n, rng):
    return _grey(data.render('neon', 'A', n, 0)[0])

def inverted(n, rng):
    return 255 - turned(n, rng)

def blurred(n, rng):
    small = F.avg_pool2d(turned(n, rng).float(), 2)
    return F.interpolate(small, size=RESOLUTION, mode='bilinear', align_corners=False).round().to(torch.uint8)

def crop(n, rng):
    """Windows on 3x3 mosaics, never aligned with the digits."""
    tiles = grey_pair.halves()['A'][0]
    tiles = tiles[torch.from_numpy(rng.integers(len(tiles), size=n * 9))]
    wide = tiles.reshape(n, 3, 3, 8, 8).permute(0, 1, 3, 2, 4).reshape(n, 24, 24)
    windows = wide.unfold(1, RESOLUTION, 1).unfold(2, RESOLUTION, 1)
    y, x = torch.from_numpy(rng.integers(2, 7, size=[2, n]))
    return grey_pair.to_uint8(windows[torch.arange(n), y, x].unsqueeze(1))

def single(n, rng):
    """One digit that fills the image."""
    tiles = grey_pair.halves()['A'][0]
    tiles = tiles[torch.from_numpy(rng.integers(len(tiles), size=n))]
    return grey_pair.to_uint8(F.interpolate(tiles, size=RESOLUTION, mode='bilinear', align_corners=False))

def shuffled(n, rng):
    """One permutation of the pixels for all images: nothing is where it belongs."""
    order = torch.from_numpy(rng.permutation(RESOLUTION ** 2))
    return turned(n, rng).flatten(1)[:, order].reshape(n, 1, RESOLUTION, RESOLUTION)

def brick(n, rng):
    wall = data.load_brick().unfold(0, RESOLUTION, 1).unfold(1, RESOLUTION, 1)
    y, x = (torch.from_numpy(rng.integers(side, size=n)) for side in wall.shape[:2])
    return grey_pair.to_uint8(wall[y, x].unsqueeze(1))

def covariance(n, rng):
    """Gaussian images with mean and covariance of `turned`."""
    return torch.from_numpy(procedural.covariance(n, RESOLUTION, 1, rng, turned(n, rng).numpy()))

def _drawn(name):
    return lambda n, rng: torch.from_numpy(getattr(procedural, name)(n, RESOLUTION, 1, rng))

def _grey(images):
    """uint8 [N, 3, 32, 32] -> [N, 1, 16, 16]."""
    return F.avg_pool2d(images.float().mean(dim=1, keepdim=True), 2).round().to(torch.uint8)

SOURCES = dict(turned=turned, crayon=crayon, neon=neon, inverted=inverted, blurred=blurred, crop=crop, single=single,
               shuffled=shuffled, brick=brick, covariance=covariance,
               strokes=_drawn('strokes'), shapes=_drawn('shapes'), noise=_drawn('noise'))

def source_images(name, n=8000):
    return SOURCES[name](n, np.random.default_rng([*name.encode()]))

#----------------------------------------------------------------------------
# What the neutral detector is trained on: five kinds that are neither the target nor a source, light on dark or dark on
# light. (n, rng) -> (float32 [n, 1, 16, 16] in [0, 1], labels int64 [n, 4] of the quarters or None).

def letters(n, rng):
    """Mosaics of four letters of Pillow's bitmap font, half of them turned and shifted."""
    font, tiles = ImageFont.load_default_imagefont(), []
    for letter in string.ascii_letters:
        tile = Image.new('L', (8, 16))
        ImageDraw.Draw(tile).text((1, 2), letter, fill=255, font=font)
        tiles.append(np.array(tile)[4:12])
    labels = torch.from_numpy(rng.integers(len(tiles), size=[n, 4]))
    x = torch.from_numpy(np.stack(tiles)).float()[labels.flatten()].unsqueeze(1) / 255
    x = torch.cat([x[: 2 * n], grey_pair.jitter(x[2 * n:], rng)])
    x = x * torch.from_numpy(rng.uniform(0.5, 1, [4 * n, 1, 1, 1])).float()
    return x.reshape(n, 2, 2, 8, 8).permute(0, 1, 3, 2, 4).reshape(n, 1, RESOLUTION, RESOLUTION), labels

def gratings(n, rng):
    """Sine waves of any direction, length and phase."""
    spans = (0, np.pi), (1, 6), (0, 2 * np.pi)
    angle, cycles, phase = (torch.from_numpy(rng.uniform(*span, [n, 1, 1])).float() for span in spans)
    y, x = torch.meshgrid(*[torch.linspace(0, 1, RESOLUTION)] * 2, indexing='ij')
    wave = torch.sin(2 * np.pi * cycles * (x * angle.cos() + y * angle.sin()) + phase)
    return (0.5 + 0.5 * wave).unsqueeze(1), None

def cells(n, rng):
    """Voronoi cells of six points, each of its own grey."""
    points, greys = torch.from_numpy(rng.uniform(0, 1, [n, 6, 2])).float(), torch.from_numpy(rng.uniform(0, 1, [n, 6])).float()
    grid = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, RESOLUTION)] * 2, indexing='ij'), dim=-1).reshape(1, -1, 2)
    return greys.gather(1, torch.cdist(grid.expand(n, -1, -1), points).argmin(dim=2)).reshape(n, 1, RESOLUTION, RESOLUTION), None

def clouds(n, rng):
    """Sums of smooth noise at four scales."""
    x = torch.zeros([n, 1, RESOLUTION, RESOLUTION])
    for side in (2, 4, 8, 16):
        noise = torch.from_numpy(rng.normal(size=[n, 1, side, side])).float() / side ** 0.5
        x += F.interpolate(noise, size=RESOLUTION, mode='bicubic', align_corners=False)
    return (0.5 + 0.25 * x).clamp(0, 1), None

def rings(n, rng):
    """Three thin circles."""
    grid = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, RESOLUTION)] * 2, indexing='ij'), dim=-1)
    x = torch.zeros([n, RESOLUTION, RESOLUTION])
    for _ in range(3):
        centre, radius = torch.from_numpy(rng.uniform(0.1, 0.9, [n, 1, 1, 2])), torch.from_numpy(rng.uniform(0.1, 0.4, [n, 1, 1]))
        x = torch.maximum(x, (1 - 12 * ((grid - centre).norm(dim=-1) - radius).abs()).clamp(min=0).float())
    return x.unsqueeze(1), None

KINDS = dict(letters=letters, gratings=gratings, cells=cells, clouds=clouds, rings=rings)
LETTERS = len(string.ascii_letters)

#----------------------------------------------------------------------------

class NeutralDetector(grey_pair.Detector):
    """The network of grey_pair.py with logits for the five kinds and the four letters."""
    def __init__(self):
        super().__init__()
        self.logits = nn.Linear(grey_pair.FEATURES, len(KINDS) + 4 * LETTERS)

def training_set(per_kind, seed=0):
    """(uint8 [N, 1, 16, 16], kinds int64 [N], labels int64 [N, 4])."""
    parts = []
    for index, (name, draw) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, *name.encode()])
        x, labels = draw(per_kind, rng)
        x = torch.where(torch.from_numpy(rng.random([per_kind, 1, 1, 1]) < 0.5), 1 - x, x)
        labels = torch.full([per_kind, 4], grey_pair.NO_DIGITS) if labels is None else labels
        parts.append((grey_pair.to_uint8(x), torch.full([per_kind], index), labels))
    return [torch.cat(x) for x in zip(*parts, strict=True)]

def train_neutral_detector(path, seed=0):
    """About a minute on one thread; writes TorchScript."""
    torch.manual_seed(seed)
    images, kinds, labels = training_set(grey_pair.PER_KIND, seed)
    net = NeutralDetector()
    opt = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=4e-3, total_steps=grey_pair.ITERATIONS)
    for _ in range(grey_pair.ITERATIONS):
        batch = torch.randint(len(images), [grey_pair.BATCH])
        noisy = images[batch] + 4 * torch.randn(grey_pair.BATCH, 1, RESOLUTION, RESOLUTION)
        kind_logits, letter_logits = net(noisy, False).split([len(KINDS), 4 * LETTERS], 1)
        loss = F.cross_entropy(kind_logits, kinds[batch])
        if (labels[batch] != grey_pair.NO_DIGITS).any():
            loss = loss + F.cross_entropy(
                letter_logits.reshape(-1, LETTERS), labels[batch].flatten(), ignore_index=grey_pair.NO_DIGITS)
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
    torch.jit.script(net.eval().requires_grad_(False)).save(str(path))

#----------------------------------------------------------------------------
