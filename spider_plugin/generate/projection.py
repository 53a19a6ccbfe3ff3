"""Source images near an image, for tools that project it."""

import torch
import torch.nn.functional as F

from spider_plugin.errors import SpiderError
from spider_plugin.generate.interpolable import carries_key, styles
from spider_plugin.portable.source.bank import source_classes
from spider_plugin.portable.source.key import pack_key

SIDE  = 32      # pixels at which images are compared
BATCH = 1024

@torch.no_grad()
def rows_near(G, target, label, count):
    """Return ws whose keys name the source images nearest to an image, nearest first; their styles are those of z = 0.

    G:       a generator; None is returned unless its ws carry the key of an image of a bank.
    target:  float32 [1, C, R, R] in [-1, 1].
    label:   float32 [1, c_dim]; with classes in the bank, those of its class are looked at, where there are some.
    count:   most images.
    returns  [at most count, num_ws, w_dim]. Raises SpiderError where the snapshot carries no images."""
    if not carries_key(G) or not hasattr(G.source, 'images'):
        return None
    if len(G.source) == 0:
        raise SpiderError('--network carries no source images (--spider-embed=0), so none can be looked for; give a snapshot '
                          'that carries some.')
    index = _nearest(G.source, target, label, count)
    key = torch.stack([index, torch.zeros_like(index)], dim=1).to(torch.float32)
    ws = G.mapping(torch.zeros([1, G.z_dim], device=target.device), label).repeat(len(key), 1, 1)
    ws[:, styles(G) :] = pack_key(key, G.mapping.key_slots, ws.shape[2], ws.dtype)
    return ws

def _nearest(bank, target, label, count):
    """Indices int64 of the images of the bank with the least mean squared difference in pixels."""
    side = min(SIDE, bank.resolution)
    wanted = F.interpolate(target, size=[side] * 2, mode='area')
    images = (F.interpolate(part.to(target.device, torch.float32) / 127.5 - 1, size=[side] * 2, mode='area')
              for part in bank.images.split(BATCH))
    far = torch.cat([(part - wanted).square().flatten(1).mean(dim=1) for part in images])
    if bank.labels is not None:
        wanted = source_classes(label, int(bank.labels.max()) + 1, bank.classes)
        other = bank.labels.to(far.device) != wanted if wanted is not None and wanted >= 0 else far < 0
        far = far + (0 if other.all() else 1e3) * other
        count = min(count, int((~other).sum()) or count)
    return far.topk(min(count, len(far)), largest=False).indices

#----------------------------------------------------------------------------
