"""The passes of a host's metrics over images: by the network of SPIDER_DETECTOR, and shared by the metrics of one call.

`extend` wraps two functions of a host's metrics.metric_utils. Where SPIDER_DETECTOR is set, the features of all metrics that use
features are those of its network, under a name of its own in the host's cache, and results have a label. Where --metrics names
several metrics, one of the plugin among them, the images of a generator are drawn once for all of them, as long as they fit into
MOST_BYTES, and each network sees them once. Hosts draw without a seed, so these scores are as random as those of separate passes.
The reference host does both by itself."""

import contextlib
import functools
import os

from spider_plugin import registry
from spider_plugin.errors import printable

ENVIRONMENT = 'SPIDER_DETECTOR'         # As in detectors.py, which imports more than a hook may.
SHARED      = 'SPIDER_SHARED_METRICS'   # For the processes of a command: the metrics that share their images, in their order.
MOST_BYTES  = 1 << 30                   # Of generated images that a process keeps.

WRAPPED = ('compute_feature_stats_for_dataset', 'compute_feature_stats_for_generator')
STATS   = ('capture_all', 'capture_mean_cov', 'max_items')  # Keywords that do not change which images are drawn,
SILENT  = ('rel_lo', 'rel_hi')                              # nor these.

#----------------------------------------------------------------------------
# Before the start.

def prepare(names):
    """Check SPIDER_DETECTOR, and let the processes of this command share the images of the metrics `names`, as said above.

    Raises SpiderError where the network of SPIDER_DETECTOR cannot be had."""
    if names and _wanted() is not None:
        find(_wanted())
    shares = len(names) > 1 and not registry.metrics.keys().isdisjoint(names)
    os.environ[SHARED] = ','.join(names) if shares else ''

def _wanted():
    """The value of SPIDER_DETECTOR; None where it is not set, or names the host's network."""
    value = os.environ.get(ENVIRONMENT)
    return None if value in ('', 'inception') else value

@functools.cache
def find(value):
    """Return the FoundDetector of a value of SPIDER_DETECTOR. Raises SpiderError."""
    from spider_plugin import detectors  # The hook imports nothing heavy.
    return detectors.find_detector(value)

#----------------------------------------------------------------------------
# In the host.

def extend(metric_utils):
    """Wrap the functions of a host's metrics.metric_utils, if it has them and does not share passes itself."""
    if not hasattr(metric_utils, 'SharedPass') and all(hasattr(metric_utils, name) for name in WRAPPED):
        passes = metric_utils.spider_passes = Passes(metric_utils)
        for name, of in zip(WRAPPED, (passes.of_dataset, passes.of_generator)):
            setattr(metric_utils, name, functools.partial(of, getattr(metric_utils, name)))

def extend_calc_metric(calc_metric, metric_utils):
    """Return a host's calc_metric extended by the label of the network, and by the end of a shared pass."""
    passes = getattr(metric_utils, 'spider_passes', None)
    if passes is None:
        return calc_metric
    @functools.wraps(calc_metric)
    def calc(metric, *args, **kwargs):
        passes.label = None
        try:
            result = calc_metric(metric, *args, **kwargs)
        finally:
            if metric == os.environ.get(SHARED, '').split(',')[-1]:
                passes.kept = None
        if passes.label is not None:
            result['label'], result['detector'] = f'{metric} ({passes.label})', passes.label
        return result
    return calc

