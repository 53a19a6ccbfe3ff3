"""SID in closed form: golden values, signs, sums in blocks, forms of input, errors."""

import json

import numpy as np
import pytest
import torch

import spider_plugin.metrics.sid as sid_module
from benchmarks.common.sid_pairs import GOLDEN, golden_pair
from spider_plugin.errors import SpiderError
from spider_plugin.metrics.sid import RADII, sid

def _normal(count, dim, seed=0, scale=1.0, shift=0.0):
    return scale * np.random.default_rng(seed).standard_normal([count, dim]) + shift

#----------------------------------------------------------------------------
# Golden values, from an independent computation in float64.

CHECKSUMS = {   # q[0, 0], sum q, p[0, 0], sum p
    'shift':        (0.037719066, 223.332783, 0.230483246, 55215.643802),
    'narrow':       (0.103675258, -259.125679, 0.080202968, 132.482178),
    'relu':         (0.018905338, 98223.364844, 0.099499382, 87224.709390),
    'dimension 64': (2.040919121, 183.724987, -0.054619439, 80.083062),
}

VALUES = [      # case, order; debiased value, its conditional interval, SID at j = 4; value and SID at j = 4 without debias
    ('shift', 1,        15.850169, 0.957935, 0.491995,          16.782781, 0.520966),
    ('narrow', 1,       -68.813277, 0.715740, -2.275041,        -67.853957, -2.243186),
    ('relu', 1,         36.228215, 1.219239, 1.055915,          36.837006, 1.073705),
    ('relu', -1,        0.106748593, 0.003475898, 0.010227558,  0.108563325, 0.010401986),
    ('dimension 64', 1, 59.242164, 3.742180, 1.754532,          59.774009, 1.770426),
]

def _close(value, golden):
    """To 1e-6, or to the last digit of the table."""
    return value == pytest.approx(golden, rel=1e-6, abs=0.51 * 10 ** -(9 if abs(golden) < 0.2 else 6))

@pytest.mark.parametrize('name', GOLDEN)
def test_golden_inputs(name):
    p, q = golden_pair(name)
    assert [q[0, 0], q.sum(), p[0, 0], p.sum()] == pytest.approx(CHECKSUMS[name], abs=6e-7)

@pytest.mark.parametrize('row', VALUES, ids=lambda row: f'{row[0]}, {row[1]}')
def test_golden_values(row):
    name, order, value, ci95, at_one, value_off, at_one_off = row
    on, off = [sid(*golden_pair(name), order=order, debias=debias) for debias in [True, False]]
    assert _close(on.value, value) and _close(on.ci95_conditional, ci95)
    assert _close(off.value, value_off)
    assert _close(on.curve[3], at_one) and _close(off.curve[3], at_one_off)
    assert on.r1 == pytest.approx(on.curve[3], rel=1e-12) and on.value == pytest.approx(on.curve.sum())

def test_golden_parts():
    p, q = golden_pair('shift')
    result, square = sid(p, q), sid(p, q, order=2)
    assert _close(result.curve[198], 0.0200944896)
    assert square.curve == pytest.approx(np.full(199, 15.686255), rel=1e-6)
    noise = p.var(axis=0, ddof=1).sum() / len(p) + q.var(axis=0, ddof=1).sum() / len(q)   # What the plain split mixes up.
    assert _close(result.location + noise, 17.444372) and _close(result.spread - noise, -1.758117)
    assert _close(q.std(axis=0, ddof=1).mean(), 0.299979518)

#----------------------------------------------------------------------------
# The same by plain numpy, from the formulas, for sigma='vector' and other orders.

def _plain(p, q, order, sigma, radii, debias):
    mean, var = q.mean(axis=0), q.var(axis=0, ddof=1)
    width = np.sqrt(var) if sigma == 'vector' else np.full_like(var, np.sqrt(var).mean())
    curve = np.zeros(len(radii))
    for sign, c in [(1, p), (-1, q)]:
        square = (c - mean) ** 2
        if debias:
            square = square - var / len(q) if sign > 0 else square * len(q) / (len(q) - 1)
        for j, r in enumerate(radii):
            A = (square + (r * width) ** 2 / 3).sum(axis=1)
            V = (4 / 45 * (r * width) ** 4 + 4 / 3 * (r * width) ** 2 * square).sum(axis=1)
            g = np.sign(order) * A ** (order / 2) * (1 + order / 2 * (order / 2 - 1) / 2 * V / A ** 2)
            curve[j] += sign * g.mean()
    return curve

