"""Image datasets: a zip or a folder of square images, with labels in its dataset.json."""

import hashlib
import io
import json
import os
import struct
import zipfile

import numpy as np
import PIL.Image
import torch

import dnnlib
from training.runtime import SpiderError

try:
    import pyspng
except ImportError: # Pillow reads everything, only slower.
    pyspng = None

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

MAX_FILE = 1 << 27                              # Most bytes of an image, as a file and decoded: 44 megapixels in colour.
MAX_UNPACKED = 1 << 27, 100                     # Bytes that any zip may unpack to, and how many more for each of its own.
MAX_LABELS = 1 << 20, 1 << 15                   # Bytes of any dataset.json, and how many more for each image.
MAX_CLASSES = 1 << 16
FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'PPM', 'TGA', 'TIFF', 'JPEG2000')    # Pillow starts programs for some others.
PNG_CHANNELS = {0: 1, 2: 3}                     # PNG colour type -> channels; the others have a palette or alpha.
PIL_CHANNELS = {'L': 1, 'RGB': 3}
REMEDY = 'convert the images with dataset_tool.py --source=... --dest=OUT.zip --transform=center-crop --resolution=WxH'
CHECK_PIXELS_BELOW = 64 << 20                   # Bytes of image files up to which check_images() also decodes them.

def is_image_file(fname):
    """Does the name end like an image that Pillow can read?"""
    PIL.Image.init()
    return os.path.splitext(fname)[1].lower() in PIL.Image.EXTENSION

def read_header(f):
    """(width, height, channels) from the first bytes of an open image file; channels is None for what is neither grey
    nor RGB with 8 bits."""
    head = f.read(26)
    if head[:8] == b'\x89PNG\r\n\x1a\n' and len(head) == 26:
        width, height, bits, colour = struct.unpack('>IIBB', head[16:])
        return width, height, PNG_CHANNELS.get(colour) if bits == 8 else None
    f.seek(0)
    with open_image(f) as image:
        return image.width, image.height, PIL_CHANNELS.get(image.mode)

def open_zip(path):
    """A zip that may not unpack to many times its size. Raises ValueError where it would, and what zipfile raises."""
    archive = zipfile.ZipFile(path)
    base, ratio = MAX_UNPACKED
    if sum(info.file_size for info in archive.infolist()) > base + ratio * os.path.getsize(path):
        archive.close()
        raise ValueError(f'its files are more than {ratio} times larger than the zip')
    return archive

def read_bounded(f, most=MAX_FILE):
    """The rest of an open file. Raises ValueError if that is more than `most` bytes."""
    data = f.read(most + 1)
    if len(data) > most:
        raise ValueError(f'it is larger than {most >> 20} MiB')
    return data

def read_labels(f, num_images):
    """The labels in an open dataset.json, {file name: label}, or None. Raises ValueError where it is another thing."""
    base, each = MAX_LABELS
    try:
        labels = json.loads(read_bounded(f, base + each * num_images)).get('labels')
        return labels if labels is None else {fname.replace('\\', '/'): label for fname, label in labels}
    except (ValueError, TypeError, AttributeError, RecursionError) as err:
        raise ValueError(f'dataset.json is not {{"labels": [[file name, class or vector], ...]}} ({err})') from err

def open_image(f):
    """The PIL image in an open file. Raises ValueError for one larger than MAX_FILE, and what Pillow raises."""
    image = PIL.Image.open(f, formats=FORMATS)
    check_size(image.width, image.height, 8 if image.mode[0] in 'IF' else PIL.Image.getmodebands(image.mode))
    return image

def check_size(width, height, pixel_bytes):
    if width * height * pixel_bytes > MAX_FILE:
        raise ValueError(f'{width} x {height} pixels are more than {MAX_FILE >> 20} MiB')

#----------------------------------------------------------------------------

