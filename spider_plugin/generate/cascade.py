"""The generators of a cascade, and the latent and source image that each of them uses for a seed.

A snapshot carries images of the generator before it, not that generator. Image i was rendered from a known latent
(sources/parents.py), so a seed can be traced from stage to stage down to the first one whose generator is found."""

import contextlib
import dataclasses

import torch
import torch.nn.functional as F

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.drawing import check_drawable
from spider_plugin.snapshots.lineage import cascade_stages
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.parents import find_parent, given_parents, one_hot, rendered_labels, rendered_latents

_LATENTS = 1 << 28      # most numbers in the latents of a stage

#----------------------------------------------------------------------------
# One stage for a list of seeds.

@dataclasses.dataclass
class Stage:
    """One generator of a cascade with the inputs for N seeds.

    number:     position in the cascade, from 1.
    z, c:       latents [N, z_dim] and labels [N, c_dim] of the seeds.
    image:      source images of the seeds [N, C, R, R], or None if the generator has no source."""

    number:  int
    G:       torch.nn.Module
    options: dict           # keywords of its synthesis
    psi:     float
    z:       torch.Tensor
    c:       torch.Tensor
    image:   torch.Tensor | None

    @torch.no_grad()
    def styles(self, z, c, image):
        """Return the ws of one sample whose source image is `image` [1, C, R, R]."""
        with drawing_from(self.G, image):
            return self.G.mapping(z, c, truncation_psi=self.psi)

    @torch.no_grad()
    def draw(self, ws, image):
        """Return the image of one sample from its ws and source image; the key rows of ws do not matter."""
        with drawing_from(self.G, image):
            return self.G.synthesis(ws, **self.options)

    @torch.no_grad()
    def through(self, image):
        """Return the image of the first seed with `image`, the output of the stage before, as its source image."""
        source = self.G.source
        image = F.interpolate(image.to(torch.float32).clamp(-1, 1), size=[source.resolution] * 2, mode='area')
        return self.draw(self.styles(self.z[:1], self.c[:1], image), image)

#----------------------------------------------------------------------------

class Cascade:
    """The snapshot `network` and its parents, which are loaded when they are needed."""

    def __init__(self, network, device, parents=(), trust=False, psi=1.0, noise_mode='const'):
        self.network, self.device, self.trust, self.psi, self.noise_mode = network, device, trust, psi, noise_mode
        self.last = load_generator(network, trust=trust).to(device)
        check_drawable(self.last, network)
        source = getattr(self.last, 'source', None)
        identities = [] if source is None else cascade_stages(source.identity, network)
        self.before = [identity for identity in identities if 'latents' in identity]    # the generators before, nearest first
        self.parents = given_parents(parents, identities)

    def trace(self, z, c, first=1):
        """Return the stages from `first` to the last for latents z and labels c of the last stage.

        first:  number of the first stage to return; None returns the last stage alone.
        Raises SpiderError."""
        depth = 1 + len(self.before)
        first = depth if first is None else first
        if not 1 <= first <= depth:
            raise SpiderError(f'--stage={first}: {self.network} is the last of {depth} stages; give 1 to {depth}.')
        G, stages, psi = self.last, [], self.psi
        for number in range(depth, first - 1, -1):
            image = None if getattr(G, 'source', None) is None else G.source.sample(z, c)
            stages.insert(0, Stage(number, G, dict(noise_mode=self.noise_mode), psi, z, c, image))
            if number > first:
                G, z, c = self._parent(G, z, c, self.before[depth - number])
                psi = 1.0   # the images of parents were rendered without truncation
        return stages

    def _parent(self, G, z, c, identity):
        index = G.source.key(z, c)[:, 0].to(torch.int64).cpu()
        path = find_parent(identity, self.network, self.parents)
        parent = load_generator(path, trust=self.trust).to(self.device)
        if identity['latents'] * parent.z_dim > _LATENTS:
            raise SpiderError(f'{self.network} was rendered from {identity["latents"]} latents, too many to draw again here; '
                              'show its last stage alone.')
        latents, labels = rendered_latents(identity['latents'], parent.z_dim), rendered_labels(identity['latents'], parent.c_dim)
        return parent, latents[index].to(self.device), one_hot(labels[index], parent.c_dim).to(self.device)

#----------------------------------------------------------------------------
# A generator that uses one source image for all keys.

class _OneImage:
    """A source of one image [1, C, R, R]; keys are those of the source that it replaces."""

    def __init__(self, source, image):
        self.stock, self.mean_image = source, image

    def __getattr__(self, name):
        return getattr(self.stock, name)

    def key(self, z, c=None):
        return self.stock.key(z, c)

    def fetch(self, key):
        return self.mean_image.expand(len(key), -1, -1, -1)

    def sample(self, z, c=None):
        return self.fetch(z)

@contextlib.contextmanager
def drawing_from(G, image):
    """Within this context, `image` [1, C, R, R] is the source image of G for every key; with None nothing changes."""
    source = getattr(G, 'source', None) if image is not None else None
    owners = [module for module in G.modules() if source is not None and vars(module).get('source') is source]
    for module in owners:
        module.source = _OneImage(source, image)
    try:
        yield
    finally:
        for module in owners:
            module.source = source

#----------------------------------------------------------------------------
