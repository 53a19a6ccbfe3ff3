"""Features of image sets. Opens the set that a name on the command line stands for, and computes its features in one pass.

The features are kept in the cache as an .npz file with

    features    float32 [N, n]
    samples     uint8 [8, 3, h, w], small pictures for reports

The name of the file is a hash of the images' content, of the detector's file and of the number of images, so that moved files
are found again and changed ones are not mistaken. The file appears complete or not at all; an interrupted run loses at most
the set in progress."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from spider_plugin import registry
from spider_plugin.errors import SpiderError, out_of_memory, shown
from spider_plugin.files.cache import atomic_file, cache_dir, sha256_of_file
from spider_plugin.files.limits import read_array
from spider_plugin.files.progress import Progress
from spider_plugin.metrics.sid import MIN_DIM, MIN_SAMPLES
from spider_plugin.sources.dataset import ImageDataset
from spider_plugin.sources.obtain import resolve
from spider_plugin.sources.prepare import names_generator, prepare_source
from spider_plugin.sources.resize import resize_area

FORMAT  = 1         # Version of the cached file and of the code that decides its content.
BATCH   = 64        # Images in a call of the detector. It affects the last bits of features.
SAMPLES = 8         # Small pictures that are kept of each set.
SIDE    = 64        # Their largest size in pixels.
RENDERS = 16384     # Most images drawn from a generator or a procedural source, as many as --spider-source prepares.
FACTOR  = 4         # That many for each image of the target are enough: intervals are 12% wider than with images without end.
LEAST   = 1000      # Images that are drawn for a smaller target, too.

#----------------------------------------------------------------------------
# The sets that are compared.

@dataclasses.dataclass
class ImageSet:
    """A set whose features can be computed. Opening it is cheap; `content` reads it, and `open_images` may render it."""

    spec:        str                    # As the user wrote it.
    name:        str                    # Short name for reports.
    kind:        str                    # 'images', 'generator', 'procedural' or 'features'.
    num_images:  int                    # In the set.
    resolution:  int | None = None      # None where it is not known yet.
    channels:    int | None = None
    path:        str | None = None      # Path of a set of images on disk.
    dim:         int | None = None      # Features per image of a set that has no images.
    content:     Callable | None = None # () -> hex digest of its content.
    open_images: Callable | None = None # () -> function of an index that returns uint8 [C, R, R]; thread-safe.

    @property
    def trains(self):
        """Whether it can be a --spider-source."""
        return self.kind != 'features'

@dataclasses.dataclass
class Features:
    """Features of a set of images, or of a uniform sample of them."""

    values:   np.ndarray    # float32 [N, n]; those of a user's .npz may be float64.
    samples:  np.ndarray    # uint8 [S, 3, h, w]; S = 0 where there are no images.
    identity: str           # Hex digest of the images and of the way the features were computed.

def open_set(spec, *, max_images, like=None, trust=False):
    """Return the ImageSet of a zip, a folder, a dataset in the catalogue, a generator's .pkl, an .npz of features, or a
    registered source. A dataset that the cache lacks is downloaded.

    max_images: most images to use; here it bounds the number of rendered images.
    like:       the target's ImageSet, whose channels and resolution procedural sources follow. None if spec is the target.
    trust:      unpickle a generator as hosts do, which runs code that the file carries.
    Raises SpiderError if the set does not exist, cannot be read, or is too small."""
    name, _, argument = spec.partition(':')
    if like is None and (name in registry.sources or names_generator(spec)):
        raise SpiderError(f'--target={spec} is not a dataset; give the zip or folder that you want to train on, or an .npz of '
                          'its features.')
    if name in registry.sources:
        found = _open_procedural(spec, name, argument, _renders(max_images, like), like)
    elif name not in registry.datasets and not os.path.exists(spec):
        what = f'--target={spec}' if like is None else spec
        raise SpiderError(f'{what} does not exist; give a zip or a folder of images, a generator .pkl, an .npz of features, one '
                          f'of {", ".join(sorted(registry.sources))}, or a name that `spider sources` lists.')
    elif spec.endswith('.npz'):
        count, dim = read_npz(spec).shape
        found = ImageSet(spec, Path(spec).stem, 'features', count, dim=dim)
    elif names_generator(spec):
        found = _open_generator(spec, _renders(max_images, like), like, trust)
    else:
        dataset = ImageDataset(resolve(spec))
        dataset.tell()
        found = ImageSet(spec, dataset.name, 'images', dataset.num_images, dataset.resolution, dataset.channels,
                         path=str(dataset.path), content=lambda: dataset.sha256, open_images=lambda: dataset.image)
    if found.num_images < MIN_SAMPLES:
        count = {0: 'no image', 1: 'one image'}.get(found.num_images, f'{found.num_images} images')
        raise SpiderError(f'{spec} has {count}, too few to tell distributions apart; give at least {MIN_SAMPLES}.')
    return found

# Rendered sets are those that --spider-source prepares for this target, with no more images than the comparison needs.

def _renders(max_images, like):
    return min(max_images, RENDERS, max(FACTOR * like.num_images, LEAST))

def _open_procedural(spec, name, argument, count, like):
    channels = None if argument else like.channels or 3
    if argument:
        name = f'{name} of {ImageDataset(resolve(argument)).name}'
    return _rendered(spec, name, 'procedural', count, max_size=_size_for(like), channels=channels)

def _open_generator(path, count, like, trust):
    if not trust:
        from spider_plugin.snapshots.families import known_class
        from spider_plugin.snapshots.rebuild import check_finite
        from spider_plugin.snapshots.records import generator_record
        record = generator_record(path)
        known_class(record, path)
        check_finite(record.state_dict(), path)
    return _rendered(path, Path(path).stem, 'generator', count, max_size=_size_for(like), trust=trust)

def _size_for(like):
    """Return the largest power of two up to the target's resolution; 256 if only its features are known."""
    return 1 << ((like.resolution or 256).bit_length() - 1)