class Passes:
    """What the metrics of a process look at."""

    def __init__(self, metric_utils):
        self.utils = metric_utils
        self.label = None       # of the network of SPIDER_DETECTOR, once a metric has used it
        self.kept  = None       # Kept, of the generator that is being evaluated
        self.said  = False

    def of_dataset(self, stock, opts, detector_url, detector_kwargs, *args, **kwargs):
        """Return the host's statistics of real images."""
        with self._network(opts, detector_url, detector_kwargs, kwargs) as url:
            return stock(opts, url, detector_kwargs, *args, **kwargs)

    def of_generator(self, stock, opts, detector_url, detector_kwargs, *args, **kwargs):
        """Return the host's statistics of generated images."""
        with self._network(opts, detector_url, detector_kwargs, kwargs) as url:
            if args or not os.environ.get(SHARED) or kwargs.get('max_items') is None:
                return stock(opts, url, detector_kwargs, *args, **kwargs)
            key = Kept.key_of(opts, kwargs)
            if self.kept is None or self.kept.key != key:
                self.kept = Kept(key, opts.G)
            return self._shared(stock, opts, url, detector_kwargs, kwargs)

    def _shared(self, stock, opts, url, detector_kwargs, kwargs):
        kept, looker = self.kept, (url, repr(sorted(detector_kwargs.items())))
        wanted = {name: kwargs[name] for name in STATS if name in kwargs}
        if len(kept.features.get(looker, ())) >= kwargs['max_items']:
            stats, features = self.utils.FeatureStats(**wanted), kept.features[looker]
            size = kwargs.get('batch_size', 64) * opts.num_gpus     # as they were added
            for start in range(0, kwargs['max_items'], size):
                stats.append(features[start : start + size])
            return stats
        if sum(map(len, kept.images)) * opts.num_gpus >= kwargs['max_items']:
            stats = self._look_again(opts, url, detector_kwargs, dict(wanted, capture_all=True))
        else:
            with self._recorded(kept):
                stats = stock(opts, url, detector_kwargs, **dict(kwargs, capture_all=True))
        kept.features[looker] = stats.get_all()
        return stats

    def _look_again(self, opts, url, detector_kwargs, wanted):
        import torch
        stats = self.utils.FeatureStats(**wanted)
        detector = self.utils.get_feature_detector(url=url, device=opts.device, num_gpus=opts.num_gpus, rank=opts.rank,
                                                   verbose=False)
        for images in self.kept.images:
            if stats.is_full():
                break
            with torch.no_grad():
                features = detector(images.to(opts.device), **detector_kwargs)
            stats.append_torch(features, num_gpus=opts.num_gpus, rank=opts.rank)
        return stats

    #------------------------------------------------------------------------

    @contextlib.contextmanager
    def _network(self, opts, url, detector_kwargs, kwargs):
        """Within, the host opens the network of SPIDER_DETECTOR, where a metric looks at features. Yields the host's name of the
        network, under which it keeps features."""
        others = set(kwargs) - {*STATS, *SILENT, 'batch_size', 'batch_gen', 'data_loader_kwargs', 'jit'}
        if _wanted() is None or detector_kwargs != dict(return_features=True) or any(kwargs[name] for name in others):
            yield url
            return
        found = find(_wanted())
        self.label = found.label
        if opts.rank == 0 and not self.said:
            print(f'Scores by the network of {ENVIRONMENT}={printable(_wanted())}: compare them with scores of the '
                  'same network only.')
            self.said = True
        name = f'{found.label}-{found.identity[:12]}'
        def open_it(stock, url, device=None, **options):
            if url != name:
                return stock(url=url, device=device, **options)
            features = found.open(device)
            return lambda images, **_options: features(images)  # without the keywords that hosts pass
        with self._detectors(open_it):
            yield name

    @contextlib.contextmanager
    def _recorded(self, kept):
        """Within, the images that a network sees are kept."""
        kept.images, room = [], [MOST_BYTES]
        def open_it(stock, **options):
            detector = stock(**options)
            def look(images, **keywords):
                room[0] -= images.nbytes
                if room[0] >= 0:
                    kept.images.append(images.cpu())
                return detector(images, **keywords)
            return look
        with self._detectors(open_it):
            yield
        if room[0] < 0:
            kept.images = []

    @contextlib.contextmanager
    def _detectors(self, open_it):
        stock = self.utils.get_feature_detector
        self.utils.get_feature_detector = functools.partial(open_it, stock)
        try:
            yield
        finally:
            self.utils.get_feature_detector = stock

class Kept:
    """Images of one generator, as its networks saw them, and their features."""

    def __init__(self, key, G):
        self.key, self.G = key, G   # G, so that no other has its address.
        self.images   = []          # uint8 [B, 3, R, R] of this rank
        self.features = {}          # (network, its keywords) -> [N, n]

    @staticmethod
    def key_of(opts, kwargs):
        """All on which the images depend: the generator and its numbers, its keywords, and the labels."""
        versions = tuple(tensor._version for tensor in (*opts.G.parameters(), *opts.G.buffers()))
        labels = repr(sorted(opts.dataset_kwargs.items())) if opts.G.c_dim > 0 else ''
        drawn = sorted((name, repr(value)) for name, value in kwargs.items() if name not in (*STATS, *SILENT))
        return id(opts.G), versions, repr(sorted(opts.G_kwargs.items())), labels, tuple(drawn)

#----------------------------------------------------------------------------
