"""Features of images, their statistics, and what metrics share."""

import copy
import functools
import hashlib
import inspect
import os
import pickle
import time

import numpy as np
import torch

import dnnlib
from training import runtime
from training.runtime import UserError

#----------------------------------------------------------------------------

class MetricOptions:
    """What a metric function gets: the generator, the options of the real dataset, and where to run."""

    def __init__(self,
        G               = None,     # Generator, in evaluation mode.
        G_kwargs        = {},       # Keyword arguments of G.synthesis.
        dataset_kwargs  = {},       # Options of the real dataset.
        num_gpus        = 1,        # Number of ranks that share the work.
        rank            = 0,        # Rank of this process.
        device          = None,     # Device to run on. None = chosen for this rank.
        progress        = None,     # ProgressMonitor to report to. None = silent.
        cache           = True,     # Keep the statistics of datasets on disk?
        detector        = None,     # Feature network: path or URL of a TorchScript file, or 'demo'.
    ):
        self.G              = G
        self.G_kwargs       = dnnlib.EasyDict(G_kwargs)
        self.dataset_kwargs = dnnlib.EasyDict(dataset_kwargs)
        self.num_gpus       = num_gpus
        self.rank           = rank
        self.device         = device if device is not None else runtime.pick_device(rank)
        self.progress       = progress.sub() if progress is not None and rank == 0 else ProgressMonitor()
        self.cache          = cache
        self.detector       = detector

#----------------------------------------------------------------------------
# Detectors.

DEMO_DETECTOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'demo_detector.pt')
DEMO_RESOLUTION = 32

_detectors = {} # (url, device) -> module.

def resolve_detector(url):
    """The path or URL that a --detector value stands for."""
    return DEMO_DETECTOR if url == 'demo' else url

def get_feature_detector_name(url):
    return 'demo' if url == 'demo' else os.path.splitext(str(url).split('/')[-1])[0]

def get_feature_detector(url, device=torch.device('cpu'), num_gpus=1, rank=0, verbose=False):
    """The TorchScript feature network at a path or URL ('demo': the small one of this tree), on the device.

    It is called as `detector(images)` or, where it takes the keyword, `detector(images, return_features=True)` with
    uint8 [N, 3, H, W], and returns float [N, features]."""
    if (url, device) not in _detectors:
        try:
            path = dnnlib.util.open_url(resolve_detector(url), verbose=verbose and rank == 0, return_filename=True)
            _detectors[url, device] = torch.jit.load(path, map_location=device).eval()
        except (OSError, RuntimeError, ValueError) as err:
            reason = str(err).strip().splitlines()[0].rstrip('.')
            raise UserError(f'--detector: {url} cannot be loaded as a TorchScript file ({reason}); give a file written '
                            'by torch.jit.save') from err
    return _detectors[url, device]

@functools.cache # As the loaded network, which a change of the file does not change either.
def detector_identity(url):
    """Hex digest of a detector's file, for cache keys; its URL where that is not a file here."""
    path = resolve_detector(url)
    if not os.path.isfile(path):
        return str(url)
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()

def run_detector(detector, images, detector_kwargs):
    """Features [N, F] of uint8 images [N, C, H, W] with values in [0, 255]; grey images are repeated to RGB."""
    if images.shape[1] == 1:
        images = images.repeat([1, 3, 1, 1])
    return detector(images, **accepted_kwargs(detector, detector_kwargs))

def accepted_kwargs(detector, kwargs):
    """Those of the keyword arguments that the detector's forward takes."""
    if isinstance(detector, torch.jit.ScriptModule):
        names = [argument.name for argument in detector.forward.schema.arguments]
    else:
        parameters = inspect.signature(detector.forward if isinstance(detector, torch.nn.Module) else detector).parameters
        if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
            return kwargs
        names = list(parameters)
    return {name: value for name, value in kwargs.items() if name in names}

#----------------------------------------------------------------------------
# Statistics.

