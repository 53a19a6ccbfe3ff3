"""Prepares the source that `--spider-source` names. A prepared source is a cache directory, made once, in the parent process.

    images.npy, bank.json           a bank, uint8 [M, C, R, R] in a shuffled order, so that every prefix is a fair sample
    generator.json, weights.pt      beside a bank, a generator that is run for every batch (bank = 'online')

The directory's name is a hash of the content and of its preparation, so that a change of either makes a new directory."""

import dataclasses
import hashlib
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from spider_plugin import registry
from spider_plugin.errors import SpiderError, out_of_memory
from spider_plugin.files.cache import allocated, atomic_dir, cache_dir, sha256_of_file
from spider_plugin.files.download import hidden
from spider_plugin.files.pictures.check import in_order
from spider_plugin.files.progress import Progress
from spider_plugin.files.recognise import check_network_file, holds_network
from spider_plugin.portable.source.bank import read_json
from spider_plugin.snapshots.drawing import check_drawable, classes_of
from spider_plugin.snapshots.lineage import cascade_stages
from spider_plugin.sources.dataset import ImageDataset
from spider_plugin.sources.match import STRENGTHS, GaussianTransport
from spider_plugin.sources.match_choice import at_pixels, cached_choice, kept, recorded
from spider_plugin.sources.obtain import file_name, local_file, resolve
from spider_plugin.sources.parents import remember_parent, rendered_labels
from spider_plugin.sources.rendered import drawn_size, known_arguments, rendered_blocks
from spider_plugin.sources.resize import resize_area
from torch_utils_ext.cache_root import cache_root

_FORMAT       = 1       # version of the prepared directory and of the code that decides its content
_DEFAULT_BANK = 16384   # images drawn from a generator or a procedural source
_DEFAULT_SIZE = 32      # resolution of procedural sources that imitate no dataset
BLOCK         = 256     # images in memory at a time
_REFERENCE    = 4096    # most images that are read to imitate a dataset or to match one

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """A directory that spider_plugin.portable.source.bank.open_source opens, and a description of its content."""

    path:        str
    identity:    dict       # name, sha256, transform, licence; for a generator also the keys of snapshots/lineage.py
    resolution:  int
    channels:    int
    num_images:  int
    num_classes: int        # 0 without labels
    online:      bool
    lines:       tuple = () # for the launch log, on how the strength of the match was chosen

    @property
    def below_cache(self) -> str:
        """The directory below the cache root, for configs and snapshots, which name no path of a machine."""
        return Path(self.path).relative_to(cache_root()).as_posix()

    def __repr__(self) -> str:
        return (f'PreparedSource({self.identity["name"]}: {self.num_images} images, {self.channels} x {self.resolution} x '
                f'{self.resolution}, path={self.path!r})')

