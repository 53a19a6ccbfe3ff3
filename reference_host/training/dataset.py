"""Image datasets: a zip or a folder of square images, with labels in its dataset.json. pictures/ has the rules."""

import collections
import hashlib
import os
import sys

import numpy as np
import torch

import dnnlib
from training import reading
from training.pictures import check, decode, labels
from training.runtime import SpiderError

#----------------------------------------------------------------------------

class Dataset(torch.utils.data.Dataset):
    """Images and labels by index: `dataset[i]` is (uint8 [C, H, W], float32 [label_dim]).

    A subclass gives `raw_shape` and implements `_load_raw_image(raw_idx)` (uint8 [C, H, W]) and `_load_raw_labels()`
    (int64 [N] for classes, float32 [N, k] for vectors, or None)."""

    def __init__(self,
        name,                   # Name of the dataset.
        raw_shape,              # Shape of the raw image data, [N, C, H, W].
        max_size    = None,     # Largest number of images to use, a random subset. None = all.
        use_labels  = False,    # Give conditioning labels? False = label_dim is 0.
        xflip       = False,    # Double the size of the dataset by mirrored images?
        random_seed = 0,        # Seed of the subset.
    ):
        self._name = name
        self._raw_shape = list(raw_shape)
        self._use_labels = use_labels
        self._raw_labels = None
        self._label_shape = None

        chosen = np.arange(raw_shape[0])
        if max_size is not None and max_size < len(chosen):
            chosen = np.sort(np.random.RandomState(random_seed).permutation(chosen)[:max_size])
        flips = (False, True) if xflip else (False,)
        self._entries = [(int(raw_idx), flip) for flip in flips for raw_idx in chosen] # What each index stands for.

    def _load_raw_image(self, raw_idx):
        raise NotImplementedError

    def _load_raw_labels(self):
        raise NotImplementedError

    def close(self):
        """Closes the files held open."""

    def __getstate__(self):
        return dict(self.__dict__, _raw_labels=None)

    def __del__(self):
        try:
            self.close()
        except Exception: # At interpreter exit anything may be gone already.
            pass

    def __len__(self):
        return len(self._entries)

    def __getitem__(self, idx):
        raw_idx, flip = self._entries[idx]
        image = self._load_raw_image(raw_idx)
        if list(image.shape) != self.image_shape or image.dtype != np.uint8:
            raise SpiderError(f'{self.describe(idx)} is {image.dtype} {list(image.shape)}, but uint8 {self.image_shape} '
                              'was expected; convert the images with dataset_tool.py')
        if flip:
            image = image[:, :, ::-1]
        return image.copy(), self.get_label(idx)

    def describe(self, idx):
        """Words that tell a person which image this is."""
        return f'image {self._entries[idx][0]} of {self.name}'

    def _get_raw_labels(self):
        if self._raw_labels is None:
            labels = self._load_raw_labels() if self._use_labels else None
            self._raw_labels = np.zeros([self._raw_shape[0], 0], dtype=np.float32) if labels is None else labels
        return self._raw_labels

    def get_label(self, idx):
        """The label of one image, float32 [label_dim]; classes are one-hot."""
        label = self._get_raw_labels()[self._entries[idx][0]]
        return (np.arange(self.label_dim) == label).astype(np.float32) if self.has_onehot_labels else label.copy()

    def get_details(self, idx):
        raw_idx, flip = self._entries[idx]
        return dnnlib.EasyDict(raw_idx=raw_idx, xflip=flip, raw_label=self._get_raw_labels()[raw_idx].copy())

    @property
    def name(self):
        return self._name

    @property
    def num_raw_images(self):
        """Images there are, before max_size and xflip."""
        return self._raw_shape[0]

    @property
    def image_shape(self):
        return list(self._raw_shape[1:])

    @property
    def num_channels(self):
        return self.image_shape[0]

    @property
    def resolution(self):
        return self.image_shape[1]

    @property
    def label_shape(self):
        if self._label_shape is None:
            labels = self._get_raw_labels()
            self._label_shape = [int(labels.max()) + 1] if labels.dtype == np.int64 else list(labels.shape[1:])
        return list(self._label_shape)

    @property
    def label_dim(self):
        return self.label_shape[0]

    @property
    def has_labels(self):
        return any(size != 0 for size in self.label_shape)

    @property
    def has_onehot_labels(self):
        return self._get_raw_labels().dtype == np.int64

#----------------------------------------------------------------------------

REMEDY = 'convert the images with dataset_tool.py --source=... --dest=OUT.zip --transform=center-crop --resolution=WxH'

