"""The registry of metrics. A plugin adds its own by `register_metric`."""

import json
import os
import time

import torch

import dnnlib
from metrics import frechet_inception_distance, metric_utils
from training import runtime
from training.runtime import UserError

#----------------------------------------------------------------------------
# Registry.

_metric_dict = {} # Name -> fn(opts: MetricOptions) -> dict of results.

def register_metric(fn):
    """Decorator: makes fn(opts) -> dict of floats known under its own name."""
    _metric_dict[fn.__name__] = fn
    return fn

def needs_detector(fn):
    """Decorator: the metric is refused up front where no --detector is given."""
    fn.needs_detector = True
    return fn

def is_valid_metric(metric):
    return metric in _metric_dict

def list_valid_metrics():
    return list(_metric_dict)

def check_metrics(metrics, detector, resolution):
    """Raises UserError where one of the metrics is unknown or lacks a detector that fits the images."""
    for metric in metrics:
        if not is_valid_metric(metric):
            raise UserError(f'--metrics: {metric} is unknown; choose from {", ".join(list_valid_metrics())}')
    if not any(getattr(_metric_dict[metric], 'needs_detector', False) for metric in metrics):
        return
    if detector is None:
        raise UserError(f'--detector: {", ".join(metrics)} needs a feature network; give a TorchScript file '
                        '(--detector=FILE.pt) or --detector=demo for 32x32 images')
    if detector == 'demo' and resolution != metric_utils.DEMO_RESOLUTION:
        side = metric_utils.DEMO_RESOLUTION
        raise UserError(f'--detector: demo is for {side}x{side} images, but these are {resolution}x{resolution}; give '
                        'a TorchScript file')
    metric_utils.get_feature_detector(detector)

#----------------------------------------------------------------------------
# Evaluation.

def calc_metric(metric, **kwargs): # See metric_utils.MetricOptions for the arguments.
    """Evaluates one metric; the same network gives the same result, and the global random state stays as it was."""
    opts = metric_utils.MetricOptions(**kwargs)
    start_time = time.time()
    with runtime.seeded(opts.rank, opts.device):
        results = _metric_dict[metric](opts)
    total_time = time.time() - start_time

    for name, value in results.items(): # All ranks return what rank 0 found.
        if opts.num_gpus > 1:
            value = torch.as_tensor(value, dtype=torch.float64, device=opts.device)
            torch.distributed.broadcast(tensor=value, src=0)
        results[name] = float(value)
    return dnnlib.EasyDict(
        results         = dnnlib.EasyDict(results),
        metric          = metric,
        total_time      = total_time,
        total_time_str  = dnnlib.util.format_time(total_time),
        num_gpus        = opts.num_gpus,
        detector        = metric_utils.get_feature_detector_name(opts.detector) if opts.detector is not None else None)

def report_metric(result_dict, run_dir=None, snapshot_pkl=None, cur_nimg=None):
    """Prints a result as one line of JSON, and appends it to metric-*.jsonl of the run."""
    if snapshot_pkl is not None and run_dir is not None:
        snapshot_pkl = os.path.relpath(snapshot_pkl, run_dir)
    line = json.dumps(dict(result_dict, snapshot_pkl=snapshot_pkl, cur_nimg=cur_nimg, timestamp=time.time()))
    print(line, flush=True)
    if run_dir is not None and os.path.isdir(run_dir):
        with open(os.path.join(run_dir, f'metric-{result_dict["metric"]}.jsonl'), 'a') as f:
            f.write(line + '\n')

#----------------------------------------------------------------------------
# Metrics.

@register_metric
@needs_detector
def fid50k_full(opts):
    opts.dataset_kwargs.update(max_size=None, xflip=False)
    return dict(fid50k_full=frechet_inception_distance.compute_fid(opts, max_real=None, num_gen=50000))

@register_metric
@needs_detector
def fid5k(opts):
    opts.dataset_kwargs.update(max_size=None, xflip=False)
    return dict(fid5k=frechet_inception_distance.compute_fid(opts, max_real=None, num_gen=5000))

@register_metric
@needs_detector
def fid1k(opts):
    opts.dataset_kwargs.update(max_size=None, xflip=False)
    return dict(fid1k=frechet_inception_distance.compute_fid(opts, max_real=None, num_gen=1000))

#----------------------------------------------------------------------------
