"""Bounds of what is read of files that others made, looked at before memory is taken.

Only regular files are opened: a pipe would be waited for, a device has no end."""

import errno
import json
import math
import os
import zipfile
from typing import IO, Any

MOST_CLASSES = 100_000      # of a dataset: a label is as many numbers
MOST_SIDE    = 8192         # of an image of a dataset, in pixels
MOST_IMAGE   = 256 << 20    # bytes of an encoded image
MOST_JSON    = 128 << 20    # bytes of a dataset.json or a preset
MOST_ARRAY   = 16 << 30     # bytes of an array in an .npz

class TooLarge(ValueError):
    """A file is larger than its bound."""

    def __init__(self, most: int) -> None:
        super().__init__(f'it is larger than {most >> 20} MiB')

def open_file(path: str | os.PathLike) -> IO[bytes]:
    """Open a regular file. Raises OSError."""
    if os.path.exists(path) and not os.path.isfile(path):
        code = errno.EISDIR if os.path.isdir(path) else errno.EINVAL
        raise OSError(code, 'it is a folder' if code == errno.EISDIR else 'it is no regular file', os.fspath(path))
    return open(path, 'rb')

def read_file(path: str | os.PathLike, most: int) -> bytes:
    """Return the content of a regular file. Raises OSError, and TooLarge above `most` bytes."""
    with open_file(path) as file:
        return _read(file, os.fstat(file.fileno()).st_size, most)

def read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return the content of a file in a zip, whatever size the zip claims. Raises TooLarge above `most` bytes, and what damaged
    zips cause."""
    with archive.open(name) as file:
        return _read(file, archive.getinfo(name).file_size, most)

def _read(file: IO[bytes], size: int, most: int) -> bytes:
    data = file.read(most + 1) if size <= most else b''
    if size > most or len(data) > most:
        raise TooLarge(most)
    return data

def parse_json(data: bytes) -> Any:
    """Return what JSON stands for. Raises ValueError, where it is nested too deeply too."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None

def read_array(path: str | os.PathLike, name: str) -> Any:
    """Return an array of an .npz, whose header is looked at first. Raises KeyError without it, OSError, ValueError, and what
    damaged zips cause."""
    import numpy as np
    with open_file(path) as file, zipfile.ZipFile(file) as archive, archive.open(f'{name}.npy') as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or size > min(MOST_ARRAY, archive.getinfo(f'{name}.npy').file_size):
            raise ValueError(f'its header says {dtype} {list(shape)}, which the file does not hold')
        member.seek(0)
        return np.lib.format.read_array(member, allow_pickle=False)
