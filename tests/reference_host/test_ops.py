"""The image ops against their definitions, written out plainly here, and their derivatives to second order."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops import bias_act, conv2d_gradfix, conv2d_resample, fma, grid_sample_gradfix, upfirdn2d

def random(*shape, seed=0, **kwargs):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **kwargs)

def check_gradients(func, *inputs):
    inputs = [t.detach().requires_grad_() for t in inputs]
    assert gradcheck(func, inputs) and gradgradcheck(func, inputs)

#----------------------------------------------------------------------------
# bias_act.

ACTIVATIONS = {
    # act: (definition with the default alpha, default gain)
    'linear':   (lambda x: x, 1),
    'relu':     (lambda x: max(x, 0), math.sqrt(2)),
    'lrelu':    (lambda x: x if x > 0 else 0.2 * x, math.sqrt(2)),
    'tanh':     (math.tanh, 1),
    'sigmoid':  (lambda x: 1 / (1 + math.exp(-x)), 1),
    'elu':      (lambda x: x if x > 0 else math.exp(x) - 1, 1),
    'selu':     (lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)), 1),
    'softplus': (lambda x: math.log(1 + math.exp(x)), 1),
    'swish':    (lambda x: x / (1 + math.exp(-x)), math.sqrt(2)),
}

def test_bias_act_has_all_activations():
    assert bias_act.activation_funcs.keys() == ACTIVATIONS.keys()

@pytest.mark.parametrize('act', ACTIVATIONS)
def test_bias_act(act):
    define, gain = ACTIVATIONS[act]
    assert bias_act.activation_funcs[act].def_gain == pytest.approx(gain)
    x, b = random(2, 3, 5), random(3, seed=1)
    expected = torch.tensor([[[define(float(v)) for v in row + b[i]] for i, row in enumerate(sample)] for sample in x])
    torch.testing.assert_close(bias_act.bias_act(x, b, act=act), expected.double() * gain, rtol=1e-6, atol=1e-6)
    clamped = bias_act.bias_act(x, b, act=act, gain=3, clamp=0.5)
    torch.testing.assert_close(clamped, (expected.double() * 3).clamp(-0.5, 0.5), rtol=1e-6, atol=1e-6)
    check_gradients(lambda x, b: bias_act.bias_act(x, b, act=act, clamp=0.9), x, b)

def test_bias_act_options():
    x, b = random(2, 3, 4), random(4)
    assert torch.equal(bias_act.bias_act(x, b, dim=2), x + b)
    assert torch.equal(bias_act.bias_act(x, b, dim=-1), x + b)
    assert torch.equal(bias_act.bias_act(-x.abs(), act='lrelu', alpha=0.5, gain=1), -x.abs() / 2)
    assert bias_act.bias_act(x.half(), b.half(), dim=2, act='swish').dtype == torch.float16
    with pytest.raises(ValueError, match='bias_act'):
        bias_act.bias_act(x, b)

#----------------------------------------------------------------------------
# upfirdn2d.

def naive_upfirdn2d(x, f, up, down, padding, flip_filter, gain):
    """Compute by the definition, one output pixel at a time. up, down: (x, y); padding: (x0, x1, y0, y1); f: [Kh, Kw]."""
    x, f = x.numpy(), f.double().numpy() * gain
    f = f if flip_filter else f[::-1, ::-1]
    n, c, h, w = x.shape
    zeros = np.zeros([n, c, h * up[1], w * up[0]])
    zeros[:, :, ::up[1], ::up[0]] = x
    x0, x1, y0, y1 = padding
    wide = np.pad(zeros, [(0, 0), (0, 0), (max(y0, 0), max(y1, 0)), (max(x0, 0), max(x1, 0))])
    wide = wide[:, :, max(-y0, 0) : wide.shape[2] - max(-y1, 0), max(-x0, 0) : wide.shape[3] - max(-x1, 0)]
    rows = range(0, wide.shape[2] - f.shape[0] + 1, down[1])
    cols = range(0, wide.shape[3] - f.shape[1] + 1, down[0])
    out = [[(wide[:, :, i : i + f.shape[0], j : j + f.shape[1]] * f).sum(axis=(2, 3)) for j in cols] for i in rows]
    return torch.from_numpy(np.array(out)).permute(2, 3, 0, 1)

CASES = {
    # name: (filter shape, up, down, padding, flip_filter, gain)
    'plain':        ([4, 4], (1, 1), (1, 1), (0, 0, 0, 0), False, 1),
    'up':           ([4, 4], (2, 2), (1, 1), (2, 1, 2, 1), False, 4),
    'down':         ([4, 4], (1, 1), (2, 2), (1, 1, 1, 1), True, 1),
    'uneven':       ([3, 5], (3, 2), (2, 3), (4, 1, 0, 3), False, 0.7),
    'crop':         ([2, 3], (2, 1), (1, 2), (-1, 2, 3, -2), True, 2),
    'single tap':   ([1, 1], (2, 3), (1, 1), (0, 1, 2, 0), False, 1),
}

@pytest.mark.parametrize('case', CASES)
def test_upfirdn2d(case):
    x, f = random(2, 3, 7, 5), random(*CASES[case][0], seed=1).float()
    torch.testing.assert_close(upfirdn2d.upfirdn2d(x, f, **options_of(case)), naive_upfirdn2d(x, f, **options_of(case)))
    check_gradients(lambda x: upfirdn2d.upfirdn2d(x, f, **options_of(case)), x[:1, :2])

def options_of(case):
    return dict(zip(['up', 'down', 'padding', 'flip_filter', 'gain'], CASES[case][1:]))

@pytest.mark.parametrize('case', ['plain', 'uneven', 'crop'])
def test_upfirdn2d_separable_and_absent_filters(case):
    x, f = random(2, 3, 7, 5), random(4, seed=1).float()
    expected = naive_upfirdn2d(x, torch.outer(f.double(), f.double()), **options_of(case))
    torch.testing.assert_close(upfirdn2d.upfirdn2d(x, f, **options_of(case)), expected)
    expected = naive_upfirdn2d(x, torch.ones([1, 1]), **options_of(case))
    torch.testing.assert_close(upfirdn2d.upfirdn2d(x, None, **options_of(case)), expected)

@pytest.mark.parametrize('taps', [[1, 3, 3, 1], [1, 2, 1], [1], [1, 7, 21, 35, 35, 21, 7, 1]])
def test_resampling_keeps_constants_and_sizes(taps):
    f = upfirdn2d.setup_filter(taps)
    x = torch.ones([1, 2, 12, 10])
    for y, size in [(upfirdn2d.filter2d(x, f), (12, 10)), (upfirdn2d.downsample2d(x, f), (6, 5)),
                    (upfirdn2d.upsample2d(x, f), (24, 20)), (upfirdn2d.upsample2d(x, f, up=[1, 3]), (36, 10))]:
        assert y.shape[2:] == size
        if taps != [1] and 36 not in size: # Zeros between pixels need as many taps, of even and odd ones alike.
            inner = y[:, :, size[0] // 2, size[1] // 2]
            torch.testing.assert_close(inner, torch.ones_like(inner), rtol=0.03, atol=0)
    assert upfirdn2d.filter2d(x, f, padding=2).shape[2:] == (16, 14)

def test_setup_filter():
    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    assert torch.equal(upfirdn2d.setup_filter([1, 3, 3, 1]), torch.outer(taps, taps))
    assert torch.equal(upfirdn2d.setup_filter([1, 3, 3, 1], separable=True), taps)
    assert torch.equal(upfirdn2d.setup_filter([1, 3, 3, 1], gain=4), torch.outer(taps, taps) * 4)
    assert upfirdn2d.setup_filter(list(range(8))).shape == (8,)
    assert torch.equal(upfirdn2d.setup_filter(None), torch.ones([1, 1]))
    f = upfirdn2d.setup_filter([[1, 2], [3, 4]], normalize=False, flip_filter=True)
    assert f.tolist() == [[4, 3], [2, 1]] and f.dtype == torch.float32
    for wrong in [[], [[[1]]]]:
        with pytest.raises(ValueError, match='setup_filter'):
            upfirdn2d.setup_filter(wrong)

#----------------------------------------------------------------------------
# conv2d_resample.

def naive_conv2d_resample(x, w, f, up, down, padding, groups, flip_weight, flip_filter):
    """Upsample with f centred, convolve, downsample with f centred: three steps."""
    fh, fw = f.shape
    pad = np.array([padding] * 4 if isinstance(padding, int) else padding)
    if up > 1:
        pad += [(fw + up - 1) // 2, (fw - up) // 2, (fh + up - 1) // 2, (fh - up) // 2]
    if down > 1:
        pad += [(fw - down + 1) // 2, (fw - down) // 2, (fh - down + 1) // 2, (fh - down) // 2]
    one = torch.ones([1, 1])
    x = naive_upfirdn2d(x, f if up > 1 else one, (up, up), (1, 1), pad.tolist(), flip_filter, up ** 2)
    x = F.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)
    return naive_upfirdn2d(x, f if down > 1 else one, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1)

@pytest.mark.parametrize('up, down', [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2)])
@pytest.mark.parametrize('kernel', [1, 3, 4])
@pytest.mark.parametrize('groups', [1, 2])
def test_conv2d_resample(up, down, kernel, groups):
    x, w = random(2, 4, 7, 8), random(6, 4 // groups, kernel, kernel, seed=1)
    for taps, flip_weight, flip_filter in [([4, 4], True, False), ([3, 5], False, True)]:
        f = random(*taps, seed=2).float()
        options = dict(up=up, down=down, padding=kernel // 2, groups=groups, flip_weight=flip_weight, flip_filter=flip_filter)
        expected = naive_conv2d_resample(x, w, f, **options)
        torch.testing.assert_close(conv2d_resample.conv2d_resample(x, w, f, **options), expected)

@pytest.mark.parametrize('up, down', [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize('padding', [[2, 0, 1, 3], [-1, 2, 0, -2], [-1, -1, -2, -2]])
def test_conv2d_resample_uneven_padding(up, down, padding):
    x, w, f = random(1, 2, 9, 8), random(3, 2, 3, 3, seed=1), random(4, 4, seed=2).float()
    options = dict(up=up, down=down, padding=padding, groups=1, flip_weight=True, flip_filter=False)
    expected = naive_conv2d_resample(x, w, f, **options)
    torch.testing.assert_close(conv2d_resample.conv2d_resample(x, w, f, **options), expected)

@pytest.mark.parametrize('up, down, kernel', [(1, 1, 3), (2, 1, 3), (1, 2, 3), (1, 2, 1), (2, 1, 1)])
def test_conv2d_resample_gradients(up, down, kernel):
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    check_gradients(lambda x, w: conv2d_resample.conv2d_resample(x, w, f, up=up, down=down, padding=kernel // 2, groups=2,
                                                                 flip_weight=(up == 1)),
                    random(1, 2, 5, 3), random(2, 1, kernel, kernel, seed=1))

def test_half_precision_stays_close():
    x, w, f = random(1, 2, 8, 8), random(2, 2, 3, 3, seed=1), upfirdn2d.setup_filter([1, 3, 3, 1])
    for options in [dict(up=2), dict(down=2), dict()]:
        full = conv2d_resample.conv2d_resample(x, w, f, padding=1, **options)
        half = conv2d_resample.conv2d_resample(x.half(), w.half(), f, padding=1, **options)
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.double(), full, rtol=0.02, atol=0.02)

#----------------------------------------------------------------------------
# Ops that are torch's.

def test_names_that_network_code_uses():
    x, w = random(1, 2, 5, 5), random(3, 2, 3, 3)
    with conv2d_gradfix.no_weight_gradients():
        assert torch.equal(conv2d_gradfix.conv2d(input=x, weight=w, padding=1), F.conv2d(x, w, padding=1))
    y = conv2d_gradfix.conv2d(x, w)
    assert conv2d_gradfix.conv_transpose2d(input=y, weight=w, stride=2, output_padding=1).shape == (1, 2, 8, 8)
    a, b, c = random(2, 1), random(1, 3), random(3)
    assert torch.allclose(fma.fma(a, b, c), a * b + c)
    grid = torch.tensor([[[[0.0, 0.0], [2.0, 2.0]]]], dtype=torch.float64)
    sampled = grid_sample_gradfix.grid_sample(x, grid)
    assert torch.equal(sampled, torch.stack([x[:, :, 2, 2], torch.zeros(1, 2)], dim=-1).unsqueeze(2))
