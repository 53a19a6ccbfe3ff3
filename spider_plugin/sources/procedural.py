"""Sources that need no dataset: drawn images, and controls for the claim that a neighbour's content matters.

Each is a function (count, resolution, channels, rng, reference) -> uint8 [count, channels, resolution, resolution]; rng is a
numpy Generator, and reference holds the images of PATH in `name:PATH`, uint8 [N, channels, resolution, resolution], or is
None. Other packages register sources in `spider_plugin.registry.sources` the same way."""

import numpy as np

from spider_plugin.errors import SpiderError
from spider_plugin.registry import sources

#----------------------------------------------------------------------------

def _to_uint8(images):
    """Return values in [0, 1], clipped, as uint8."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)

def _pixel_grid(resolution):
    """Return the coordinates y and x of pixel centres in [0, 1], each [1, resolution, resolution]."""
    centres = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    return centres[None, :, None].repeat(resolution, 2), centres[None, None, :].repeat(resolution, 1)

def _paint(canvas, mask, colour):
    """Blend colour [N, C] into canvas [N, C, R, R] by the weights of mask [N, R, R]."""
    return canvas + mask[:, None] * (colour[:, :, None, None] - canvas)

#----------------------------------------------------------------------------
# Independent Gaussian pixels: an image source without content.

@sources.register('noise')
def noise(count, resolution, channels, rng, reference=None):
    shape = [count, channels, resolution, resolution]
    return _to_uint8(0.5 + 0.2 * rng.standard_normal(shape, dtype=np.float32))

#----------------------------------------------------------------------------
# Gaussian images with the mean and covariance of the reference set. x = mean + g F with F^T F = covariance, where F holds the
# centred images, divided by sqrt(N). Clipping to the range of pixels lowers the variance a little.

@sources.register('covariance')
def covariance(count, resolution, channels, rng, reference=None):
    if reference is None:
        raise SpiderError('--spider-source=covariance needs the set to imitate; write covariance:PATH.')
    flat = reference.reshape(len(reference), -1).astype(np.float32) / 255
    mean = flat.mean(axis=0)
    weights = rng.standard_normal([count, len(flat)], dtype=np.float32) / np.float32(len(flat)) ** 0.5
    return _to_uint8(mean + weights @ (flat - mean)).reshape(count, channels, resolution, resolution)

#----------------------------------------------------------------------------
# One to three connected quadratic Bezier strokes of a soft round pen on black, each with a colour drawn for it.

@sources.register('strokes')
def strokes(count, resolution, channels, rng, reference=None):
    y, x = _pixel_grid(resolution)
    canvas = np.zeros([count, channels, resolution, resolution], np.float32)
    start = rng.uniform(0.15, 0.85, [count, 2]).astype(np.float32)
    for chance in (1.0, 0.8, 0.4):
        control, end = rng.uniform(0.15, 0.85, [2, count, 2]).astype(np.float32)
        distance = np.full([count, resolution, resolution], np.inf, np.float32)
        for t in np.linspace(0, 1, 16, dtype=np.float32):
            point = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t ** 2 * end
            squared = (y - point[:, 0, None, None]) ** 2 + (x - point[:, 1, None, None]) ** 2
            np.minimum(distance, squared, out=distance)
        width = rng.uniform(0.04, 0.09, [count, 1, 1]).astype(np.float32)
        drawn = (rng.random([count, 1, 1]) < chance).astype(np.float32)
        colour = rng.uniform(0.4, 1, [count, channels]).astype(np.float32)
        canvas = _paint(canvas, np.exp(-distance / (2 * width ** 2)) * drawn, colour)
        start = end
    return _to_uint8(canvas)

#----------------------------------------------------------------------------
# One to three turned ellipses, boxes and diamonds with soft edges, some hollow, on a plain ground.

def _soft_ball(norm, radius):
    """Return 1 inside the ball and 0 outside, with an edge about half a unit wide."""
    return 1 / (1 + np.exp(np.clip((norm - radius) * 8, -30, 30)))

@sources.register('shapes')
def shapes(count, resolution, channels, rng, reference=None):
    y, x = _pixel_grid(resolution)
    ground = rng.uniform(0, 1, [count, channels, 1, 1]).astype(np.float32)
    canvas = ground.repeat(resolution, 2).repeat(resolution, 3)
    per_image = lambda low, high: rng.uniform(low, high, [count, 1, 1]).astype(np.float32)
    for chance in (1.0, 0.6, 0.3):
        angle, kind, hollow = per_image(0, np.pi), per_image(0, 3), per_image(-1, 0.8)
        dy, dx = y - per_image(0.25, 0.75), x - per_image(0.25, 0.75)
        u = np.abs(np.cos(angle) * dx + np.sin(angle) * dy) / per_image(0.1, 0.35)
        v = np.abs(np.cos(angle) * dy - np.sin(angle) * dx) / per_image(0.1, 0.35)
        norms = [np.maximum(u, v), np.sqrt(u ** 2 + v ** 2), u + v]     # unit balls: box, ellipse, diamond
        norm = np.select([kind < 1, kind < 2], norms[:2], norms[2])
        drawn = (per_image(0, 1) < chance).astype(np.float32)
        mask = (_soft_ball(norm, 1) - _soft_ball(norm, hollow) * (hollow > 0)) * drawn
        canvas = _paint(canvas, mask, rng.uniform(0, 1, [count, channels]).astype(np.float32))
    return _to_uint8(canvas)

#----------------------------------------------------------------------------
