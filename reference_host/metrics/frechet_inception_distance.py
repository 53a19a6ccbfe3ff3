"""Fréchet Inception Distance (Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule")."""

import numpy as np

from metrics import metric_utils

#----------------------------------------------------------------------------

def matrix_root(cov):
    """Return the symmetric square root of a covariance matrix; eigenvalues that are rounding errors of zero count as zero."""
    values, vectors = np.linalg.eigh(cov)
    floor = values.max(initial=0) * len(values) * np.finfo(np.float64).eps
    return vectors * np.sqrt(np.where(values > floor, values, 0)) @ vectors.T

def frechet_distance(mean1, cov1, mean2, cov2):
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    The trace of (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of S1 S2, which are the singular values of
    S1^(1/2) S2^(1/2). This needs no general matrix square root, and small ones lose no digits."""
    cross = np.linalg.svd(matrix_root(cov1) @ matrix_root(cov2), compute_uv=False).sum()
    distance = np.square(mean1 - mean2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return max(float(distance), 0.0) # Rounding errors may make it negative.

def compute_fid(opts, max_real, num_gen):
    """Return the FID between at most max_real real images (None = all) and num_gen generated ones."""
    detector = dict(detector_url=opts.detector, detector_kwargs=dict(return_features=True))
    real = metric_utils.compute_feature_stats_for_dataset(opts, **detector, rel_lo=0, rel_hi=0.5,
                                                          capture_mean_cov=True, max_items=max_real)
    fake = metric_utils.compute_feature_stats_for_generator(opts, **detector, rel_lo=0.5, rel_hi=1,
                                                            capture_mean_cov=True, max_items=num_gen)
    if opts.rank != 0:
        return float('nan')
    return frechet_distance(*real.get_mean_cov(), *fake.get_mean_cov())

#----------------------------------------------------------------------------
