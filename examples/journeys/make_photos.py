"""Makes a folder of photo-like JPEGs from the satellite map of `spider demo`: several sizes and proportions, landscape and
portrait, and orientations that only EXIF tells, as a phone writes them.

    python examples/journeys/make_photos.py FOLDER [NUMBER]"""

import sys
from pathlib import Path

import numpy as np
import PIL.Image

from spider_plugin.demo.maps import load_map

SIZES  = ((400, 300), (480, 320), (512, 288), (360, 360), (640, 480))     # pixels of a landscape
# EXIF orientation: how a camera that was held so stores the upright picture
STORED = {1: None, 3: PIL.Image.Transpose.ROTATE_180, 6: PIL.Image.Transpose.ROTATE_90, 8: PIL.Image.Transpose.ROTATE_270}
ORIENTATION = 0x0112    # tag of EXIF

def make_photos(folder, number=300, seed=0):
    """Write `number` JPEGs into a folder, which is made. Equal arguments give equal pictures."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    land, water = load_map('satellite.jpg')
    rng, made = np.random.default_rng(seed), 0
    while made < number:
        width, height = SIZES[rng.integers(len(SIZES))][:: 1 if rng.random() < 0.6 else -1]
        scale = rng.uniform(0.2, 0.5)           # pixels of the map in one of the picture
        w, h = round(width * scale), round(height * scale)
        x, y = rng.integers(land.shape[1] - w + 1), rng.integers(land.shape[0] - h + 1)
        if water[y + h, x + w] - water[y, x + w] - water[y + h, x] + water[y, x] > 0.6 * w * h:
            continue
        image = PIL.Image.fromarray(land[y : y + h, x : x + w]).resize((width, height), PIL.Image.Resampling.BICUBIC)
        orientation = int(rng.choice(list(STORED), p=[0.7, 0.05, 0.15, 0.1]))
        if STORED[orientation] is not None:
            image = image.transpose(STORED[orientation])
        exif = PIL.Image.Exif()
        exif[ORIENTATION] = orientation
        image.save(folder / f'IMG_{1000 + made}.JPG', format='jpeg', quality=90, exif=exif)
        made += 1

if __name__ == '__main__':
    make_photos(sys.argv[1], *map(int, sys.argv[2:]))
