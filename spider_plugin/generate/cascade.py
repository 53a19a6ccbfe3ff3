"""The generators of a cascade, and what each of them draws from for a seed.

A snapshot carries images of the generator before it, not that generator. Image i of them is that of a known latent
(sources/parents.py), so a seed leads from stage to stage down to the first, where the generators are found."""

import contextlib
import dataclasses

import torch
import torch.nn.functional as F

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.lineage import cascade_stages
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.parents import find_parent, given_parents, one_hot, rendered_labels, rendered_latents

#----------------------------------------------------------------------------
# One stage for a list of seeds.

@dataclasses.dataclass
class Stage:
    """Generator number `number` of a cascade, from 1, and for each of N seeds: its latent z [N, z_dim], its label c [N, c_dim],
    and the image that it draws from [N, C, R, R], None without a source."""

    number:  int
    G:       torch.nn.Module
    options: dict           # of its synthesis
    psi:     float
    z:       torch.Tensor
    c:       torch.Tensor
    image:   torch.Tensor | None

    @torch.no_grad()
    def styles(self, z, c, image):
        """ws of one sample that draws from `image` [1, C, R, R]."""
        with drawing_from(self.G, image):
            return self.G.mapping(z, c, truncation_psi=self.psi)

    @torch.no_grad()
    def draw(self, ws, image):
        """Image of one sample by its ws, whose key rows are those of any seed."""
        with drawing_from(self.G, image):
            return self.G.synthesis(ws, **self.options)

    @torch.no_grad()
    def through(self, image):
        """Image of the first seed, had it drawn from `image`, the output of the stage before."""
        source = self.G.source
        image = F.interpolate(image.to(torch.float32).clamp(-1, 1), size=[source.resolution] * 2, mode='area')
        return self.draw(self.styles(self.z[:1], self.c[:1], image), image)

#----------------------------------------------------------------------------

class Cascade:
    """The snapshot `network` and, as far as they are asked for, its parents."""

    def __init__(self, network, device, parents=(), trust=False, psi=1.0, noise_mode='const'):
        self.network, self.device, self.trust, self.psi, self.noise_mode = network, device, trust, psi, noise_mode
        self.last = load_generator(network, trust=trust).to(device)
        source = getattr(self.last, 'source', None)
        identities = [] if source is None else cascade_stages(source.identity, network)
        self.before = [identity for identity in identities if 'latents' in identity]    # the generators before, nearest first
        self.parents = given_parents(parents, identities)

    def trace(self, z, c, first=1):
        """The stages `first` (None: the last alone) to the last, for the latents of the last. Raises SpiderError."""
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
                psi = 1.0   # what the images of parents were drawn with
        return stages

    def _parent(self, G, z, c, identity):
        index = G.source.key(z, c)[:, 0].to(torch.int64).cpu()
        path = find_parent(identity, self.network, self.parents)
        parent = load_generator(path, trust=self.trust).to(self.device)
        latents, labels = rendered_latents(identity['latents'], parent.z_dim), rendered_labels(identity['latents'], parent.c_dim)
        return parent, latents[index].to(self.device), one_hot(labels[index], parent.c_dim).to(self.device)

#----------------------------------------------------------------------------
# A generator that draws from one image, whatever the key.

class _OneImage:
    """A source of one image [1, C, R, R]; keys are those of the source in whose place it is."""

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
    """While it is open, G draws from `image` [1, C, R, R]; None changes nothing."""
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
