"""The demo's numbers: scores, iterations to a score, what training adds, and distances that show whether samples are copies."""

import math

import torch

#----------------------------------------------------------------------------
# Scores.

def detector_features(detector, images):
    """Return the features of images uint8 [N, 3, R, R] by a detector, a function of such batches, float64 [N, features]."""
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
# What training adds to a source. A source that is close has a low score before training, so a run counts from there.

GOAL = 0.7      # of the untrained source's score: far enough below it that evaluations do not reach it by chance

def best_after_start(curve):
    """Return [iteration, score] of the lowest score of a curve [[iteration, score], ...] after iteration 0."""
    return min((point for point in curve if point[0] > 0), key=lambda point: point[1])

def adds_to_source(spider):
    """Return whether the curve of a run with a source has a score below its untrained one, the first of the curve."""
    return best_after_start(spider)[1] < spider[0][1]

def reached_goal(baseline, spider):
    """Return the iterations at which each curve reaches GOAL of the untrained source's score, the first one of `spider`.

    returns     {'score': the goal, 'spider' and 'baseline': iterations as a float, or None where it was not reached}."""
    goal = GOAL * spider[0][1]
    return dict(score=goal, spider=iterations_to(spider, goal), baseline=iterations_to(baseline, goal))

def nearest(images, others):
    """Return, for each of the images uint8 [N, ...], the index of the nearest of `others` uint8 [M, ...] in pixels, int64 [N]."""
    return torch.cdist(images.flatten(1).float(), others.flatten(1).float()).argmin(dim=1)

#----------------------------------------------------------------------------
# Copies. Distances are root mean squares: over pixels in [0, 255], or over features.

def copy_check(images, features):
    """Return distances of samples to their source images and to the target set, with distances to compare them with.

    images:     {name: uint8 [N, 3, R, R]} of 'spider' (samples of the generator with a source), 'sources' (their source
                images), 'redrawn' (samples from the same source images and other latents), 'baseline' (samples of the other
                generator), 'target' (the target set) and 'fresh' (target images that are not in it).
    features:   {name: float64 [N, F]} of the same images.
    returns     {'pixels' and 'features': {name: mean distance}}."""
    pixels = {name: images[name].flatten(1).to(torch.float64) for name in features}
    return dict(pixels=_copy_distances(**pixels), features=_copy_distances(**features))

def _copy_distances(spider, sources, redrawn, baseline, target, fresh):
    scale = spider.shape[1] ** 0.5
    own = (spider - sources).norm(dim=1)
    other = (spider - sources.roll(1, dims=0)).norm(dim=1)
    latent, both = (spider - redrawn).norm(dim=1), (spider - spider.roll(1, dims=0)).norm(dim=1)
    to_target = {f'{name}_to_nearest_target': torch.cdist(x, target).amin(dim=1)
               for name, x in dict(sample=spider, source=sources, baseline=baseline, fresh_target=fresh).items()}
    distances = dict(sample_to_own_source=own, sample_to_another_source=other, sample_to_other_latent=latent,
                     sample_to_another_sample=both, **to_target)
    return {name: round(float(d.mean()) / scale, 4) for name, d in distances.items()}

#----------------------------------------------------------------------------
