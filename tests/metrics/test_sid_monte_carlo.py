"""SID by random points against the closed form, against brute force, and against the released algorithm."""

import numpy as np
import pytest
import torch

from benchmarks.common.released_sid import released_sid
from benchmarks.common.sid_pairs import GOLDEN, golden_pair
from spider_plugin.errors import SpiderError
from spider_plugin.metrics.sid import sid
from spider_plugin.metrics.sid_monte_carlo import OFFICIAL_SUBSETS, sid_monte_carlo

def _random_pair(seed, dim=128):
    """Two sets of unequal location, scale, rank and size, drawn by the seed; one in two rectified."""
    rng = np.random.default_rng(1000 + seed)
    sets = []
    for count in rng.integers(60, 160, 2):
        factors = rng.standard_normal([rng.integers(1, 12), dim]) * rng.uniform(0, 1)
        noise = rng.standard_normal([count, dim]) * rng.uniform(0.3, 1.5, dim)
        features = rng.standard_normal([count, len(factors)]) @ factors + noise + rng.uniform(0, 0.5) * rng.standard_normal(dim)
        sets.append(np.maximum(features, 0) if seed % 2 else features)
    return sets

#----------------------------------------------------------------------------

@pytest.mark.parametrize('seed', range(24))
def test_closed_form_agrees_on_random_pairs(seed):
    p, q = _random_pair(seed)
    options = dict(order=[1, 1, -1][seed % 3], sigma=['scalar', 'vector'][seed // 2 % 2])
    closed = sid(p, q, debias=False, **options)
    drawn = sid_monte_carlo(p, q, draws=200, seed=seed, **options)
    assert abs(drawn.value - closed.value) < 4 * drawn.se
    assert (np.abs(drawn.curve - closed.curve) < 4.5 * drawn.curve_se).mean() > 0.9
    assert drawn.se < 0.1 * closed.ci95                     # The errors are small enough to notice a difference.

@pytest.mark.parametrize('name', GOLDEN)
def test_closed_form_agrees_on_golden_pairs(name):
    p, q = golden_pair(name)
    closed, drawn = sid(p, q, debias=False), sid_monte_carlo(p, q, draws=200, seed=1)
    assert abs(drawn.value - closed.value) < 4 * drawn.se
    assert drawn.se < 6e-4 * abs(closed.value)

@pytest.mark.parametrize('order', [1, -3])
@pytest.mark.parametrize('sigma', ['scalar', 'vector'])
def test_points_equal_brute_force(sigma, order):
    p, q = [features[:55, :6] for features in _random_pair(3)]
    radii, draws = [0.5, 3], 5
    std = q.std(axis=0, ddof=1)
    width = std if sigma == 'vector' else std.mean()
    u = np.random.default_rng(7).uniform(-1, 1, [draws, 6])
    phi = lambda x, c: np.sign(order) * (np.linalg.norm(x[:, None] - c, axis=2) ** order).mean()
    expected = [np.mean([phi(x, p) - phi(x, q) for x in [q.mean(axis=0) + sign * r * width * u for sign in [1, -1]]])
                for r in radii]
    drawn = sid_monte_carlo(p, q, order=order, sigma=sigma, radii=radii, draws=draws, control_variate=False, seed=7)
    np.testing.assert_allclose(drawn.curve, expected, rtol=1e-9)
    assert drawn.value == pytest.approx(sum(expected))

def test_the_control_variate_pays():
    p, q = golden_pair('narrow')
    plain, better = [sid_monte_carlo(p, q, draws=64, control_variate=control) for control in [False, True]]
    assert 8 * better.se < plain.se and abs(plain.value - better.value) < 4 * plain.se

def test_seed_decides():
    p, q = _random_pair(0)
    first, again, other = [sid_monte_carlo(p, q, draws=8, seed=seed) for seed in [3, 3, 4]]
    assert np.array_equal(first.curve, again.curve) and first.value != other.value

#----------------------------------------------------------------------------

def test_official_agrees_with_the_closed_form():
    rng = np.random.default_rng(0)
    p, q = 1.2 * rng.standard_normal([320, 64]) + 0.1, rng.standard_normal([350, 64])
    closed = sid(p, q, debias=False)
    runs = [sid_monte_carlo(p, q, official=True, seed=seed) for seed in range(2)]
    assert len(runs[0].curve) == 199
    values = np.array([run.value for run in runs])
    assert abs(values.mean() - closed.value) < 4 * np.sqrt(np.mean([run.se ** 2 for run in runs]) / len(runs))
    exact = sid_monte_carlo(p, q, draws=16)
    assert min(run.se for run in runs) > 5 * exact.se

def test_official_weights_are_those_of_a_moving_average(monkeypatch):
    import spider_plugin.metrics.sid_monte_carlo as module
    curves = torch.randn([OFFICIAL_SUBSETS, 199], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    subsets = iter(curves)
    monkeypatch.setattr(module, '_contrast', lambda *args, **kwargs: next(subsets).unsqueeze(0))
    p, q = np.random.default_rng(0).standard_normal([2, 300, 16])
    average = curves[0]
    for curve in curves[1:]:
        average = (average + curve) / 2
    np.testing.assert_allclose(sid_monte_carlo(p, q, official=True).curve, average, atol=1e-12)

def test_the_released_algorithm_agrees():
    rng = np.random.default_rng(1)
    p, q = [features.astype(np.float32) for features in
            [1.2 * rng.standard_normal([300, 48]) + 0.1, rng.standard_normal([300, 48])]]
    radii = 0.25 * np.arange(1, 9)
    runs = np.stack([released_sid(torch.from_numpy(p), torch.from_numpy(q), radii=8, subsets=20, centres=60, seed=seed)
                     for seed in range(12)])
    closed = sid(p, q, radii=radii, debias=False)
    errors = (runs.mean(axis=0) - closed.curve) / (runs.std(axis=0, ddof=1) / np.sqrt(len(runs)))
    assert np.abs(errors).max() < 5                         # t with 11 degrees of freedom, eight of them
    assert runs.std() < 0.2 * np.abs(closed.curve).mean()

def test_official_errors():
    p, q = np.random.default_rng(0).standard_normal([2, 299, 16])
    with pytest.raises(SpiderError, match='draws 300 features on each side; p has 299'):
        sid_monte_carlo(p, q, official=True)
    with pytest.raises(SpiderError, match='sigma=matrix'):
        sid_monte_carlo(p, q, sigma='matrix')
