"""FID and KID with intervals, against naive forms and against repeated draws of the sets."""

import numpy as np
import pytest
import scipy.linalg
import torch

from spider_plugin import metrics
from spider_plugin.errors import SpiderError
from spider_plugin.metrics import distances
from spider_plugin.metrics.distances import Moments, fid, kid

def draw(rng, count, kind, n=16):
    x = rng.standard_normal((count, n))
    if kind == 'other':
        x = x @ np.random.default_rng(5).standard_normal((n, n)) * 0.3 + 0.2
    return x.astype(np.float32)

@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return draw(rng, 300, 'other'), draw(rng, 450, 'same')

#----------------------------------------------------------------------------

def naive_fid(p, q):
    p, q = p.astype(np.float64), q.astype(np.float64)
    S, T = np.cov(p, rowvar=False), np.cov(q, rowvar=False)
    root = scipy.linalg.sqrtm(S @ T).real
    return np.square(p.mean(axis=0) - q.mean(axis=0)).sum() + np.trace(S + T - 2 * root)

def naive_kid(p, q):
    """Return one U-statistic of all vectors."""
    k = lambda x, y: (np.float64(x) @ np.float64(y).T / x.shape[1] + 1) ** 3
    within = lambda x: (k(x, x).sum() - np.trace(k(x, x))) / (len(x) * (len(x) - 1))
    return within(p) + within(q) - 2 * k(p, q).mean()

def test_fid_equals_the_naive_form(pair):
    p, q = pair
    assert fid(Moments(p), Moments(q)).value == pytest.approx(naive_fid(p, q), rel=1e-9)
    assert fid(Moments(q), Moments(p)).value == pytest.approx(naive_fid(p, q), rel=1e-9)
    assert fid(Moments(p), Moments(p)).value == pytest.approx(0, abs=1e-9)

def test_fid_of_singular_covariances():
    """Fewer images than dimensions still give a number and an interval."""
    rng = np.random.default_rng(1)
    p, q = draw(rng, 20, 'same', n=48), draw(rng, 30, 'same', n=48)
    result = fid(Moments(p), Moments(q))
    S, T = np.cov(np.float64(p), rowvar=False), np.cov(np.float64(q), rowvar=False)
    root = np.sqrt(np.linalg.eigvals(S @ T).astype(complex)).real.sum()
    expected = np.square(np.float64(p).mean(axis=0) - np.float64(q).mean(axis=0)).sum() + np.trace(S + T) - 2 * root
    assert result.value == pytest.approx(expected, rel=1e-5) and 0 < result.ci95 < expected

def test_moments_in_blocks(pair, monkeypatch):
    whole = fid(Moments(pair[0]), Moments(pair[1]))
    monkeypatch.setattr(distances, 'BLOCK', 70)
    parts = fid(Moments(pair[0]), Moments(pair[1]))
    assert parts.value == pytest.approx(whole.value, rel=1e-10) and parts.ci95 == pytest.approx(whole.ci95, rel=1e-10)

def test_kid_of_one_piece_equals_the_naive_form(pair):
    assert kid(*pair).value == pytest.approx(naive_kid(*pair), rel=1e-9)

def test_kid_of_pieces_is_the_mean_of_their_u_statistics(pair, monkeypatch):
    monkeypatch.setattr(distances, 'PIECE', 200)
    p, q = [distances._shuffled(x, 10 ** 6, seed).numpy() for seed, x in enumerate(pair)]
    pieces = zip(np.array_split(p, 3), np.array_split(q, 3))
    result = kid(*pair)
    assert result.value == pytest.approx(np.mean([naive_kid(x, y) for x, y in pieces]), rel=1e-9)
    monkeypatch.undo()
    assert abs(result.value - kid(*pair).value) < result.ci95

def test_kid_shuffles():
    """Files may be sorted, and pieces that hold one class each would have a small spread."""
    rng = np.random.default_rng(2)
    x = np.sort(draw(rng, 6000, 'same', n=8), axis=0)
    y = np.sort(draw(rng, 6000, 'same', n=8), axis=0)
    result = kid(x, y)
    assert abs(result.value) < 2 * result.ci95 < 0.1

#----------------------------------------------------------------------------
# Intervals. The spread of the estimate over fresh draws equals the interval of one draw. The bands are twice the error of 200
# draws.

@pytest.mark.parametrize('kind, low, high', [('other', 0.85, 1.25), ('same', 1.0, 2.0)])
def test_intervals_are_those_of_fresh_draws(kind, low, high, monkeypatch):
    monkeypatch.setattr(distances, 'PIECE', 150)
    rng = np.random.default_rng(3)
    found = dict(fid=[], kid=[])
    for _ in range(200):
        p, q = draw(rng, 300, kind), draw(rng, 200, 'same')
        found['fid'].append(fid(Moments(p), Moments(q)))
        found['kid'].append(kid(p, q))
    for name, results in found.items():
        spread = np.std([result.value for result in results])
        said = np.mean([result.ci95 for result in results]) / 1.96
        assert low < said / spread < high, f'{name}: {said} is said, {spread} is true'

#----------------------------------------------------------------------------

#----------------------------------------------------------------------------

def test_plain_arrays_and_tensors_of_any_real_dtype(pair):
    p, q = pair
    for wrap in (lambda x: x, torch.from_numpy, lambda x: torch.from_numpy(x).requires_grad_()):
        assert metrics.fid(wrap(p), wrap(q)) == fid(Moments(p), Moments(q))
        assert metrics.kid(wrap(p), wrap(q)) == kid(p, q)
    assert metrics.fid(p.astype(np.float64), Moments(q)) == fid(Moments(p), q)
    assert metrics.fid(p.astype(np.float16), q).value == pytest.approx(fid(p, q).value, rel=1e-2)

@pytest.mark.parametrize('distance', [metrics.fid, metrics.kid])
def test_features_that_cannot_be_compared(distance, pair):
    p, q = pair
    broken = q.copy()
    broken[7, 3] = np.nan
    for args, words in (((p[0], q), r'p must hold real features of the shape \[images, dimensions\]'),
                        ((p, q[:1]), 'q must hold .* at least two images'),
                        ((p.astype(complex), q), 'p must hold real features'),
                        ((p, q[:, :5]), 'p has 16 feature dimensions and q has 5'),
                        ((p, broken), 'q holds features that are NaN or infinite')):
        with pytest.raises(SpiderError, match=words):
            distance(*args)
