"""Bounds of what is read of files that others made, looked at before memory is taken. pictures.py has those of images.

Only regular files are opened: a pipe would be waited for, a device has no end. A small archive may unpack to any size."""

import errno
import json
import math
import os
import zipfile
from collections.abc import Iterable
from typing import IO, Any

MOST_CLASSES = 1 << 16      # of a dataset, or of a network: a label is as many numbers
MOST_IMAGE   = 128 << 20    # bytes of an image as a file
MOST_JSON    = 128 << 20    # bytes of a dataset.json or a preset
MOST_ARRAY   = 16 << 30     # bytes of an array in an .npz
_UNPACKED    = 128 << 20    # bytes that the members of any archive may unpack to,
_RATIO       = 100          # and how many more for each of its own bytes
_LABELS      = 1 << 20      # bytes of any dataset.json,
_LABEL       = 1 << 15      # and how many more for each image; a vector of a thousand numbers takes 20 000

def check_file(path: str | os.PathLike) -> None:
    """Raise OSError for what is there and is no regular file."""
    if os.path.exists(path) and not os.path.isfile(path):
        code = errno.EISDIR if os.path.isdir(path) else errno.EINVAL
        raise OSError(code, 'it is a folder' if code == errno.EISDIR else 'it is no regular file', os.fspath(path))

def open_file(path: str | os.PathLike, buffering: int = -1) -> Any:
    """Open a regular file to read its bytes, and return what open() does for this `buffering`. Raises OSError."""
    check_file(path)
    return open(path, 'rb', buffering)

def read_file(path: str | os.PathLike, most: int) -> bytes:
    """Return the content of a regular file. Raises OSError, and ValueError above `most` bytes."""
    with open_file(path) as file:
        return read_stream(file, most, os.fstat(file.fileno()).st_size)

def read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return the content of a file in a zip, whatever size the zip claims. Raises ValueError above `most` bytes, and what damaged
    zips cause."""
    with archive.open(name) as file:
        return read_stream(file, most, archive.getinfo(name).file_size)

def read_stream(stream: IO[bytes], most: int, size: int = 0) -> bytes:
    """Return the rest of a stream that says it has `size` bytes. Raises ValueError if it has, or says, more than `most`."""
    data = stream.read(most + 1) if size <= most else b''
    if size > most or len(data) > most:
        raise ValueError(f'it is larger than {most >> 20} MiB')
    return data

def open_zip(path: str | os.PathLike) -> zipfile.ZipFile:
    """Open a zip whose members may be read. Raises OSError, ValueError as check_members does, and what damaged zips cause."""
    check_file(path)
    archive = zipfile.ZipFile(path)
    try:
        check_members(path, (info.file_size for info in archive.infolist()))
    except ValueError:
        archive.close()
        raise
    return archive

def check_members(path: str | os.PathLike, sizes: Iterable[int]) -> None:
    """Raise ValueError if members of these sizes are more than the archive at `path` may unpack to."""
    if sum(sizes) > most_unpacked(path):
        raise ValueError(f'its files are more than {_RATIO} times larger than the archive')

def most_unpacked(path: str | os.PathLike) -> int:
    """Return how many bytes the archive at `path` may unpack to."""
    return _UNPACKED + _RATIO * os.path.getsize(path)

def most_labels(num_images: int) -> int:
    """Return how many bytes the dataset.json of so many images may have."""
    return min(_LABELS + _LABEL * num_images, MOST_JSON)

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
