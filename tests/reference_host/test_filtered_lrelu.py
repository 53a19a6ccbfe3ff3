"""The filtered leaky ReLU against its definition, written out plainly here, and its derivatives to second order."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.filtered_lrelu import filtered_lrelu

def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

def naive_resample(x, f, up, down, padding, flip_filter):
    """Resample by the definition. Each output pixel is a sum over taps on input pixels, on zeros, or outside the image."""
    f = np.ones([1, 1]) if f is None else f.double().numpy()
    f = np.outer(f, f) if f.ndim == 1 else f
    f = f if flip_filter else f[::-1, ::-1]
    x0, x1, y0, y1 = [padding] * 4 if isinstance(padding, int) else padding
    n, c, h, w = x.shape
    rows, cols = (range(0, size * up + before + after - taps + 1, down)
                  for size, before, after, taps in [(h, y0, y1, f.shape[0]), (w, x0, x1, f.shape[1])])
    out = torch.zeros([n, c, len(rows), len(cols)], dtype=torch.float64)
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            for (a, b), tap in np.ndenumerate(f):
                (y, odd_y), (x_, odd_x) = divmod(row + a - y0, up), divmod(col + b - x0, up)
                if odd_y == odd_x == 0 and 0 <= y < h and 0 <= x_ < w:
                    out[:, :, i, j] += x[:, :, y, x_] * tap
    return out

def naive_filtered_lrelu(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter):
    x = naive_resample(x + b[:, None, None], fu, up, 1, padding, flip_filter) * up ** 2
    x = torch.where(x > 0, x, slope * x) * gain
    x = x if clamp is None else x.clamp(-clamp, clamp)
    return naive_resample(x, fd, 1, down, 0, flip_filter)

CASES = {
    # name: (fu, fd, up, down, padding, gain, slope, clamp, flip_filter)
    'separable':    ([6], [4], 2, 2, [3, 2, 4, 1], math.sqrt(2), 0.2, None, False),
    'two factors':  ([8], [4], 4, 2, [-1, -3, 2, 5], 1.5, 0.1, 0.8, False),
    'planar':       ([3, 5], [4, 2], 2, 1, [2, 3, 1, 4], math.sqrt(2), 0.2, 0.5, True),
    'radial down':  ([6], [5, 5], 2, 3, 5, 0.7, 0.3, 1.0, False),
    'no filters':   (None, None, 1, 1, 0, 1, 1, 0.9, False),
    'no up':        (None, [4], 1, 2, [1, 2, 3, 0], math.sqrt(2), 0.2, None, True),
}

def filters_of(case):
    return [shape and random(*shape, seed=i).float() for i, shape in enumerate(CASES[case][:2])]

def options_of(case):
    return dict(zip(['up', 'down', 'padding', 'gain', 'slope', 'clamp', 'flip_filter'], CASES[case][2:]))

@pytest.mark.parametrize('case', CASES)
def test_definition(case):
    x, b, (fu, fd) = random(2, 3, 5, 7), random(3, seed=1), filters_of(case)
    y = filtered_lrelu(x, fu, fd, b, **options_of(case))
    torch.testing.assert_close(y, naive_filtered_lrelu(x, fu, fd, b, **options_of(case)))

@pytest.mark.parametrize('case', CASES)
def test_derivatives(case):
    x, b, (fu, fd) = random(1, 2, 4, 5).requires_grad_(), random(2, seed=1).requires_grad_(), filters_of(case)
    run = lambda x, b: filtered_lrelu(x, fu, fd, b, **options_of(case))
    assert run(x, b).numel() > 0
    assert gradcheck(run, [x, b]) and gradgradcheck(run, [x, b])

def test_defaults():
    x = random(1, 2, 3, 4)
    torch.testing.assert_close(filtered_lrelu(x), torch.where(x > 0, x, 0.2 * x) * math.sqrt(2))

def test_wrong_arguments():
    x = random(1, 2, 3, 4)
    for wrong in [dict(b=random(3)), dict(up=0), dict(down=0)]:
        with pytest.raises(ValueError):
            filtered_lrelu(x, **wrong)

def test_half_precision_stays_close():
    x, b, (fu, fd) = random(2, 3, 8, 8), random(3, seed=1), filters_of('separable')
    half = filtered_lrelu(x.half(), fu, fd, b.half(), **options_of('separable'))
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), filtered_lrelu(x, fu, fd, b, **options_of('separable')), rtol=0.03, atol=0.1)
