"""Image datasets on disk in the hosts' format: a zip or a folder of images, labels in an optional dataset.json."""

import functools
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pyspng

from spider_plugin.errors import SpiderError, out_of_memory, shown
from spider_plugin.files.limits import (
    MOST_CLASSES,
    MOST_IMAGE,
    most_labels,
    open_zip,
    parse_json,
    read_file,
    read_member,
)
from spider_plugin.files.pictures import open_image
from spider_plugin.files.recognise import recognise

_CHANNELS = {'1': 1, 'L': 1, 'RGB': 3, 'P': 3}      # Pillow modes that are read; bilevel and palette images are expanded

#----------------------------------------------------------------------------

class ImageDataset:
    """Equally sized square images in file name order, decoded on demand.

    path:        zip file or folder. Files that Pillow knows by extension are images. dataset.json may hold
                 {"labels": [[file name, class number or list of floats], ...]}, one entry for each image.
    num_images, resolution, channels (1 or 3), name (the file name without extension).
    labels:      int64 [N], float32 [N, k], or None.
    sha256:      hex digest of names, file contents and labels; a zip and the folder it was made from agree.
    num_classes: number of classes, k for float labels, 0 without labels.
    licence:     the entry "licence" of dataset.json, else 'unknown'.

    Raises SpiderError naming the file. The constructor opens one image; `sha256` checks every header."""

    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.stem if os.path.isfile(self.path) else self.path.resolve().name
        self._zip, names = _open(self.path)
        extensions = set(PIL.Image.registered_extensions())
        self.file_names = sorted(name for name in names if os.path.splitext(name)[1].lower() in extensions)
        if not self.file_names:
            _check_not_a_network(path)
            raise SpiderError(f'{path} holds no images; it must be a zip or a folder of PNG or JPEG files.')
        self.num_images = len(self.file_names)
        info = self._read_info() if 'dataset.json' in names else {}
        self.licence = str(info.get('licence') or 'unknown')
        self.labels = self._read_labels(info.get('labels') or [])
        self.resolution, self.channels = self._header(self.file_names[0], self._read(self.file_names[0]))

    @property
    def num_classes(self):
        if self.labels is None:
            return 0
        return int(self.labels.max()) + 1 if self.labels.ndim == 1 else self.labels.shape[1]

    @functools.cached_property
    def sha256(self):
        digest = hashlib.sha256()
        for index, name in enumerate(self.file_names):
            data = self._read(name)
            self._check_shape(name, self._header(name, data))
            label = b'' if self.labels is None else self.labels[index].tobytes()
            for part in (name.encode(), data, label):
                digest.update(len(part).to_bytes(8, 'little') + part)
        return digest.hexdigest()

    def digest(self, indices):
        """Return the hex SHA-256 of the names and contents of the images at `indices`."""
        digest = hashlib.sha256()
        for index in indices:
            for part in (self.file_names[index].encode(), self._read(self.file_names[index])):
                digest.update(len(part).to_bytes(8, 'little') + part)
        return digest.hexdigest()

    def image(self, index):
        """Return image `index` as uint8 [C, H, W]."""
        name = self.file_names[index]
        data = self._read(name)
        self._check_shape(name, self._header(name, data))
        try:
            return _decode(data, self.channels)
        except Exception as error:      # decoders raise errors of any type on broken data
            if out_of_memory(error):
                raise
            raise SpiderError(f'{name} in {self.path} is corrupt ({_reason(error)}); replace or remove it.') from error

    #------------------------------------------------------------------------

    def _read(self, name, most=MOST_IMAGE):
        try:
            return read_file(self.path / name, most) if self._zip is None else read_member(self._zip, name, most)
        except Exception as error:      # damaged zips raise errors of any type
            if out_of_memory(error):
                raise
            raise SpiderError(f'{name} in {self.path} cannot be read ({_reason(error)}); '
                              'replace or remove it.') from error

    def _header(self, name, data):
        """Return (resolution, channels) of an encoded image. Raises SpiderError if it cannot be used."""
        where = f'{name} in {self.path}'
        try:
            header = open_image(data)
        except Exception as error:      # as above
            if out_of_memory(error):
                raise
            raise SpiderError(f'{where} is not an image that can be read ({_reason(error)}); replace or remove it.') from error
        if header.mode in ('RGBA', 'LA', 'PA') or 'transparency' in header.info:
            raise SpiderError(f'{where} has an alpha channel; flatten the images to RGB or grey first.')
        if header.format == 'PNG' and data[24] == 16:       # bit depth, in the IHDR chunk
            raise SpiderError(f'{where} has 16 bits per channel; convert the images to 8-bit RGB or grey.')
        if header.mode not in _CHANNELS:
            raise SpiderError(f'{where} has pixels of mode {header.mode}; convert the images to 8-bit RGB or grey.')
        width, height = header.size
        if width != height:
            raise SpiderError(f'{where} is {width} x {height}, but images must be square; '
                              'crop them, for example with dataset_tool.py --transform=center-crop.')
        return width, _CHANNELS[header.mode]

    def _check_shape(self, name, shape):
        resolution, channels = shape
        if resolution != self.resolution:
            raise SpiderError(f'{name} in {self.path} is {resolution} pixels wide, but {self.file_names[0]} is '
                              f'{self.resolution}; resize the images to one size, for example with dataset_tool.py.')
        if channels != self.channels:
            kind = {1: 'grey', 3: 'colour'}
            raise SpiderError(f'{name} in {self.path} is {kind[channels]}, but {self.file_names[0]} is '
                              f'{kind[self.channels]}; convert the images to one of the two.')

    def _read_info(self):
        data = self._read('dataset.json', most_labels(self.num_images))
        try:
            info = parse_json(data)
            info['labels'] = [(name.replace('\\', '/'), label) for name, label in info.get('labels') or []]
        except (ValueError, AttributeError, TypeError) as error:
            raise SpiderError(f'dataset.json in {self.path} is not {{"labels": [[file name, label], ...]}} ({shown(error)}); '
                              'correct it, or remove it to use the images without labels.') from error
        return info

    def _read_labels(self, pairs):
        if not pairs:
            return None
        where, table = f'dataset.json in {self.path}', dict(pairs)
        if len(table) < len(pairs):
            raise SpiderError(f'{where} has two labels for one image; leave one of them out.')
        for name in self.file_names:
            if name not in table:
                raise SpiderError(f'{where} has no label for {name}; add it, or remove dataset.json.')
        return _label_array([table[name] for name in self.file_names], where)