def prepare_source(spec: str, *, size: int | None = None, max_size: int | None = None, bank: int | str | None = None,
                   channels: int | None = None, match: str | None = None, strength: int | None = 16,
                   like: dict | None = None, subset: tuple[int, int] | None = None, trust: bool = False,
                   detector: str | None = None) -> PreparedSource:
    """Prepare a source, or find it in the cache, and return a PreparedSource.

    spec:      a dataset zip or folder, a generator's .pkl, the URL of either, or `name` or `name:PATH` of a registered source
               (noise, covariance, strokes, shapes) or of a dataset in the catalogue, which is downloaded where it is missing.
    size:      resolution, a power of two. None takes the source's resolution, or the power of two below it, at most max_size.
    max_size:  bound of the default size; a power of two.
    bank:      most images. None takes all of a dataset, 16384 of a generator or a procedural source. 'online' runs a
               generator for every batch.
    channels:  channels that the source must have, 1 or 3; procedural sources follow it.
    match:     a dataset zip or folder; the images of a dataset are moved to its mean and covariance (sources/match.py).
    strength:  pixels at which the match sees the images, 1, 2, 4, 8, 16. None chooses one or no match (sources/match_choice.py).
    like:      identity of a source whose strength is taken in place of a choice, if it is of the same dataset and target.
    subset:    (most images, seed) if training sees only a part of `match`; then only those images are read.
    trust:     unpickle a generator as hosts do, which runs code that the file carries.
    detector:  value of --detector, whose features choose the strength.
    Raises SpiderError if the source cannot be used."""
    if size is not None and (size < 4 or size & (size - 1)):
        raise SpiderError(f'--spider-size={size} is not a power of two, 4 or larger; try {_power_of_two_below(max(size, 4))}.')
    if bank is not None and bank != 'online' and (not isinstance(bank, int) or bank < 1):
        raise SpiderError(f'--spider-bank={bank} is neither a number of images nor "online".')
    if match is not None and not is_dataset(spec):
        raise SpiderError(f'--spider-match moves the images of a dataset, which {hidden(spec)} is not; leave it out, '
                          'or render images with `spider generate` and give their folder.')
    if strength is not None and strength not in STRENGTHS:
        raise SpiderError(f'--spider-match={strength} is none of {", ".join(map(str, STRENGTHS))}; give one of these.')
    spec = local_file(spec, '--spider-source')
    name, _, argument = spec.partition(':')
    def pick_size(native):      # None for a source without a resolution
        native = native or max_size or _DEFAULT_SIZE
        return size or min(_power_of_two_below(native), max_size or native)
    if name in registry.sources:
        plan = _plan_procedural(name, argument, pick_size, bank, channels)
    elif names_generator(spec):
        plan = _plan_generator(spec, pick_size, bank, channels, trust)
    else:
        plan = _plan_dataset(resolve(spec), pick_size, bank, channels, match, subset, strength, like, detector)
    try:
        return write_source(plan, spec)
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        raise SpiderError(f'--spider-source={spec}: memory ran out while it was prepared ({" ".join(str(error).split())[:80]}); '
                          'use a smaller --spider-size or --spider-bank, or free some memory.') from error

def is_dataset(spec):
    """Return whether a spec names a dataset of images rather than a generator or a procedural source."""
    path = file_name(spec) if '://' in spec else spec
    return path.partition(':')[0] not in registry.sources and not names_generator(path)

def names_generator(path):
    """Return whether a path is that of a generator, by its name or, for a file, by its bytes."""
    return path.endswith('.pkl') or holds_network(path)

#----------------------------------------------------------------------------
# A plan describes the content of the directory. `blocks` yields the images; it is called only if the cache lacks the directory.

@dataclasses.dataclass
class Plan:
    identity:    dict
    shape:       tuple              # [M, C, R, R]
    blocks:      Callable           # () -> iterator of uint8 [<= BLOCK, C, R, R]
    labels:      list | None = None
    num_classes: int = 0
    extra:       Callable | None = None     # (directory, final directory) -> None, writes further files beside the bank
    online:      bool = False
    lines:       tuple = ()
    carried:     str = ''           # digest of images that a snapshot carries (continued.py); they are in a folder of their own

