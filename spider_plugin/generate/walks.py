"""Walks from seed to seed at a stage of a cascade, and the picture of all stages.

    source   the source image of the stage turns into the next one (between.py); its latent is that of the first seed
    latent   its latent moves on the sphere between two of them; its source image is that of the first seed
    w        its styles move; its source image is that of the first seed
    both     styles and source image move together, so that the walk passes through the images of the seeds

The output of the stage then passes through the stages after it, whose latents are those of the first seed."""

import itertools
from pathlib import Path

import numpy as np
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.generate import pictures
from spider_plugin.generate.between import Between, slerp

KINDS = ('source', 'latent', 'w', 'both')

def parse_walk(walk, walk_out):
    """Return (kind, file name) of --walk=[KIND|FILE] and --walk-out. Raises SpiderError."""
    if walk not in KINDS:
        if Path(walk).suffix.lower() not in pictures.MOVING:
            raise SpiderError(f'--walk={walk} is neither a kind of walk nor a file to write one to; give {", ".join(KINDS)}, or '
                              f'a name that ends in {", ".join(pictures.MOVING)}.')
        if walk_out is not None:
            raise SpiderError(f'--walk={walk} and --walk-out={walk_out} both name a file; give --walk=both '
                              f'--walk-out={walk_out}.')
        walk, walk_out = 'both', walk
    walk_out = f'walk-{walk}.gif' if walk_out is None else walk_out
    pictures.check_name(walk_out)
    return walk, walk_out

#----------------------------------------------------------------------------
# One frame.

def _styles(ws, held, num_ws):
    """Return ws with its key rows, those after the layers' rows, from `held`. A value between two keys names no image."""
    return ws if ws.ndim < 3 or num_ws is None else torch.cat([ws[:, :num_ws], held[:, num_ws:]], dim=1)

class _Walker:
    """Draws the frames of a walk at the first of `stages`, as images of the last one."""

    def __init__(self, cascade, stages, kind):
        self.stage, self.after, self.kind = stages[0], stages[1:], kind
        s = self.stage
        if s.image is not None:
            self.between, self.keys = Between(s.G.source, cascade.network, cascade.parents), s.G.source.key(s.z, s.c)
        if kind == 'source' and s.image is None:
            raise SpiderError(f'--walk=source: stage {s.number} draws from noise and has no source image; give '
                              '--walk=latent or w.')
        self.ws = torch.cat([s.styles(s.z[i : i + 1], s.c[i : i + 1], self._image(i)) for i in range(len(s.z))])

    def _image(self, i):
        return None if self.stage.image is None else self.stage.image[i : i + 1]

    def frame(self, i, j, t):
        s, image = self.stage, self._image(0)
        if self.kind in ('source', 'both') and image is not None:
            image = self.between(self.keys[i : i + 1], self.keys[j : j + 1], t)
        if self.kind == 'source':
            ws = s.styles(s.z[:1], s.c[:1], image)
        elif self.kind == 'latent':
            ws = s.styles(slerp(s.z[i : i + 1], s.z[j : j + 1], t), s.c[:1], image)
        else:
            ws = torch.lerp(self.ws[i : i + 1], self.ws[j : j + 1], t)
        result = s.draw(_styles(ws, self.ws[:1], getattr(s.G.synthesis, 'num_ws', None)), image)
        for stage in self.after:
            result = stage.through(result)
        return result

    def moves(self):
        return not torch.equal(self.frame(0, 1, 0.0), self.frame(0, 1, 0.5))

def frames_of(cascade, stages, kind, frames):
    """Return an iterator of frames uint8 [H, W, C], `frames` for each seed, back to the first.

    Raises SpiderError if the images do not depend on what the walk moves."""
    walker = _Walker(cascade, stages, kind)
    if not walker.moves():
        others = ', '.join(other for other in KINDS if other != kind)
        raise SpiderError(f'--walk={kind} moves nothing at stage {stages[0].number} of {cascade.network}, whose images do not '
                          f'depend on it; give {others}.')
    n = len(stages[0].z)
    steps = itertools.product(range(n), np.linspace(0, 1, frames, endpoint=False))
    return (pictures.to_uint8(walker.frame(i, (i + 1) % n, float(t)))[0] for i, t in steps)

#----------------------------------------------------------------------------
# Stage pictures (arXiv 2305.07613) show the images of each stage for the seeds, and interpolations from the first seed to the
# last at each stage, in its styles and in its source image, as images of the last stage.

def stage_picture(cascade, stages, columns):
    """Return the stage picture, uint8 [H, W, C], with labelled rows."""
    rows = []
    if stages[0].image is not None:
        rows.append((f'source {stages[0].G.source.identity["name"]}', list(stages[0].image.split(1))))
    for s in stages:
        drawn = [s.draw(s.styles(s.z[i : i + 1], s.c[i : i + 1], image), image) for i, image in
                 enumerate(s.image.split(1) if s.image is not None else [None] * len(s.z))]
        rows.append((f'stage {s.number}, {type(s.G).__name__}', drawn))
    for k, s in enumerate(stages):
        for kind in ('w', 'source'):
            if kind == 'source' and s.image is None:
                continue
            walker = _Walker(cascade, stages[k:], kind)
            if walker.moves():
                rows.append((f'walk by {kind}, stage {s.number}', [walker.frame(0, len(s.z) - 1, float(t))
                                                                   for t in np.linspace(0, 1, columns)]))
    return pictures.labelled_rows([(label, [pictures.to_uint8(image)[0] for image in images]) for label, images in rows])

#----------------------------------------------------------------------------
