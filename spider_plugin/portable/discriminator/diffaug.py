"""Differentiable augmentation (Zhao et al. 2020): colour, translation and cutout, drawn independently for every image.

This module is portable: it travels inside snapshots and imports only torch."""

import torch

#----------------------------------------------------------------------------

def color(x):
    """Change brightness by b in +-1/2, then saturation by s in [0, 2], then contrast by k in [1/2, 3/2], for x [N, C, H, W].

    In one pass this is y = k s x + k (1 - s) m + (1 - k) M + b, with m the mean over channels and M the mean over the image."""
    b, s, k = torch.rand([3, len(x), 1, 1, 1], device=x.device, dtype=x.dtype)
    b, s, k = b - 0.5, s * 2, k + 0.5
    return x * (k * s) + x.mean(dim=1, keepdim=True) * (k * (1 - s)) + (x.mean(dim=[1, 2, 3], keepdim=True) * (1 - k) + b)

def translation_and_cutout(x, shift=0.125, hole=0.2):
    """Move x by up to `shift` of its sides, then cut a hole of `hole` of its sides anywhere; missing pixels are zero."""
    n, channels, height, width = x.shape
    ys, ys_in = _moved(n, height, shift, x.device)
    xs, xs_in = _moved(n, width, shift, x.device)
    index = (ys[:, :, None] * width + xs[:, None, :]).reshape(n, 1, -1).expand(-1, channels, -1)
    cut = _hole(n, height, hole, x.device)[:, :, None] & _hole(n, width, hole, x.device)[:, None, :]
    keep = ys_in[:, :, None] & xs_in[:, None, :] & ~cut
    return x.flatten(2).gather(2, index).reshape(x.shape) * keep[:, None].to(x.dtype)

def _moved(n, side, shift, device):
    """Return the index from which each of `side` pixels is taken, [n, side], and whether it is inside the image."""
    most = int(side * shift + 0.5)
    places = torch.arange(side, device=device) + torch.randint(-most, most + 1, [n, 1], device=device)
    return places.clamp(0, side - 1), (places >= 0) & (places < side)

def _hole(n, side, hole, device):
    """Return which of `side` pixels are within a window with a random centre, [n, side]."""
    size = int(side * hole + 0.5)
    start = torch.randint(0, side + 1 - size % 2, [n, 1], device=device) - size // 2
    places = torch.arange(side, device=device)
    return (places >= start) & (places < start + size)

def diffaug(x):
    """Return the augmented images of x [N, C, H, W]."""
    return translation_and_cutout(color(x))

#----------------------------------------------------------------------------
