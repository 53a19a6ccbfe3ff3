"""Pairs of feature sets for the tests and the benchmark of SID, with fixed populations and any number of samples."""

import numpy as np

#----------------------------------------------------------------------------
# Golden cases: (seed, q, p), each a function of standard normal draws; q is drawn first, [400, n], then p, [300, n].

_scale = np.linspace(0.1, 0.5, 2048)

GOLDEN = {
    'shift':        (0, 2048, lambda z: 0.3 * z,                    lambda z: 0.3 * z + 0.09),
    'narrow':       (1, 2048, lambda z: 0.3 * z,                    lambda z: 0.24 * z),
    'relu':         (2, 2048, lambda z: np.maximum(_scale * z, 0),  lambda z: np.maximum(1.1 * _scale * z + 0.02, 0)),
    'dimension 64': (3, 64,   lambda z: z,                          lambda z: 1.25 * z),
}

def golden_pair(name):
    """p [300, n] and q [400, n]."""
    seed, dim, make_q, make_p = GOLDEN[name]
    rng = np.random.default_rng(seed)
    q = make_q(rng.standard_normal([400, dim]))
    return make_p(rng.standard_normal([300, dim])), q

#----------------------------------------------------------------------------
# Populations: (dim) -> function (count, rng) -> p, q, both float32 [count, dim].

def low_rank_shift(dim, shift=3):
    """Covariance of rank 8 plus noise; p is q shifted along a wide direction."""
    rng = np.random.default_rng(100)
    factors = rng.standard_normal([8, dim], dtype=np.float32) * np.float32([[3], [2], [2], [1], [1], [1], [1], [1]]) / 4
    direction = factors[0] / np.linalg.norm(factors[0])
    def draw(count, rng):
        z = rng.standard_normal([2 * count, 8 + dim], dtype=np.float32)
        both = z[:, :8] @ factors + z[:, 8:]
        return both[:count] + np.float32(shift) * direction * np.linalg.norm(factors[0]) / 3, both[count:]
    return draw

def same(dim):
    """One normal distribution twice, with standard deviations from 0.1 to 0.5."""
    scale = np.linspace(0.1, 0.5, dim, dtype=np.float32)
    def draw(count, rng):
        both = rng.standard_normal([2 * count, dim], dtype=np.float32) * scale
        return both[:count], both[count:]
    return draw

def rectified(dim):
    """Skewed features, many of them 0, of unequal widths and common factors; p is wider and off the centre."""
    rng = np.random.default_rng(101)
    factors = rng.standard_normal([8, dim], dtype=np.float32) / 4
    scale = np.linspace(0.1, 1, dim, dtype=np.float32)
    def draw(count, rng):
        z = rng.standard_normal([2 * count, 8 + dim], dtype=np.float32)
        both = (z[:, :8] @ factors + z[:, 8:]) * scale
        return np.maximum(1.1 * both[:count] + np.float32(0.05), 0), np.maximum(both[count:] - np.float32(0.1), 0)
    return draw

POPULATIONS = {'low-rank shift': low_rank_shift, 'same': same, 'rectified': rectified}

#----------------------------------------------------------------------------
