"""Improved precision and recall (Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative
Models")."""

import torch

from metrics import metric_utils

NHOOD_SIZE = 3 # The radius of a ball is the distance to this neighbour.
BLOCK = 8192 # Features on either side of a matrix of distances: 256 MiB in float32.

#----------------------------------------------------------------------------

def neighbour_distances(points, nhood_size, block=BLOCK, tick=lambda n: None):
    """Return the distance of each point [N, F] to its k-th nearest other one, the radius of its ball in the manifold, [N]."""
    radii = []
    for rows in points.split(block):
        nearest = torch.empty([len(rows), 0], dtype=points.dtype, device=points.device)
        for columns in points.split(block): # The nearest point is the point itself.
            candidates = torch.cat([nearest, torch.cdist(rows, columns)], dim=1)
            nearest = candidates.topk(min(nhood_size + 1, candidates.shape[1]), dim=1, largest=False).values
        radii.append(nearest[:, -1])
        tick(len(rows))
    return torch.cat(radii)

def fraction_inside(points, centres, radii, block=BLOCK, tick=lambda n: None):
    """Return the fraction of points [N, F] in at least one of the balls around centres [M, F] with radii [M] (eq. 1)."""
    inside = 0
    for rows in points.split(block):
        hit = torch.zeros([len(rows)], dtype=torch.bool, device=points.device)
        for columns, r in zip(centres.split(block), radii.split(block)):
            hit |= (torch.cdist(rows, columns) <= r).any(dim=1)
        inside += int(hit.sum())
        tick(len(rows))
    return inside / len(points)

def precision_recall(real, fake, nhood_size=NHOOD_SIZE, block=BLOCK, tick=lambda n: None):
    """Return (precision, recall) of generated features [N, F] and real ones [M, F] (eq. 2).

    The mean of the real features is subtracted first, so that distances lose fewer digits, and distances are computed in blocks,
    so that memory stays bounded. tick() is called for all points twice."""
    mean = real.mean(dim=0)
    real, fake = real - mean, fake - mean
    return (fraction_inside(fake, real, neighbour_distances(real, nhood_size, block, tick), block, tick),
            fraction_inside(real, fake, neighbour_distances(fake, nhood_size, block, tick), block, tick))

def compute_pr(opts, max_real, num_gen, nhood_size=NHOOD_SIZE):
    """Return precision and recall of num_gen generated images and at most max_real real ones.

    Rank 0 computes the distances."""
    detector = dict(detector_url=opts.detector, detector_kwargs=dict(return_features=True))
    real = metric_utils.compute_feature_stats_for_dataset(opts, **detector, rel_lo=0, rel_hi=0.4, capture_all=True,
                                                          max_items=max_real)
    fake = metric_utils.compute_feature_stats_for_generator(opts, **detector, rel_lo=0.4, rel_hi=0.8, capture_all=True,
                                                            max_items=num_gen)
    if opts.rank != 0:
        return float('nan'), float('nan')
    real, fake = [stats.get_all_torch().to(opts.device) for stats in (real, fake)]
    progress = opts.progress.sub(tag='distances', num_items=2 * (len(real) + len(fake)), rel_lo=0.8, rel_hi=1)
    return precision_recall(real, fake, nhood_size, tick=progress.advance)

#----------------------------------------------------------------------------
