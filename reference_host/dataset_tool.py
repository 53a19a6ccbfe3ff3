"""Makes a dataset of equally sized images for train.py.

    python dataset_tool.py --source=photos --dest=images.zip --transform=center-crop --resolution=64x64
"""

import collections
import contextlib
import io
import json
import os
import sys
import zipfile

import click
import numpy as np
import PIL.Image

from tool_utils import written_whole
from training import reading, trouble
from training.option_types import Whole, parse_size, path_type
from training.pictures import check, decode, labels
from training.runtime import SpiderError, printable

#----------------------------------------------------------------------------
# Sources.

class Source:
    """The pictures of a folder (searched recursively) or a zip, and the labels of its dataset.json."""

    def __init__(self, path):
        self.path = path
        self.zip = None
        if not os.path.isdir(path):
            try:
                self.zip = reading.open_zip(path)
            except Exception as err: # Broken directories of a zip raise errors of many types.
                what = reading.not_a_set(path) or f'neither a folder nor a readable zip ({err}); give one of them'
                raise SpiderError(f'--source: {path} is {what}') from err
        self.listing = reading.list_set(path, self.zip)
        self.names = self.listing.pictures
        left_out = self.listing.tell(path)
        if not self.names:
            raise SpiderError(f'--source: {path} holds no images; give a folder or zip with PNG or JPEG files'
                              f'{"" if left_out is None else f" ({left_out})"}')
        self.where = f'--source: {self.listing.labels} in {path}'
        self.pairs = []
        if self.listing.labels is not None:
            self.pairs = reading.read_pairs(self.read, len(self.names), self.listing.labels, self.where)[1]
        say(left_out)

    def read(self, name, most=reading.MOST_IMAGE):
        if self.zip is not None:
            return reading.read_member(self.zip, name, most)
        return reading.read_file(os.path.join(self.path, name), most)

    def labels_of(self, names, unlabelled):
        """Return (names of the images to take, their Labels or None).

        unlabelled: what becomes of images without a label where others have one, a key of UNLABELLED.
        Raises SpiderError for labels that cannot be used."""
        if not self.pairs:
            return names, None
        found, by = labels.match(self.pairs, names)
        say(labels.tell_match(by, self.where.removeprefix('--source: ')))
        missing = found.count(None)
        if missing and unlabelled == 'refuse':
            raise SpiderError(f'{self.where} {labels.missing_words(found, names)}; correct it, or leave them out by '
                              '--unlabelled=drop, or take all images without labels by --unlabelled=keep')
        if missing and unlabelled == 'keep':
            say(f'Labels are left out, because dataset.json has none for {missing} of {len(names)} images')
            return names, None
        if missing == len(names):
            raise SpiderError(f'{self.where} has a label for none of the {len(names)} images; correct its names, or use '
                              '--unlabelled=keep')
        if missing:
            say(f'Left out because they have no label: {missing} of {len(names)} images')
        kept = [name for name, label in zip(names, found, strict=True) if label is not None]
        made = reading.said_of(self.where, labels.to_labels, [label for label in found if label is not None])
        say(labels.tell_classes(made.class_ids, self.path))
        return kept, made

    def bad_file(self, name, err):
        return SpiderError(f'--source: {name} in {self.path} cannot be read as an image ({reading.reason_of(err)}); replace or '
                           'remove that file')

    def is_grey(self, name):
        """Return whether the image is grey without an alpha channel, by its header."""
        try:
            return decode.read_shape(self.read(name))[2] == 1
        except Exception as err: # Those of images are of any type.
            raise self.bad_file(name, err) from err

    def image(self, name):
        """Return (a PIL image, upright, in mode L or RGB, notes of training/pictures/decode.py)."""
        try:
            return decode.to_plain(decode.open_image(self.read(name)))
        except Exception as err:
            raise self.bad_file(name, err) from err

def say(line):
    """Print a line on stderr, if there is one."""
    if line is not None:
        print(printable(line), file=sys.stderr)

UNLABELLED = {
    'refuse':   'stop with a sentence',
    'drop':     'leave these images out',
    'keep':     'take all images, without labels',
}

#----------------------------------------------------------------------------
# Transforms from PIL image to PIL image.

def resize(image, size):
    """Return the image in a size, stretched if it has other proportions."""
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
    return on_square(image, 'constant')

def letterbox(image, size):
    """Return the whole image in the middle of a black square, resized."""
    return resize(on_square(image, 'constant'), size)

def pad(image, size):
    """Return the whole image in the middle of a square whose bars repeat the image's edges, resized."""
    return resize(on_square(image, 'edge'), size)

