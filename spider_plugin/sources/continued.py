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

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import cache_dir
from spider_plugin.sources.prepare import BLOCK, Plan, PreparedSource, directory_name, source_slug, write_source

def continue_source(bank: dict, named: str, snapshot: str) -> tuple[PreparedSource, str]:
    """Return the source of a snapshot, and a sentence that says where it is from and how many of its images go on.

    bank:       what the snapshot carries: uint8 images [n, C, R, R], int64 labels [n] or None, identity, mean_image.
    named:      the directory that the snapshot names; of those in the cache that would do it is preferred.
    snapshot:   its file, for messages.
    Raises SpiderError where the cache has no such bank and the snapshot carries no images."""
    name = PureWindowsPath(named).name      # of a path of any system
    identity, count = bank['identity'], len(bank['images'])
    near = sorted(cache_dir('sources').glob(f'{source_slug(identity)}-*'))
    found = [folder for folder in near if _holds(folder, bank)]
    if found:
        source = _described(min(found, key=lambda folder: (folder.name != name, _online(folder))), bank)
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

def _holds(folder, bank):
    """Return whether a prepared directory is whole and has the identity of a snapshot's bank, and its images first."""
    images, labels = bank['images'].numpy(), bank['labels']
    try:
        info = json.loads((folder / 'bank.json').read_text(encoding='utf-8'))
        there = np.load(folder / 'images.npy', mmap_mode='r')
        if info['identity'] != bank['identity'] or there.shape[1:] != images.shape[1:] or len(there) < len(images):
            return False
        if info['labels'] if labels is None else info['labels'][: len(labels)] != labels.tolist():
            return False
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return False
    if len(images) == 0:    # --spider-embed=0; the mean was taken over as many images as here
        return np.allclose(there[:4096].mean(axis=0, dtype=np.float64) / 127.5 - 1, bank['mean_image'][0].numpy(), atol=1e-3)
    return all(np.array_equal(there[start : start + BLOCK][: len(images) - start], images[start : start + BLOCK])
               for start in range(0, len(images), BLOCK))

def _online(folder):
    return (folder / 'generator.json').is_file()

def _described(folder, bank):
    shape = np.load(folder / 'images.npy', mmap_mode='r').shape
    labels = json.loads((folder / 'bank.json').read_text(encoding='utf-8'))['labels']
    return PreparedSource(path=str(folder), identity=bank['identity'], resolution=shape[2], channels=shape[1],
                          num_images=shape[0], num_classes=_classes(labels), online=_online(folder))

def _classes(labels):
    return 0 if labels is None else max(labels) + 1

def _generator_shape(bank):
    return bank['identity']['latents'], *bank['images'].shape[1:]

#----------------------------------------------------------------------------
# From the snapshot.

def _from_snapshot(bank):
    images, labels = np.ascontiguousarray(bank['images'].numpy()), bank['labels']
    labels = None if labels is None else labels.tolist()
    return write_source(Plan(
        identity    = bank['identity'],
        shape       = images.shape,
        blocks      = lambda: (images[start : start + BLOCK] for start in range(0, len(images), BLOCK)),
        labels      = labels,
        num_classes = _classes(labels),
        carried     = hashlib.sha256(json.dumps(labels).encode() + images.data).hexdigest(),
    ))

#----------------------------------------------------------------------------
