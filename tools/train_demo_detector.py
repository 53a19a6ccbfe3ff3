"""Trains reference_host/metrics/demo_detector.pt, the small feature network behind the demo's FID.

    python -m tools.train_demo_detector [--out FILE]

A convnet that tells twelve kinds of 32x32 image apart and reads the four digits where there are any. Every kind has the same
number of images; the demo's source and its target are one kind each, and the others are what a generator might make instead
(wrong shapes in the right style, blur, noise, mixtures, Gaussian images with the target's covariance), so that the features
describe shape, sharpness and style rather than the difference between source and target alone. A Frechet distance on these
features is comparable with nothing else: not with Inception's FID, not with another version of this file.

Writes a TorchScript module: forward(images uint8 [N, 3, 32, 32], return_features: bool = True) -> float32 [N, 64] features,
or [N, 52] logits (12 kinds, then 4 x 10 digits) where return_features is False. Seeded; a few minutes on one thread.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from spider_plugin.demo import data

OUT = Path(__file__).resolve().parents[1] / 'reference_host' / 'metrics' / 'demo_detector.pt'
FEATURES, ITERATIONS, BATCH, PER_KIND = 64, 1500, 96, 3000
NO_DIGITS = -100  # ignored by the digit loss

#----------------------------------------------------------------------------
# The network.

class Detector(nn.Module):
    def __init__(self, num_kinds):
        super().__init__()
        self.features = nn.Sequential(
            *self.block(3, 24, 3, 1), *self.block(24, 32, 4, 2),    # 32 -> 16
            *self.block(32, 48, 3, 1), *self.block(48, 64, 4, 2),   # 16 -> 8
            *self.block(64, 64, 4, 2),                              # 8 -> 4
            nn.Flatten(), nn.Linear(64 * 4 * 4, FEATURES))
        self.logits = nn.Linear(FEATURES, num_kinds + 40)

    @staticmethod
    def block(in_channels, out_channels, kernel, stride):
        return nn.Conv2d(in_channels, out_channels, kernel, stride, 1), nn.BatchNorm2d(out_channels), nn.ReLU()

    def forward(self, images: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        features = self.features(images.to(torch.float32) / 127.5 - 1)
        return features if return_features else self.logits(torch.relu(features))

#----------------------------------------------------------------------------
# The kinds of image. Each function: (n, seed) -> (uint8 [n, 3, 32, 32], digits int64 [n, 4] or None).

def strokes(style, n, seed):
    """Broken lines of three random points in every quarter, instead of digits."""
    rng = np.random.default_rng([seed, 1])
    points = torch.from_numpy(rng.uniform(-0.75, 0.75, [n, 3, 2])).float()
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 2, indexing='ij'), dim=-1)
    distance = torch.full([n, 16, 16], 9.0)
    for a, b in ((0, 1), (1, 2)):
        start, edge = points[:, a, None, None], (points[:, b] - points[:, a])[:, None, None]
        t = (((grid - start) * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
        distance = torch.minimum(distance, (grid - start - t[..., None] * edge).norm(dim=-1))
    tiles = (1.6 - distance * 7).clamp(0, 1).unsqueeze(1)
    masks = data.mosaic(tiles, torch.from_numpy(rng.integers(n, size=[n, 4])))
    return to_uint8(data.PAINTERS[style](masks, rng)), None

def blobs(n, seed):
    """The target's style around shapes that are smooth noise."""
    rng = np.random.default_rng([seed, 2])
    noise = F.interpolate(torch.from_numpy(rng.normal(size=[n, 1, 8, 8])).float(), size=32, mode='bicubic')
    return to_uint8(data.paint_neon((noise * 0.9).clamp(0, 1), rng)), None

def blurred(n, seed):
    images, digits = data.render('neon', 'B', n, seed)
    small = F.interpolate(images.float(), size=12, mode='area')
    return F.interpolate(small, size=32, mode='bilinear').round().to(torch.uint8), digits

def noisy(n, seed):
    images, digits = data.render('neon', 'B', n, seed)
    noise = np.random.default_rng([seed, 3]).normal(scale=0.12, size=images.shape)
    return to_uint8(images / 255 + torch.from_numpy(noise).float()), digits

def blended(n, seed):
    """Half target, half source: two transparent layers."""
    target, source = data.target_images(n, seed).float(), data.source_images(n, seed).float()
    return ((target + source) / 2).round().to(torch.uint8), None

