"""Bounds of what is read of files that others made, looked at before memory is taken; and the labels in a dataset.json."""

import json
import math
import os
import zipfile

import numpy as np

from training.option_types import MOST_CLASSES
from training.runtime import SpiderError

MOST_IMAGE = 256 << 20  # Bytes of an image file.
MOST_JSON  = 128 << 20  # Bytes of a dataset.json.
MOST_SIDE  = 8192       # Pixels of an image to train on.
MOST_ARRAY = 4 << 30    # Bytes of an array in an .npz.
LABELS     = '{"labels": [[file name, class or vector], ...]}'

def read_bytes(f, size, most):
    """The content of an open file that says it has `size` bytes. Raises ValueError above `most` of them."""
    data = f.read(most + 1) if size <= most else b''
    if size > most or len(data) > most:
        raise ValueError(f'it is larger than {most >> 20} MiB')
    return data

def read_file(path, most):
    """The content of a regular file: a pipe would be waited for, a device has no end. Raises OSError, ValueError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError('it is no regular file')
    with open(path, 'rb') as f:
        return read_bytes(f, os.fstat(f.fileno()).st_size, most)

def read_member(archive, name, most):
    """The content of a file in a zip. Raises ValueError, and what damaged zips cause."""
    with archive.open(name) as f:
        return read_bytes(f, archive.getinfo(name).file_size, most)

def read_array(path, name):
    """An array of an .npz, whose header is looked at first. Raises ValueError, and what damaged files cause."""
    if not os.path.isfile(path):
        raise ValueError('there is no such file')
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
# Labels.

def parse_labels(data, where):
    """{file name: label} of the bytes of a dataset.json, empty if it has none; where: names it. Raises SpiderError."""
    try:
        pairs = json.loads(data).get('labels') or []
        labels = {name.replace('\\', '/'): label for name, label in pairs}
    except (ValueError, TypeError, AttributeError, RecursionError) as err:
        reason = 'it is nested too deeply' if isinstance(err, RecursionError) else ascii(str(err))[1:-1][:160]
        raise SpiderError(f'{where} is not {LABELS} ({reason}); correct it, or write it with dataset_tool.py') from err
    if len(labels) < len(pairs):
        raise SpiderError(f'{where} has two labels for one image; leave one of them out')
    return labels

def label_array(labels, where):
    """Labels as int64 [N] for classes or float32 [N, k] for vectors. Raises SpiderError."""
    try:
        array = np.array(labels)
    except ValueError: # Vectors of several lengths.
        array = np.array(None)
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in 'iuf' or \
            (array.ndim == 1 and (array % 1 != 0).any()):
        raise SpiderError(f'{where} must give each image an integer class or a vector of equally many numbers')
    if array.ndim == 1 and array.min() < 0:
        raise SpiderError(f'{where} has a negative class; number the classes from 0')
    if array.ndim == 1 and array.max() >= MOST_CLASSES:
        raise SpiderError(f'{where} has the class {array.max():g}; number the classes from 0 to at most {MOST_CLASSES - 1}')
    with np.errstate(over='ignore'):
        array = array.astype({1: np.int64, 2: np.float32}[array.ndim])
    if not np.isfinite(array).all():
        raise SpiderError(f'{where} has a label that is NaN or infinite; correct it')
    return array

#----------------------------------------------------------------------------
