"""The registry of metrics. A plugin adds metrics by `register_metric`."""

import json
import math
import os
import sys
import time

import dnnlib
from metrics import (
    detectors,
    equivariance,
    frechet_inception_distance,
    inception_score,
    kernel_inception_distance,
    metric_utils,
    perceptual_path_length,
    precision_recall,
)
from training import ranks, runtime
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Registry.

_metric_dict = {} # Name -> fn(opts: MetricOptions) -> dict of results.

def register_metric(fn):
    """Register a function fn(opts) -> dict of floats under its name; a decorator."""
    _metric_dict[fn.__name__] = fn
    return fn

def is_valid_metric(metric):
    return metric in _metric_dict

def list_valid_metrics():
    return list(_metric_dict)

def detector_of(metric, detector):
    """Return the feature network of a metric, given the value of --detector; None if it needs none."""
    pick = getattr(_metric_dict[metric], 'pick_detector', None)
    return detector if pick is None else pick(detector)

def rises(metric):
    """Return whether a larger value of the metric is a better one."""
    return getattr(_metric_dict[metric], 'rises', False)

def reads_images(metric):
    """Return whether the metric looks at real images."""
    return getattr(_metric_dict[metric], 'reads_images', True)

def check_metrics(metrics, detector, resolution, get_G=None):
    """Raise SpiderError if a metric is unknown, lacks a detector that fits the images, or does not suit the generator get_G().

    Public detectors that are missing are downloaded."""
    for metric in metrics:
        if not is_valid_metric(metric):
            raise SpiderError(f'--metrics: {metric} is unknown; choose from {", ".join(list_valid_metrics())}')
    for metric in metrics:
        if get_G is not None and hasattr(_metric_dict[metric], 'check_generator'):
            _metric_dict[metric].check_generator(get_G())
    for metric in metrics:
        if hasattr(_metric_dict[metric], 'pick_detector'):
            check_detector(metric, detector, resolution)

def check_num_real(metrics, num_real, path):
    """Raise SpiderError for a metric that num_real images, those of the dataset at a path, do not define."""
    for metric in metrics:
        least = getattr(_metric_dict[metric], 'least_real', 0)
        if num_real < least:
            images = 'one image' if num_real == 1 else f'{num_real} images'
            raise SpiderError(f'--metrics: {metric} is not defined for fewer than {least} real images, and {path} has {images}; '
                              'give a larger --data, or leave the metric out')

def check_detector(metric, detector, resolution):
    if detector == 'demo' and resolution != detectors.DEMO_RESOLUTION:
        side = detectors.DEMO_RESOLUTION
        raise SpiderError(f'--detector: demo is for {side}x{side} images, but these are {resolution}x{resolution}; give '
                          'a TorchScript file')
    try:
        detectors.say_that_it_is_code(detector_of(metric, detector))
        detectors.get_feature_detector(detector_of(metric, detector))
    except SpiderError as err:
        raise SpiderError(err.message.replace('--detector: ', f'--detector: {metric} needs a feature network: ', 1)) from err

#----------------------------------------------------------------------------
# Evaluation.

def share(metrics, G, dataset_kwargs=None, detector=None, **_others):
    """Return the SharedPass of metrics, for `shared` of calc_metric(), whose other arguments these are; None if there is nothing
    to share.

    A metric says by its attribute `generated` which statistics of generated images it needs: the detector_kwargs and further
    keywords with which it will call compute_feature_stats_for_generator(). Others have a pass of their own."""
    requests = []
    for metric in dict.fromkeys(metrics):
        if (needed := getattr(_metric_dict.get(metric), 'generated', None)) is not None:
            needed = dict(needed)
            requests.append(metric_utils.Request(detector_of(metric, detector), needed.pop('detector_kwargs'), needed, G,
                                                 real_images(metric, dataset_kwargs)))
    return metric_utils.SharedPass(requests) if len(requests) > 1 else None

def real_images(metric, dataset_kwargs):
    """Return the options of the real images of a metric: the whole dataset, mirrored images only where the public metric has
    them."""
    return dict(dataset_kwargs or {}, max_size=None, **({} if metric in MIRRORED else dict(xflip=False)))