def shape_words(channels, height, width):
    return f'{"RGB" if channels == 3 else "grey"} {width}x{height}'

class ImageFolderDataset(Dataset):
    """A folder (searched recursively) or a zip of equally sized, square images, which become 8-bit grey or RGB by the rules of
    docs/pictures.md.

    Its dataset.json may hold labels: {"labels": [[file name, class or vector], ...]}. The object can be pickled and used
    in DataLoader workers: every process opens the zip for itself."""

    def __init__(self,
        path,                   # Path of a folder or a zip.
        resolution = None,      # Ensure this resolution. None = whatever the images have.
        class_ids  = None,      # The number of each class in dataset.json, in their order. None = the numbers are the classes.
        **super_kwargs,         # Arguments of Dataset.
    ):
        self._path = os.fspath(path)
        self._zipfile = None
        self._zipfile_pid = None
        self._type = 'dir' if os.path.isdir(self._path) else 'zip'
        self._class_ids = class_ids
        self._listing = self._list_files()
        self._image_fnames = self._listing.pictures
        if not self._image_fnames:
            left_out = f' ({", ".join(f"{n} {reason}" for reason, n in self._listing.left_out.items())})' \
                if self._listing.left_out else ''
            raise SpiderError(f'{self._path} holds no images{left_out}; give a folder or zip with PNG or JPEG files')

        shape = self._check_shape(0, *self._read_shape(self._image_fnames[0]))
        if resolution is not None and shape[1] != resolution:
            raise SpiderError(f'{self._path} holds {shape[1]}x{shape[1]} images, but {resolution}x{resolution} is asked '
                              'for; resize them with dataset_tool.py')
        name = os.path.splitext(os.path.basename(os.path.abspath(self._path)))[0]
        super().__init__(name=name, raw_shape=[len(self._image_fnames)] + shape, **super_kwargs)
        if class_ids is not None and self._use_labels:
            self._label_shape = [len(class_ids)]

    def __getstate__(self):
        return dict(super().__getstate__(), _zipfile=None)

    def close(self):
        if self._zipfile is not None:
            self._zipfile.close()
            self._zipfile = None

    # Files.

    def _list_files(self):
        if self._type == 'zip' and not os.path.isfile(self._path):
            raise SpiderError(f'{self._path} does not exist, or is no file; give a folder or a zip of images')
        return reading.list_set(self._path, self._get_zipfile() if self._type == 'zip' else None)

    def _get_zipfile(self):
        if self._zipfile is None or self._zipfile_pid != os.getpid(): # A forked worker must not share our file offset.
            try:
                self._zipfile = reading.open_zip(self._path)
            except Exception as err: # Broken directories of a zip raise errors of many types.
                what = reading.not_a_set(self._path) or \
                    f'not a readable zip ({err}); copy it again or make it with dataset_tool.py'
                raise SpiderError(f'{self._path} is {what}') from err
            self._zipfile_pid = os.getpid()
        return self._zipfile

    def _read_file(self, fname, most):
        if self._type == 'dir':
            return reading.read_file(os.path.join(self._path, fname), most)
        return reading.read_member(self._get_zipfile(), fname, most)

    def _bad_file(self, fname, err):
        return SpiderError(f'{fname} in {self._path} cannot be read as an image ({reading.reason_of(err)}); replace or remove '
                           'that file')

    # Images.

    def _read_shape(self, fname):
        """(width, height, channels) of one file from its header."""
        try:
            return decode.read_shape(self._read_file(fname, reading.MOST_IMAGE), reading.MOST_DECODED)
        except Exception as err: # Pillow raises nearly anything on broken files.
            raise self._bad_file(fname, err) from err

    def _check_shape(self, raw_idx, width, height, channels):
        """[channels, height, width]. Raises SpiderError for an image that is no square of a power of two."""
        if width != height or width & (width - 1) != 0:
            raise SpiderError(f'{self._image_fnames[raw_idx]} in {self._path} is {width}x{height}, but images must be square '
                              f'with a power of two as their side; {REMEDY}')
        return [channels, height, width]

    def _decode(self, raw_idx):
        """(uint8 [C, H, W], notes of training/pictures/decode.py) of one image."""
        fname = self._image_fnames[raw_idx]
        try:
            picture = decode.decode(self._read_file(fname, reading.MOST_IMAGE), reading.MOST_DECODED)
        except Exception as err:
            raise self._bad_file(fname, err) from err
        pixels = picture.pixels
        return (pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)), picture.notes

    def _load_raw_image(self, raw_idx):
        return self._decode(raw_idx)[0]

    def _look(self, raw_idx):
        """(notes, None) of an image that can be trained on, else ((), the SpiderError about it)."""
        try:
            image, notes = self._decode(raw_idx)
            channels, height, width = image.shape
            shape = self._check_shape(raw_idx, width, height, channels)
            if shape != self.image_shape:
                raise SpiderError(f'{self._image_fnames[raw_idx]} in {self._path} is {shape_words(*shape)}, but '
                                  f'{self._image_fnames[0]} is {shape_words(*self.image_shape)}; {REMEDY}')
            return notes, None
        except SpiderError as err:
            return (), err

    def check_images(self, waiting=None):
        """Decodes every image, by several threads and once for the same files, and returns a line about those that a rule of
        docs/pictures.md changed, or None.

        waiting: called every few seconds, for those who wait for this process.
        Raises SpiderError that names the first bad file and counts the others."""
        folder = dnnlib.util.make_cache_dir_path('checks')
        key = check.key_of(decode.VERSION, reading.MOST_DECODED, self.image_shape, self._file_marks(), self._zip_mark())
        kept = check.recall(folder, key)
        if kept is None:
            kept = self._check_each(waiting)
            check.remember(folder, key, kept)
        return decode.tell_notes(collections.Counter(kept), self._path)

    def _check_each(self, waiting):
        """{note: images} of all images. Raises SpiderError."""
        notes, bad, total = collections.Counter(), [], len(self._image_fnames)
        def say(done, seconds):
            print(f'Checking {self._path}: {done}/{total} images, {done / seconds:.0f}/s', file=sys.stderr, flush=True)
            if waiting is not None:
                waiting()
        for found, err in check.in_order(self._look, range(total), say):
            notes.update(found)
            bad += [] if err is None else [err]
        if bad:
            raise SpiderError(bad[0].message + (f'; {len(bad) - 1} more of the {total} images cannot be used' if bad[1:] else ''))
        return dict(notes)

    def describe(self, idx):
        return f'{self._image_fnames[self._entries[idx][0]]} in {self._path}'

    @property
    def left_out(self):
        """A line that counts the files that are no images by reason, or None."""
        return self._listing.tell(self._path)

    # Labels.

    def _read_labels(self, number):
        """(Labels or None, a line about names that fit but for their folder, case or ending, or None)."""
        where = f'{self._listing.labels} in {self._path}'
        pairs = [] if self._listing.labels is None else \
            reading.read_pairs(self._read_file, len(self._image_fnames), self._listing.labels, where)[1]
        if not pairs:
            if self._class_ids is not None:
                raise SpiderError(f'{self._path} has no labels, but the run began with {len(self._class_ids)} classes; give the '
                                  'images that it began with')
            return None, None
        found, by = labels.match(pairs, self._image_fnames)
        if None in found:
            raise SpiderError(f'{where} {labels.missing_words(found, self._image_fnames)}; label every image or none, or leave '
                              'the others out by dataset_tool.py --unlabelled=drop')
        return reading.said_of(where, labels.to_labels, found, self._class_ids, number), labels.tell_match(by, where)

    def _load_raw_labels(self):
        found, _line = self._read_labels(number=False)
        return None if found is None else found.values

    def number_classes(self):
        """(class_ids that a new run needs or None, lines to print about the labels)."""
        found, line = self._read_labels(number=True)
        ids = None if found is None else found.class_ids
        return ids, [text for text in (line, labels.tell_classes(ids, self._path)) if text is not None]

    # Identity.

    def _file_marks(self):
        """(name, size, mark) of every image and dataset.json; the mark is a zip's checksum or a file's time stamp."""
        names = self._image_fnames + [name for name in (self._listing.labels,) if name is not None]
        if self._type == 'zip':
            infos = [self._get_zipfile().getinfo(name) for name in names]
            return [(info.filename, info.file_size, info.CRC) for info in infos]
        stats = [os.stat(os.path.join(self._path, name)) for name in names]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats, strict=True)]

    def _zip_mark(self):
        """(size, time stamp) of a zip, whose bytes may change beneath its directory; None of a folder."""
        stat = os.stat(self._path)
        return (stat.st_size, stat.st_mtime_ns) if self._type == 'zip' else None

    @property
    def fingerprint(self):
        """Hex digest that changes with the files, found without reading them: a key for caches."""
        return hashlib.md5(repr(self._file_marks()).encode('utf-8', 'surrogateescape')).hexdigest()

#----------------------------------------------------------------------------
