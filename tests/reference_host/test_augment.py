"""Sampling with derivatives of any order, and the effect of each augmentation on an image."""

import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops import grid_sample_gradfix
from training.augment import AugmentPipe, augpipe_specs
from training.loss import StyleGAN2Loss

def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)

def torch_grid_sample(x, grid):
    return F.grid_sample(x, grid, mode='bilinear', padding_mode='zeros', align_corners=False)

#----------------------------------------------------------------------------
# grid_sample.

SAMPLERS = [grid_sample_gradfix.grid_sample, grid_sample_gradfix.four_corners] # The second one is for MPS.
SHAPES = [(1, 1, 1, 1, 3, 2), (2, 3, 5, 4, 3, 6), (3, 2, 7, 1, 1, 5)] # N, C, H, W, H', W'

def sampling_of(n, c, h, w, out_h, out_w, dtype=torch.float64):
    """Return an input and a grid that extends beyond it."""
    return random(n, c, h, w).to(dtype), random(n, out_h, out_w, 2, seed=1).to(dtype)

@pytest.mark.parametrize('sample', SAMPLERS)
@pytest.mark.parametrize('shape', SHAPES)
def test_grid_sample(sample, shape):
    x, grid = sampling_of(*shape)
    torch.testing.assert_close(sample(x, grid), torch_grid_sample(x, grid))
    x.requires_grad_()
    expected, = torch.autograd.grad(torch_grid_sample(x, grid).square().sum(), x)
    torch.testing.assert_close(torch.autograd.grad(sample(x, grid).square().sum(), x)[0], expected)
    assert gradcheck(lambda x: sample(x, grid), x) and gradgradcheck(lambda x: sample(x, grid), x)

def test_grid_sample_has_a_third_derivative():
    x, grid = sampling_of(*SHAPES[1])
    found = []
    for sample in SAMPLERS:
        x = x.detach().requires_grad_()
        y = (sample(x, grid) ** 4).sum()
        for _ in range(3):
            y = torch.autograd.grad(y, x, create_graph=True)[0].square().sum()
        found.append(y)
    assert found[0] > 0
    torch.testing.assert_close(*found)

@pytest.mark.parametrize('sample', SAMPLERS)
@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_grid_sample_keeps_the_dtype(sample, dtype, tolerance):
    x, grid = sampling_of(*SHAPES[1], dtype=dtype)
    y = sample(x.requires_grad_(), grid)
    y.float().sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    torch.testing.assert_close(y.double(), torch_grid_sample(x.double(), grid.double()), rtol=tolerance, atol=tolerance)

def test_a_grid_that_needs_gradients_gets_them():
    x, grid = sampling_of(*SHAPES[1])
    expected, = torch.autograd.grad(torch_grid_sample(x, grid.requires_grad_()).sum(), grid)
    assert expected.any()
    assert torch.equal(torch.autograd.grad(grid_sample_gradfix.grid_sample(x, grid).sum(), grid)[0], expected)

#----------------------------------------------------------------------------
# The pipe as a whole.

def pipe_of(p, **kwargs):
    pipe = AugmentPipe(**kwargs)
    pipe.p.fill_(p)
    return pipe

def augment(pipe, images, seed=0, **kwargs):
    torch.manual_seed(seed)
    return pipe(images, **kwargs)

def test_specs():
    assert list(augpipe_specs) == ['blit', 'geom', 'color', 'filter', 'noise', 'cutout', 'bg', 'bgc', 'bgcf', 'bgcfn', 'bgcfnc']
    switches = {'xflip', 'rotate90', 'xint', 'scale', 'rotate', 'aniso', 'xfrac', 'brightness', 'contrast', 'lumaflip', 'hue',
                'saturation', 'imgfilter', 'noise', 'cutout'}
    assert augpipe_specs['bgcfnc'] == dict.fromkeys(switches, 1)
    assert augpipe_specs['bgc'].keys() == switches - {'imgfilter', 'noise', 'cutout'}

