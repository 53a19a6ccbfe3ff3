"""The public SID estimator in the structure of its released scripts, as an independent reference and for comparisons of cost.

For every radius and every subset, it draws centres of both sets and points of the cube, tiles points and centres to [points,
centres, n], and takes norms of the differences, in float32. The subsets are averaged by a moving average that starts with the
first one. It was written from a description of the scripts."""

import torch

RADII   = 199
SUBSETS = 20
CENTRES = 300

#----------------------------------------------------------------------------

def potential(points, centres, order):
    """Return the mean of phi over the centres [N, n] at every point [M, n], float32 [M]."""
    shape = [len(points), len(centres), points.shape[1]]
    tiled_points = points.unsqueeze(1).expand(shape).contiguous()
    tiled_centres = centres.unsqueeze(0).expand(shape).contiguous()
    distances = torch.linalg.vector_norm(tiled_points - tiled_centres, dim=2)
    return distances.pow(order).mul(1 if order > 0 else -1).mean(dim=1)

def one_subset(p, q, mean, half_width, order, generator, centres=CENTRES):
    """Return the SID at one radius from one subset, which has centres of each set and as many points in mean +- half_width."""
    subset = lambda features: features[torch.randperm(len(features), generator=generator)[:centres]]
    points = mean + half_width * (2 * torch.rand([centres, p.shape[1]], generator=generator) - 1)
    return (potential(points, subset(p), order) - potential(points, subset(q), order)).mean()

def released_sid(p, q, order=1, radii=RADII, subsets=SUBSETS, centres=CENTRES, seed=0):
    """Return the curve [radii] of float32 p against q, [N, n]; half-widths are 0.25 j of the mean standard deviation of q."""
    generator = torch.Generator().manual_seed(seed)
    mean, scale = q.mean(dim=0), q.std(dim=0).mean()
    curve = torch.zeros([radii])
    for j in range(radii):
        for subset in range(subsets):
            value = one_subset(p, q, mean, 0.25 * (j + 1) * scale, order, generator, centres)
            curve[j] = value if subset == 0 else (curve[j] + value) / 2
    return curve

#----------------------------------------------------------------------------