@pytest.mark.parametrize('debias', [True, False])
@pytest.mark.parametrize('sigma', ['scalar', 'vector'])
@pytest.mark.parametrize('order', [1, -1, -3, 0.5, 4])
def test_equals_the_formulas(order, sigma, debias):
    scale = np.linspace(0.1, 2, 48)
    p, q = _normal(70, 48, 1, 1.1, 0.2) * scale, _normal(90, 48, 2) * scale
    radii = [0.3, 1, 2.5, 20]
    result = sid(p, q, order=order, sigma=sigma, radii=radii, debias=debias)
    np.testing.assert_allclose(result.curve, _plain(p, q, order, sigma, radii, debias), rtol=1e-9)
    assert result.r1 == pytest.approx(result.curve[1]) and list(result.radii) == radii

#----------------------------------------------------------------------------

def test_signs():
    q = _normal(1000, 32, 1)
    shifted, narrow, wide, same = [sid(_normal(1000, 32, 2, scale, shift), q)
                                   for scale, shift in [(1, 0.5), (0.8, 0), (1.25, 0), (1, 0)]]
    assert shifted.value > 5 * shifted.ci95 and 'positive: p is off the centre of q (' in shifted.explain()
    assert narrow.value < -5 * narrow.ci95 and 'negative: p is narrower than q and inside it (' in narrow.explain()
    assert wide.value > 5 * wide.ci95 and 'positive: p is wider than q (' in wide.explain()
    assert abs(same.value) < same.ci95 and 'is zero within its interval' in same.explain()
    assert 'cancel' not in same.explain()

def test_a_shift_and_a_narrowing_that_cancel_are_named():
    result = sid(_normal(300, 32, 2, 0.8, 0.6), _normal(300, 32, 1))
    assert abs(result.value) < result.ci95 and result.location > 0 > result.spread and 'the two cancel' in result.explain()

def test_an_order_that_disagrees_with_variance_is_explained():
    p = _normal(1000, 32, 2, 0.7)
    p[:20] *= 12                                            # Narrow, with a few outliers that hold most of the variance.
    q = _normal(1000, 32, 1)
    result = sid(p, q, order=-1)
    assert result.spread > 0 > result.value + result.ci95 and 'nearer to the centre of q' in result.explain()

def test_a_set_against_itself():
    q = _normal(300, 40, 3)
    result = sid(q, q.copy(), debias=False)
    assert result.value == 0 and not result.curve.any() and result.location == result.spread == result.r1 == 0
    half = sid(q[:150], q[150:])
    assert abs(half.value) < half.ci95

def test_location_and_spread_add_up_to_the_second_order():
    p, q = _normal(80, 20, 1, 1.3, 0.4), _normal(120, 20, 2)
    for debias in [True, False]:
        result = sid(p, q, order=2, debias=debias)
        np.testing.assert_allclose(result.curve, result.location + result.spread, rtol=1e-9)

def test_location_and_spread_are_unbiased():
    results = [sid(_normal(60, 16, 2 * i), _normal(60, 16, 2 * i + 1), radii=[1]) for i in range(400)]
    location, spread = np.array([[result.location, result.spread] for result in results]).T
    assert abs(location.mean()) < 4 * location.std() / 20 and abs(spread.mean()) < 4 * spread.std() / 20
    assert location.std() < 0.25                            # The bias taken out is 16 / 60 * 2 = 0.53.

#----------------------------------------------------------------------------

@pytest.mark.parametrize('sigma', ['scalar', 'vector'])
def test_blocks_change_nothing(monkeypatch, sigma):
    p, q = _normal(130, 30, 1, 1.2, 0.1), _normal(151, 30, 2)
    whole = sid(p, q, sigma=sigma).as_dict()
    monkeypatch.setattr(sid_module, 'BLOCK', 7 * 199)
    blocked = sid(p, q, sigma=sigma).as_dict()
    for name in ['curve', 'value', 'ci95', 'ci95_conditional', 'r1', 'location', 'spread']:
        assert blocked[name] == pytest.approx(whole[name], rel=1e-11, abs=1e-12)

