"""The common parts of metrics: options, progress, and the features of real and of generated images."""

import copy
import time

import numpy as np
import torch

import dnnlib
from metrics.detectors import get_feature_detector, get_feature_detector_name, run_detector  # noqa: F401
from metrics.feature_stats import KEEP_BELOW, FeatureCache, FeatureStats, gather, subset_indices
from training import ranks, runtime

#----------------------------------------------------------------------------

class MetricOptions:
    """The argument of a metric function: the generator, the options of the real dataset, and the ranks and device."""

    def __init__(self,
        G               = None,     # Generator, in evaluation mode.
        G_kwargs        = {},       # Keyword arguments of G.synthesis.
        dataset_kwargs  = {},       # Options of the real dataset.
        num_gpus        = 1,        # Number of ranks that share the work.
        rank            = 0,        # Rank of this process.
        device          = None,     # Device to run on. None = chosen for this rank.
        progress        = None,     # ProgressMonitor to report to. None = silent.
        cache           = True,     # Whether to keep the statistics of datasets on disk.
        detector        = None,     # Feature network: path or URL of a TorchScript file, or 'demo'.
        shared          = None,     # SharedPass over the generated images of several metrics. None = a pass for each metric.
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
        self.shared         = shared

class ProgressMonitor:
    """Prints the progress of a metric, and passes it to progress_fn(done, total)."""

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
        self.batch_items = self.cur_items = 0
        if self.progress_fn is not None:
            self.progress_fn(self.pfn_lo, self.pfn_total)

    def advance(self, items):
        self.update(self.cur_items + items)

    def update(self, cur_items):
        self.cur_items = cur_items
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
        """Return a monitor of a part of the work, from rel_lo to rel_hi in [0, 1]."""
        span = self.pfn_hi - self.pfn_lo
        return ProgressMonitor(tag=tag, num_items=num_items, flush_interval=flush_interval, verbose=self.verbose,
                               progress_fn=self.progress_fn, pfn_lo=self.pfn_lo + span * rel_lo,
                               pfn_hi=self.pfn_lo + span * rel_hi, pfn_total=self.pfn_total)

#----------------------------------------------------------------------------
# Ranks share the work batch by batch, so that results do not depend on their number.

def rank_batches(opts, num_items, batch_size):
    """Return the numbers of this rank's batches among those of all ranks, which together hold num_items or more.

    All ranks get the same number of batches."""
    rounds = -(-num_items // (batch_size * opts.num_gpus))
    return range(opts.rank, rounds * opts.num_gpus, opts.num_gpus)

def seeded_batches(opts, num_items, batch_size, seed=0):
    """Yield rank_batches(); in the body of the loop, random numbers depend on `seed` and on the number of the batch."""
    for batch in rank_batches(opts, num_items, batch_size):
        with runtime.seeded((seed << 20) + batch, opts.device):
            yield batch

#----------------------------------------------------------------------------
# Features of a dataset.

def compute_feature_stats_for_dataset(opts, detector_url, detector_kwargs, rel_lo=0, rel_hi=1, batch_size=64,
                                      data_loader_kwargs=None, max_items=None, **stats_kwargs):
    """Return FeatureStats(**stats_kwargs) of the real images, or of a uniform choice of max_items of them.

    Features are in the order of the dataset, and cached on disk. The result is complete on rank 0, whose disk is used; on other
    ranks it may be empty."""
    dataset = dnnlib.util.construct_class_by_name(**opts.dataset_kwargs)
    chosen = subset_indices(len(dataset), max_items)
    cache = FeatureCache(dataset, opts.dataset_kwargs, detector_url, detector_kwargs) if opts.cache else None
    stats = cache.load(len(chosen), **stats_kwargs) if cache is not None and opts.rank == 0 else None
    if ranks.agree(stats is not None):
        return stats or FeatureStats(max_items=len(chosen), **stats_kwargs)

    progress = opts.progress.sub(tag='dataset features', num_items=len(chosen), rel_lo=rel_lo, rel_hi=rel_hi)
    detector = get_feature_detector(detector_url, device=opts.device, num_gpus=opts.num_gpus, rank=opts.rank,
                                    verbose=progress.verbose)
    stats = None
    with runtime.seeded(0, opts.device), torch.no_grad(): # A DataLoader draws from the global generator.
        for images, _labels in load_images(opts, dataset, chosen, batch_size, data_loader_kwargs):
            features = run_detector(detector, images.to(opts.device), detector_kwargs)
            if stats is None: # Keep all features if they fit, because another metric may need them.
                fits = cache is not None and len(chosen) * features.shape[1] * 4 <= KEEP_BELOW
                captures = dict(stats_kwargs, capture_all=stats_kwargs.get('capture_all', False) or fits)
                stats = FeatureStats(max_items=len(chosen), **captures)
            stats.append_torch(features, num_gpus=opts.num_gpus, rank=opts.rank)
            progress.update(stats.num_items)
    if cache is not None and opts.rank == 0:
        cache.save(stats)
    return stats

def load_images(opts, dataset, chosen, batch_size, data_loader_kwargs=None):
    """Return a DataLoader of this rank's batches of the images with the chosen indices; all ranks get equally many."""
    batch_size = min(batch_size, -(-len(chosen) // opts.num_gpus))
    order = [int(chosen[i % len(chosen)]) for batch in rank_batches(opts, len(chosen), batch_size)
             for i in range(batch * batch_size, (batch + 1) * batch_size)]
    if data_loader_kwargs is None:
        on_gpu = opts.device.type == 'cuda'
        data_loader_kwargs = dict(pin_memory=on_gpu, num_workers=3 if on_gpu else 0)
    return torch.utils.data.DataLoader(dataset, sampler=order, batch_size=batch_size, **data_loader_kwargs)

#----------------------------------------------------------------------------
# Features of a generator.

def iterate_random_labels(opts, batch_size):
    """Yield endless batches of labels [batch_size, c_dim], each drawn from the dataset with numpy's global generator when it is
    requested."""
    if opts.G.c_dim == 0:
        while True:
            yield torch.zeros([batch_size, 0], device=opts.device)
    dataset = dnnlib.util.construct_class_by_name(**opts.dataset_kwargs)
    while True:
        labels = [dataset.get_label(np.random.randint(len(dataset))) for _ in range(batch_size)]
        yield torch.from_numpy(np.stack(labels)).to(opts.device)

def prepare_generator(opts):
    """Return a copy of the generator to evaluate, on the device of this rank."""
    return copy.deepcopy(opts.G).eval().requires_grad_(False).to(opts.device)

def renew_noise(G):
    """Draw new constant noise inputs of a generator."""
    for name, buffer in G.named_buffers():
        if name.endswith('.noise_const'):
            buffer.copy_(torch.randn_like(buffer))

def compute_feature_stats_for_generator(opts, detector_url, detector_kwargs, rel_lo=0, rel_hi=1, batch_size=64,
                                        batch_gen=None, seed=0, **stats_kwargs):
    """Return FeatureStats(**stats_kwargs) of max_items generated images, complete on rank 0.

    Latents, labels and noise depend on `seed`, so that the same network gets the same score on any number of ranks, and from a
    pass that it shares with other metrics (opts.shared)."""
    request = Request(detector_url, detector_kwargs, stats_kwargs, opts.G, opts.dataset_kwargs)
    sizes = dict(rel_lo=rel_lo, rel_hi=rel_hi, batch_size=batch_size, batch_gen=batch_gen, seed=seed)
    if opts.shared is not None and (batch_size, batch_gen, seed) == (64, None, 0):
        stats = opts.shared.stats_of(opts, request, **sizes)
        if stats is not None:
            return stats
    return generate_features(opts, [request], **sizes)[request.key]

class Request:
    """Statistics of generated images that a metric needs. Requests with the same key share one FeatureStats."""

    def __init__(self, detector_url, detector_kwargs, stats_kwargs, G, dataset_kwargs):
        self.detector_url = detector_url
        self.detector_kwargs = detector_kwargs
        self.stats_kwargs = stats_kwargs
        self.looker = (detector_url, repr(sorted(detector_kwargs.items())))
        self.images = repr(sorted(dataset_kwargs.items())) if G.c_dim > 0 else '' # Labels are drawn from the dataset.
        self.key = (*self.looker, repr(sorted(stats_kwargs.items())), self.images)

class SharedPass:
    """One pass over generated images for several metrics of one generator. Each detector sees an image once."""

    def __init__(self, requests):
        self.requests = {request.key: request for request in requests}
        self.found = {} # Key of a request -> FeatureStats.

    def stats_of(self, opts, request, **sizes):
        """Return the FeatureStats of a request, which the first call computes for all; None if it is not one of them."""
        if request.key in self.found or request.key not in self.requests:
            return self.found.get(request.key)
        together = [other for other in self.requests.values() if other.images == request.images]
        try:
            self.found.update(generate_features(opts, together, **sizes))
        except Exception:
            if opts.num_gpus > 1: # Ranks would no longer do the same.
                raise
            self.requests.clear() # So that an error of one metric's detector is not one of the others.
        return self.found.get(request.key)

def generate_features(opts, requests, rel_lo=0, rel_hi=1, batch_size=64, batch_gen=None, seed=0):
    """Return {key: FeatureStats} of requests, from one pass over as many generated images as the largest of them needs."""
    if batch_gen is None:
        batch_gen = min(batch_size, 4 if opts.G.img_resolution > 256 else 16)
    assert batch_size % batch_gen == 0
    found = {request.key: FeatureStats(**request.stats_kwargs) for request in requests}
    num_items = max(stats.max_items for stats in found.values())
    G = prepare_generator(opts)
    progress = opts.progress.sub(tag='generator features', num_items=num_items, rel_lo=rel_lo, rel_hi=rel_hi)
    lookers = {} # (detector, its keyword arguments) -> (network, keyword arguments, what it fills).
    for request in requests:
        if request.looker not in lookers:
            detector = get_feature_detector(request.detector_url, device=opts.device, num_gpus=opts.num_gpus, rank=opts.rank,
                                            verbose=progress.verbose)
            lookers[request.looker] = (detector, request.detector_kwargs, [])
        lookers[request.looker][2].append(found[request.key])
    labels = iterate_random_labels(opts, batch_gen)
    with torch.no_grad():
        for _batch in seeded_batches(opts, num_items, batch_size, seed):
            images = torch.cat([draw_images(opts, G, next(labels)) for _ in range(batch_size // batch_gen)])
            for detector, detector_kwargs, filled in lookers.values():
                if not all(stats.is_full() for stats in filled):
                    features = gather(run_detector(detector, images, detector_kwargs), opts.num_gpus)
                    for stats in filled:
                        stats.append_gathered(features, opts.rank)
            progress.update(max(stats.num_items for stats in found.values()))
    return found

def draw_images(opts, G, labels):
    """Return uint8 images [N, C, R, R] of random latents with labels [N, c_dim]."""
    z = torch.randn([len(labels), G.z_dim], device=opts.device)
    img = G(z=z, c=labels, **opts.G_kwargs)
    if getattr(img, 'ndim', 0) != 4 or img.shape[2] != img.shape[3]: # Of a fork, under --trust-pickle.
        shape = list(img.shape) if hasattr(img, 'shape') else type(img).__name__
        raise runtime.SpiderError(f'--network: its generator gives {shape}, and metrics need square images; use a '
                                  'snapshot of a generator of square images')
    return (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)

#----------------------------------------------------------------------------
