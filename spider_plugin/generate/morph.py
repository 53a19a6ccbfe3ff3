"""Images between two images: what they show moves from its places in one to its places in the other, and fades on its way.

A cross-fade shows both images at once, as ghosts. Here entropic optimal transport (Cuturi 2013, "Sinkhorn Distances") finds for
each place of one image the place of the other that looks like it and is near. Both images are bent along these ways, so that they
lie on each other when one fades into the other."""

import math

import torch
import torch.nn.functional as F

# Chosen by eye on digits and aerial images. Less weight on nearness tears thin lines, more leaves ghosts; so does no blur.
SIDE     = 24       # places along a side between which ways are looked for
NEARNESS = 8.0      # weight of a way's squared length, in sides of the image, beside differences in looks
CHROMA   = 0.5      # weight of colour beside lightness
CONTEXT  = 1.5      # weight of the blurred surroundings of a place beside its own looks
ENTROPY  = 0.02     # of the transport plan; the first steps have ten times as much
STEPS    = 40       # of Sinkhorn's iteration
SMOOTH   = 1.0      # standard deviation of the blur of the ways, in places
REACH    = 0.7      # standard deviation, in places, of what a place on its way covers
FADE     = 0.8      # the share of the way, in its middle, in which one image fades into the other

class Morph:
    """The way from image a to image b, float32 [1, C, R, R] in [-1, 1], both.

    morph(t) -> float32 [1, C, R, R] for t in [0, 1]: a for 0, b for 1, continuous in t."""

    def __init__(self, a, b):
        self.a, self.b = a, b
        self.there, self.back = _ways(a, b)
        self.outstanding = [_standing_out(image, self.there.shape[-1]) for image in (a, b)]

    def __call__(self, t):
        fade = min(max((t - 0.5) / FADE + 0.5, 0), 1)
        fade = fade * fade * (3 - 2 * fade)
        if t <= 0 or t >= 1:
            return self.a if t <= 0 else self.b
        there = _bent(self.a, self.there, self.outstanding[0], t)
        return torch.lerp(there, _bent(self.b, self.back, self.outstanding[1], 1 - t), fade)

#----------------------------------------------------------------------------

def _places(side, device):
    """The middles of places of an image, [2, side, side]: x and y in (0, 1)."""
    middles = (torch.arange(side, device=device) + 0.5) / side
    return torch.stack(torch.meshgrid(middles, middles, indexing='xy'))

def _blurred(x, sigma):
    """x [N, C, H, W] blurred by a Gaussian."""
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma).square())
    kernel = (kernel / kernel.sum()).repeat(x.shape[1], 1, 1, 1)
    x = F.pad(x, [reach] * 4, mode='replicate')
    return F.conv2d(F.conv2d(x, kernel, groups=x.shape[1]), kernel.mT, groups=x.shape[1])

def _looks(image, side):
    """What a place looks like, [side^2, features]: lightness and colour beside those of the image, and the surroundings."""
    image = F.interpolate(image, size=[side, side], mode='area')
    light = image.mean(dim=1, keepdim=True)
    chroma = image - light
    chroma = chroma - chroma.mean(dim=[2, 3], keepdim=True)
    light = (light - light.mean()) / (light.std() + 0.05)
    looks = torch.cat([light, CONTEXT * _blurred(light, side / 16), CHROMA * chroma], dim=1)
    return looks[0].flatten(1).T

def _standing_out(image, side):
    """How much the lightness and colour of each place, [side^2], differ from those of most places of the image."""
    image = F.interpolate(image, size=[side, side], mode='area')[0].flatten(1)
    return (image - image.median(dim=1, keepdim=True).values).square().mean(dim=0)

def _ways(a, b):
    """Two fields of ways [1, 2, side, side] in sides of the image: of the places of a to those of b, and of b to those of a."""
    side = min(SIDE, a.shape[-1])
    looks, others, places = _looks(a, side), _looks(b, side), _places(side, a.device).flatten(1).T
    cost = torch.cdist(looks, others).square() / looks.shape[1] + NEARNESS * torch.cdist(places, places).square()
    f, g, even = torch.zeros([2, len(places)], device=a.device).unbind() + (-math.log(len(places)),)
    for step in range(STEPS):
        entropy = ENTROPY * max(1, 10 - 16 * step / STEPS)
        g = -entropy * torch.logsumexp((f[:, None] - cost) / entropy + even, dim=0)
        f = -entropy * torch.logsumexp((g[None] - cost) / entropy + even, dim=1)
    plan = (f[:, None] + g[None] - cost) / ENTROPY
    ways = [plan.softmax(dim=1) @ places - places, plan.softmax(dim=0).T @ places - places]
    there, back = (_blurred(way.T.reshape(1, 2, side, side), SMOOTH) for way in ways)
    return there, back

def _bent(image, ways, standing_out, t):
    """The image whose places have gone the share t of their ways [1, 2, side, side].

    Where ways meet, the one of the place that stands out more [side^2] counts: a thing passes in front of its background."""
    side, places = ways.shape[-1], _places(ways.shape[-1], image.device).flatten(1).T
    way = ways[0].flatten(1).T
    nearness = torch.exp(-0.5 * (torch.cdist(places, places + t * way) * side / REACH).square())
    weights = nearness * (0.02 + standing_out) + 1e-9
    came = (weights / weights.sum(dim=1, keepdim=True)) @ way      # by which way what is at a place now has come
    came = F.interpolate(came.T.reshape(1, 2, side, side), size=image.shape[-2:], mode='bilinear', align_corners=False)
    return _at(image, _places(image.shape[-1], image.device)[None] - t * came)

def _at(field, places):
    """field [1, C, H, W] at places [1, 2, h, w], [1, C, h, w]."""
    return F.grid_sample(field, (places * 2 - 1).permute(0, 2, 3, 1), mode='bilinear', padding_mode='border', align_corners=False)

#----------------------------------------------------------------------------