def _plan_dataset(path, pick_size, bank, channels, match, subset, strength, like, detector):
    if bank == 'online':
        raise SpiderError('--spider-bank=online is for generators; give a dataset a number of images, or nothing.')
    if not os.path.exists(path):
        raise SpiderError(f'--spider-source={path} does not exist; give a zip or a folder of images, a generator .pkl, one of '
                          f'{", ".join(sorted(registry.sources))}, or a name that `spider sources` lists.')
    dataset = ImageDataset(path)
    dataset.tell()
    _check_channels(path, dataset.channels, channels)
    size = pick_size(dataset.resolution)
    sha256 = dataset.sha256
    order = np.random.RandomState(0).permutation(dataset.num_images)[:bank]
    classes = dataset.labels is not None and dataset.labels.ndim == 1
    identity = _identity(dataset.name, sha256, _transform(dataset, len(order), size), dataset.licence)
    if classes and dataset.class_ids is not None:   # a snapshot then says which number each class had
        identity['class_ids'] = ' '.join(map(str, dataset.class_ids))
    blocks, lines = lambda: _dataset_blocks(dataset, order, size), ()
    if match is not None:
        target = ImageDataset(match)
        _check_channels(path, dataset.channels, target.channels)
        sample = np.random.RandomState(0).permutation(_trained_on(target.num_images, subset))[:_REFERENCE]
        digest = target.digest(sample)
        if strength is None:
            read = lambda images, indices: lambda: _read_all(images, indices, size)
            choice = kept(like, sha256, digest) or cached_choice(
                [sha256, dataset.num_images, min(len(order), _REFERENCE), digest, size], read(dataset, order[:_REFERENCE]),
                read(target, sample), detector)
            strength, lines = choice.strength, choice.lines()
        if strength:
            identity |= dict(match=digest, **recorded(strength))
            identity['transform'] += f', moved to the mean and covariance of {target.name}{at_pixels(strength)}'
            blocks = lambda: _matched_blocks(dataset, order, target, sample, size, strength)
    return Plan(
        identity    = identity,
        shape       = (len(order), dataset.channels, size, size),
        blocks      = blocks,
        labels      = dataset.labels[order].tolist() if classes else None,
        num_classes = dataset.num_classes if classes else 0,
        lines       = tuple(lines),
    )

def _dataset_blocks(dataset, order, size):
    for start in range(0, len(order), BLOCK):
        yield resize_area(np.stack(list(in_order(dataset.image, order[start : start + BLOCK]))), size)

def _trained_on(count, subset):
    """Return the indices that hosts pick from `count` images for a subset."""
    if subset is None or subset[0] >= count:
        return np.arange(count)
    return np.sort(np.random.RandomState(subset[1]).permutation(count)[:subset[0]])

def _matched_blocks(dataset, order, target, sample, size, strength):
    images, reference = _read_all(dataset, order[:_REFERENCE], size), _read_all(target, sample, size)
    transport = GaussianTransport(images, reference, strength)
    for block in _dataset_blocks(dataset, order, size):
        yield transport(block)

def _read_all(dataset, indices, size):
    progress, blocks = Progress(f'Reading {dataset.name}', len(indices)), []
    for block in _dataset_blocks(dataset, indices, size):
        blocks.append(block)
        progress.update(sum(map(len, blocks)))
    return np.concatenate(blocks)

def _plan_procedural(name, argument, pick_size, bank, channels):
    if bank == 'online':
        raise SpiderError(f'--spider-bank=online is for generators; give {name} a number of images, or nothing.')
    count, reference, sha256, licence = bank or _DEFAULT_BANK, None, '', 'none needed'
    if argument:
        dataset = ImageDataset(resolve(argument))
        dataset.tell()
        _check_channels(argument, dataset.channels, channels)
        sha256, licence = dataset.sha256, dataset.licence
        size, channels = pick_size(dataset.resolution), dataset.channels
        order = np.random.RandomState(0).permutation(dataset.num_images)[:_REFERENCE]
        reference = lambda: np.concatenate(list(_dataset_blocks(dataset, order, size)))
        name_of_source = f'{name} of {dataset.name}'
    else:
        size, channels, name_of_source = pick_size(None), channels or 3, name
    shape = (count, channels, size, size)
    return Plan(
        identity = _identity(name_of_source, _digest(_FORMAT, name, sha256, shape), f'{count} images drawn', licence),
        shape    = shape,
        blocks   = lambda: _procedural_blocks(registry.sources[name], shape, reference and reference()),
    )

def _procedural_blocks(source, shape, reference):
    rng = np.random.default_rng(0)
    for start in range(0, shape[0], BLOCK):
        count = min(BLOCK, shape[0] - start)
        yield source(count, shape[2], shape[1], rng, reference)

