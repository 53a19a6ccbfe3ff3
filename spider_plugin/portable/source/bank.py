"""Image sources at run time: a bank of images, or a pretrained generator.

A source turns what the host draws as noise into images. It is no torch module, so that no host can unfreeze, optimise or
average it; a deep copy is the same object, so that G and G_ema share it.

    source.key(z, c=None)    float32 [N, key_dim]: which image, exactly; every entry is finite
    source.fetch(key)        float32 [N, channels, resolution, resolution] in [-1, 1]
    source.sample(z, c=None) the two in turn
    source.mean_image        float32 [1, channels, resolution, resolution]
    source.identity          dict of strings: name, sha256, transform, licence

This module is portable: it travels inside snapshots and imports only torch, numpy and the standard library."""

import importlib
import json
import mmap
import os
import warnings

import numpy as np
import torch

from torch_utils_ext.ops.bit_hash import hash_normal, hash_rows, hash_to_index

#----------------------------------------------------------------------------

class SourceLost(FileNotFoundError):
    """The files of a prepared source are missing or cut; the message is a sentence for the user."""

    for_user = True

def open_source(path, noise=0.0, embed=64, clamp=True, classes=None):
    """The source in the prepared directory `path` (see sources/prepare.py).

    noise:  standard deviation of Gaussian noise added to each image, in units of the range [-1, 1].
    embed:  most MiB of images that a snapshot may carry; 0 for none.
    clamp:  False leaves a generator's output unclamped, as the public Spider code does.
    classes: the source class that each target class draws from, -1 for any; None: its own, where there are equally many.
    Raises SourceLost when there is no prepared source at `path`, or a part of one."""
    if os.path.isfile(os.path.join(path, 'generator.json')):
        return GeneratorSource(path, noise=noise, embed=embed, clamp=clamp, classes=classes)
    return ImageBank(path, noise=noise, embed=embed, classes=classes)

def source_classes(c, num_classes, classes):
    """Which source class each sample draws from: int64 [N], -1 for any; None where c says nothing about it.

    c: one-hot [N, c_dim] or None; classes: see open_source. A class draws from its own, where the source has equally many."""
    if num_classes == 0 or c is None or c.shape[1] != (num_classes if classes is None else len(classes)):
        return None
    label = c.argmax(dim=1)
    return label if classes is None else torch.tensor(classes, device=c.device)[label]