class ImageFolderDataset(Dataset):
    """A folder (searched recursively) or a zip of equally sized, square, grey or RGB images.

    Its dataset.json may hold labels: {"labels": [[file name, class or vector], ...]}. The object can be pickled and used
    in DataLoader workers: every process opens the zip for itself."""

    def __init__(self,
        path,                   # Path of a folder or a zip.
        resolution = None,      # Ensure this resolution. None = whatever the images have.
        **super_kwargs,         # Arguments of Dataset.
    ):
        self._path = os.fspath(path)
        self._zipfile = None
        self._zipfile_pid = None
        self._type = 'dir' if os.path.isdir(self._path) else 'zip'
        self._all_fnames = self._list_files()
        self._image_fnames = sorted(fname for fname in self._all_fnames if is_image_file(fname))
        if not self._image_fnames:
            raise SpiderError(f'{self._path} holds no images; give a folder or zip with PNG or JPEG files')

        shape = self._check_header(self._image_fnames[0])
        if resolution is not None and shape[1] != resolution:
            raise SpiderError(f'{self._path} holds {shape[1]}x{shape[1]} images, but {resolution}x{resolution} is asked '
                              'for; resize them with dataset_tool.py')
        name = os.path.splitext(os.path.basename(os.path.abspath(self._path)))[0]
        super().__init__(name=name, raw_shape=[len(self._image_fnames)] + shape, **super_kwargs)

    def __getstate__(self):
        return dict(super().__getstate__(), _zipfile=None)

    def close(self):
        if self._zipfile is not None:
            self._zipfile.close()
            self._zipfile = None

    # Files.

    def _list_files(self):
        if self._type == 'dir':
            return {os.path.relpath(os.path.join(root, fname), self._path).replace('\\', '/')
                    for root, _dirs, files in os.walk(self._path) for fname in files}
        if not os.path.isfile(self._path):
            raise SpiderError(f'{self._path} does not exist; give a folder or a zip of images')
        return set(self._get_zipfile().namelist())

    def _get_zipfile(self):
        if self._zipfile is None or self._zipfile_pid != os.getpid(): # A forked worker must not share our file offset.
            try:
                self._zipfile = open_zip(self._path)
            except Exception as err: # Broken directories of a zip raise errors of many types.
                raise SpiderError(f'{self._path} is not a readable zip ({err}); copy it again or make it with '
                                  'dataset_tool.py') from err
            self._zipfile_pid = os.getpid()
        return self._zipfile

    def _open_file(self, fname):
        if self._type == 'dir':
            return open(os.path.join(self._path, fname), 'rb')
        return self._get_zipfile().open(fname)

    def _bad_file(self, fname, err):
        reason = str(err).splitlines()[0].rstrip('.') if str(err) else type(err).__name__
        return SpiderError(f'{fname} in {self._path} cannot be read as an image ({reason}); replace or remove that file')

    # Images.

    def _check_header(self, fname):
        """[channels, height, width] of one file from its header."""
        try:
            with self._open_file(fname) as f:
                width, height, channels = read_header(f)
            check_size(width, height, channels or 1)
        except SpiderError:
            raise
        except Exception as err: # Pillow raises nearly anything on broken files.
            raise self._bad_file(fname, err) from err
        if channels is None:
            raise SpiderError(f'{fname} in {self._path} is neither an 8-bit grey nor an 8-bit RGB image; {REMEDY}')
        if width != height or width & (width - 1) != 0:
            raise SpiderError(f'{fname} in {self._path} is {width}x{height}, but images must be square with a power of two '
                              f'as their side; {REMEDY}')
        return [channels, height, width]

    def check_images(self):
        """Checks the header of every image against the first one, and every pixel where the files are few and small.

        Raises SpiderError that names the first bad file."""
        for fname in self._image_fnames:
            shape = self._check_header(fname)
            if shape != self.image_shape:
                first, here = (f'{"RGB" if c == 3 else "grey"} {w}x{h}' for c, h, w in (self.image_shape, shape))
                raise SpiderError(f'{fname} in {self._path} is {here}, but {self._image_fnames[0]} is {first}; {REMEDY}')
        if sum(size for _name, size, _mark in self._file_marks()) < CHECK_PIXELS_BELOW:
            for raw_idx in range(len(self._image_fnames)):
                self._load_raw_image(raw_idx)

    def _load_raw_image(self, raw_idx):
        fname = self._image_fnames[raw_idx]
        try:
            with self._open_file(fname) as f:
                data = read_bounded(f)
            width, height, channels = read_header(io.BytesIO(data))
            check_size(width, height, channels or 1)
            if pyspng is not None and fname.lower().endswith('.png'):
                image = pyspng.load(data)
            else:
                image = np.array(open_image(io.BytesIO(data)))
        except SpiderError:
            raise
        except Exception as err:
            raise self._bad_file(fname, err) from err
        if image.ndim == 2:
            image = image[:, :, np.newaxis]
        return image.transpose(2, 0, 1)

    def describe(self, idx):
        return f'{self._image_fnames[self._entries[idx][0]]} in {self._path}'

    # Labels.

    def _load_raw_labels(self):
        if 'dataset.json' not in self._all_fnames:
            return None
        where = f'dataset.json in {self._path}'
        try:
            with self._open_file('dataset.json') as f:
                by_name = read_labels(f, len(self._image_fnames))
            if by_name is None:
                return None
            labels = np.array([by_name[fname] for fname in self._image_fnames])
        except KeyError as err:
            raise SpiderError(f'{where} has no label for {err.args[0]}; label every image or none') from err
        except Exception as err: # Not JSON, not pairs, vectors of several lengths; decoders of a zip raise anything.
            raise SpiderError(f'{where} cannot be read ({err}); write it with dataset_tool.py') from err
        if labels.ndim not in (1, 2) or labels.dtype.kind not in 'iuf' or (labels.ndim == 1 and (labels % 1 != 0).any()):
            raise SpiderError(f'{where} must give each image an integer class or a vector of numbers')
        if labels.ndim == 1 and not 0 <= labels.min() <= labels.max() < MAX_CLASSES:
            raise SpiderError(f'{where} has a negative class or one above {MAX_CLASSES - 1}; number the classes from 0')
        if labels.ndim == 2 and not (0 < labels.shape[1] <= MAX_CLASSES and (abs(labels) <= np.finfo(np.float32).max).all()):
            raise SpiderError(f'{where} has an empty vector, or a number that is not finite; correct it')
        return labels.astype({1: np.int64, 2: np.float32}[labels.ndim])

    # Identity.

    def _file_marks(self):
        """(name, size, mark) of every image and dataset.json; the mark is a zip's checksum or a file's time stamp."""
        names = self._image_fnames + [name for name in ('dataset.json',) if name in self._all_fnames]
        if self._type == 'zip':
            infos = [self._get_zipfile().getinfo(name) for name in names]
            return [(info.filename, info.file_size, info.CRC) for info in infos]
        stats = [os.stat(os.path.join(self._path, name)) for name in names]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats, strict=True)]

    @property
    def fingerprint(self):
        """Hex digest that changes with the files, found without reading them: a key for caches."""
        return hashlib.md5(repr(self._file_marks()).encode()).hexdigest()

#----------------------------------------------------------------------------