def _rendered(spec, name, kind, count, **options):
    prepare = functools.cache(lambda: prepare_source(spec, bank=count, **options))
    return ImageSet(spec, name, kind, count, content=lambda: _bank_identity(prepare()),
                    open_images=lambda: _open_bank(prepare()))

def _bank_identity(prepared):
    return _digest(prepared.identity, prepared.num_images, prepared.channels, prepared.resolution)

def _open_bank(prepared):
    images = np.load(Path(prepared.path, 'images.npy'), mmap_mode='r')
    return lambda index: np.asarray(images[index])

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile)  # Errors of numpy.load.

def read_npz(path):
    """Return the features [N, n] of a user's .npz file. Raises SpiderError if it has none that can be used."""
    try:
        features = read_array(path, 'features')
    except Exception as error:      # damaged files cause errors of any type
        if out_of_memory(error):
            raise
        raise SpiderError(f'{path} holds no array named features ({shown(error, 80)}); '
                          'write it by numpy.savez(FILE, features=...).') from error
    if features.ndim != 2 or features.dtype.kind != 'f':
        raise SpiderError(f'{path}: features must be floats [images, dimensions], not {features.dtype} {list(features.shape)}.')
    if len(features) > 0:
        check_features(features, path)
    return features if features.dtype == np.float64 else features.astype(np.float32)

def check_features(features, spec, whole=True):
    """Raise SpiderError unless the features, of a whole set or of a part, can be compared."""
    if features.shape[1] < MIN_DIM:
        raise SpiderError(f'{spec}: {features.shape[1]} feature dimensions are too few for SID; use a detector with at least '
                          f'{MIN_DIM}.')
    if not np.isfinite(features).all():
        raise SpiderError(f'The features of {spec} hold NaN or infinity; look for an image or a --detector that is broken.')
    if whole and (features == features[0]).all():
        raise SpiderError(f'The features of {spec} are the same for all its images; give different images, or a --detector that '
                          'tells them apart.')

#----------------------------------------------------------------------------
# The pass.

def probe(image_set, detector, like):
    """Return the number of features, from one image of the set, or from a black image if its images are not rendered yet.

    Raises SpiderError if the detector cannot take the image."""
    if image_set.kind == 'features':
        return image_set.dim
    if image_set.kind == 'images':
        image = image_set.open_images()(0)
    else:
        image = np.zeros([like.channels or 3, _size_for(like), _size_for(like)], dtype=np.uint8)
    return detect(detector, image[np.newaxis], image_set).shape[1]