@pytest.mark.parametrize('name', augpipe_specs)
@pytest.mark.parametrize('shape', [(1, 3, 4, 4), (3, 1, 16, 11), (2, 3, 1, 5)])
def test_images_do_not_change_by_a_bit_at_p_0(name, shape):
    images = random(*shape, dtype=torch.float32)
    assert torch.equal(augment(pipe_of(0, **augpipe_specs[name]), images), images)
    assert torch.equal(AugmentPipe()(images), images)

def test_images_without_augmentation_stay_equal_beside_others():
    images = random(64, 3, 16, 16, dtype=torch.float32)
    changed = [bool((a != b).any()) for a, b in zip(images, augment(pipe_of(0.05, **augpipe_specs['bgcfnc']), images))]
    assert 10 < sum(changed) < 54

@pytest.mark.parametrize('name', augpipe_specs)
def test_images_do_not_affect_each_other(name):
    images = random(4, 3, 12, 16)
    others = torch.cat([images[:2], random(2, 3, 12, 16, seed=1)])
    pipe = pipe_of(0.7, **augpipe_specs[name])
    actual, reference = augment(pipe, images), augment(pipe, others)
    torch.testing.assert_close(actual[:2], reference[:2], rtol=0, atol=1e-12)
    assert torch.equal(actual, augment(pipe, images)) # The same seed.
    assert not torch.equal(actual, augment(pipe, images, seed=1))

def test_dtypes():
    pipe = pipe_of(1, **augpipe_specs['bgcfnc'])
    images = random(3, 3, 16, 16, dtype=torch.float32).half()
    assert augment(pipe, images).dtype == torch.float16
    assert torch.equal(augment(pipe, images), augment(pipe, images.float()).half())

def test_colours_need_grey_or_rgb():
    images = random(2, 4, 16, 16, dtype=torch.float32)
    for name in ['color', 'bgcfnc']:
        with pytest.raises(ValueError, match='1 or 3 channels, not 4'):
            pipe_of(0, **augpipe_specs[name])(images)
    pipe = pipe_of(1, **augpipe_specs['bg'], **augpipe_specs['filter'], **augpipe_specs['noise'], **augpipe_specs['cutout'])
    assert pipe(images).shape == images.shape
    with pytest.raises(ValueError, match='imgfilter_bands holds 4 numbers'):
        AugmentPipe(imgfilter_bands=[1, 1])

def test_pickles_and_copies():
    images, pipe = random(4, 3, 16, 16, dtype=torch.float32), pipe_of(0.3, **augpipe_specs['bgcfnc'], noise_std=0.2)
    for other in [pickle.loads(pickle.dumps(pipe)), AugmentPipe(**pipe.init_kwargs)]:
        other.load_state_dict(pipe.state_dict())
        assert torch.equal(augment(other, images), augment(pipe, images))

#----------------------------------------------------------------------------
# How often: with its number and p, alike for every transform.

HAPPENS = {     # name: probability that the augmentation has an effect
    'xflip': 1 / 2, 'rotate90': 3 / 4, 'xint': 1, 'scale': 1, 'rotate': 1, 'aniso': 1, 'xfrac': 1, 'brightness': 1, 'contrast': 1,
    'lumaflip': 1 / 2, 'hue': 1, 'saturation': 1, 'imgfilter': 1, 'noise': 1, 'cutout': 1,
}

@pytest.mark.parametrize('name', HAPPENS)
@pytest.mark.parametrize('multiplier, p', [(1, 0.4), (0.5, 1)])
def test_probability(name, multiplier, p):
    n, options = 2000, dict(xint_max=100, imgfilter_bands=[0, 1, 0, 0])
    images = random(1, 3, 3, 3, dtype=torch.float32).expand(n, -1, -1, -1)
    augmented = augment(pipe_of(p, **{name: multiplier}, **options), images)
    share = float((augmented != images).flatten(1).any(dim=1).float().mean())
    expected = multiplier * p * HAPPENS[name]
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n)

#----------------------------------------------------------------------------
# The effect of each one. A percentile applies it to every image with a known strength.

def normal(percentile, std):
    return std * float(torch.erfinv(torch.tensor(2 * percentile - 1, dtype=torch.float64)))

def at(percentile, images, **kwargs):
    return augment(pipe_of(0, **kwargs), images, debug_percentile=percentile)

def close(a, b, atol=1e-6):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)

