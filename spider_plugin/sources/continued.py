"""The source of a snapshot, for a run that continues it: the bank in the cache that it was trained with, else the images that the
snapshot carries, as a prepared directory.

No path in a snapshot is opened. A directory of the cache is the snapshot's where its identity is the snapshot's and its first
images are those that the snapshot carries. Images from a snapshot get a directory that is named by a digest of all of them, apart
from the sources that were prepared here, so that no snapshot can stand in for a dataset."""

import hashlib
import json
import re
from pathlib import PureWindowsPath

import numpy as np
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import cache_dir
from spider_plugin.portable.source.bank import ImageBank, SourceLost
from spider_plugin.sources.prepare import (
    BLOCK,
    Plan,
    PreparedSource,
    directory_name,
    has_generator,
    source_slug,
    write_source,
)

def continue_source(bank: dict, named: str, snapshot: str) -> tuple[PreparedSource, str]:
    """Return the source of a snapshot, and a sentence that says where it is from and how many of its images go on.

    bank:       what the snapshot carries: uint8 images [n, C, R, R], int64 labels [n] or None, identity, mean_image.
    named:      the directory that the snapshot names; of those in the cache that would do it is preferred.
    snapshot:   its file, for messages.
    Raises SpiderError where the cache has no such bank and the snapshot carries no images."""
    name = PureWindowsPath(named).name      # of a path of any system
    identity, count = bank['identity'], len(bank['images'])
    near = sorted(cache_dir('sources').glob(f'{source_slug(identity)}-*'))
    found = {folder: there for folder in near if (there := _bank_in(folder, bank)) is not None}
    if found:
        best = min(found, key=lambda folder: (folder.name != name, _online(folder)))
        source = _described(best, found[best])
        return source, f'as in the snapshot, {source.num_images} images from the cache'
    if count == 0:
        raise SpiderError(f'--resume={snapshot} carries no source images (--spider-embed=0), and the cache has none of '
                          f'{identity["name"]}; give --spider-source.')
    whole = re.match(r'\d+', identity['transform'])
    all_of_them = whole is not None and int(whole[0]) == count
    sentence = f'as in the snapshot, all {count} images that it was trained with' if all_of_them else \
        f'as in the snapshot, but only the {count} images that it carries go on' + \
        (f', of {whole[0]}' if whole else '') + '; give --spider-source for all'
    if 'latents' in identity and name == directory_name(identity, _generator_shape(bank), online=True):
        sentence += '; the generator that ran for every batch stays behind'
    return _from_snapshot(bank), sentence

#----------------------------------------------------------------------------
# In the cache.

def _bank_in(folder, bank):
    """Return the ImageBank of a prepared directory; None where it is damaged, or has another identity than a snapshot's bank,
    or begins with other images."""
    try:
        there = ImageBank(str(folder))
    except SourceLost:
        return None
    images, labels, count = bank['images'], bank['labels'], len(bank['images'])
    same = there.identity == bank['identity'] and there.images.shape[1:] == images.shape[1:] and len(there) >= count and \
        (there.labels is None) == (labels is None) and (labels is None or torch.equal(there.labels[:count], labels)) and \
        (not _online(folder) or has_generator(folder))
    if count == 0:      # --spider-embed=0
        same = same and torch.allclose(there.mean_image, bank['mean_image'], atol=1e-3)
    return there if same and torch.equal(there.images[:count], images) else None

def _online(folder):
    return (folder / 'generator.json').is_file()

def _described(folder, there):
    return PreparedSource(path=str(folder), identity=there.identity, resolution=there.resolution, channels=there.channels,
                          num_images=len(there), num_classes=_classes(there.labels), online=_online(folder))

def _classes(labels):
    return 0 if labels is None else int(labels.max()) + 1

def _generator_shape(bank):
    return bank['identity']['latents'], *bank['images'].shape[1:]

#----------------------------------------------------------------------------
# From the snapshot.

def _from_snapshot(bank):
    images, num_classes = np.ascontiguousarray(bank['images'].numpy()), _classes(bank['labels'])
    labels = None if bank['labels'] is None else bank['labels'].tolist()
    return write_source(Plan(
        identity    = bank['identity'],
        shape       = images.shape,
        blocks      = lambda: (images[start : start + BLOCK] for start in range(0, len(images), BLOCK)),
        labels      = labels,
        num_classes = num_classes,
        carried     = hashlib.sha256(json.dumps(labels).encode() + images.data).hexdigest(),
    ))

#----------------------------------------------------------------------------
