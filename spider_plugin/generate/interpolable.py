"""Source images in tools that treat all rows of ws as styles.

The last rows of a residual generator's ws hold a key, exact integers that name a source image. Tools of hosts interpolate,
truncate and average whole ws, which leaves no key, and the generator shows the mean of its source. Here hooks on `mapping` and
`synthesis` write weights in place of the key, one for each image that was asked for, which survive such arithmetic:

    interpolable(G, path)   two images with weights are shown as what lies between them (between.py)
    held(G)                 the first image is shown until its weight is gone: styles move alone, as path lengths need it

A file of projected ws holds an exact key still, and gets its image. The hooks stay on a deep copy of G."""

import contextlib

import torch

from spider_plugin.errors import SpiderError
from spider_plugin.generate.between import Between
from spider_plugin.portable.source.key import unpack_key

SCALE    = 4096.0   # of weights: what truncation adds of the mean w, about 1, counts for nothing beside it
LEAST    = 0.01     # a smaller weight is none, and a smaller sum of weights is no image
MOST     = 1024     # images that have a weight at a time; the oldest loses its own
W_ALONE  = ('This script looks for w alone, and the images of this network also depend on a source image; use `spider project`, '
            'which looks for both.')
NEAR     = 0.35     # latents nearer than this share of their length, and not equal, are steps of a walk through z

def carries_key(G):
    """Whether the last rows of ws name the source image."""
    return getattr(getattr(G, 'mapping', None), 'key_slots', 0) > 0 and getattr(G, 'source', None) is not None

def styles(G):
    """Number of the rows of ws that are styles."""
    return getattr(getattr(G, 'synthesis', None), 'num_ws', None) or G.num_ws

def interpolable(G, path):
    """Let tools interpolate the ws of G, which is returned; `path` of its snapshot is for messages and finds its parent.

    A generator without a key is left as it is. Raises SpiderError, at the interpolation, where the snapshot carries no images."""
    if carries_key(G):
        Weights(G, Between(G.source, path)).install(G)
    return G

@contextlib.contextmanager
def held(G):
    """Within this context, ws between those of two latents have the source image of the first one."""
    handles = Weights(G, None).install(G) if carries_key(G) else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

#----------------------------------------------------------------------------

class Weights:
    """Keys that have a weight in ws. between(key, key, t) -> image; None: the first image is held, of each call of mapping."""

    def __init__(self, G, between):
        self.source, self.between, self.styles = G.source, between, styles(G)
        self.keys, self.places = [], {}     # a key [1, key_dim] by its place, a place by the bytes of its key
        self.next, self.last_z = 0, None

    def install(self, G):
        """Put the hooks on G; return their handles. They are functions, which deep copies of G share."""
        def after_mapping(_module, args, kwargs, ws):
            return self.written(ws, args[0] if args else kwargs['z'])
        def before_synthesis(_module, args, kwargs):
            return self.read(args, kwargs)
        return [G.mapping.register_forward_hook(after_mapping, with_kwargs=True),
                G.synthesis.register_forward_pre_hook(before_synthesis, with_kwargs=True)]

    def place(self, key):
        """The place of a key [key_dim], a new one where it has none."""
        name = key.cpu().numpy().tobytes()
        if name not in self.places:
            place = self.next % MOST
            self.places = {known: at for known, at in self.places.items() if at != place} | {name: place}
            self.keys[place : place + 1] = [key[None]]
            self.next += 1
        return self.places[name]

    # After mapping.

    def written(self, ws, z):
        """ws with weights in place of keys; more rows, where more images have been asked for than the rows of the key hold."""
        self._refuse_walk(z)
        tail = ws[:, self.styles :]
        key, intact = unpack_key(tail, self.source.key_dim)
        if not intact.all() or len(key) > MOST:     # the statistics of w are of many more, and need no key
            return ws
        if self.between is None:
            self.keys, self.places, self.next = [], {}, 0
        places = torch.tensor([self.place(row) for row in key], device=ws.device)
        rows = max(tail.shape[1], -(-len(self.keys) // ws.shape[2]))
        weights = torch.nn.functional.one_hot(places, rows * ws.shape[2]).to(ws.dtype) * SCALE
        return torch.cat([ws[:, : self.styles], weights.reshape(len(ws), rows, -1)], dim=1)

    def _refuse_walk(self, z):
        last, self.last_z = self.last_z, z.detach() if len(z) == 1 else None
        if self.between is None or last is None or self.last_z is None or last.shape != z.shape or z.shape[1] < 8:
            return
        if 0 < (z - last).norm() < NEAR * z.norm():
            raise SpiderError('This script walks through latents z, and neighbouring latents of a Spider generator have '
                              'unrelated source images; use `spider video`, which walks from source image to source image.')

    # Before synthesis.

    def read(self, args, kwargs):
        """(args, kwargs) of a call of synthesis, with the images that the weights mean."""
        ws = args[0] if args else kwargs['ws']
        if kwargs.get('source_image') is not None:
            return args, kwargs
        if self.between is not None and ws.requires_grad and ws.shape[1] > 1:
            raise SpiderError(W_ALONE)
        tail = ws[:, self.styles :]
        key, intact = unpack_key(tail, self.source.key_dim)
        weights = tail.detach().flatten(1).to(torch.float64) / SCALE
        images = [self.source.fetch(key[i : i + 1]) if intact[i] else self._image(weights[i]) for i in range(len(ws))]
        return args, dict(kwargs, source_image=torch.cat([image.to(ws.device) for image in images]))

    def _image(self, weights):
        weights = weights[: len(self.keys)]
        if self.between is None:
            found = (weights > LEAST).nonzero().flatten().tolist()
            return self.source.fetch(self.keys[found[0]]) if found else self.source.mean_image
        weights = torch.where(weights > LEAST, weights, torch.zeros_like(weights))
        if weights.sum() < LEAST:
            return self.source.mean_image
        shares, places = weights.topk(min(2, len(weights)))
        if len(places) < 2 or shares[1] == 0:
            return self.source.fetch(self.keys[places[0]])
        places, shares = zip(*sorted(zip(places.tolist(), shares.tolist())))    # one direction, so that a way is found once
        return self.between(self.keys[places[0]], self.keys[places[1]], shares[1] / sum(shares))

#----------------------------------------------------------------------------