def on_square(image, mode):
    """Return the image in the middle of a square of its longer side; mode: of np.pad, for the bars."""
    side = max(image.size)
    bars = [(left := (side - length) // 2, side - length - left) for length in (image.height, image.width)]
    pixels = np.asarray(image)
    return PIL.Image.fromarray(np.pad(pixels, bars + [(0, 0)] * (pixels.ndim - 2), mode=mode))

def same_shape(image, size):
    """Return the image in a size of its proportions."""
    if size is not None and image.width * size[1] != image.height * size[0]:
        raise ValueError(f'{image.width}x{image.height}, which --resolution={size[0]}x{size[1]} would stretch; use '
                         '--transform=center-crop, pad or letterbox, or stretch if that is meant')
    return resize(image, size)

TRANSFORMS = {'none': same_shape, 'center-crop': center_crop, 'center-crop-wide': center_crop_wide, 'pad': pad,
              'letterbox': letterbox, 'stretch': resize}

def parse_resolution(text):
    """Return (64, 32) for '64x32'."""
    return parse_size(text, 16384, 'WIDTHxHEIGHT such as 64x64')

#----------------------------------------------------------------------------
# The destination.

@contextlib.contextmanager
def open_dest(path):
    """Yield write(name, bytes) of the folder or zip at `path`, which appears when the body ends and not at all if it fails.

    Raises SpiderError if it exists or cannot be written."""
    taken = os.listdir(path) if os.path.isdir(path) else os.path.lexists(path)
    if taken:
        raise SpiderError(f'--dest: {path} exists already; choose another name or remove it')
    with written_whole(path, '--dest: ') as temp:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if path.lower().endswith('.zip'):
            with zipfile.ZipFile(temp, 'w', zipfile.ZIP_STORED) as archive: # No time stamps: equal contents make equal files.
                yield lambda name, data: archive.writestr(zipfile.ZipInfo(name), data)
        else:
            os.makedirs(temp)
            yield lambda name, data: write_file(os.path.join(temp, name), data)
            if os.path.isdir(path): # It was empty before; if it no longer is, this fails.
                os.rmdir(path)

def write_file(fname, data):
    os.makedirs(os.path.dirname(fname), exist_ok=True)
    with open(fname, 'wb') as f:
        f.write(data)

#----------------------------------------------------------------------------
# Conversion.

def check_square(name, size, transform):
    """Raise SpiderError unless the transformed size is one that train.py takes."""
    width, height = size
    if width != height or width & (width - 1) != 0:
        remedy = '--transform=center-crop, pad or letterbox, with --resolution=WxH' if transform == 'none' else '--resolution=WxH'
        raise SpiderError(f'--source: {name} gives a {width}x{height} image, but images must be square with a power of two '
                          f'as their side; use {remedy}')

def look(function, names, what):
    """Yield function(name) of each image by several threads, with a line of progress every few seconds."""
    def progress(done, seconds):
        print(f'{what}: {done}/{len(names)} images, {done / seconds:.0f}/s', file=sys.stderr, flush=True)
    yield from check.in_order(function, names, progress)

def convert(source, write, names, transform, resolution, unlabelled):
    """Write the transformed images and dataset.json by write(name, bytes), with a line of progress on stderr."""
    names, found = source.labels_of(names, unlabelled)
    mode = 'L' if all(list(look(source.is_grey, names, 'Reading headers'))) else 'RGB'
    def made(name):
        image, changed = source.image(name)
        try:
            return TRANSFORMS[transform](image if image.mode == mode else image.convert(mode), resolution), changed
        except ValueError as err:
            raise SpiderError(f'--source: {name} is {err}') from err
    written, first, notes = [], None, collections.Counter()
    for i, (name, (image, changed)) in enumerate(zip(names, look(made, names, 'Converting'), strict=True)):
        notes.update(changed)
        check_square(name, image.size, transform)
        if first is None:
            first = name, image.size
        if image.size != first[1]:
            raise SpiderError(f'--source: {name} is {image.width}x{image.height}, but {first[0]} is '
                              f'{first[1][0]}x{first[1][1]}; use --transform=center-crop --resolution=WxH')
        data = io.BytesIO()
        image.save(data, format='png', compress_level=1)
        out_name = f'{i // 1000:05d}/img{i:08d}.png'
        write(out_name, data.getvalue())
        written.append(out_name)
    say(decode.tell_notes(notes, source.path))
    print(f'{len(names)}/{len(names)} images', file=sys.stderr, flush=True)
    entries = dict(labels=None if found is None else list(zip(written, found.values.tolist(), strict=True)))
    if found is not None and found.class_ids is not None:
        entries['class_ids'] = found.class_ids # Of the classes 0 to n - 1, in their order.
    write('dataset.json', json.dumps(entries).encode())

@click.command(context_settings=dict(max_content_width=120))
@click.option('--source', help='Folder or zip of images', metavar='PATH', type=path_type, required=True)
@click.option('--dest', help='Folder or .zip to make', metavar='PATH', type=path_type, required=True)
@click.option('--max-images', help='Number of images to take from the start', metavar='INT',
              type=Whole(1, 10**9))
@click.option('--transform', help='Way of making the images square',
              type=click.Choice(list(TRANSFORMS)), default='none', show_default=True)
@click.option('--resolution', help='Size of the images, such as 64x64', metavar='WxH', type=parse_resolution)
@click.option('--unlabelled', help='When dataset.json has labels for some images: '
              + ', '.join(f'{key} ({what})' for key, what in UNLABELLED.items()),
              type=click.Choice(list(UNLABELLED)), default='refuse', show_default=True)
@trouble.tool
def convert_dataset(source, dest, max_images, transform, resolution, unlabelled='refuse'):
    """Make a dataset of equally sized PNGs for train.py.

    The content of a file decides about its format: docs/pictures.md has the rules. What is left out is counted in a line. The
    labels of the source's dataset.json, {"labels": [[file name, class or vector], ...]}, are kept; numbers that are ids
    become the classes 0 to n - 1. Images become grey if all of them are, and RGB otherwise.

    Images that are not square: `center-crop` takes the largest square in the middle; `pad` the whole image, with bars that
    repeat its edges; `letterbox` the whole image, with black bars; `center-crop-wide` the largest part of the aspect ratio of
    --resolution, on a black square; `stretch` changes the proportions. `none` only resizes, and refuses to stretch.
    """
    if transform != 'none' and resolution is None:
        raise SpiderError(f'--resolution: --transform={transform} needs it, such as --resolution=64x64')
    if transform == 'center-crop-wide' and resolution[0] < resolution[1]:
        raise SpiderError('--resolution: --transform=center-crop-wide needs a width of at least the height')
    source = Source(source)
    with open_dest(dest) as write:
        convert(source, write, source.names[:max_images], transform, resolution, unlabelled)

#----------------------------------------------------------------------------

if __name__ == '__main__':
    convert_dataset()
