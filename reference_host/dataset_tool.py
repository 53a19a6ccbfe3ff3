"""Makes a dataset of equally sized images for train.py.

    python dataset_tool.py --source=photos --dest=images.zip --transform=center-crop --resolution=64x64
"""

import io
import json
import os
import shutil
import sys
import time
import zipfile

import click
import numpy as np
import PIL.Image
import PIL.ImageOps

from training.dataset import is_image_file, open_image, open_zip, read_bounded, read_labels
from training.option_types import Whole, parse_size
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Sources.

class Source:
    """The image files of a folder (searched recursively) or a zip, and the labels of its dataset.json."""

    def __init__(self, path):
        self.path = path
        self.zip = None
        if os.path.isdir(path):
            names = [os.path.relpath(os.path.join(root, name), path).replace('\\', '/')
                     for root, _dirs, files in os.walk(path) for name in files]
        else:
            try:
                self.zip = open_zip(path)
            except Exception as err: # Broken directories of a zip raise errors of many types.
                raise SpiderError(f'--source: {path} is neither a folder nor a readable zip ({err})') from err
            names = self.zip.namelist()
        self.names = sorted(name for name in names if is_image_file(name) and not name.startswith('__MACOSX/'))
        if not self.names:
            raise SpiderError(f'--source: {path} holds no images; give a folder or zip with PNG or JPEG files')
        self.labels = self.read_labels() if 'dataset.json' in names else {}

    def open(self, name):
        return open(os.path.join(self.path, name), 'rb') if self.zip is None else self.zip.open(name)

    def open_image(self, name):
        with self.open(name) as f:
            return open_image(io.BytesIO(read_bounded(f)))

    def read_labels(self):
        """Return {file name: label}, empty if there are no labels."""
        try:
            with self.open('dataset.json') as f:
                return read_labels(f, len(self.names)) or {}
        except Exception as err: # Decoders of a zip raise errors of many types on broken files.
            raise SpiderError(f'--source: dataset.json in {self.path} cannot be read ({err}); correct or remove it') from err

    def bad_file(self, name, err):
        reason = (str(err) or type(err).__name__).splitlines()[0].rstrip('.')
        return SpiderError(f'--source: {name} in {self.path} cannot be read as an image ({reason}); replace or remove '
                           'that file')

    def is_grey(self, name):
        """Return whether the image is grey without transparency, by its header."""
        try:
            return self.open_image(name).mode in ('1', 'L', 'I', 'I;16', 'I;16B', 'F')
        except Exception as err: # As do those of images.
            raise self.bad_file(name, err) from err

    def image(self, name):
        """Return a PIL image, turned upright, in mode L or RGB; transparent parts become white."""
        try:
            image = self.open_image(name)
            PIL.ImageOps.exif_transpose(image, in_place=True)
            if image.mode in ('1', 'L'):
                return image.convert('L')
            if image.mode.startswith('I') or image.mode == 'F': # 16 bits and more.
                values = np.asarray(image, dtype=np.float64)
                return PIL.Image.fromarray((values / (65535 if values.max() > 255 else 255) * 255).astype(np.uint8))
            if 'A' in image.getbands() or 'transparency' in image.info:
                image = image.convert('RGBA')
                image = PIL.Image.alpha_composite(PIL.Image.new('RGBA', image.size, 'white'), image)
            return image.convert('RGB')
        except Exception as err:
            raise self.bad_file(name, err) from err

#----------------------------------------------------------------------------
# Transforms from PIL image to PIL image.

def resize(image, size):
    return image if size is None or image.size == size else image.resize(size, PIL.Image.Resampling.LANCZOS)

