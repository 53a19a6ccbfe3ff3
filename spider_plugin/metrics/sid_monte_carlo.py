"""Signed Inception distance by random points in the cube, to check the closed form of `sid.py` and for regression tests.

The default estimator takes points mu +- r w u in antithetic pairs, the same u at every radius, and all features as centres. Most
of the remaining noise is from the length of u, whose mean is known, so |w u|^2 is the control variate, with its slope from
regression.

official=True is the estimator of the public code, as far as it is documented. At each of 199 radii it takes 300 centres of p and
of q and 300 points, without pairs and control variate. It averages 20 subsets with weights 1/2, 1/4, ... from the last to the
first, which leaves the noise of about three. Here all radii share a subset's points, which does not change the distribution at
any radius. (Of the two public scripts this is the one with a mean over points; the other sums over 500 points and 49 radii.)"""

import dataclasses

import numpy as np
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.metrics.sid import BLOCK, blocks, check_inputs, reference_frame

OFFICIAL_SUBSETS = 20
OFFICIAL_CENTRES = OFFICIAL_POINTS = 300

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class MonteCarloSID:
    """An estimate of the SID of the given features, comparable with `sid(..., debias=False)`.

    Its errors are those of the drawn points (with official=True also of the drawn centres), not of the features."""

    radii:      np.ndarray  # [J], half-widths of the cube in standard deviations of q.
    curve:      np.ndarray  # [J]
    curve_se:   np.ndarray  # [J], standard errors.
    value:      float       # Sum of the curve.
    se:         float       # Standard error of the sum.
    order:      float
    sigma:      str
    seed:       int

#----------------------------------------------------------------------------

@torch.no_grad()
def sid_monte_carlo(p, q, *, order=1, sigma='scalar', radii=None, draws=256, control_variate=True, official=False, seed=0):
    """Return the SID of p against q by Monte Carlo in float64, as a MonteCarloSID.

    p, q, order, sigma, radii:  as in `sid`; any number of dimensions.
    draws:                      antithetic pairs of points, at least 3. The time is proportional to it.
    control_variate:            without it the noise of the points' length remains, 8 to 40 times the standard error.
    official:                   use the public code's estimator, which takes p, q, order and seed only.
    seed:                       seed of numpy's default generator, which draws the same points on every device.

    Raises SpiderError as `sid` does, and if official=True has fewer than 300 features on a side."""
    p, q, order, sigma, radii = check_inputs(p, q, order, 'scalar' if official else sigma, None if official else radii)
    frame, rng = reference_frame(p, q, sigma), np.random.default_rng(seed)
    if official:
        values, weights = _released_subsets(p, q, radii, order, frame, rng)
    else:
        points = _points(draws, frame, rng)
        values = _contrast(p, q, points, radii, order, frame, signs=[1, -1])
        if control_variate:
            excess = points.square().sum(dim=1) - frame.width.square().sum() / 3
            slope = (excess - excess.mean()) @ values / (excess - excess.mean()).square().sum()
            values = values - excess.unsqueeze(1) * slope
        weights = values.new_full([draws], 1 / draws)
    total, spread = values.sum(dim=1), weights.square().sum().sqrt()
    return MonteCarloSID(radii=radii, curve=(weights @ values).cpu().numpy(), value=(weights @ total).item(),
                         curve_se=(values.std(dim=0) * spread).cpu().numpy(), se=(total.std() * spread).item(),
                         order=order, sigma=sigma, seed=seed)

#----------------------------------------------------------------------------

def _points(count, frame, rng):
    """Return w u, [count, n], with u uniform on [-1, 1]^n."""
    u = rng.uniform(-1, 1, [count, len(frame.width)])
    return torch.as_tensor(u, device=frame.device) * frame.width

def _contrast(p, q, points, radii, order, frame, signs):
    """Return [M, J], the mean of phi over p minus that over q at each of M points and J radii, averaged over the signs."""
    return _potential(p, points, radii, order, frame, signs) - _potential(q, points, radii, order, frame, signs)

def _potential(centres, points, radii, order, frame, signs):
    """Return D(mu + sign r w u), [M, J], by |c - mu - r w u|^2 = |c - mu|^2 + r^2 |w u|^2 - 2 r (c - mu).(w u)."""
    values = points.new_zeros([len(points), len(radii)])
    for _, block in blocks(centres, frame.device, max(BLOCK * centres.shape[1] // len(points), 1)):
        centred = block - frame.mean
        products = centred @ points.T
        rho2, length2 = centred.square_().sum(dim=1, keepdim=True), points.square().sum(dim=1)
        for j, r in enumerate(radii.tolist()):
            for sign in signs:
                square = torch.add(rho2, length2, alpha=r * r).sub_(products, alpha=2 * r * sign).clamp_(min=1e-300)
                values[:, j] += square.pow_(order / 2).sum(dim=0)
    return values * ((1 if order > 0 else -1) / len(centres) / len(signs))

def _released_subsets(p, q, radii, order, frame, rng):
    """Return the curves of the subsets [20, J] and their weights in the public code's moving average."""
    if min(len(p), len(q)) < OFFICIAL_CENTRES:
        raise SpiderError(f'The official estimator of SID draws {OFFICIAL_CENTRES} features on each side; '
                          f'p has {len(p)} and q has {len(q)}.')
    curves = []
    for _ in range(OFFICIAL_SUBSETS):
        centres = [features[np.sort(rng.choice(len(features), OFFICIAL_CENTRES, replace=False))] for features in [p, q]]
        points = _points(OFFICIAL_POINTS, frame, rng)
        curves.append(_contrast(*centres, points, radii, order, frame, signs=[1]).mean(dim=0))
    weights = 0.5 ** torch.arange(OFFICIAL_SUBSETS, 0, -1, dtype=torch.float64, device=frame.device)
    weights[0] *= 2
    return torch.stack(curves), weights

#----------------------------------------------------------------------------