class FeatureStats:
    """Collects feature vectors: all of them, or their mean and covariance, which are updated batch by batch in float64
    (Chan et al. 1979, the pairwise update), or both."""

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
        """Adds features [N, F]; what exceeds max_items is left out."""
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
        """append() of a tensor; with several ranks, of the interleaved tensors of all of them."""
        if num_gpus > 1:
            parts = [torch.empty_like(x) for _ in range(num_gpus)]
            torch.distributed.all_gather(parts, x.contiguous())
            x = torch.stack(parts, dim=1).flatten(0, 1)
        self.append(x.cpu().numpy())

    def get_all(self):
        assert self.capture_all
        return np.concatenate(self.all_features, axis=0)

    def get_all_torch(self):
        return torch.from_numpy(self.get_all())

    def get_mean_cov(self):
        """(mean [F], covariance [F, F]) in float64; the covariance divides by N, as in the published scores."""
        assert self.capture_mean_cov
        return self.mean, self.scatter / self.num_items

    def save(self, pkl_file):
        """Writes a file that is there whole or not at all."""
        temp = f'{pkl_file}.{os.getpid()}.tmp'
        with open(temp, 'wb') as f:
            pickle.dump(self.__dict__, f)
        os.replace(temp, pkl_file)

    @staticmethod
    def load(pkl_file):
        with open(pkl_file, 'rb') as f:
            state = dnnlib.EasyDict(pickle.load(f))
        stats = FeatureStats(capture_all=state.capture_all, max_items=state.max_items)
        stats.__dict__.update(state)
        return stats

#----------------------------------------------------------------------------

class ProgressMonitor:
    """Prints how far a metric is, and passes it on to progress_fn(done, total)."""

    def __init__(self, tag=None, num_items=None, flush_interval=1000, verbose=False, progress_fn=None, pfn_lo=0,
                 pfn_hi=1000, pfn_total=1000):
        self.tag = tag
        self.num_items = num_items
        self.verbose = verbose
        self.flush_interval = flush_interval
        self.progress_fn = progress_fn
        self.pfn_lo = pfn_lo
        self.pfn_hi = pfn_hi
        self.pfn_total = pfn_total
        self.start_time = self.batch_time = time.time()
        self.batch_items = 0
        if self.progress_fn is not None:
            self.progress_fn(self.pfn_lo, self.pfn_total)

    def update(self, cur_items):
        if cur_items < self.batch_items + self.flush_interval and cur_items != self.num_items:
            return
        now = time.time()
        if self.verbose and self.tag is not None:
            rate = (cur_items - self.batch_items) / max(now - self.batch_time, 1e-6)
            print(f'{self.tag:<19s} items {cur_items:<7d} time {dnnlib.util.format_time(now - self.start_time):<12s} '
                  f'{rate:.1f} items/s', flush=True)
        self.batch_time, self.batch_items = now, cur_items
        if self.progress_fn is not None and self.num_items is not None:
            done = min(cur_items / self.num_items, 1)
            self.progress_fn(self.pfn_lo + (self.pfn_hi - self.pfn_lo) * done, self.pfn_total)

    def sub(self, tag=None, num_items=None, flush_interval=1000, rel_lo=0, rel_hi=1):
        """A monitor of a part of the work, from rel_lo to rel_hi in [0, 1]."""
        span = self.pfn_hi - self.pfn_lo
        return ProgressMonitor(tag=tag, num_items=num_items, flush_interval=flush_interval, verbose=self.verbose,
                               progress_fn=self.progress_fn, pfn_lo=self.pfn_lo + span * rel_lo,
                               pfn_hi=self.pfn_lo + span * rel_hi, pfn_total=self.pfn_total)

#----------------------------------------------------------------------------
# Features of a dataset.

def cache_path(opts, dataset, detector_url, detector_kwargs, stats_kwargs):
    """Where the statistics of a dataset are kept. The key holds what was asked for, the contents of the dataset and of
    the detector, and nothing of where they lie."""
    dataset_kwargs = dict(opts.dataset_kwargs)
    fingerprint = getattr(dataset, 'fingerprint', None)
    if fingerprint is not None:
        dataset_kwargs.pop('path', None)
    max_size = dataset_kwargs.get('max_size')
    if max_size is None or max_size >= dataset.num_raw_images:
        dataset_kwargs.pop('random_seed', None) # No subset is drawn.
    key = dict(dataset_kwargs=sorted(dataset_kwargs.items()), fingerprint=fingerprint,
               detector=detector_identity(detector_url), detector_kwargs=sorted(detector_kwargs.items()),
               stats_kwargs=sorted(stats_kwargs.items()), version=1)
    md5 = hashlib.md5(repr(sorted(key.items())).encode()).hexdigest()
    tag = f'{dataset.name}-{get_feature_detector_name(detector_url)}-{md5}'
    return dnnlib.make_cache_dir_path('gan-metrics', tag + '.pkl')

def load_cached(path):
    """The statistics at a path, or None where there are none that can be read."""
    try:
        return FeatureStats.load(path)
    except FileNotFoundError:
        return None
    except Exception as err: # A damaged file is only worth a new computation.
        print(f'Ignoring the cached statistics {path} ({type(err).__name__})')
        return None