#----------------------------------------------------------------------------

def _open(path):
    """Return (ZipFile or None for a folder, names of all files with forward slashes)."""
    if os.path.isdir(path):
        return None, {file.relative_to(path).as_posix() for file in path.rglob('*') if file.is_file()}
    if not os.path.exists(path):
        raise SpiderError(f'{path} does not exist; give the path of a zip or a folder of images.')
    if not os.path.isfile(path):
        raise SpiderError(f'{path} is neither a file nor a folder; give a zip or a folder of images.')
    try:
        archive = open_zip(path)
    except Exception as error:      # broken directories raise errors of many types
        _check_not_a_network(path)
        raise SpiderError(f'{path} is not a readable zip file ({_reason(error)}); give a zip or a folder of images.') from error
    return archive, {name for name in archive.namelist() if not name.endswith('/')}

def _check_not_a_network(path):
    """Raise SpiderError for a file or folder whose bytes say what it is in place of a set of images."""
    kind = recognise(path)
    if kind is not None and kind.name != 'zip' and kind.what != 'a folder':
        raise SpiderError(f'{path} is {kind.what}, not a zip or a folder of images; {kind.remedy.replace("{path}", str(path))}.')

def _label_array(labels, where):
    """Return labels as int64 [N] for classes or float32 [N, k] for lists. Raises SpiderError."""
    try:
        array = np.array(labels)
    except (ValueError, OverflowError):     # lists of different lengths, numbers that no array holds
        array = np.array(None)
    if array.ndim == 1 and array.dtype.kind == 'i' and array.min() >= 0:
        if array.max() >= MOST_CLASSES:
            raise SpiderError(f'{where} has the class {array.max()}; number them from 0 to at most {MOST_CLASSES - 1}.')
        return array.astype(np.int64)
    if array.ndim == 2 and array.dtype.kind in 'if' and array.shape[1] > 0:
        if array.shape[1] > MOST_CLASSES:
            raise SpiderError(f'{where} has lists of {array.shape[1]} numbers; give at most {MOST_CLASSES}.')
        with np.errstate(over='ignore'):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise SpiderError(f'{where} has a label that is NaN or infinite; correct it.')
        return array
    raise SpiderError(f'{where} must give every image a class number from 0 to {MOST_CLASSES - 1}, or every image a list of '
                      'equally many numbers.')

def _decode(data, channels):
    """Return an encoded image as uint8 [C, H, W]."""
    image, mode = open_image(data), 'L' if channels == 1 else 'RGB'
    if _is_plain_png(data, image.size):
        pixels = pyspng.load(data)
    else:
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] != channels:
        raise ValueError(f'{pixels.shape[2]} channels')
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))

def _is_plain_png(data, size):
    """Return whether it is an 8-bit grey or RGB PNG whose first chunk says that size."""
    return data[:4] == b'\x89PNG' and struct.unpack('>4sII', data[12:24]) == (b'IHDR', *size) and \
        data[24] == 8 and data[25] in (0, 2)

def _reason(error):
    return shown(error).rstrip('.') or type(error).__name__

#----------------------------------------------------------------------------
