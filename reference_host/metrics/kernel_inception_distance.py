"""Kernel Inception Distance (Bińkowski et al. 2018, "Demystifying MMD GANs")."""

import numpy as np

from metrics import metric_utils

#----------------------------------------------------------------------------

def polynomial_kernel(x, y):
    """Return k(x, y) = (x.y / F + 1)^3 for all pairs of features [N, F] and [M, F] (section 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3

def squared_mmd(x, y):
    """Return the unbiased estimate of MMD^2 between features x and y, both [N, F]. It may be negative."""
    assert len(x) == len(y)
    n = len(x)
    k_xx, k_yy, k_xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    within = k_xx.sum() - np.trace(k_xx) + k_yy.sum() - np.trace(k_yy)
    return within / (n * (n - 1)) - 2 * k_xy.mean()

def kernel_distance(x, y, num_subsets=100, max_subset_size=1000, seed=0, update=lambda done: None):
    """Return the mean of squared_mmd() over random subsets of features x [N, F] and y [M, F].

    The subsets are drawn without replacement from a seed, for each subset first the indices of x, then those of y. update() is
    called with the number of subsets done."""
    size = min(len(x), len(y), max_subset_size)
    rng = np.random.RandomState(seed)
    values = []
    while len(values) < num_subsets:
        a, b = (features[rng.choice(len(features), size, replace=False)].astype(np.float64) for features in (x, y))
        values.append(squared_mmd(a, b))
        update(len(values))
    return float(np.mean(values))

def compute_kid(opts, max_real, num_gen, num_subsets=100, max_subset_size=1000):
    """Return the KID between at most max_real real images (None = all) and num_gen generated ones."""
    detector = dict(detector_url=opts.detector, detector_kwargs=dict(return_features=True))
    real = metric_utils.compute_feature_stats_for_dataset(opts, **detector, rel_lo=0, rel_hi=0.45, capture_all=True,
                                                          max_items=max_real)
    fake = metric_utils.compute_feature_stats_for_generator(opts, **detector, rel_lo=0.45, rel_hi=0.9, capture_all=True,
                                                            max_items=num_gen)
    if opts.rank != 0:
        return float('nan')
    progress = opts.progress.sub(tag='kernel distances', num_items=num_subsets, flush_interval=20, rel_lo=0.9, rel_hi=1)
    return kernel_distance(fake.get_all(), real.get_all(), num_subsets, max_subset_size, update=progress.update)

#----------------------------------------------------------------------------
