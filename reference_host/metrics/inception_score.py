"""Inception score (Salimans et al. 2016, "Improved Techniques for Training GANs")."""

import numpy as np

from metrics import metric_utils
from training.runtime import UserError

#----------------------------------------------------------------------------

def inception_score(probs, num_splits=10):
    """(mean, standard deviation) over splits of exp(E KL(p(y|x) || p(y))), for class probabilities [N, classes]."""
    scores = []
    for part in np.array_split(probs.astype(np.float64), num_splits):
        ratio = np.log(np.maximum(part, 1e-300)) - np.log(np.maximum(part.mean(axis=0), 1e-300))
        scores.append(np.exp((part * ratio).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))

def compute_is(opts, num_gen, num_splits=10):
    """Inception score of num_gen generated images. The published scores leave out the bias of the last layer."""
    stats = metric_utils.compute_feature_stats_for_generator(
        opts, detector_url=opts.detector, detector_kwargs=dict(no_output_bias=True), capture_all=True,
        max_items=num_gen)
    if opts.rank != 0:
        return float('nan'), float('nan')
    probs = stats.get_all()
    if probs.min() < 0 or not np.allclose(probs.sum(axis=1), 1, atol=1e-3):
        raise UserError('--detector: the Inception score needs a network that gives class probabilities; give the '
                        'Inception network (--detector=inception)')
    return inception_score(probs, num_splits)

#----------------------------------------------------------------------------
