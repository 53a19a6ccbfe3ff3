"""Bounds of what is read of files that others made, looked at before memory is taken; and the labels in a dataset.json."""

import json
import math
import os
import zipfile

import numpy as np
import PIL.Image

from training.option_types import MOST_CLASSES
from training.runtime import SpiderError

MOST_IMAGE    = 128 << 20                   # Bytes of an image as a file,
MOST_DECODED  = 81_000_000                  # and decoded, to train on: 27 megapixels in colour.
MOST_PHOTO    = 1 << 28                     # Those of one to convert, 89 megapixels. Memory for some copies is needed.
MOST_UNPACKED = 128 << 20, 100              # Bytes that any zip may unpack to, and how many more for each of its own.
MOST_LABELS   = 1 << 20, 1 << 15, 128 << 20 # Bytes of any dataset.json, how many more for each image, those of the largest.
MOST_ARRAY    = 4 << 30                     # Bytes of an array in an .npz.
FORMATS       = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'PPM', 'TGA', 'TIFF', 'JPEG2000') # Pillow starts programs for some others.

#----------------------------------------------------------------------------
# Files and what is in them.

def check_file(path):
    """Raises OSError for what is no regular file: a pipe would be waited for, a device has no end."""
    if not os.path.isfile(path):
        raise OSError('it is no regular file') if os.path.exists(path) else FileNotFoundError('there is no such file')

def read_bytes(f, size, most):
    """The content of an open file that says it has `size` bytes. Raises ValueError above `most` of them."""
    data = f.read(most + 1) if size <= most else b''
    if size > most or len(data) > most:
        raise ValueError(f'it is larger than {most >> 20} MiB')
    return data

def read_file(path, most):
    """The content of a regular file. Raises OSError, ValueError."""
    check_file(path)
    with open(path, 'rb') as f:
        return read_bytes(f, os.fstat(f.fileno()).st_size, most)

def open_zip(path):
    """A zip that may not unpack to many times its size. Raises ValueError where it would, and what damaged zips cause."""
    check_file(path)
    archive = zipfile.ZipFile(path)
    base, ratio = MOST_UNPACKED
    if sum(info.file_size for info in archive.infolist()) > base + ratio * os.path.getsize(path):
        archive.close()
        raise ValueError(f'its files are more than {ratio} times larger than the zip')
    return archive

def read_member(archive, name, most):
    """The content of a file in a zip. Raises ValueError, and what damaged zips cause."""
    with archive.open(name) as f:
        return read_bytes(f, archive.getinfo(name).file_size, most)

def read_array(path, name):
    """An array of an .npz, whose header is looked at first. Raises OSError, ValueError, and what damaged files cause."""
    check_file(path)
    with zipfile.ZipFile(path) as archive, archive.open(f'{name}.npy') as f:
        version = np.lib.format.read_magic(f)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _fortran_order, dtype = read_header(f)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or size > min(MOST_ARRAY, archive.getinfo(f'{name}.npy').file_size):
            raise ValueError(f'its header says {dtype} {list(shape)}, which the file does not hold')
        f.seek(0)
        return np.lib.format.read_array(f, allow_pickle=False)

#----------------------------------------------------------------------------
# Images.

def open_image(f, most=MOST_DECODED):
    """The PIL image in an open file. Raises ValueError for one of more bytes, and what Pillow raises."""
    image = PIL.Image.open(f, formats=FORMATS)
    check_size(image.width, image.height, 8 if image.mode[0] in 'IF' else max(PIL.Image.getmodebands(image.mode), 3), most)
    return image

def check_size(width, height, pixel_bytes=3, most=MOST_DECODED):
    """Raises ValueError where the pixels, grey and palettes expanded to colour, take more bytes."""
    if width * height * pixel_bytes > most:
        raise ValueError(f'{width} x {height} pixels are more than {most / 1e6:.0f} MB')

#----------------------------------------------------------------------------
# Labels.

def read_labels(read, num_images, where):
    """{file name: label} of a dataset.json, empty if it has none. Raises SpiderError.

    read:   function (name, most) of the content of a file of the dataset.
    where:  names the dataset.json in messages."""
    base, each, largest = MOST_LABELS
    try:
        data = read('dataset.json', min(base + each * num_images, largest))
    except Exception as err: # Damaged zips cause errors of many types.
        raise SpiderError(f'{where} cannot be read ({err}); correct or remove it') from err
    try:
        pairs = json.loads(data).get('labels') or []
        labels = {name.replace('\\', '/'): label for name, label in pairs}
    except (ValueError, TypeError, AttributeError, RecursionError) as err:
        reason = 'it is nested too deeply' if isinstance(err, RecursionError) else err
        raise SpiderError(f'{where} is not {{"labels": [[file name, class or vector], ...]}} ({reason}); correct it, or write '
                          'it with dataset_tool.py') from err
    if len(labels) < len(pairs):
        raise SpiderError(f'{where} has two labels for one image; leave one of them out')
    return labels

def label_array(labels, where):
    """Labels as int64 [N] for classes or float32 [N, k] for vectors. Raises SpiderError."""
    try:
        array = np.array(labels)
    except (ValueError, OverflowError): # Vectors of several lengths, numbers that no array holds.
        array = np.array(None)
    with np.errstate(invalid='ignore'): # Infinity is no integer.
        usable = array.ndim in (1, 2) and array.size > 0 and array.dtype.kind in 'iuf' and \
            (array.ndim == 2 or (array % 1 == 0).all())
    if not usable:
        raise SpiderError(f'{where} must give each image an integer class or a vector of equally many numbers')
    return class_array(array, where) if array.ndim == 1 else vector_array(array, where)

def class_array(array, where):
    """Classes as int64 [N], of integers of any type. Raises SpiderError."""
    if array.min() < 0:
        raise SpiderError(f'{where} has a negative class; number the classes from 0')
    if array.max() >= MOST_CLASSES:
        raise SpiderError(f'{where} has the class {array.max():g}; number the classes from 0 to at most {MOST_CLASSES - 1}')
    return array.astype(np.int64)

def vector_array(array, where):
    """Vectors as float32 [N, k], of numbers of any type. Raises SpiderError."""
    if array.shape[1] > MOST_CLASSES:
        raise SpiderError(f'{where} has vectors of {array.shape[1]} numbers; give at most {MOST_CLASSES}')
    with np.errstate(over='ignore'):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise SpiderError(f'{where} has a label that is NaN or infinite; correct it')
    return array

#----------------------------------------------------------------------------