def calc_metric(metric, **kwargs): # See metric_utils.MetricOptions for the arguments.
    """Evaluate one metric. The same network gives the same result, and the global random state does not change."""
    opts = metric_utils.MetricOptions(**kwargs)
    start_time = time.time()
    with ranks.one_first(): # Each machine searches and downloads once.
        opts.detector = detector_of(metric, opts.detector)
        if opts.detector is not None:
            detectors.find(opts.detector)
    with runtime.seeded(opts.rank, opts.device):
        results = ranks.agree(_metric_dict[metric](opts))
    total_time = time.time() - start_time
    # Published scores have the name of the metric alone.
    name = detectors.get_feature_detector_name(opts.detector) if opts.detector is not None else None
    label = {} if name is None or detectors.is_published(opts.detector) else dict(label=f'{metric} ({name})')
    return dnnlib.EasyDict(
        **label,
        results         = dnnlib.EasyDict({name: float(value) for name, value in results.items()}),
        metric          = metric,
        total_time      = total_time,
        total_time_str  = dnnlib.util.format_time(total_time),
        num_gpus        = opts.num_gpus,
        detector        = name)

def report_metric(result_dict, run_dir=None, snapshot_pkl=None, cur_nimg=None):
    """Print a result as one line of JSON, and append it to metric-*.jsonl of the run. A value that is not defined is null."""
    if snapshot_pkl is not None and run_dir is not None:
        snapshot_pkl = os.path.relpath(snapshot_pkl, run_dir)
    results = {name: value if math.isfinite(value) else None for name, value in result_dict['results'].items()} # JSON has no NaN.
    line = json.dumps(dict(result_dict, results=results, snapshot_pkl=snapshot_pkl, cur_nimg=cur_nimg, timestamp=time.time()))
    print(line, flush=True)
    if run_dir is not None and os.path.isdir(run_dir):
        try:
            with open(os.path.join(run_dir, f'metric-{result_dict["metric"]}.jsonl'), 'a') as f:
                f.write(line + '\n')
        except OSError as err: # It is printed; the other metrics follow.
            print(f'Warning: {err.filename or run_dir} cannot be written ({err.strerror}), so this score is only printed',
                  file=sys.stderr, flush=True)

#----------------------------------------------------------------------------
# Functions (opts, name of the metric, sizes) -> results. The keys of the results are those of the public hosts.

def looks_with(pick_detector):
    """Return a decorator that sets the choice of a metric's feature network, a function of the value of --detector.

    calc_metric() puts its result into opts.detector."""
    def decorate(fn):
        fn.pick_detector = pick_detector
        return fn
    return decorate

@looks_with(lambda detector: detector or 'inception')
def fid(opts, name, max_real, num_gen):
    return {name: frechet_inception_distance.compute_fid(opts, max_real, num_gen)}

@looks_with(lambda detector: detector or 'inception')
def kid(opts, name, max_real, num_gen):
    return {name: kernel_inception_distance.compute_kid(opts, max_real, num_gen)}

@looks_with(lambda detector: detector or 'vgg16')
def pr(opts, name, max_real, num_gen):
    precision, recall = precision_recall.compute_pr(opts, max_real, num_gen)
    return {f'{name}_precision': precision, f'{name}_recall': recall}

@looks_with(lambda detector: detector or 'inception')
def score(opts, name, num_gen):
    mean, std = inception_score.compute_is(opts, num_gen)
    return {f'{name}_mean': mean, f'{name}_std': std}

@looks_with(perceptual_path_length.pick_detector)
def ppl(opts, name, num_samples):
    return {name: perceptual_path_length.compute_ppl(opts, num_samples)}

def eqt_int(opts, name, num_samples):
    return {name: equivariance.compute_equivariance(opts, equivariance.shift_int, num_samples)}

def eqt_frac(opts, name, num_samples):
    return {name: equivariance.compute_equivariance(opts, equivariance.shift_frac, num_samples)}

