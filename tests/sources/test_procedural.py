"""Control and procedural sources: shapes, seeds, and the properties that their names promise."""

import numpy as np
import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.registry import sources

BUILT_IN = ['noise', 'covariance', 'strokes', 'shapes']

def draw(name, count=8, resolution=16, channels=3, seed=0, reference=None):
    if name == 'covariance' and reference is None:
        reference = np.random.RandomState(1).randint(0, 256, [10, channels, resolution, resolution]).astype(np.uint8)
    return sources[name](count, resolution, channels, np.random.default_rng(seed), reference)

@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('name', BUILT_IN)
def test_shape_and_seed(name, channels):
    images = draw(name, channels=channels)
    assert images.dtype == np.uint8 and images.shape == (8, channels, 16, 16)
    assert (images == draw(name, channels=channels)).all()
    assert (images != draw(name, channels=channels, seed=1)).any()
    assert all((images[0] != other).any() for other in images[1:])

def test_noise_has_mean_half_and_independent_pixels():
    flat = draw('noise', count=2000, resolution=4).reshape(2000, -1) / 255
    assert abs(flat.mean() - 0.5) < 0.005 and abs(flat.std() - 0.2) < 0.01
    correlation = np.corrcoef(flat.T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.12

def test_covariance_has_the_moments_of_its_reference_and_another_third_one():
    rng = np.random.RandomState(0)
    pattern = rng.uniform(-1, 1, [1, 4, 4])
    sign = np.where(rng.rand(3000) < 0.2, 2.0, -0.5)[:, None, None, None]      # skewed: its third moment is not a Gaussian's
    reference = np.rint(128 + 20 * sign * pattern + 5 * rng.randn(3000, 1, 4, 4)).astype(np.uint8)
    images = draw('covariance', count=20000, resolution=4, channels=1, reference=reference)
    a, b = reference.reshape(3000, -1).astype(float), images.reshape(20000, -1).astype(float)
    assert np.abs(a.mean(0) - b.mean(0)).max() < 0.7
    assert np.abs(np.cov(a.T) - np.cov(b.T)).max() < 0.05 * np.cov(a.T).max()
    along = lambda x: (x - x.mean(0)) @ pattern.ravel()
    skew = lambda x: (x ** 3).mean() / (x ** 2).mean() ** 1.5
    assert skew(along(a)) > 1 and abs(skew(along(b))) < 0.1

def test_covariance_without_reference_says_what_to_write():
    with pytest.raises(SpiderError, match='covariance:PATH'):
        sources['covariance'](8, 16, 3, np.random.default_rng(0), None)

def test_strokes_are_on_black_and_shapes_on_plain_ground():
    strokes = draw('strokes', count=64)
    assert (strokes.max(axis=(1, 2, 3)) > 90).all()
    assert np.median(strokes[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]) < 10
    shapes = draw('shapes', count=64, resolution=32)
    at_least_two_tones = shapes.reshape(64, -1).std(axis=1) > 2
    assert at_least_two_tones.mean() > 0.9
