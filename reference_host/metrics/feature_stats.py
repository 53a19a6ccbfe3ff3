"""Statistics of features, and the cache of those of real images."""

import hashlib
import os

import numpy as np
import torch

import dnnlib
from metrics import detectors

#----------------------------------------------------------------------------

def gather(x, num_gpus):
    """Return the tensors [N, ...] of all ranks, concatenated in the order of ranks, [N * num_gpus, ...]."""
    if num_gpus == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(num_gpus)]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)

class FeatureStats:
    """Collects feature vectors, or their mean and covariance, or both.

    Mean and covariance are updated batch by batch in float64 (the pairwise update of Chan et al. 1979)."""

    def __init__(self, capture_all=False, capture_mean_cov=False, max_items=None):
        self.capture_all = capture_all
        self.capture_mean_cov = capture_mean_cov
        self.max_items = max_items
        self.num_items = 0
        self.num_features = None
        self.all_features = []
        self.mean = None    # [F]
        self.scatter = None # [F, F], sum of (x - mean)(x - mean)^T.

    def is_full(self):
        return self.max_items is not None and self.num_items >= self.max_items

    def append(self, x):
        """Add features [N, F]; those beyond max_items are left out."""
        x = np.asarray(x, dtype=np.float32)
        if self.max_items is not None:
            x = x[:max(self.max_items - self.num_items, 0)]
        if len(x) == 0:
            return
        if self.num_features is None:
            self.num_features = x.shape[1]
            self.mean = np.zeros([self.num_features])
            self.scatter = np.zeros([self.num_features, self.num_features])
        total = self.num_items + len(x)
        if self.capture_all:
            self.all_features.append(x)
        if self.capture_mean_cov:
            x64 = x.astype(np.float64)
            delta = x64.mean(axis=0) - self.mean
            centred = x64 - x64.mean(axis=0)
            self.scatter += centred.T @ centred + np.outer(delta, delta) * (self.num_items * len(x) / total)
            self.mean = self.mean + delta * (len(x) / total)
        self.num_items = total

    def append_torch(self, x, num_gpus=1, rank=0):
        """Call append() for a tensor; with several ranks, for the tensors of all ranks in order.

        Only rank 0 keeps them, because metrics are computed there; the others only count them."""
        self.append_gathered(gather(x, num_gpus), rank)

    def append_gathered(self, x, rank=0):
        """Call append_torch() for a tensor that holds those of all ranks."""
        if rank == 0:
            self.append(x.cpu().numpy())
        else:
            self.num_items += len(x) if self.max_items is None else min(len(x), self.max_items - self.num_items)

    def get_all(self):
        """Return the features, float32 [N, F]."""
        assert self.capture_all
        self.all_features = [np.concatenate(self.all_features, axis=0)]
        return self.all_features[0]

    def get_all_torch(self):
        return torch.from_numpy(self.get_all())

    def get_mean_cov(self):
        """Return (mean [F], covariance [F, F]) in float64; the covariance divides by N, as in the published scores."""
        assert self.capture_mean_cov
        return self.mean, self.scatter / self.num_items

    def reduce(self, indices=slice(None), **captures):
        """Return FeatureStats(**captures) of all features, or of those with the given indices."""
        features = self.get_all()[indices]
        stats = FeatureStats(max_items=len(features), **captures)
        for start in range(0, len(features), 4096):
            stats.append(features[start : start + 4096])
        return stats

    def part(self, **captures):
        """Return the same statistics with less captured; nothing is copied."""
        part = FeatureStats(max_items=self.num_items, **captures)
        part.num_items, part.num_features = self.num_items, self.num_features
        part.all_features, part.mean, part.scatter = self.all_features, self.mean, self.scatter
        return part

    def save(self, file):
        """Write a file that appears complete or not at all. It holds arrays and no code."""
        arrays = dict(num_items=self.num_items)
        if self.capture_all:
            arrays.update(features=self.get_all())
        if self.capture_mean_cov:
            arrays.update(mean=self.mean, scatter=self.scatter)
        temp = f'{file}.{os.getpid()}.tmp'
        try:
            with open(temp, 'wb') as f:
                np.savez(f, **arrays)
            os.replace(temp, file)
        except BaseException:
            os.unlink(temp)
            raise

    @staticmethod
    def load(file):
        with np.load(file, allow_pickle=False) as arrays:
            stats = FeatureStats(capture_all='features' in arrays, capture_mean_cov='mean' in arrays,
                                 max_items=int(arrays['num_items']))
            stats.num_items = stats.max_items
            if stats.capture_all:
                stats.all_features = [arrays['features']]
                stats.num_features = stats.all_features[0].shape[1]
            if stats.capture_mean_cov:
                stats.mean, stats.scatter = arrays['mean'], arrays['scatter']
                stats.num_features = len(stats.mean)
        return stats

