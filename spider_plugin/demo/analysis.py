"""The demo's numbers: scores, iterations to reach a score, and distances that show whether samples are copies."""

import math

import torch

#----------------------------------------------------------------------------
# Scores.

def detector_features(detector, images):
    """Return the features of images uint8 [N, 3, 32, 32] by a TorchScript detector, float64 [N, features]."""
    with torch.no_grad():
        return torch.cat([detector(batch) for batch in images.split(250)]).to(torch.float64)

def frechet_distance(x, y):
    """Return the Frechet distance of Gaussians fitted to features float64 [N, F] and [M, F] (Heusel et al. 2017, eq. 6)."""
    mean_term = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    cov_x, cov_y = torch.cov(x.T), torch.cov(y.T)
    cross = torch.linalg.eigvals(cov_x @ cov_y).real.clamp(min=0).sqrt().sum()
    return float(mean_term + cov_x.trace() + cov_y.trace() - 2 * cross)

#----------------------------------------------------------------------------
# Iterations until a curve reaches a score. The logarithm of the score is interpolated linearly between evaluations. Iteration 0
# does not count, so a curve that has the score at its first evaluation gets that evaluation, which is an upper bound.

def iterations_to(curve, score):
    """Return the iterations, as a float, at which a curve [[iteration, score], ...] reaches `score`, or None if it does not."""
    previous = None
    for iteration, value in curve:
        if iteration == 0:
            continue
        if value <= score:
            if previous is None or value == score:
                return float(iteration)
            before, value_before = previous
            share = math.log(value_before / score) / math.log(value_before / value)
            return before + share * (iteration - before)
        previous = iteration, value
    return None

def iterations_ratio(baseline, spider):
    """Return the iterations that `spider` takes to the baseline's best score, divided by those of the baseline.

    The result is (ratio or None if the score is not reached, True if the ratio is an upper bound)."""
    best = min(value for iteration, value in baseline if iteration > 0)
    needed = iterations_to(spider, best)
    if needed is None:
        return None, False
    first = min(iteration for iteration, _ in spider if iteration > 0)
    return needed / iterations_to(baseline, best), needed == first

#----------------------------------------------------------------------------
# Copies. Distances are root mean squares: over pixels in [0, 255], or over features.

def copy_check(images, features):
    """Return distances of samples to their source images and to the target set, with distances to compare them with.

    images:     {name: uint8 [N, 3, 32, 32]} of 'spider' (samples of the generator with a source), 'sources' (their source
                images), 'baseline' (samples of the other generator), 'target' (the target set) and 'fresh' (target images
                that are not in it).
    features:   {name: float64 [N, F]} of the same images.
    returns     {'pixels' and 'features': {name: mean distance}}."""
    pixels = {name: images[name].flatten(1).to(torch.float64) for name in features}
    return dict(pixels=_copy_distances(**pixels), features=_copy_distances(**features))

def _copy_distances(spider, sources, baseline, target, fresh):
    scale = spider.shape[1] ** 0.5
    own = (spider - sources).norm(dim=1)
    other = (spider - sources.roll(1, dims=0)).norm(dim=1)
    nearest = {f'{name}_to_nearest_target': torch.cdist(x, target).amin(dim=1)
               for name, x in dict(sample=spider, source=sources, baseline=baseline, fresh_target=fresh).items()}
    distances = dict(sample_to_own_source=own, sample_to_another_source=other, **nearest)
    return {name: round(float(d.mean()) / scale, 4) for name, d in distances.items()}

#----------------------------------------------------------------------------