def compute_features(image_set, detector, max_images, progress):
    """Return the Features of a set from the cache; compute them by one pass over its images where the cache lacks them.

    detector:   an object with `.identity`, a hex digest, and detector(uint8 [B, C, R, R]) -> float [B, n]; not used for an
                .npz.
    max_images: number of images taken of a larger set, chosen uniformly, and always the same ones.
    progress:   a `SetProgress`.
    Raises SpiderError for images or features that cannot be used."""
    count = min(image_set.num_images, max_images)
    chosen = np.sort(np.random.default_rng(0).permutation(image_set.num_images)[:count])
    if image_set.kind == 'features':
        progress.skip(count, image_set.name, 'read from its file')
        return Features(read_npz(image_set.spec)[chosen], np.zeros([0, 3, SIDE, SIDE], dtype=np.uint8),
                        _digest(FORMAT, sha256_of_file(image_set.spec), count))
    identity = _digest(FORMAT, image_set.content(), detector.identity, count, BATCH)
    path = cache_dir('features') / f'{identity[:32]}.npz'
    cached = _load(path, identity)
    if cached is not None:
        progress.skip(count, image_set.name, 'features from the cache')
        return cached
    progress.start(image_set.name)
    features = _pass(image_set, detector, chosen, progress)
    check_features(features.values, image_set.spec)
    features.identity = identity
    with atomic_file(path) as temp, open(temp, 'wb') as file:
        np.savez(file, features=features.values, samples=features.samples, identity=identity)
    return features

def _load(path, identity):
    """Return the file's Features, or None if it is missing or incomplete."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file['identity']) == identity:
                return Features(file['features'], file['samples'], identity)
    except _UNREADABLE:
        pass
    return None

def _pass(image_set, detector, chosen, progress):
    read = image_set.open_images()
    values, done = None, 0
    for images in _read_ahead(read, chosen):
        features = detect(detector, images, image_set)
        if values is None:
            values = np.empty([len(chosen), features.shape[1]], dtype=np.float32)
        values[done : done + len(features)] = features
        done += len(features)
        progress.advance(len(features))
    shown = [read(int(i)) for i in chosen[np.linspace(0, len(chosen) - 1, SAMPLES).round().astype(int)]]
    shown = resize_area(np.stack(shown), min(SIDE, shown[0].shape[-1]))
    return Features(values, np.broadcast_to(shown, [len(shown), 3, *shown.shape[2:]]).copy(), '')

def _read_ahead(read, chosen):
    """Yield uint8 [<= BATCH, C, R, R]; threads decode the next batch while the detector runs on this one."""
    batches = [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)]
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        submit = lambda batch: [pool.submit(read, int(index)) for index in batch]
        ahead = submit(batches[0])
        for following in [*batches[1:], []]:
            batch, ahead = ahead, submit(following)
            yield np.stack([image.result() for image in batch])

@torch.inference_mode()
def detect(detector, images, image_set):
    """Return the features float32 [B, n] of uint8 images [B, C, R, R]; image_set: for messages.

    Raises SpiderError where the detector returns none that can be used."""
    features = detector(torch.from_numpy(images))
    if features.ndim != 2 or len(features) != len(images):
        raise SpiderError(f'--detector gives {list(features.shape)} for {len(images)} images of {image_set.spec}; '
                          'it must give [images, features].')
    features = features.to(torch.float32).cpu().numpy()
    check_features(features, image_set.spec, whole=False)
    return features

#----------------------------------------------------------------------------

class SetProgress:
    """Progress lines on stderr, with the images done of all sets, the rate in this set, and the time left for all."""

    def __init__(self, total=0, num_sets=0, quiet=False, seconds=3.0):
        self.total, self.num_sets, self.quiet, self.seconds = total, num_sets, quiet, seconds
        self.done = self.sets = 0
        self.line = None

    def _next(self, name, words):
        self.sets += 1
        what = f'{name} ({self.sets} of {self.num_sets})'
        if not self.quiet:
            print(f'{what}: {words}', file=sys.stderr, flush=True)
        return what

    def skip(self, count, name, why):
        """Report a set that needs no pass."""
        self._next(name, f'{count} images, {why}')
        self.done += count

    def start(self, name):
        """Report the start of the pass over a set."""
        self.line = Progress(self._next(name, 'looking at its images'), self.total, done=self.done, seconds=self.seconds)

    def advance(self, count):
        """Report that `count` more images are done."""
        self.done += count
        if not self.quiet:
            self.line.update(self.done)

def _digest(*parts):
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

#----------------------------------------------------------------------------
