"""The 95% interval of SID covers 95% of resamplings, and the simpler one does not. The full size is in benchmarks/cost/sid.py."""

import numpy as np
import pytest

from benchmarks.common.sid_pairs import POPULATIONS
from spider_plugin.metrics.sid import sid

RADII = 0.5 * np.arange(1, 60, 2)

#----------------------------------------------------------------------------
# The influence functions exactly: derivatives with respect to the weight of every image of q, by finite differences.

def _weighted_value(p, q, weights, order, sigma, radii):
    """Return plain SID with the images of q weighted, and its terms for the images of p [N_p]."""
    mean = weights @ q
    var = weights @ (q - mean) ** 2 + q.var(axis=0, ddof=1) - q.var(axis=0)
    width = np.sqrt(var) if sigma == 'vector' else np.full_like(var, np.sqrt(var).mean())
    def potential(c):
        square, r = (c - mean)[:, None] ** 2, radii[:, None]
        A = (square + (r * width) ** 2 / 3).sum(axis=2)
        V = (4 / 45 * (r * width) ** 4 + 4 / 3 * (r * width) ** 2 * square).sum(axis=2)
        return (np.sign(order) * A ** (order / 2) * (1 + order / 2 * (order / 2 - 1) / 2 * V / A ** 2)).sum(axis=1)
    of_p = potential(p)
    return of_p.mean() - weights @ potential(q), of_p

@pytest.mark.parametrize('sigma', ['scalar', 'vector'])
@pytest.mark.parametrize('order', [1, -1, 3])
def test_interval_is_that_of_the_influence_functions(order, sigma):
    rng, step = np.random.default_rng(0), 1e-4
    scale = np.geomspace(0.02, 2, 24)
    p, q = np.maximum(rng.standard_normal([50, 24]) * scale + 0.3 * scale, 0), rng.standard_normal([60, 24]) * scale
    radii, uniform = np.array([0.3, 1, 3]), np.full(60, 1 / 60)
    value = lambda image, step: _weighted_value(p, q, uniform + step * (np.eye(60)[image] - uniform), order, sigma, radii)[0]
    influence = np.array([(value(image, step) - value(image, -step)) / (2 * step) for image in range(60)])
    of_p = _weighted_value(p, q, uniform, order, sigma, radii)[1]
    expected = 1.96 * np.sqrt(of_p.var(ddof=1) / 50 + influence.var(ddof=1) / 60)
    result = sid(p, q, order=order, sigma=sigma, radii=radii, debias=False)
    assert result.ci95 == pytest.approx(expected, rel=1e-5)
    assert result.ci95 != pytest.approx(result.ci95_conditional, rel=1e-2)

#----------------------------------------------------------------------------

def _resample(name, dim, count, times, options, truth_count):
    """Return values, intervals and conditional intervals of `times` draws, and the value of a large draw."""
    draw, rng = POPULATIONS[name](dim), np.random.default_rng(1)
    truth = sid(*draw(truth_count, np.random.default_rng(0)), **options).value
    results = [sid(*draw(count, rng), **options) for _ in range(times)]
    return *np.array([[r.value, r.ci95, r.ci95_conditional] for r in results]).T, truth

@pytest.mark.parametrize('options', [dict(), dict(order=-1, sigma='vector')], ids=str)
@pytest.mark.parametrize('name', POPULATIONS)
def test_interval(name, options):
    values, ci95, conditional, truth = _resample(name, 32, 200, 400, dict(options, radii=RADII), 100_000)
    assert 0.91 < (np.abs(values - truth) < ci95).mean() < 0.99                 # 0.95 +- 3.5 s.d.
    half_width = 1.96 * values.std()
    assert 0.88 < ci95.mean() / half_width < 1.12                               # 1 +- 3.5 s.d. of an s.d.
    if name != 'same':
        assert conditional.mean() / half_width < 0.92

@pytest.mark.slow
@pytest.mark.parametrize('count', [300, 1000])
@pytest.mark.parametrize('name', POPULATIONS)
def test_coverage_of_1000_resamplings(name, count):
    values, ci95, _, truth = _resample(name, 128, count, 1000, {}, 200_000)
    assert 0.93 <= (np.abs(values - truth) < ci95).mean() <= 0.97
