"""Converts published archives to the hosts' dataset format, a zip of images with a dataset.json.

Nothing in an archive is executed or unpacked to disk.

A reader is a function ({file name: path}, **options) -> iterator of (image, label), named in READERS:

    image   uint8 [H, W] or [H, W, 3], or the bytes of an encoded image
    label   a class number, or None

An archive is a zip, a tar or a folder; its members are read in the order of their names."""

import gzip
import io
import json
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image

from spider_plugin.errors import SpiderError, out_of_memory
from spider_plugin.files.cache import atomic_file
from spider_plugin.files.limits import MOST_IMAGE, check_members, most_unpacked, open_zip, read_stream
from spider_plugin.files.pictures.decode import BAD_PROFILE, open_image, plain_png, to_plain
from spider_plugin.files.pictures.listing import is_hidden

_CHUNK = 256    # images decoded at a time

#----------------------------------------------------------------------------
# Members of an archive.

def _members(path, pattern):
    """Yield (match, open) for the members whose name matches; `open` returns a binary stream."""
    path = Path(path)
    if path.is_dir():
        names = {file.relative_to(path).as_posix(): file for file in path.rglob('*') if file.is_file()}
        yield from _matching(names, pattern, lambda file: file.open('rb'))
    elif zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            names = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            yield from _matching(names, pattern, archive.open)
    else:
        with tarfile.open(path) as archive:
            names = {info.name: info for info in archive if info.isfile()}
            check_members(path, (info.size for info in names.values()))
            yield from _matching(names, pattern, archive.extractfile)

def _matching(names, pattern, opener):
    for name in sorted(names):
        if not is_hidden(name) and (match := re.search(pattern, name)):
            yield match, lambda name=name: opener(names[name])

#----------------------------------------------------------------------------
# Image files. A group `label` in the pattern names the class; classes are numbered in the order of their names.

def read_images(paths, pattern):
    (path,) = paths.values()
    classes = sorted({match['label'] for match, _ in _members(path, pattern) if 'label' in match.groupdict()})
    for match, opener in _members(path, pattern):
        with opener() as stream:
            yield read_stream(stream, MOST_IMAGE), classes.index(match['label']) if classes else None

#----------------------------------------------------------------------------
# Records of equal length, as in the binary versions of CIFAR and STL-10. A record has `label_bytes` bytes, of which the last is
# the class, then three planes of side x side pixels, by rows or by columns.

def read_records(paths, pattern, side, label_bytes=0, by_columns=False):
    (path,) = paths.values()
    length = label_bytes + 3 * side * side
    axes = (0, 3, 2, 1) if by_columns else (0, 2, 3, 1)
    for match, opener in _members(path, pattern):
        with opener() as stream:
            while data := stream.read(length * _CHUNK):
                if len(data) % length:
                    raise ValueError(f'{match.string} is not a whole number of records of {length} bytes')
                records = np.frombuffer(data, np.uint8).reshape(-1, length)
                images = records[:, label_bytes:].reshape(-1, 3, side, side).transpose(axes)
                labels = records[:, label_bytes - 1].tolist() if label_bytes else [None] * len(records)
                yield from zip(images, labels)

#----------------------------------------------------------------------------
# The IDX format of MNIST and similar sets: two zero bytes, 8 for unsigned bytes, the number of axes, their lengths, the data.

def read_idx(paths):
    images_path, labels_path = paths.values()
    images, labels = _read_array(images_path, 3), _read_array(labels_path, 1)
    if len(images) != len(labels):
        raise ValueError(f'{len(images)} images, but {len(labels)} labels')
    yield from zip(images, labels.tolist())

def _read_array(path, ndim):
    with gzip.open(path) as stream:
        data = read_stream(stream, most_unpacked(path))
    shape = struct.unpack_from(f'>{ndim}I', data, 4) if data[:4] == bytes([0, 0, 8, ndim]) else None
    if shape is None or len(data) != 4 + 4 * ndim + np.prod(shape, dtype=np.int64):
        raise ValueError(f'{Path(path).name} is not an IDX file of {ndim} axes')
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)

#----------------------------------------------------------------------------
# SVHN's cropped digits: X [32, 32, 3, N] and y [N, 1] in a Matlab file, where 10 stands for the digit 0.

def read_svhn(paths):
    import scipy.io
    (path,) = paths.values()
    data = scipy.io.loadmat(path, appendmat=False, variable_names=['X', 'y'])
    yield from zip(data['X'].transpose(3, 0, 1, 2), (data['y'].reshape(-1).astype(np.int64) % 10).tolist())

READERS = dict(images=read_images, records=read_records, idx=read_idx, svhn=read_svhn)

#----------------------------------------------------------------------------

def read(reader, paths, options, *, channels, what):
    """Yield (file content, extension, label) of every image that a reader finds.

    reader:    a name in READERS, or a function like those in it; `options` are its keywords.
    channels:  1 or 3. Square JPEGs and PNGs with that many channels that no rule of docs/pictures.md changes keep their
               bytes; other images become PNGs, cropped to the largest square in the middle.
    what:      the option that asked for the images; every message begins with it.
    Raises SpiderError if the archive cannot be read."""
    try:
        for image, label in READERS.get(reader, reader)(paths, **options):
            data, extension = _encode(image, channels)
            yield data, extension, label
    except Exception as error:      # decoders raise errors of any type on broken data
        if out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip('.')
        raise SpiderError(f'{what}: {", ".join(str(path) for path in paths.values())} cannot be read ({reason}); give '
                          'the published file, complete and unchanged.') from error

def _encode(image, channels):
    mode = 'L' if channels == 1 else 'RGB'
    data, image = (image, open_image(image)) if isinstance(image, bytes) else (None, PIL.Image.fromarray(image))
    if data is not None:
        extension = {'JPEG': 'jpg', 'PNG': 'png'}.get(image.format)
        fits = extension is not None and image.mode == mode and image.width == image.height
        if fits and (plain_png(data) or extension == 'jpg' and not image.info.keys() & {'exif', 'icc_profile', 'xmp'}):
            return data, extension
        image, notes = to_plain(image)
        if fits and not set(notes) - {BAD_PROFILE}:
            return data, extension
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    buffer = io.BytesIO()
    if image.size != (side, side):
        image = image.crop([left, top, left + side, top + side])
    (image if image.mode == mode else image.convert(mode)).save(buffer, format='png', compress_level=1)
    return buffer.getvalue(), 'png'

def write_zip(samples, path, *, info, progress, what):
    """Write the samples that `read` yields as a dataset zip, and return the number of images.

    The zip appears at `path` when it is complete. It has labels if every image has one.
    info:      further entries of dataset.json.
    progress:  a Progress, updated after every image.
    Raises SpiderError if there are no images, and OSError if the disk cannot be written."""
    labels = []
    with atomic_file(path) as temp:
        with zipfile.ZipFile(temp, 'w', zipfile.ZIP_STORED) as archive:
            for index, (data, extension, label) in enumerate(samples):
                name = f'{index // 1000:05d}/img{index:08d}.{extension}'
                archive.writestr(zipfile.ZipInfo(name), data)   # no time stamp, so that equal contents make equal files
                labels.append([name, label])
                progress.update(index + 1)
            if not labels:
                raise SpiderError(f'{what}: no image was found there; give the published file, complete and unchanged.')
            unlabelled = any(label is None for _, label in labels)
            content = dict(info, labels=None if unlabelled else labels)
            archive.writestr(zipfile.ZipInfo('dataset.json'), json.dumps(content))
    return len(labels)

#----------------------------------------------------------------------------