def smooth(size=32):
    """Return a function of two coordinates that gives [2, 3, S, S] of low frequencies, and pixel coordinates from the center."""
    phases = random(2, 3, 2).reshape(2, 3, 2, 1, 1)
    function = lambda x, y: torch.sin(0.15 * x + phases[:, :, 0]) + torch.cos(0.1 * y + phases[:, :, 1])
    places = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return function, places[None, :], places[:, None]

def inner(images, border=8):
    return images[:, :, border : -border, border : -border]

@pytest.mark.parametrize('size', [32, 33])
def test_flips_and_turns(size):
    """They are exact up to a shift by a tenth of a pixel, because the filter is not quite symmetric."""
    function, x, y = smooth(size)
    images = function(x, y)
    assert torch.equal(at(0.3, images, xflip=1), images)
    close(inner(at(0.7, images, xflip=1)), inner(images.flip(3)), 0.03)
    for turns in range(4):
        close(inner(at(turns / 4 + 0.1, images, rotate90=1)), inner(images.rot90(turns, dims=[2, 3])), 0.03)

@pytest.mark.parametrize('percentile', [0, 0.3, 1])
def test_integer_translations_reflect(percentile):
    images = random(2, 1, 16, 24)
    right, down = [round((2 * percentile - 1) * 0.125 * size) for size in [24, 16]]
    wide = F.pad(images, [8, 8, 8, 8], mode='reflect')
    close(at(percentile, images, xint=1), wide[:, :, 8 - down : 24 - down, 8 - right : 32 - right])

@pytest.mark.parametrize('percentile', [0.2, 0.5, 0.7])
def test_geometry_moves_places(percentile):
    function, x, y = smooth()
    images = function(x, y)
    factor, angle, shift = 2 ** normal(percentile, 0.3), (2 * percentile - 1) * math.pi * 0.8, normal(percentile, 0.1) * 32
    c, s = math.cos(angle), math.sin(angle)
    close(inner(at(percentile, images, scale=1, scale_std=0.3)), inner(function(x / factor, y / factor)), 0.02)
    close(inner(at(percentile, images, rotate=1, rotate_max=0.8)), inner(function(c * x - s * y, s * x + c * y)), 0.02)
    close(inner(at(percentile, images, aniso=1, aniso_std=0.3)), inner(function(x / factor, y * factor)), 0.02)
    close(inner(at(percentile, images, xfrac=1, xfrac_std=0.1)), inner(function(x - shift, y - shift)), 0.02)

def test_far_translations_reflect_once():
    images = 1 + random(1, 1, 8, 8).abs()
    moved = at(1, images, xint=1, xint_max=3)
    assert not moved.any()
    close(at(1, images, xint=1, xint_max=0.5), F.pad(images, [4, 0, 4, 0], mode='reflect')[:, :, :8, :8])

@pytest.mark.parametrize('percentile', [0.2, 0.8])
def test_colours(percentile):
    images = random(2, 3, 4, 4)
    grey = images.mean(dim=1, keepdim=True)
    factor = 2 ** normal(percentile, 0.5)
    close(at(percentile, images, brightness=1, brightness_std=0.5), images + normal(percentile, 0.5))
    close(at(percentile, images, contrast=1), images * factor)
    close(at(percentile, images, lumaflip=1), images - (2 * grey if percentile > 0.5 else 0))
    close(at(percentile, images, saturation=1, saturation_std=0.5), grey + (images - grey) * factor)
    close(at(1, images, hue=1, hue_max=2 / 3), images[:, [2, 0, 1]]) # A third of a turn: red to green to blue.
    quarter = at(1, images, hue=1, hue_max=1 / 2)
    close(quarter.mean(dim=1, keepdim=True), grey)
    close(((quarter - grey) * (images - grey)).sum(dim=1), torch.zeros(2, 4, 4, dtype=torch.float64))

def test_order_of_colours():
    images, std = random(2, 3, 4, 4), 0.5
    b, factor = normal(0.8, std), 2 ** normal(0.8, std)
    found = at(0.8, images, brightness=1, contrast=1, brightness_std=std, contrast_std=std)
    close(found, (images + b) * factor)

