"""Image datasets on disk in the hosts' format: a zip or a folder of images, labels in an optional dataset.json."""

import functools
import hashlib
import os
import sys
from pathlib import Path

import numpy as np

from spider_plugin.errors import SpiderError, out_of_memory, printable, shown
from spider_plugin.files.cache import cache_dir
from spider_plugin.files.limits import MOST_IMAGE, most_labels, open_zip, read_file, read_member
from spider_plugin.files.pictures import check, decode, labels, listing
from spider_plugin.files.progress import Progress
from spider_plugin.files.recognise import recognise

#----------------------------------------------------------------------------

class ImageDataset:
    """Equally sized square images in file name order, decoded on demand by the rules of docs/pictures.md.

    path:        zip file or folder. dataset.json may hold {"labels": [[file name, class number or list of floats], ...]}, one
                 entry for each image.
    num_images, resolution, channels (1 or 3), name (the file name without extension).
    labels:      int64 [N], float32 [N, k], or None. Numbers that are ids are classes 0 to n - 1 here; class_ids has the ids.
    sha256:      hex digest of names, file contents and labels; a zip and the folder it was made from agree.
    num_classes: number of classes, k for float labels, 0 without labels.
    licence:     the entry "licence" of dataset.json, else 'unknown'.
    lines:       for people, of what was left out, and of names and classes that were matched; tell() prints them.

    Raises SpiderError naming the file. The constructor opens one image; `sha256` checks every header, once for the same files."""

    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.stem if os.path.isfile(self.path) else self.path.resolve().name
        self._zip = _open(self.path)
        look = decode.look_at
        self._listing = listing.list_folder(path, look) if self._zip is None else listing.list_zip(self._zip, look)
        self.file_names = self._listing.pictures
        left_out = self._listing.tell(path)
        if not self.file_names:
            _check_not_a_network(path)
            raise SpiderError(f'{path} holds no images; it must be a zip or a folder of PNG or JPEG files'
                              f'{"" if left_out is None else f" ({left_out})"}.')
        self.num_images = len(self.file_names)
        self.class_ids, self.lines = None, [] if left_out is None else [left_out]
        entries, pairs = ({}, []) if self._listing.labels is None else self._read_entries()
        self.licence = str(entries.get('licence') or 'unknown')
        self.labels = self._match_labels(pairs) if pairs else None
        self.resolution, self.channels = self._shape(self.file_names[0], self._read(self.file_names[0]))

    @property
    def num_classes(self):
        if self.labels is None:
            return 0
        return int(self.labels.max()) + 1 if self.labels.ndim == 1 else self.labels.shape[1]

    @functools.cached_property
    def sha256(self):
        folder, key = cache_dir('checks'), check.key_of(decode.VERSION, 'sha256', self._marks())
        kept = check.recall(folder, key)
        if kept is None or not isinstance(kept.get('sha256'), str):
            kept = dict(sha256=self._sha256())
            check.remember(folder, key, kept)
        return kept['sha256']

    def _sha256(self):
        digest, progress = hashlib.sha256(), Progress(f'Reading {self.name}', self.num_images)
        read = lambda name: (data := self._read(name), self._shape(name, data), decode.is_moved(data))
        contents = check.in_order(read, self.file_names, lambda done, _: progress.update(done))
        for index, (name, (data, shape, moved)) in enumerate(zip(self.file_names, contents)):
            self._check_shape(name, shape)
            label = b'' if self.labels is None else self.labels[index].tobytes()
            for part in (_encoded(name), data, label, *([f'rules {decode.VERSION}'.encode()] if moved else [])):
                digest.update(len(part).to_bytes(8, 'little') + part)
        return digest.hexdigest()

    def _marks(self):
        """What changes with the files and the labels, found without reading the images."""
        labels = None if self.labels is None else hashlib.sha256(self.labels.tobytes()).hexdigest()
        if self._zip is not None:
            stat = os.stat(self.path)
            infos = [self._zip.getinfo(name) for name in self.file_names]
            return stat.st_size, stat.st_mtime_ns, labels, [(info.filename, info.file_size, info.CRC) for info in infos]
        stats = [os.stat(self.path / name) for name in self.file_names]
        return str(self.path.resolve()), labels, [(name, stat.st_size, stat.st_mtime_ns, stat.st_ino)
                                                  for name, stat in zip(self.file_names, stats)]

    def tell(self):
        """Print `lines` on stderr."""
        for line in self.lines:
            print(printable(line), file=sys.stderr)

    def digest(self, indices):
        """Return the hex SHA-256 of the names and contents of the images at `indices`."""
        digest = hashlib.sha256()
        for index in indices:
            for part in (_encoded(self.file_names[index]), self._read(self.file_names[index])):
                digest.update(len(part).to_bytes(8, 'little') + part)
        return digest.hexdigest()

    def image(self, index):
        """Return image `index` as uint8 [C, H, W]."""
        return self.picture(index)[0]

    def picture(self, index):
        """Return (image `index` as uint8 [C, H, W], the notes of files/pictures/decode.py about it)."""
        name = self.file_names[index]
        data = self._read(name)
        self._check_shape(name, self._shape(name, data))
        try:
            picture = decode.decode(data)
            pixels = picture.pixels[:, :, np.newaxis] if picture.pixels.ndim == 2 else picture.pixels
            if pixels.shape != (self.resolution, self.resolution, self.channels):
                raise ValueError(f'its pixels are {list(pixels.shape)}')
        except Exception as error:      # decoders raise errors of any type on broken data
            if out_of_memory(error):
                raise
            raise SpiderError(f'{name} in {self.path} is corrupt ({_reason(error)}); replace or remove it.') from error
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)), picture.notes

    #------------------------------------------------------------------------

    def _read(self, name, most=MOST_IMAGE):
        try:
            return read_file(self.path / name, most) if self._zip is None else read_member(self._zip, name, most)
        except Exception as error:      # damaged zips raise errors of any type
            if out_of_memory(error):
                raise
            raise SpiderError(f'{name} in {self.path} cannot be read ({_reason(error)}); '
                              'replace or remove it.') from error

    def _shape(self, name, data):
        """Return (resolution, channels) of an encoded image. Raises SpiderError if it cannot be used."""
        where = f'{name} in {self.path}'
        try:
            width, height, channels = decode.read_shape(data)
        except Exception as error:      # as above
            if out_of_memory(error):
                raise
            raise SpiderError(f'{where} is not an image that can be read ({_reason(error)}); replace or remove it.') from error
        if width != height:
            raise SpiderError(f'{where} is {width} x {height}, but images must be square; '
                              'crop them, for example with dataset_tool.py --transform=center-crop.')
        return width, channels

    def _check_shape(self, name, shape):
        resolution, channels = shape
        if resolution != self.resolution:
            raise SpiderError(f'{name} in {self.path} is {resolution} pixels wide, but {self.file_names[0]} is '
                              f'{self.resolution}; resize the images to one size, for example with dataset_tool.py.')
        if channels != self.channels:
            kind = {1: 'grey', 3: 'colour'}
            raise SpiderError(f'{name} in {self.path} is {kind[channels]}, but {self.file_names[0]} is '
                              f'{kind[self.channels]}; convert the images to one of the two, for example with dataset_tool.py.')

    def _read_entries(self):
        data = self._read(self._listing.labels, most_labels(self.num_images))
        return self._told(labels.parse, data)

    def _match_labels(self, pairs):
        found, by = labels.match(pairs, self.file_names)
        if None in found:
            raise SpiderError(f'{self._where} {labels.missing_words(found, self.file_names)}; add them, or leave these images '
                              'out by dataset_tool.py --unlabelled=drop.')
        made = self._told(labels.to_labels, found)
        self.class_ids = made.class_ids
        told = labels.tell_match(by, self._where), labels.tell_classes(made.class_ids, str(self.path))
        self.lines += [line for line in told if line is not None]
        return made.values

    @property
    def _where(self):
        return f'{self._listing.labels} in {self.path}'

    def _told(self, function, *args):
        try:
            return function(*args)
        except ValueError as error:
            raise SpiderError(f'{self._where} {shown(error, 500)}.') from error