#----------------------------------------------------------------------------
# Generators are rendered from seeded latents. A generator with a source draws from the source images that its pickle carries.

def _plan_generator(path, pick_size, bank, channels, trust):
    from spider_plugin.snapshots.rebuild import load_generator
    check_network_file(path)
    if not os.path.isfile(path):
        raise SpiderError(f'{path} does not exist; give the path of a generator snapshot (.pkl).')
    online, count = bank == 'online', _DEFAULT_BANK if bank in (None, 'online') else bank
    generator = load_generator(path, trust=trust)
    described = known_arguments(path, trust) if online else None    # before thousands of images are rendered
    check_drawable(generator, path)
    c_dim, (img_channels, img_resolution) = classes_of(generator), drawn_size(generator, path, trust)
    _check_channels(path, img_channels, channels)
    size = pick_size(img_resolution)
    label = rendered_labels(count, c_dim)
    transform = f'{count} images rendered, {_arrow(img_resolution, size)}'
    identity = dict(_identity(Path(path).stem, sha256_of_file(path), transform, 'unknown'), latents=count)
    if getattr(generator, 'source', None) is not None:
        if len(getattr(generator.source, 'images', ())) == 0:
            raise SpiderError(f'{path} carries no source images (--spider-embed=0), so it cannot be a source; '
                              'give a snapshot that carries some.')
        identity['source'] = generator.source.identity
    cascade_stages(identity, path)
    remember_parent(path, identity['sha256'])
    return Plan(
        identity    = identity,
        shape       = (count, img_channels, size, size),
        blocks      = lambda: rendered_blocks(generator, label, size, path),
        labels      = label.tolist() if c_dim > 0 else None,
        num_classes = c_dim,
        extra       = (lambda temp, final: _write_generator(temp, final, generator, *described)) if online else None,
        online      = online,
    )

# Ranks build the generator again by class name. A generator with a source needs that source on disk, so the bank from its pickle
# becomes a prepared directory inside this one.

def _write_generator(temp, final, generator, class_name, kwargs):
    kwargs = dict(kwargs)
    identity = json.loads((temp / 'bank.json').read_text(encoding='utf-8'))['identity']
    inner = getattr(generator, 'source', None)
    if inner is not None:
        labels = None if inner.labels is None else inner.labels.tolist()
        (temp / 'source').mkdir()
        np.save(temp / 'source' / 'images.npy', inner.images.numpy())
        _write_json(temp / 'source' / 'bank.json', dict(format=_FORMAT, identity=inner.identity, labels=labels))
        kwargs['spider'] = {**kwargs['spider'], 'source': str(final / 'source')}
    torch.save(generator.cpu().state_dict(), temp / 'weights.pt')
    _write_json(temp / 'generator.json', dict(
        format=_FORMAT, identity=identity, class_name=class_name, init_kwargs=kwargs, z_dim=generator.z_dim,
        c_dim=generator.c_dim, resolution=generator.img_resolution, channels=generator.img_channels))

#----------------------------------------------------------------------------
# Writing.

def source_slug(identity):
    """Return the part of a prepared directory's name that people read."""
    return ''.join(c if c.isalnum() or c in '-_' else '-' for c in identity['name'])[:40]

def directory_name(identity, shape, online=False, carried=''):
    """Return the name of the prepared directory; shape: [M, C, R, R]; online, carried: see Plan."""
    parts = [_FORMAT, identity, shape, online] + ([carried] if carried else [])
    return f'{source_slug(identity)}-{_digest(*parts)[:20]}'

