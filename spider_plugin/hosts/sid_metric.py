"""The signed inception distance in a host's registry of metrics: sid50k_full, sid50k, sid5k, sid1k.

Features come from the host's functions, with the detector and the keywords of its KID. If the host caches the features of real
images, SID and KID share one entry, so there is no second pass. Hosts do not include max_items in the key of that entry;
therefore all real features are requested, and a smaller number is chosen from them here. hosts/passes.py: SPIDER_DETECTOR, and
images that metrics share."""

import functools
import importlib
import json
import os
import sys

import numpy as np

from spider_plugin import registry
from spider_plugin.errors import SpiderError, printable

LEAST_REAL = 50         # That of metrics/sid.py, which imports torch.
MAX_ITEMS = 1_000_000   # As many as the hosts' kid50k_full requests, which is all of any dataset.

#----------------------------------------------------------------------------

def compute_sid(opts, name, max_real, num_gen):
    """Return the SID of num_gen generated images against at most max_real real ones (None for all), a seeded choice.

    The result is {name: the sum over radii, name_ci95: half-width, name_r1, name_location, name_spread}. Its values are NaN on
    ranks other than 0, which have no features, and if the features do not allow it; then a sentence is printed instead of an
    error, so that a run continues after G has collapsed."""
    metric_utils = importlib.import_module('metrics.metric_utils')
    opts.dataset_kwargs.update(max_size=None, xflip=False)
    shared = dict(detector_url=detector_url(opts), detector_kwargs=dict(return_features=True), capture_all=True)
    real = metric_utils.compute_feature_stats_for_dataset(opts=opts, rel_lo=0, rel_hi=0.5, max_items=MAX_ITEMS, **shared)
    fake = metric_utils.compute_feature_stats_for_generator(opts=opts, rel_lo=0.5, rel_hi=1, max_items=num_gen, **shared)
    keys = [name, *(f'{name}_{part}' for part in ('ci95', 'r1', 'location', 'spread'))]
    unknown = dict.fromkeys(keys, float('nan'))
    if opts.rank != 0:
        return unknown

    from spider_plugin.metrics.sid import sid
    try:
        result = sid(fake.get_all(), choose(real.get_all(), max_real))
    except SpiderError as error:
        print(f'{name} of p = generated and q = real images: {error.message}', file=sys.stderr)
        return unknown
    _results[name] = result, os.path.basename(opts.dataset_kwargs.get('path', 'the real images'))
    return dict(zip(keys, (result.value, result.ci95, result.r1, result.location, result.spread)))

def choose(features, max_items, seed=0):
    """Return all features [N, n], or a uniform choice of max_items of them."""
    if max_items is None or len(features) <= max_items:
        return features
    return features[np.sort(np.random.RandomState(seed).choice(len(features), max_items, replace=False))]

def detector_url(opts):
    """Return the host's name of its Inception network, that of --detector if it has the option, else the URL in its KID."""
    if getattr(opts, 'detector', None) is not None:
        return opts.detector
    kid = importlib.import_module('metrics.kernel_inception_distance').compute_kid
    return next(word for word in kid.__code__.co_consts if isinstance(word, str) and '://' in word)

#----------------------------------------------------------------------------
# The curve is written beside the host's scores.

_results = {}   # Name -> (the last SIDResult of this process, what to call its real images).

def report_curves(report_metric):
    """Return the host's report_metric(result_dict, run_dir=, ...) extended to append the curve to run_dir/curve-NAME.jsonl."""
    @functools.wraps(report_metric)
    def report(result_dict, run_dir=None, snapshot_pkl=None, **kwargs):
        report_metric(result_dict, run_dir=run_dir, snapshot_pkl=snapshot_pkl, **kwargs)
        if result_dict['metric'] not in _results:
            return
        result, real = _results.pop(result_dict['metric'])
        print(result.explain('the set of generated images', printable(real)))
        if run_dir is not None and os.path.isdir(run_dir):
            snapshot = None if snapshot_pkl is None else os.path.relpath(snapshot_pkl, run_dir)
            with open(os.path.join(run_dir, f'curve-{result_dict["metric"]}.jsonl'), 'a', encoding='utf-8') as file:
                file.write(json.dumps(dict(snapshot_pkl=snapshot, **result.as_dict())) + '\n')
    return report

#----------------------------------------------------------------------------

SIZES = {   # Name -> most real images, generated images.
    'sid50k_full':  (None,  50000),
    'sid50k':       (50000, 50000),
    'sid5k':        (None,  5000),
    'sid1k':        (None,  1000),
}

def _register(name, max_real, num_gen):
    @registry.metrics.register(name)
    def metric(opts):
        return compute_sid(opts, name, max_real, num_gen)
    # What the reference host checks before training, and draws in one pass with what its metrics need.
    metric.pick_detector = lambda detector: detector or 'inception'
    metric.least_real = LEAST_REAL
    metric.generated = dict(detector_kwargs=dict(return_features=True), capture_all=True, max_items=num_gen)

for _name, _sizes in SIZES.items():
    _register(_name, *_sizes)

#----------------------------------------------------------------------------
