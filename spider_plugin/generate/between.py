"""Images between two source images.

Where the source was rendered by a generator whose snapshot is found, its latents are interpolated, and every image between is one
that it draws. Otherwise one image is moved onto the other (morph.py)."""

import torch
import torch.nn.functional as F

from spider_plugin.errors import SpiderError
from spider_plugin.generate.morph import Morph
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.parents import find_parent, one_hot, rendered_labels, rendered_latents

SAME = 0.03     # mean difference in [-1, 1] at which an image of the bank counts as that which its generator draws now
KEPT = 64       # ways that are remembered

def slerp(a, b, t):
    """Interpolate between two latents [1, L] on a great circle; their length changes linearly."""
    la, lb = a.norm(), b.norm()
    angle = torch.acos(((a / la) * (b / lb)).sum().clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a / la + torch.sin(t * angle) * b / lb) / torch.sin(angle) * torch.lerp(la, lb, t)

class Between:
    """between(key, key, t) -> float32 [1, C, R, R]: the image of the first key [1, key_dim] for t = 0, of the other for t = 1.

    source: an image source; path: of the snapshot that carries it; parents: {digest: path} of generators of its cascade.
    Raises SpiderError, at a call, where the source has no images."""

    def __init__(self, source, path, parents=()):
        self.source, self.path = source, path
        self.parent = _parent(source, path, dict(parents))
        self.ways = {}

    def __call__(self, first, other, t):
        if hasattr(self.source, '__len__') and len(self.source) == 0:
            raise SpiderError(f'{self.path} carries no source images (--spider-embed=0), so there is nothing to walk through; '
                              'give a snapshot that carries some.')
        name = (*first[0].tolist(), *other[0].tolist())
        if name not in self.ways:
            if len(self.ways) >= KEPT:
                self.ways.pop(next(iter(self.ways)))
            self.ways[name] = self._way(first, other)
        return self.ways[name](t)

    def _way(self, first, other):
        """A function of t."""
        ends = [self.source.fetch(key) for key in (first, other)]
        if self.parent is not None:
            inputs = [self.parent.inputs(int(key[0, 0])) for key in (first, other)]
            if all((self.parent.image(*drawn, like=end) - end).abs().mean() < SAME for drawn, end in zip(inputs, ends)):
                (z, c), (other_z, other_c) = inputs
                def way(t):
                    if t <= 0 or t >= 1:
                        return ends[t >= 1]
                    return self.parent.image(slerp(z, other_z, t), torch.lerp(c, other_c, t), like=ends[0])
                return way
        return Morph(*ends)

#----------------------------------------------------------------------------

class _Parent:
    """The generator that rendered a bank of `count` images."""

    def __init__(self, G, count):
        self.G = G
        self.z, self.labels = rendered_latents(count, G.z_dim), rendered_labels(count, getattr(G, 'c_dim', 0))

    def inputs(self, index):
        """z [1, z_dim] and c [1, c_dim] of an image of the bank."""
        return self.z[index : index + 1], one_hot(self.labels[index : index + 1], getattr(self.G, 'c_dim', 0))

    @torch.no_grad()
    def image(self, z, c, like):
        """What it draws, in the size of the image `like`."""
        self.G.to(like.device)
        image = self.G(z.to(like.device), c.to(like.device), noise_mode='const').to(torch.float32).clamp(-1, 1)
        return F.interpolate(image, size=like.shape[-2:], mode='area') if image.shape != like.shape else image

def _parent(source, path, parents):
    """The generator that rendered the source, where its snapshot is found and its images were not moved; else None."""
    identity = source.identity
    latents = identity.get('latents')
    if not isinstance(latents, int) or 'match' in identity or not 0 < latents <= 1 << 20:
        return None
    try:
        return _Parent(load_generator(find_parent(identity, path, parents)), latents)
    except SpiderError:
        return None

#----------------------------------------------------------------------------