def test_arrays_and_tensors_of_any_dtype(tmp_path):
    p, q = [features.astype(np.float32) for features in [_normal(60, 24, 1, 1.2), _normal(70, 24, 2)]]
    expected = sid(p, q)
    np.save(tmp_path / 'q.npy', q)
    mapped = np.load(tmp_path / 'q.npy', mmap_mode='r')
    leaf = torch.from_numpy(p).requires_grad_(True)
    for pair in [(p, torch.from_numpy(q)), (leaf, q), (p.astype(np.float64), q), (p[:, ::-1][:, ::-1], mapped)]:
        assert sid(*pair).as_dict() == expected.as_dict()
    half = sid(p.astype(np.float16), torch.from_numpy(q).to(torch.bfloat16))
    assert half.value == pytest.approx(expected.value, rel=0.02) and half.value != expected.value

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a cuda device')
def test_on_cuda():
    p, q = _normal(300, 64, 1, 1.2), _normal(400, 64, 2)
    expected, result = sid(p, q), sid(torch.from_numpy(p).cuda(), torch.from_numpy(q).cuda())
    np.testing.assert_allclose(result.curve, expected.curve, rtol=1e-9)
    assert result.ci95 == pytest.approx(expected.ci95, rel=1e-9)

def test_dead_dimensions_and_a_collapsed_p_are_harmless():
    p, q = _normal(60, 24, 1), _normal(70, 24, 2)
    p[:, :3], q[:, :3] = 0, 0
    for sigma in ['scalar', 'vector']:
        assert np.isfinite(sid(p, q, sigma=sigma).ci95)
    collapsed = q.mean(axis=0) + 1e-3 * _normal(60, 24, 1)  # Debiasing takes its distances below zero.
    result = sid(collapsed, q, radii=[0.01, 0.1, 1])
    assert np.isfinite(result.curve).all() and result.value < -result.ci95

def test_result_is_json():
    result = sid(_normal(60, 24, 1), _normal(70, 24, 2))
    read = json.loads(json.dumps(result.as_dict()))
    assert read['curve'] == list(result.curve) and read['num_p'] == 60 and read['num_q'] == 70 and len(RADII) == 199

#----------------------------------------------------------------------------

def _with(value):
    features = _normal(60, 16)
    features[17, 3] = value
    return features

GOOD = _normal(60, 16, 5)

@pytest.mark.parametrize('p, q, options, words', [
    (_with(np.nan), GOOD, {}, 'p holds features that are NaN or infinite'),
    (GOOD, _with(-np.inf), {}, 'q holds features that are NaN or infinite'),
    (GOOD, np.full([60, 16], 0.1), {}, 'q holds the same features for every image'),
    (np.zeros([60, 16]), GOOD, {}, 'p holds the same features for every image'),
    (GOOD, GOOD[:1], {}, 'q holds the features of one image'),
    (GOOD[:20], GOOD, {}, 'p holds the features of 20 images'),
    (GOOD[:0], GOOD, {}, 'p holds the features of no image'),
    (GOOD, _normal(60, 17), {}, 'p has 16 feature dimensions and q has 17'),
    (GOOD[0], GOOD, {}, r'p must hold features of the shape \[images, dimensions\], not \[16\]'),
    (GOOD, GOOD[None], {}, 'q must hold features'),
    (GOOD[:, :7], GOOD[:, :7], {}, 'needs at least 8 feature dimensions, not 7'),
    (GOOD, GOOD, dict(order=-3), 'of order -3 needs at least 24 feature dimensions'),
    (GOOD, GOOD, dict(order=0), 'order=0'),
    (GOOD, GOOD, dict(order=-2046), 'order=-2046'),
    (GOOD, GOOD, dict(order=float('nan')), 'order=nan'),
    (GOOD, GOOD, dict(sigma='matrix'), 'sigma=matrix'),
    (GOOD, GOOD, dict(radii=[]), 'radii'),
    (GOOD, GOOD, dict(radii=[0, 1]), 'radii'),
    (GOOD, GOOD, dict(radii=[1, np.inf]), 'radii'),
])
def test_errors_are_one_sentence(p, q, options, words):
    with pytest.raises(SpiderError, match=words) as error:
        sid(p, q, **options)
    message = str(error.value.message)
    assert message.endswith('.') and message.count('. ') == 0 and '\n' not in message