def write_source(plan, spec=None):
    """Write the prepared directory of a Plan, where the cache does not have it, and return its PreparedSource.

    spec:   the value of --spider-source, whose images may not be all the same; None for a source that a snapshot carries."""
    name = directory_name(plan.identity, plan.shape, plan.online, plan.carried)
    final = cache_dir('carried' if plan.carried else 'sources') / name
    if final.is_dir() and not _is_whole(final, plan):
        print(f'{final} is damaged, so the source is prepared anew.', file=sys.stderr)
        shutil.rmtree(final, ignore_errors=True)
    if not final.is_dir():
        with atomic_dir(final) as temp:
            _write_images(temp / 'images.npy', plan, spec)
            _write_json(temp / 'bank.json', _described(plan))
            if plan.extra is not None:
                plan.extra(temp, final)
    return PreparedSource(
        path=str(final), identity=plan.identity, resolution=plan.shape[2], channels=plan.shape[1],
        num_images=plan.shape[0], num_classes=plan.num_classes, online=plan.online, lines=plan.lines)

def _write_images(path, plan, spec):
    """Write the blocks of the plan as one array of numpy, whose space on the disk is taken first.

    Raises SpiderError where the images of `spec` are all the same, from which nothing can be learnt."""
    header = _npy_header(plan.shape)
    progress, done, first, differ = Progress(f'Preparing source {plan.identity["name"]}', plan.shape[0]), 0, None, False
    with allocated(path, len(header) + math.prod(plan.shape)) as file:
        file.write(header)
        for block in plan.blocks():
            if block.dtype != np.uint8 or block.shape[1:] != tuple(plan.shape[1:]):
                raise ValueError(f'images {block.dtype} {list(block.shape[1:])} in place of uint8 {list(plan.shape[1:])}')
            file.write(np.ascontiguousarray(block).data)
            first = block[0] if first is None else first
            differ = differ or bool((block != first).any())
            done += len(block)
            progress.update(done)
    if spec is not None and not differ:
        raise SpiderError(f'--spider-source={spec}: {"all source images are the same" if done > 1 else "it has one image"}; give '
                          'a set of different images.')

def _npy_header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, dict(descr='|u1', fortran_order=False, shape=tuple(map(int, shape))))
    return file.getvalue()

def _described(plan):
    """The content of bank.json."""
    return dict(format=_FORMAT, identity=plan.identity, labels=plan.labels)

def _is_whole(final, plan):
    """Return whether the files of a prepared directory are complete; they may not be after a crash or a hand in the cache."""
    try:
        described = read_json(final / 'bank.json') == json.loads(json.dumps(_described(plan)))
        with open(final / 'images.npy', 'rb') as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            size = file.tell() + math.prod(shape)
        whole = tuple(shape) == tuple(plan.shape) and dtype == np.uint8 and os.path.getsize(final / 'images.npy') == size
    except (OSError, ValueError):
        return False
    return described and whole and (plan.extra is None or has_generator(final))

def has_generator(folder):
    """Return whether the files of a generator in a prepared directory are complete."""
    try:
        read_json(folder / 'generator.json', class_name=str, init_kwargs=dict, z_dim=int, c_dim=int)
        return (folder / 'weights.pt').stat().st_size > 0
    except (OSError, ValueError):
        return False

def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')

#----------------------------------------------------------------------------
# Small helpers.

def _identity(name, sha256, transform, licence):
    return dict(name=name, sha256=sha256, transform=transform, licence=licence)

def _digest(*parts):
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

def _power_of_two_below(number):
    return 1 << (int(number).bit_length() - 1)

def _arrow(resolution, size):
    return f'{resolution}^2' if resolution == size else f'{resolution}^2 to {size}^2 by area averaging'

def _transform(dataset, count, size):
    return f'{count} of {dataset.num_images} images, {_arrow(dataset.resolution, size)}'

def _check_channels(path, channels, wanted):
    kind = {1: 'grey', 3: 'colour'}
    if channels not in kind:
        raise SpiderError(f'--spider-source: {path} has {channels} channels, but {wanted or "1 or 3"} are needed; give another '
                          'source.')
    if wanted is not None and channels != wanted:
        raise SpiderError(f'--spider-source: {path} is {kind[channels]}, but {kind[wanted]} images are needed; '
                          f'convert it to {kind[wanted]}.')

#----------------------------------------------------------------------------