def compute_feature_stats_for_dataset(opts, detector_url, detector_kwargs, rel_lo=0, rel_hi=1, batch_size=64,
                                      data_loader_kwargs=None, max_items=None, **stats_kwargs):
    """FeatureStats(**stats_kwargs) of the features of the real images, of at most max_items of them; cached on disk."""
    dataset = dnnlib.util.construct_class_by_name(**opts.dataset_kwargs)
    num_items = len(dataset) if max_items is None else min(len(dataset), max_items)
    stats_kwargs = dict(stats_kwargs, max_items=num_items)
    path = cache_path(opts, dataset, detector_url, detector_kwargs, stats_kwargs) if opts.cache else None
    stats = load_cached(path) if path is not None else None
    if stats is not None:
        return stats

    stats = FeatureStats(**stats_kwargs)
    progress = opts.progress.sub(tag='dataset features', num_items=num_items, rel_lo=rel_lo, rel_hi=rel_hi)
    detector = get_feature_detector(detector_url, device=opts.device, num_gpus=opts.num_gpus, rank=opts.rank,
                                    verbose=progress.verbose)
    order = [(i * opts.num_gpus + opts.rank) % num_items for i in range((num_items - 1) // opts.num_gpus + 1)]
    if data_loader_kwargs is None:
        on_gpu = opts.device.type == 'cuda'
        data_loader_kwargs = dict(pin_memory=on_gpu, num_workers=3 if on_gpu else 0)
    with runtime.seeded(0, opts.device), torch.no_grad(): # A DataLoader draws from the global generator.
        for images, _labels in torch.utils.data.DataLoader(dataset, sampler=order, batch_size=batch_size,
                                                           **data_loader_kwargs):
            features = run_detector(detector, images.to(opts.device), detector_kwargs)
            stats.append_torch(features, num_gpus=opts.num_gpus, rank=opts.rank)
            progress.update(stats.num_items)

    if path is not None and opts.rank == 0:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            stats.save(path)
        except OSError as err: # The result is worth more than its cache.
            print(f'The statistics cannot be kept in {os.path.dirname(path)} ({err.strerror})')
    return stats

#----------------------------------------------------------------------------
# Features of a generator.

def iterate_random_labels(opts, batch_size):
    """Endless batches of labels [batch_size, c_dim], drawn from the dataset with numpy's global generator."""
    if opts.G.c_dim == 0:
        while True:
            yield torch.zeros([batch_size, 0], device=opts.device)
    dataset = dnnlib.util.construct_class_by_name(**opts.dataset_kwargs)
    while True:
        labels = [dataset.get_label(np.random.randint(len(dataset))) for _ in range(batch_size)]
        yield torch.from_numpy(np.stack(labels)).to(opts.device)

def compute_feature_stats_for_generator(opts, detector_url, detector_kwargs, rel_lo=0, rel_hi=1, batch_size=64,
                                        batch_gen=None, seed=0, **stats_kwargs):
    """FeatureStats(**stats_kwargs) of the features of max_items generated images.

    Latents, labels and noise come from `seed`, so that a score of the same network repeats."""
    if batch_gen is None:
        batch_gen = min(batch_size, 4 if opts.G.img_resolution > 256 else 16)
    assert batch_size % batch_gen == 0
    stats = FeatureStats(**stats_kwargs)
    assert stats.max_items is not None
    G = copy.deepcopy(opts.G).eval().requires_grad_(False).to(opts.device)
    progress = opts.progress.sub(tag='generator features', num_items=stats.max_items, rel_lo=rel_lo, rel_hi=rel_hi)
    detector = get_feature_detector(detector_url, device=opts.device, num_gpus=opts.num_gpus, rank=opts.rank,
                                    verbose=progress.verbose)
    labels = iterate_random_labels(opts, batch_gen)
    with runtime.seeded(seed * opts.num_gpus + opts.rank, opts.device), torch.no_grad():
        while not stats.is_full():
            images = []
            for _ in range(batch_size // batch_gen):
                z = torch.randn([batch_gen, G.z_dim], device=opts.device)
                img = G(z=z, c=next(labels), **opts.G_kwargs)
                images.append((img * 127.5 + 128).clamp(0, 255).to(torch.uint8))
            features = run_detector(detector, torch.cat(images), detector_kwargs)
            stats.append_torch(features, num_gpus=opts.num_gpus, rank=opts.rank)
            progress.update(stats.num_items)
    return stats

#----------------------------------------------------------------------------