def as_pixels(images):
    """uint8 [M, C, R, R] of images in memory. Raises ValueError in one sentence where they are no images in [-1, 1]."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3] or images.numel() == 0:
        raise ValueError(f'images must have the shape [images, 1 or 3, side, side], not {list(images.shape)}')
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ValueError(f'images must be uint8, or floats in [-1, 1], not {images.dtype}; convert them to uint8')
    low, high = images.min().item(), images.max().item()    # NaN fails both comparisons below
    if 0 <= low and high <= 1:
        raise ValueError('images look like floats in 0..1, which a bank in [-1, 1] would show too bright; give images * 2 - 1, '
                         'or uint8')
    if not (-1 <= low and high <= 1):
        raise ValueError(f'images must be uint8, or floats in [-1, 1], not floats from {low:g} to {high:g}; scale them')
    return ((images + 1) * 127.5).round().to(torch.uint8)

#----------------------------------------------------------------------------
# z's bits pick the image and the seed of its noise: two hashes of the same row.

_NOT_PICKLED = ('_by_class', '_resident', '_mapped', '_init_args', '_init_kwargs')
_REPAIR      = 'start again with --spider-source, which prepares it anew'
_CLASSES     = 1 << 20      # most classes of a bank; one count for each is made

def read_json(path, **entries):
    """The dict in a JSON file whose entries have these types. Raises ValueError for other contents, OSError."""
    with open(path, encoding='utf-8') as file:
        try:
            info = json.load(file)
        except RecursionError as error:
            raise ValueError('it is nested without end') from error
    for name, kind in entries.items():
        if not isinstance(info, dict) or not isinstance(info.get(name, ...), kind):
            raise ValueError(f'{os.path.basename(path)} has no {name} of the right kind')
    return info

def _check_bank(images, labels):
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
        raise ValueError(f'it holds {images.dtype} {list(images.shape)}')
    if labels is not None and not (len(labels) == len(images) and all(type(x) is int and 0 <= x < _CLASSES for x in labels)):
        raise ValueError('its labels are not a class for each image')

class ImageBank:
    """Images held in memory or mapped from disk; key = (index, noise seed), integers below 2^24.

    With labels and one-hot c of the same number of classes, a class draws from its own images; `classes` says otherwise."""

    key_dim = 2

    def __init__(self, path, noise=0.0, embed=64, classes=None):
        if not os.path.isfile(os.path.join(path, 'images.npy')):
            raise SourceLost(f'no prepared image source at {path}; give --spider-source again')
        file = os.path.join(path, 'images.npy')
        try:
            images = np.load(file, mmap_mode='c')   # refuses a file shorter than its header says
            info = read_json(os.path.join(path, 'bank.json'), identity=dict, labels=(list, type(None)))
            _check_bank(images, info['labels'])
        except Exception as error:  # numpy raises errors of many types on a damaged header
            raise SourceLost(f'{file} or the bank.json beside it is cut or damaged ({error}); {_REPAIR}') from error
        self._fill(torch.from_numpy(images), info['identity'], info['labels'], noise, embed, classes)
        if isinstance(images.base, mmap.mmap):
            self._mapped = file, images.base, images.base.size()

    @classmethod
    def from_images(cls, images, identity, labels=None, noise=0.0, embed=64, classes=None):
        """images: uint8 [M, C, R, R], or floats in [-1, 1]; labels: M integers or None. Raises ValueError for other images."""
        bank = cls.__new__(cls)
        bank._fill(as_pixels(images), identity, labels, noise, embed, classes)
        return bank

    def _fill(self, images, identity, labels, noise, embed, classes=None, mean_image=None):
        self.images, self.identity, self.noise, self.embed = images, dict(identity), float(noise), embed
        self.classes = classes
        self.channels, self.resolution = images.shape[1], images.shape[-1]
        self.labels = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        if mean_image is None:
            mean_image = images[:4096].to(torch.float32).mean(dim=0, keepdim=True) / 127.5 - 1
        self.mean_image = mean_image
        self._by_class = None if self.labels is None else self._sort_by_class(self.labels)
        self._resident = {}
        self._mapped = None     # (path, memory map, its bytes) of images that are on the disk

    def _sort_by_class(self, labels):
        counts = torch.bincount(labels)
        return labels.argsort(stable=True), counts.cumsum(0) - counts, counts

    def __repr__(self):
        return (f'{type(self).__name__}({self.identity.get("name", "unnamed")}: {len(self)} images, '
                f'{self.channels} x {self.resolution} x {self.resolution})')

    def __len__(self):
        return len(self.images)

    def __deepcopy__(self, memo):
        return self

    # A snapshot carries the first images (the order on disk is shuffled), as many as `embed` MiB hold, and not the arguments
    # that a host's persistence keeps: they name the directory on this machine.

    def num_embedded(self):
        return min(len(self), (self.embed << 20) // (self.channels * self.resolution ** 2))

    def __getstate__(self):
        state = {k: v for k, v in self.__dict__.items() if k not in _NOT_PICKLED}
        self._check_mapped()
        n = self.num_embedded()
        state['images'] = self.images[:n].clone()
        state['labels'] = None if self.labels is None else self.labels[:n].clone()
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._fill(state['images'], state['identity'], state['labels'], state['noise'], state['embed'], state.get('classes'),
                   state['mean_image'])

    # The three calls of a source.

    def key(self, z, c=None):
        hashed = hash_rows(z)
        index = self._index(hashed, c)
        seed = hash_to_index(hash_rows(z, salt=1), 1 << 24)
        return torch.stack([index, seed], dim=1).to(torch.float32)

    def _index(self, hashed, c):
        if len(self) == 0:
            return torch.zeros_like(hashed)
        index = hash_to_index(hashed, len(self))
        if self._by_class is None:
            return index
        order, start, count = [x.to(hashed.device) for x in self._by_class]
        label = source_classes(c, len(count), self.classes)
        if label is None:
            return index
        known = (label >= 0) & (label < len(count))     # a snapshot's bank may lack the last classes
        label = label.clamp(0, len(count) - 1)
        in_class = order[(start[label] + hash_to_index(hashed, count[label].clamp(min=1))).clamp(max=len(order) - 1)]
        return torch.where(known & (count[label] > 0), in_class, index)

    def fetch(self, key):
        if len(self) == 0:
            warnings.warn('this snapshot carries no source images (--spider-embed=0): it draws from their mean', stacklevel=2)
            return self.mean_image.to(key.device).repeat(len(key), 1, 1, 1)
        index = key[:, 0].to(torch.int64).clamp(0, len(self) - 1)
        images = self._gather(index).to(torch.float32) / 127.5 - 1
        if self.noise > 0:
            images = images + self.noise * hash_normal(key[:, 1].to(torch.int64), images.shape[1:])
            images = images.clamp(-1, 1)
        return images

    def _check_mapped(self):
        """Raise SourceLost where the file was cut since it was opened; to read beyond its end would kill the process."""
        if self._mapped is not None and self._mapped[1].size() < self._mapped[2]:
            raise SourceLost(f'{self._mapped[0]} has been cut to {self._mapped[1].size()} bytes of {self._mapped[2]} while it '
                             f'was in use; {_REPAIR}')

    def _gather(self, index):
        if index.device.type == 'cpu' or index.device not in self._resident:
            self._check_mapped()
        if index.device.type == 'cpu' or self.images.nbytes > 1 << 30:
            return self.images[index.cpu()].to(index.device)
        if index.device not in self._resident:
            self._resident[index.device] = self.images.to(index.device)
        return self._resident[index.device][index]

    def sample(self, z, c=None):
        return self.fetch(self.key(z, c))

#----------------------------------------------------------------------------
# A cascade: the latent itself is the key. The network is rebuilt from names and tensors that were read without executing
# the pickle, and a bank of its images, rendered beforehand, stands in for it in snapshots.

class GeneratorSource:
    """A pretrained generator, run for every batch; key = (its latent, its class).

    z longer than the generator's latent is cut, shorter z is continued with noise hashed from z. Without a label that fits,
    the class is hashed from z as well."""

    def __init__(self, path, noise=0.0, embed=64, clamp=True, classes=None):
        file = os.path.join(path, 'generator.json')
        try:
            info = read_json(file, identity=dict, class_name=str, init_kwargs=dict, z_dim=int, c_dim=int)
        except (OSError, ValueError) as error:
            raise SourceLost(f'{file} is cut or damaged ({error}); {_REPAIR}') from error
        rebuild = importlib.import_module('spider_plugin.snapshots.rebuild')    # a class is known only where the plugin is
        self.network = rebuild.prepared_generator(path, info).eval().requires_grad_(False)
        self.bank = ImageBank(path, noise=noise, embed=embed, classes=classes)
        self.noise, self.clamp, self.classes = float(noise), bool(clamp), classes
        self.z_dim, self.c_dim, self.key_dim = info['z_dim'], info['c_dim'], info['z_dim'] + 1
        self.resolution, self.channels = self.bank.resolution, self.bank.channels
        self.identity, self.mean_image = info['identity'], self.bank.mean_image

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return self.bank.__reduce__()

    def key(self, z, c=None):
        z = torch.nan_to_num(z.detach().to(torch.float32), nan=0.0).clamp(-1e4, 1e4)
        if z.shape[1] < self.z_dim:
            z = torch.cat([z, hash_normal(hash_rows(z), [self.z_dim - z.shape[1]])], dim=1)
        any_class = hash_to_index(hash_rows(z, salt=2), max(self.c_dim, 1))
        label = source_classes(c, self.c_dim, self.classes)
        label = any_class if label is None else torch.where(label >= 0, label, any_class)
        return torch.cat([z[:, : self.z_dim], label.to(torch.float32).unsqueeze(1)], dim=1)

    @torch.no_grad()
    def fetch(self, key):
        network = self.network.to(key.device)
        label = key[:, -1].to(torch.int64).clamp(0, max(self.c_dim - 1, 0))
        c = torch.nn.functional.one_hot(label, max(self.c_dim, 1))[:, : self.c_dim].to(torch.float32)
        images = network(key[:, : self.z_dim], c, noise_mode='const').to(torch.float32)
        if images.shape[-1] != self.resolution:
            images = torch.nn.functional.interpolate(images, size=[self.resolution] * 2, mode='area')
        if self.noise > 0:
            images = images + self.noise * hash_normal(hash_rows(key), images.shape[1:])
        return images.clamp(-1, 1) if self.clamp else images

    def sample(self, z, c=None):
        return self.fetch(self.key(z, c))

#----------------------------------------------------------------------------