def center_crop(image, size):
    """Return the largest square in the middle, resized."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return resize(image.crop([left, top, left + side, top + side]), size)

def center_crop_wide(image, size):
    """Return the largest part of the aspect ratio of `size` in the middle, resized, on a black square of its width."""
    width, height = size
    fit = min(image.width / width, image.height / height)
    crop_width, crop_height = round(width * fit), round(height * fit)
    left, top = (image.width - crop_width) // 2, (image.height - crop_height) // 2
    image = resize(image.crop([left, top, left + crop_width, top + crop_height]), size)
    square = PIL.Image.new(image.mode, [width, width])
    square.paste(image, [0, (width - height) // 2])
    return square

TRANSFORMS = {'none': resize, 'center-crop': center_crop, 'center-crop-wide': center_crop_wide}

def parse_resolution(text):
    """Return (64, 32) for '64x32'."""
    return parse_size(text, 16384, 'WIDTHxHEIGHT such as 64x64')

#----------------------------------------------------------------------------
# Destinations. Both appear under their name only when they are complete.

class ZipDest:
    def __init__(self, path):
        self.path = path
        self.temp = f'{path}.{os.getpid()}.tmp'
        self.zip = zipfile.ZipFile(self.temp, 'w', zipfile.ZIP_STORED)

    def write(self, name, data):
        self.zip.writestr(zipfile.ZipInfo(name), data) # No time stamp, so that equal contents make equal files.

    def commit(self):
        self.zip.close()
        os.replace(self.temp, self.path)

    def abort(self):
        self.zip.close()
        os.remove(self.temp)

class FolderDest:
    def __init__(self, path):
        self.path = path
        self.temp = f'{path.rstrip("/")}.{os.getpid()}.tmp'
        os.makedirs(self.temp)

    def write(self, name, data):
        fname = os.path.join(self.temp, name)
        os.makedirs(os.path.dirname(fname), exist_ok=True)
        with open(fname, 'wb') as f:
            f.write(data)

    def commit(self):
        if os.path.isdir(self.path): # It was empty before; if it no longer is, this fails.
            os.rmdir(self.path)
        os.rename(self.temp, self.path)

    def abort(self):
        shutil.rmtree(self.temp)

def open_dest(path):
    """Return the destination at `path`. Raises SpiderError if it exists or cannot be made."""
    taken = os.listdir(path) if os.path.isdir(path) else os.path.lexists(path)
    if taken:
        raise SpiderError(f'--dest: {path} exists already; choose another name or remove it')
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return ZipDest(path) if path.lower().endswith('.zip') else FolderDest(path)
    except OSError as err:
        raise SpiderError(f'--dest: {path} cannot be written ({err.strerror}); choose another place') from err

#----------------------------------------------------------------------------
# Conversion.

def check_square(name, size, transform):
    """Raise SpiderError unless the transformed size is one that train.py takes."""
    width, height = size
    if width != height or width & (width - 1) != 0:
        remedy = '--transform=center-crop --resolution=WxH' if transform == 'none' else '--resolution=WxH'
        raise SpiderError(f'--source: {name} gives a {width}x{height} image, but images must be square with a power of two '
                          f'as their side; use {remedy}')

def convert(source, dest, names, transform, resolution):
    """Write the transformed images and dataset.json to dest, with a line of progress on stderr."""
    mode = 'L' if all(map(source.is_grey, names)) else 'RGB'
    labels, first, shown = [], None, 0
    for i, name in enumerate(names):
        image = TRANSFORMS[transform](source.image(name).convert(mode), resolution)
        check_square(name, image.size, transform)
        if first is None:
            first = name, image.size
        if image.size != first[1]:
            raise SpiderError(f'--source: {name} is {image.width}x{image.height}, but {first[0]} is '
                              f'{first[1][0]}x{first[1][1]}; use --transform=center-crop --resolution=WxH')
        data = io.BytesIO()
        image.save(data, format='png', compress_level=1)
        out_name = f'{i // 1000:05d}/img{i:08d}.png'
        dest.write(out_name, data.getvalue())
        labels.append([out_name, source.labels.get(name)])
        if time.time() - shown > 0.5 or i + 1 == len(names):
            shown = time.time()
            end = '\r' if sys.stderr.isatty() and i + 1 < len(names) else '\n'
            if end == '\r' or i + 1 == len(names):
                print(f'{i + 1}/{len(names)} images', end=end, file=sys.stderr, flush=True)
    unlabelled = [name for name, label in labels if label is None]
    if unlabelled and len(unlabelled) < len(labels):
        print(f'Labels are left out, because dataset.json has none for {len(unlabelled)} of {len(labels)} images',
              file=sys.stderr)
    dest.write('dataset.json', json.dumps(dict(labels=None if unlabelled else labels)).encode())

@click.command(context_settings=dict(max_content_width=120))
@click.option('--source', help='Folder or zip of images', metavar='PATH', required=True)
@click.option('--dest', help='Folder or .zip to make', metavar='PATH', required=True)
@click.option('--max-images', help='Number of images to take from the start', metavar='INT',
              type=Whole(1, 10**9))
@click.option('--transform', help='Way of making the images square',
              type=click.Choice(list(TRANSFORMS)), default='none', show_default=True)
@click.option('--resolution', help='Size of the images, such as 64x64', metavar='WxH', type=parse_resolution)
def convert_dataset(source, dest, max_images, transform, resolution):
    """Make a dataset of equally sized PNGs for train.py.

    The labels of the source's dataset.json, {"labels": [[file name, class or vector], ...]}, are kept. Images become
    grey if all of them are, and RGB otherwise. `none` only resizes; `center-crop` takes the largest square in the
    middle; `center-crop-wide` the largest part of the aspect ratio of --resolution, on a black square.
    """
    if transform != 'none' and resolution is None:
        raise SpiderError(f'--resolution: --transform={transform} needs it, such as --resolution=64x64')
    if transform == 'center-crop-wide' and resolution[0] < resolution[1]:
        raise SpiderError('--resolution: --transform=center-crop-wide needs a width of at least the height')
    source = Source(source)
    dest = open_dest(dest)
    try:
        convert(source, dest, source.names[:max_images], transform, resolution)
        dest.commit()
    except BaseException: # Ctrl-C also leaves nothing behind.
        dest.abort()
        raise

#----------------------------------------------------------------------------

if __name__ == '__main__':
    convert_dataset()