def test_colours_of_grey_images():
    images = random(2, 1, 4, 4)
    assert torch.equal(at(0.8, images, hue=1, saturation=1), images)
    kwargs = dict(brightness=1, contrast=1, lumaflip=1)
    close(at(0.8, images, **kwargs), at(0.8, images.expand(-1, 3, -1, -1), **kwargs)[:, :1])
    close(at(0.8, images, lumaflip=1), -images)

@pytest.mark.parametrize('band, frequency', [(0, 0), (1, 3 / 16), (2, 3 / 8), (3, 1)])
def test_bands(band, frequency):
    """A wave in x is amplified with its band; in y it has frequency 0, which is in the lowest band."""
    wave = torch.cos(torch.arange(96, dtype=torch.float64) * math.pi * frequency)
    images = wave.expand(1, 3, 96, 96)
    for amplified in range(4):
        factor = 2 ** normal(0.8, 1)
        share = 10 / 13 if amplified == 0 else 1 / 13
        norm = math.sqrt(share * factor ** 2 + 1 - share)
        found = at(0.8, images, imgfilter=1, imgfilter_bands=[int(i == amplified) for i in range(4)])
        gain = float((inner(found, 24) * inner(images, 24)).sum() / inner(images, 24).square().sum())
        expected = ((factor if amplified == band else 1) / norm) * ((factor if amplified == 0 else 1) / norm)
        assert gain == pytest.approx(expected, rel=0.001 if frequency in (0, 1) else 0.15)

def test_noise():
    images = random(200, 3, 16, 16, dtype=torch.float32)
    found = at(0.5, images, noise=1) - images
    assert abs(float(found.std()) - 0.1 * float(torch.erfinv(torch.tensor(0.5)))) < 1e-3 and abs(float(found.mean())) < 1e-3
    stds = (augment(pipe_of(1, noise=1), images) - images).flatten(1).std(dim=1)
    assert abs(float(stds.square().mean()) - 0.01) < 0.003 # Half-normal: the mean square is the scale's square.

def test_cutout():
    images = 1 + random(50, 1, 16, 8, dtype=torch.float32).square()
    expected = images.clone()
    expected[:, :, 4:12, 2:6] = 0
    assert torch.equal(at(0.5, images, cutout=1), expected)
    expected = images.clone()
    expected[:, :, 12:, 6:] = 0
    assert torch.equal(at(1, images, cutout=1), expected)
    found = augment(pipe_of(1, cutout=1), images)
    assert torch.equal(found[found != 0], images[found != 0])
    assert len({tuple(mask.flatten().tolist()) for mask in found == 0}) > 25

#----------------------------------------------------------------------------
# Derivatives.

def test_gradients_of_the_full_pipe():
    pipe, images = pipe_of(0.8, **augpipe_specs['bgcfnc']).double(), random(2, 3, 3, 4).requires_grad_()
    assert gradcheck(lambda x: augment(pipe, x, seed=3), images)
    assert gradgradcheck(lambda x: augment(pipe, x, seed=3).tanh(), images)

class Discriminator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 1)

    def forward(self, img, c, update_emas=False):
        return self.out(self.conv(img).tanh().mean(dim=[2, 3]))

def test_r1_through_the_full_pipe():
    """The gradient of R1 exists, and repeats to the last bit."""
    torch.manual_seed(0)
    D, images, none = Discriminator(), random(8, 3, 16, 16, dtype=torch.float32), torch.zeros(8, 0)
    pipe = pipe_of(0.6, **augpipe_specs['bgcfnc'])
    grads = []
    for _ in range(2):
        D.zero_grad()
        torch.manual_seed(1)
        loss = StyleGAN2Loss(torch.device('cpu'), None, D, augment_pipe=pipe, r1_gamma=1)
        loss.accumulate_gradients('Dreg', images, none, none, none, gain=1, cur_nimg=0)
        grads.append([param.grad.clone() for param in [D.conv.weight, D.conv.bias, D.out.weight]])
    assert all(torch.equal(a, b) for a, b in zip(*grads))
    assert all(grad.isfinite().all() for grad in grads[0]) and grads[0][0].any()

#----------------------------------------------------------------------------