#----------------------------------------------------------------------------

def _open(path):
    """Return the ZipFile of a zip, None of a folder."""
    if os.path.isdir(path):
        return None
    if not os.path.exists(path):
        raise SpiderError(f'{path} does not exist; give the path of a zip or a folder of images.')
    if not os.path.isfile(path):
        raise SpiderError(f'{path} is neither a file nor a folder; give a zip or a folder of images.')
    try:
        return open_zip(path)
    except Exception as error:      # broken directories raise errors of many types
        _check_not_a_network(path)
        raise SpiderError(f'{path} is not a readable zip file ({_reason(error)}); give a zip or a folder of images.') from error

def _check_not_a_network(path):
    """Raise SpiderError for a file or folder whose bytes say what it is in place of a set of images."""
    words = None if '.pkl' in os.path.basename(path) else listing.not_a_set(path, decode.look_at)
    if words is not None:
        raise SpiderError(f'{path} is {words}.')
    kind = recognise(path)
    if kind is not None and kind.name != 'zip' and kind.what != 'a folder':
        raise SpiderError(f'{path} is {kind.what}, not a zip or a folder of images; {kind.remedy.replace("{path}", str(path))}.')

def _encoded(name):
    return name.encode('utf-8', 'surrogateescape')

def _reason(error):
    return shown(error).rstrip('.') or type(error).__name__

#----------------------------------------------------------------------------
