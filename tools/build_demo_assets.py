"""Builds spider_plugin/demo/assets: the raw ingredients of the demo's two datasets.

    python -m tools.build_demo_assets

Needs scikit-learn and scikit-image (development only; the demo itself reads the committed assets). Prints the sha256 that
`spider_plugin/demo/data.py` checks. See assets/ATTRIBUTION.md for origin and licences.
"""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_digits

ASSETS = Path(__file__).resolve().parents[1] / 'spider_plugin' / 'demo' / 'assets'
BRICK_SIZE = 208  # pixels; the 512 px photograph reduced so that a 32 px crop shows about two rows of bricks


def save_npz(path, **arrays):
    """`np.savez_compressed` with a fixed time stamp: the same arrays give the same bytes."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array)
            archive.writestr(zipfile.ZipInfo(f'{name}.npy', (1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)


def main():
    ASSETS.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    save_npz(ASSETS / 'digits.npz', images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))
    brick = Image.fromarray(skimage.data.brick()).resize((BRICK_SIZE, BRICK_SIZE), Image.Resampling.BOX)
    brick.save(ASSETS / 'brick.png', optimize=True)
    for name in ('digits.npz', 'brick.png'):
        content = (ASSETS / name).read_bytes()
        print(f'{name:12s} {len(content):7d} bytes  {hashlib.sha256(content).hexdigest()}')


if __name__ == '__main__':
    main()