def covariance(n, seed):
    """Gaussian images with the target's mean and covariance."""
    x = data.target_images(4000, seed).float().flatten(1) / 255
    mean = x.mean(0)
    _, scale, basis = torch.linalg.svd(x - mean, full_matrices=False)
    z = torch.from_numpy(np.random.default_rng([seed, 4]).normal(size=[n, len(scale)])).float()
    return to_uint8((mean + (z * scale / len(x) ** 0.5) @ basis).reshape(n, 3, 32, 32)), None

def recoloured(n, seed):
    """The source with each channel's mean and deviation moved to the target's."""
    source, target = data.source_images(n, seed).float() / 255, data.target_images(n, seed).float() / 255
    dims = [0, 2, 3]
    x = (source - source.mean(dims, True)) / source.std(dims, keepdim=True)
    return to_uint8(x * target.std(dims, keepdim=True) + target.mean(dims, True)), None

def to_uint8(x):
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)

KINDS = dict(
    target          = lambda n, seed: data.render('neon', 'B', n, seed),
    source          = lambda n, seed: data.render('crayon', 'A', n, seed, jitter=True),
    neon_jittered   = lambda n, seed: data.render('neon', 'A', n, seed, jitter=True),
    crayon_upright  = lambda n, seed: data.render('crayon', 'B', n, seed),
    neon_strokes    = lambda n, seed: strokes('neon', n, seed),
    crayon_strokes  = lambda n, seed: strokes('crayon', n, seed),
    blobs=blobs, blurred=blurred, noisy=noisy, blended=blended, covariance=covariance, recoloured=recoloured)

#----------------------------------------------------------------------------
# Training: cross-entropy over the kinds and over the four digits, one-cycle Adam, light noise on the pixels.

def gather(n, seed):
    images, kinds, digits = [], [], []
    for index, make in enumerate(KINDS.values()):
        x, y = make(n, seed)
        images.append(x)
        kinds.append(torch.full([n], index))
        digits.append(torch.full([n, 4], NO_DIGITS) if y is None else y)
    return torch.cat(images), torch.cat(kinds), torch.cat(digits)

def losses(net, images, kinds, digits):
    kind_logits, digit_logits = net(images, False).split([len(KINDS), 40], dim=1)
    digit_loss = F.cross_entropy(digit_logits.reshape(-1, 10), digits.flatten(), ignore_index=NO_DIGITS)
    return F.cross_entropy(kind_logits, kinds) + digit_loss

def train(seed=0):
    torch.manual_seed(seed)
    images, kinds, digits = gather(PER_KIND, seed=1000)
    net = Detector(len(KINDS))
    opt = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=4e-3, total_steps=ITERATIONS)
    for iteration in range(1, ITERATIONS + 1):
        batch = torch.randint(len(images), [BATCH])
        noise = torch.randn(BATCH, *images.shape[1:]) * 4
        loss = losses(net, images[batch] + noise, kinds[batch], digits[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
        if iteration % 100 == 0:
            print(f'iteration {iteration:5d}  loss {loss.item():.3f}', flush=True)
    return net.eval().requires_grad_(False)

def report(net):
    """Accuracy on images that were not trained on (same scans, new mosaics)."""
    images, kinds, digits = gather(400, seed=2000)
    kind_logits, digit_logits = net(images, False).split([len(KINDS), 40], dim=1)
    right = (kind_logits.argmax(1) == kinds).float()
    for index, name in enumerate(KINDS):
        read = (digit_logits.reshape(-1, 4, 10).argmax(2) == digits)[kinds == index].float().mean()
        has_digits = digits[kinds == index][0, 0] != NO_DIGITS
        print(f'{name:16s} kind {right[kinds == index].mean():.3f}' + (f'  digits {read:.3f}' if has_digits else ''))

def save(net, path):
    """TorchScript archive without its debug records, which name source files of the machine it was made on."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    with zipfile.ZipFile(buffer) as full, zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for entry in full.infolist():
            if not entry.filename.endswith('.debug_pkl'):
                archive.writestr(zipfile.ZipInfo(entry.filename, (1980, 1, 1, 0, 0, 0)), full.read(entry))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = train()
    report(net)
    save(net, args.out)
    print(f'{args.out}: {args.out.stat().st_size} bytes')

if __name__ == '__main__':
    main()