#----------------------------------------------------------------------------

KEEP_BELOW = 1 << 30 # One pass over a dataset keeps features up to this many bytes even if only their mean is requested.

def subset_indices(num_items, max_items, seed=0):
    """Return the indices of all num_items images, or of a uniform choice of max_items, in the order of the dataset."""
    if max_items is None or max_items >= num_items:
        return np.arange(num_items)
    return np.sort(np.random.RandomState(seed).permutation(num_items)[:max_items])

class FeatureCache:
    """The cache on disk of the features of one dataset by one detector.

    An entry is for a set of images, all or subset_indices(), and holds their features, or mean and covariance. One pass over
    all images serves every metric, because features give mean and covariance, and those of all images give those of subsets.
    File names depend on the contents of dataset and detector, not on their paths."""

    def __init__(self, dataset, dataset_kwargs, detector_url, detector_kwargs):
        self.num_items = len(dataset)
        key = dict(dataset_kwargs=sorted(image_kwargs(dataset, dataset_kwargs).items()),
                   fingerprint=getattr(dataset, 'fingerprint', None), version=3,
                   detector=detectors.detector_identity(detector_url), detector_kwargs=sorted(detector_kwargs.items()))
        md5 = hashlib.md5(repr(sorted(key.items())).encode()).hexdigest()
        self.stem = dnnlib.make_cache_dir_path('gan-metrics', f'{dataset.name}-{md5}')

    def path(self, num_items, what):
        return f'{self.stem}-{num_items}-{what}.npz'

    def load(self, num_items, capture_all=False, capture_mean_cov=False):
        """Return the statistics of num_items images, or None if the cache does not have them."""
        if not capture_all:
            stats = self._read(num_items, 'meancov')
            if stats is not None:
                return stats
        for size in dict.fromkeys([num_items, self.num_items]): # These images, else all.
            stats = self._read(size, 'features')
            if stats is not None:
                stats = stats.reduce(subset_indices(size, num_items), capture_all=capture_all,
                                     capture_mean_cov=capture_mean_cov)
                if capture_mean_cov:
                    self.save(stats.part(capture_mean_cov=True))
                return stats
        return None

    def save(self, stats):
        """Keep the captured statistics. An error of the disk is printed and not raised, because the result does not need them."""
        try:
            os.makedirs(os.path.dirname(self.stem), exist_ok=True)
            if stats.capture_all:
                stats.part(capture_all=True).save(self.path(stats.num_items, 'features'))
            if stats.capture_mean_cov:
                stats.part(capture_mean_cov=True).save(self.path(stats.num_items, 'meancov'))
        except OSError as err:
            print(f'The statistics cannot be kept in {os.path.dirname(self.stem)} ({err.strerror})')

    def _read(self, num_items, what):
        path = self.path(num_items, what)
        try:
            return FeatureStats.load(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as err: # A damaged file is computed again.
            print(f'Ignoring the cached statistics {path} ({type(err).__name__})')
            return None

def image_kwargs(dataset, dataset_kwargs):
    """Return the options of a dataset on which its images depend; all options if it has no fingerprint."""
    kwargs = dict(dataset_kwargs)
    if getattr(dataset, 'fingerprint', None) is None:
        return kwargs
    for name in ('path', 'use_labels', 'resolution'):
        kwargs.pop(name, None)
    if kwargs.get('max_size') is None or kwargs['max_size'] >= dataset.num_raw_images: # No subset is drawn.
        kwargs.pop('max_size', None)
        kwargs.pop('random_seed', None)
    if not kwargs.get('xflip'):
        kwargs.pop('xflip', None)
    return kwargs

#----------------------------------------------------------------------------
