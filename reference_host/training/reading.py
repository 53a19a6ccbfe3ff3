"""Bounds of what is read of files that others made, looked at before memory is taken. pictures/ has the rules for pictures."""

import math
import os
import zipfile

import numpy as np

from training.pictures import decode, labels, listing
from training.runtime import SpiderError

MOST_IMAGE    = 128 << 20                   # Bytes of an image as a file,
MOST_DECODED  = 81_000_000                  # and decoded, to train on: 27 megapixels in colour. decode.py has those to convert.
MOST_UNPACKED = 128 << 20, 100              # Bytes that any zip may unpack to, and how many more for each of its own.
MOST_LABELS   = 1 << 20, 1 << 15, 128 << 20 # Bytes of any dataset.json, how many more for each image, those of the largest.
MOST_ARRAY    = 4 << 30                     # Bytes of an array in an .npz.

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

def not_a_set(path):
    """What a file is that is given as a set and is neither a folder nor a zip, with the remedy; None where it is not known."""
    return listing.not_a_set(path, decode.look_at)

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
# Sets of images.

def list_set(path, archive):
    """The Listing of a folder, or of an open zip where `archive` is one."""
    return listing.list_folder(path, decode.look_at) if archive is None else listing.list_zip(archive, decode.look_at)

def read_pairs(read, num_images, name, where):
    """(all entries, [(image name, label), ...]) of a dataset.json. Raises SpiderError.

    read:   function (name, most) of the content of a file of the set.
    where:  names the dataset.json in messages."""
    base, each, largest = MOST_LABELS
    try:
        data = read(name, min(base + each * num_images, largest))
    except Exception as err: # Damaged zips cause errors of many types.
        raise SpiderError(f'{where} cannot be read ({reason_of(err)}); correct or remove it') from err
    return said_of(where, labels.parse, data)

def said_of(where, function, *args, **kwargs):
    """function(*args, **kwargs), whose ValueError becomes a SpiderError that begins with `where`."""
    try:
        return function(*args, **kwargs)
    except ValueError as err:
        raise SpiderError(f'{where} {err}') from err

def reason_of(err):
    """The first line of an error, for a place in a sentence."""
    return (str(err).splitlines() or [''])[0].rstrip('.') or type(err).__name__

#----------------------------------------------------------------------------
