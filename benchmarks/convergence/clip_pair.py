"""The pair `clip` of docs/real-images.md: Open Clip Art (public domain) from Debian's package openclipart-png, 32x32, on white.

    apt-get download openclipart-png && dpkg -x openclipart-png_*.deb CLIP
    python -m benchmarks.convergence.clip_pair CLIP OUT         # writes OUT/target.zip and OUT/source.zip

Target: animals, food, plants, transportation. Source: buildings, office, people, recreation, tools, without what is nearer than
12 grey levels (root mean square) to an image of the target. Equal images and nearly constant ones are left out."""

import io
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SIDES = dict(target=['animals', 'food', 'plants', 'transportation'],
             source=['recreation', 'people', 'office', 'tools', 'buildings'])
SIDE, LEAST_STD, LEAST_DISTANCE = 32, 8, 12

def picture(path):
    """Return uint8 [32, 32, 3], the picture in the middle of a white square; None for a file that is no picture."""
    try:
        image = Image.open(path).convert('RGBA')
    except Exception:   # Pillow raises errors of many types on a damaged file, and on one that is too large
        return None
    image.thumbnail((4 * SIDE, 4 * SIDE), Image.Resampling.LANCZOS)
    square = Image.new('RGBA', (max(image.size),) * 2, (255,) * 4)
    square.alpha_composite(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    return np.asarray(square.convert('RGB').resize((SIDE, SIDE), Image.Resampling.LANCZOS))

def pictures(root, folders):
    """Return uint8 [N, 32, 32, 3], in the order of folders and paths."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob('*.png')):
            image = picture(path)
            if image is not None and image.std() > LEAST_STD:
                found.setdefault(image.tobytes(), image)
    return np.stack(list(found.values()))

def write(path, images):
    with zipfile.ZipFile(path, 'w') as archive:
        for i, image in enumerate(images):
            data = io.BytesIO()
            Image.fromarray(image).save(data, 'png')
            archive.writestr(f'{i:05d}.png', data.getvalue())

def main():
    folder, out = map(Path, sys.argv[1:3])
    root = next(path for path in folder.rglob('png') if (path / 'animals').is_dir())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        target, source = (pictures(root, SIDES[side]) for side in ('target', 'source'))
    near = [min(np.square(image - target.astype(np.float32)).mean(axis=(1, 2, 3))) ** 0.5 for image in source.astype(np.float32)]
    out.mkdir(parents=True, exist_ok=True)
    write(out / 'target.zip', target)
    write(out / 'source.zip', source[np.array(near) >= LEAST_DISTANCE])

if __name__ == '__main__':
    main()