def eqr(opts, name, num_samples):
    return {name: equivariance.compute_equivariance(opts, equivariance.turn, num_samples)}

for fn in (eqt_int, eqt_frac, eqr):
    fn.check_generator = equivariance.check_generator

for fn in (score, ppl, eqt_int, eqt_frac, eqr):
    fn.reads_images = False

for fn in (pr, score, eqt_int, eqt_frac, eqr):
    fn.rises = True

fid.least_real = kid.least_real = 2
pr.least_real = precision_recall.NHOOD_SIZE + 1 # Each image needs so many others.

GENERATED = { # Function -> the statistics of generated images that it needs, beside their number.
    fid:   dict(detector_kwargs=dict(return_features=True), capture_mean_cov=True),
    kid:   dict(detector_kwargs=dict(return_features=True), capture_all=True),
    pr:    dict(detector_kwargs=dict(return_features=True), capture_all=True),
    score: dict(detector_kwargs=dict(no_output_bias=True), capture_all=True),
}

#----------------------------------------------------------------------------
# The metrics. Those of 50k are the public ones; NAME50k compares at most 50000 real images, NAME50k_full all of them. In the
# small sizes FID and KID use all real images, whose features are cached, and precision and recall as many as are generated.

METRICS = dict( # Name -> function, its sizes.
    fid50k_full = (fid, dict(max_real=None,     num_gen=50000)),
    fid50k      = (fid, dict(max_real=50000,    num_gen=50000)),
    fid5k       = (fid, dict(max_real=None,     num_gen=5000)),
    fid1k       = (fid, dict(max_real=None,     num_gen=1000)),
    kid50k_full = (kid, dict(max_real=1000000,  num_gen=50000)),
    kid50k      = (kid, dict(max_real=50000,    num_gen=50000)),
    kid5k       = (kid, dict(max_real=None,     num_gen=5000)),
    kid1k       = (kid, dict(max_real=None,     num_gen=1000)),
    pr50k3_full = (pr,  dict(max_real=200000,   num_gen=50000)),
    pr50k3      = (pr,  dict(max_real=50000,    num_gen=50000)),
    pr5k3       = (pr,  dict(max_real=5000,     num_gen=5000)),
    pr1k3       = (pr,  dict(max_real=1000,     num_gen=1000)),
    is50k       = (score,       dict(num_gen=50000)),
    is5k        = (score,       dict(num_gen=5000)),
    is1k        = (score,       dict(num_gen=1000)),
    ppl2_wend   = (ppl,         dict(num_samples=50000)),
    ppl5k_wend  = (ppl,         dict(num_samples=5000)),
    ppl1k_wend  = (ppl,         dict(num_samples=1000)),
    eqt50k_int  = (eqt_int,     dict(num_samples=50000)),
    eqt5k_int   = (eqt_int,     dict(num_samples=5000)),
    eqt1k_int   = (eqt_int,     dict(num_samples=1000)),
    eqt50k_frac = (eqt_frac,    dict(num_samples=50000)),
    eqt5k_frac  = (eqt_frac,    dict(num_samples=5000)),
    eqt1k_frac  = (eqt_frac,    dict(num_samples=1000)),
    eqr50k      = (eqr,         dict(num_samples=50000)),
    eqr5k       = (eqr,         dict(num_samples=5000)),
    eqr1k       = (eqr,         dict(num_samples=1000)),
)

MIRRORED = ['fid50k', 'kid50k', 'pr50k3'] # The public ones that keep the mirrored images of the training set.

def register_all():
    for name, (fn, sizes) in METRICS.items():
        def metric(opts, name=name, fn=fn, sizes=sizes):
            opts.dataset_kwargs.update(real_images(name, opts.dataset_kwargs))
            return fn(opts, name, **sizes)
        metric.__name__ = name
        metric.__dict__.update(fn.__dict__)
        if fn in GENERATED:
            metric.generated = dict(GENERATED[fn], max_items=sizes['num_gen'])
        register_metric(metric)

register_all()

#----------------------------------------------------------------------------
