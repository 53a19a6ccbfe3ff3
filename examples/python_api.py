"""Uses the plugin from Python: a source, its bank of images, distances to the target, and the images of a snapshot.

    python examples/python_api.py [SNAPSHOT.pkl]

SNAPSHOT.pkl is a generator of 32x32 colour images, such as examples/laptop.sh trains. No code in it is run."""

import sys
import tempfile

import torch
import torch.nn.functional as F

from spider_plugin import ImageBank, load_generator, metrics, prepare_source
from spider_plugin.demo.data import build_datasets, target_images

IMAGES = 1000

def features(images):
    """Return the pixels [N, 192] of images [N, 3, 32, 32] in [-1, 1], averaged to 8x8; a network's features say more."""
    return F.avg_pool2d(images.float(), 4).flatten(1)

def describe(name, images, target):
    p, q = features(images), features(target)
    print(f'{name:20s} FID {metrics.fid(p, q).value:7.3f}   KID {metrics.kid(p, q).value:7.3f}   '
          f'SID {metrics.sid.sid(p, q).value:7.1f}')

def main(snapshot=None):
    torch.manual_seed(0)
    target = target_images(IMAGES) / 127.5 - 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        neon, crayon = build_datasets(folder, n=IMAGES)
        plain, matched = (prepare_source(str(crayon), size=32, match=match) for match in (None, str(neon)))

    # A bank is a function of z: the latent that a training loop draws picks the image that the generator is fed.
    z = torch.randn([IMAGES, 512])
    describe('source', ImageBank(plain.path).sample(z), target)
    describe('source, matched', ImageBank(matched.path).sample(z), target)

    if snapshot is not None:
        G = load_generator(snapshot)
        with torch.no_grad():
            images = G(torch.randn([IMAGES, G.z_dim]), torch.zeros([IMAGES, G.c_dim]))
        describe('generator', images, target)

if __name__ == '__main__':
    main(*sys.argv[1:])
