"""Inception score (Salimans et al. 2016, "Improved Techniques for Training GANs")."""

import numpy as np
import torch

from metrics import metric_utils
from training.runtime import SpiderError

#----------------------------------------------------------------------------

def inception_score(probs, num_splits=10):
    """Return (mean, standard deviation) over splits of exp(E KL(p(y|x) || p(y))), for class probabilities [N, classes]."""
    scores = []
    for part in np.array_split(probs.astype(np.float64), num_splits):
        ratio = np.log(np.maximum(part, 1e-300)) - np.log(np.maximum(part.mean(axis=0), 1e-300))
        scores.append(np.exp((part * ratio).sum(axis=1).mean()))
    return tuple(float(statistic(scores)) for statistic in (np.mean, np.std))

def check_detector(opts, detector_kwargs):
    """Raise SpiderError unless the detector gives class probabilities."""
    detector = metric_utils.get_feature_detector(opts.detector, device=opts.device)
    images = torch.zeros([2, 3, opts.G.img_resolution, opts.G.img_resolution], dtype=torch.uint8, device=opts.device)
    with torch.no_grad():
        probs = metric_utils.run_detector(detector, images, detector_kwargs)
    if probs.min() < 0 or (probs.sum(dim=1) - 1).abs().max() > 1e-3:
        raise SpiderError('--detector: the Inception score needs a network that gives class probabilities; give the '
                          'Inception network (--detector=inception)')

def compute_is(opts, num_gen, num_splits=10):
    """Return the Inception score of num_gen generated images, without the bias of the last layer, as in published scores."""
    detector_kwargs = dict(no_output_bias=True)
    check_detector(opts, detector_kwargs)
    stats = metric_utils.compute_feature_stats_for_generator(opts, detector_url=opts.detector, detector_kwargs=detector_kwargs,
                                                             capture_all=True, max_items=num_gen)
    if opts.rank != 0:
        return float('nan'), float('nan')
    return inception_score(stats.get_all(), num_splits)

#----------------------------------------------------------------------------
