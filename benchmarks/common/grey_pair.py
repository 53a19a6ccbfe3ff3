"""The grey pair of the convergence study: two datasets of 16x16 mosaics of handwritten digits, and their detector.

Target: four native 8x8 digits of half B in a 2x2 mosaic. Source: the same of half A, each digit turned, shifted and scaled.
No scan is in both. The feature network is trained on half B and on images that are no digits at all; it has seen no image of
the source's half, and its Frechet distances are comparable with nothing else.
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from spider_plugin.demo import data
from spider_plugin.sources import procedural

KINDS = ('digits', 'covariance', 'noise', 'strokes', 'shapes', 'brick')
NO_DIGITS = -100
ITERATIONS, BATCH, PER_KIND, FEATURES = 1500, 96, 4000, 64

#----------------------------------------------------------------------------
# Images, float32 [N, 1, 16, 16] in [0, 1].

def halves():
    """{'A' or 'B': (float32 [M, 1, 8, 8], int64 [M])}, the same split as the demo's."""
    arrays = np.load(io.BytesIO(data.read_asset('digits.npz')))
    order = np.random.default_rng(0).permutation(len(arrays['labels']))
    images = torch.from_numpy(arrays['images'][order]).float().reshape(-1, 1, 8, 8) / 16
    labels = torch.from_numpy(arrays['labels'][order]).long()
    middle = len(order) // 2
    return dict(A=(images[:middle], labels[:middle]), B=(images[middle:], labels[middle:]))

def jitter(tiles, rng):
    """Turns by up to 25 degrees, shifts by up to 20 % and scales by up to 20 %."""
    x = F.interpolate(tiles, size=16, mode='bilinear', align_corners=False)
    angle, scale, dx, dy = torch.from_numpy(rng.uniform(-1, 1, [4, len(x)])).float()
    angle, scale, dx, dy = angle * (25 * np.pi / 180), 1 + 0.2 * scale, 0.4 * dx, 0.4 * dy
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    x = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)
    return F.avg_pool2d(x, 2)

def mosaics(half, n, seed, jittered):
    """(float32 [n, 1, 16, 16], int64 [n, 4] digits)."""
    rng = np.random.default_rng([seed, *f'grey{half}'.encode()])
    tiles, labels = halves()[half]
    index = torch.from_numpy(rng.integers(len(tiles), size=[n, 4]))
    x = tiles[index.flatten()]
    if jittered:
        x = jitter(x, rng)
    x = x.reshape(n, 2, 2, 8, 8).permute(0, 1, 3, 2, 4).reshape(n, 1, 16, 16)
    return x.clamp(0, 1), labels[index]

def to_uint8(x):
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)

def target_images(n=8000, seed=0):
    return to_uint8(mosaics('B', n, seed, jittered=False)[0])

def source_images(n=8000, seed=0):
    return to_uint8(mosaics('A', n, seed, jittered=True)[0])

def build_datasets(outdir):
    """Writes target.zip and source.zip of 8000 images each; returns their paths."""
    paths = outdir / 'target.zip', outdir / 'source.zip'
    for path, images in zip(paths, (target_images, source_images), strict=True):
        if not path.is_file():
            data.write_zip(path, images())
    return paths

#----------------------------------------------------------------------------
# The detector: six kinds of image, and the four digits where there are any. Half of the digits are jittered, and all are one
# kind: what tells the source's style from the target's is no label, so that the features do not turn on it alone.

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *self.block(1, 32, 3, 1), *self.block(32, 32, 4, 2), *self.block(32, 64, 4, 2), *self.block(64, 64, 3, 1),
            nn.Flatten(), nn.Linear(64 * 4 * 4, FEATURES))
        self.logits = nn.Linear(FEATURES, len(KINDS) + 40)

    @staticmethod
    def block(in_channels, out_channels, kernel, stride):
        return nn.Conv2d(in_channels, out_channels, kernel, stride, 1), nn.BatchNorm2d(out_channels), nn.ReLU()

    def forward(self, images: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        features = self.features(images[:, :1].to(torch.float32) / 127.5 - 1)
        return features if return_features else self.logits(torch.relu(features))

def kind_images(kind, n, seed):
    """(uint8 [n, 1, 16, 16], digits int64 [n, 4]) of one kind."""
    rng = np.random.default_rng([seed, 7])
    if kind == 'digits':
        halves_of_n = [mosaics('B', n // 2, seed + jittered, jittered) for jittered in (False, True)]
        x, digits = (torch.cat(parts) for parts in zip(*halves_of_n, strict=True))
        return to_uint8(x), digits
    if kind == 'brick':
        wall = data.load_brick().unfold(0, 16, 1).unfold(1, 16, 1)
        y, x = rng.integers(wall.shape[0], size=n), rng.integers(wall.shape[1], size=n)
        images = to_uint8(wall[torch.from_numpy(y), torch.from_numpy(x)].unsqueeze(1))
    else:
        reference = target_images(n, seed).numpy() if kind == 'covariance' else None
        images = torch.from_numpy(getattr(procedural, kind)(n, 16, 1, rng, reference))
    return images, torch.full([n, 4], NO_DIGITS)

def train_detector(path, seed=0):
    """Trains the detector, about a minute on one thread, and writes it as TorchScript."""
    torch.manual_seed(seed)
    parts = [(*kind_images(kind, PER_KIND, seed=1000), torch.full([PER_KIND], i)) for i, kind in enumerate(KINDS)]
    images, digits, kinds = (torch.cat(x) for x in zip(*parts, strict=True))
    net = Detector()
    opt = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=4e-3, total_steps=ITERATIONS)
    for _ in range(ITERATIONS):
        batch = torch.randint(len(images), [BATCH])
        kind_logits, digit_logits = net(images[batch] + 4 * torch.randn(BATCH, 1, 16, 16), False).split([len(KINDS), 40], 1)
        loss = F.cross_entropy(kind_logits, kinds[batch]) + F.cross_entropy(
            digit_logits.reshape(-1, 10), digits[batch].flatten(), ignore_index=NO_DIGITS)
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
    torch.jit.script(net.eval().requires_grad_(False)).save(str(path))

#----------------------------------------------------------------------------
