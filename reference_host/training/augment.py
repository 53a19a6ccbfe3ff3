"""The augmentations of "Training Generative Adversarial Networks with Limited Data" (Karras et al. 2020, appendix B)."""

import functools

import numpy as np
import torch
import torch.nn.functional as F

from torch_utils import misc, persistence
from torch_utils.ops import conv2d_gradfix, grid_sample_gradfix, upfirdn2d

#----------------------------------------------------------------------------
# Named sets of augmentations: arguments of AugmentPipe.

_blit   = dict(xflip=1, rotate90=1, xint=1)
_geom   = dict(scale=1, rotate=1, aniso=1, xfrac=1)
_color  = dict(brightness=1, contrast=1, lumaflip=1, hue=1, saturation=1)
_filter = dict(imgfilter=1)
_noise  = dict(noise=1)
_cutout = dict(cutout=1)

augpipe_specs = {
    'blit':   _blit,
    'geom':   _geom,
    'color':  _color,
    'filter': _filter,
    'noise':  _noise,
    'cutout': _cutout,
    'bg':     {**_blit, **_geom},
    'bgc':    {**_blit, **_geom, **_color},
    'bgcf':   {**_blit, **_geom, **_color, **_filter},
    'bgcfn':  {**_blit, **_geom, **_color, **_filter, **_noise},
    'bgcfnc': {**_blit, **_geom, **_color, **_filter, **_noise, **_cutout},
}

#----------------------------------------------------------------------------
# Filters.

# Low-pass filters of orthogonal wavelets (Daubechies 1992): the symlets of 4 and of 12 taps.
_sqrt3 = np.sqrt(3)
_sym2 = np.array([1 - _sqrt3, 3 - _sqrt3, 3 + _sqrt3, 1 + _sqrt3]) / np.sqrt(32)
_sym6 = [
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466, 0.787641141030194,
    0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036,
    -0.007800708325034148]

def _filter_bank():
    """[4, 43]: taps of four zero-phase filters whose sum is the identity, for the bands [0, pi/8], [pi/8, pi/4],
    [pi/4, pi/2] and [pi/2, pi]: L(z) L(z^2) L(z^4), L(z) L(z^2) U(z^4), L(z) U(z^2) and U(z), with L(z) = H(z) H(1/z) / 2
    for the low-pass filter H of sym2, and U(z) = L(-z) = 1 - L(z)."""
    low = np.convolve(_sym2, _sym2[::-1]) / 2
    high = low * np.array([-1, 1, -1, 1, -1, 1, -1]) # The middle tap has the power 0.
    bank, lows = [], np.ones(1)
    for power in [1, 2, 4]:
        bank.insert(0, np.convolve(lows, _spread(high, power)))
        lows = np.convolve(lows, _spread(low, power))
    bank.insert(0, lows)
    return np.stack([np.pad(taps, (lows.size - taps.size) // 2) for taps in bank])

def _spread(taps, power):
    """H(z^power): power - 1 zeros between taps."""
    spread = np.zeros((taps.size - 1) * power + 1)
    spread[::power] = taps
    return spread

#----------------------------------------------------------------------------
# Colours as homogeneous coordinates: projections onto the grey axis, onto what is left, and the cross product grey x colour.

_along_grey  = np.pad(np.full([3, 3], 1 / 3), [0, 1])
_across_grey = np.diag([1, 1, 1, 0]) - _along_grey
_turn_grey   = np.pad([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], [0, 1]) / np.sqrt(3)

#----------------------------------------------------------------------------
# Homogeneous matrices [N, D + 1, D + 1] from parameters [N].

def _translation(*offsets):
    matrix = torch.eye(len(offsets) + 1, dtype=offsets[0].dtype, device=offsets[0].device).repeat(len(offsets[0]), 1, 1)
    matrix[:, :-1, -1] = torch.stack(offsets, dim=1)
    return matrix

def _scaling(*factors):
    return torch.stack([*factors, torch.ones_like(factors[0])], dim=1).diag_embed()

def _rotation(angle):
    """In 2D."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)

#----------------------------------------------------------------------------

class _Draws:
    """The random numbers of one batch. With a percentile, they all have that value of their distribution, and every
    transform that is on happens."""

    def __init__(self, images, p, percentile):
        self.n, self.p, self.options = len(images), p, dict(dtype=images.dtype, device=images.device)
        self.percentile = None if percentile is None else torch.as_tensor(percentile, **self.options)

    def uniform(self, *shape):
        """[N, *shape], from 0 to 1."""
        values = torch.rand([self.n, *shape], **self.options)
        return values if self.percentile is None else self.percentile.expand_as(values)

    def symmetric(self, *shape):
        """[N, *shape], from -1 to 1."""
        return 2 * self.uniform(*shape) - 1

    def normal(self, *shape):
        """[N, *shape], N(0, 1). Percentiles are those of N(0, 1/2), as in the public code."""
        values = torch.randn([self.n, *shape], **self.options)
        return values if self.percentile is None else torch.erfinv(2 * self.percentile - 1).expand_as(values)

    def half_normal(self):
        """[N], |N(0, 1)|."""
        values = torch.randn([self.n], **self.options).abs()
        return values if self.percentile is None else torch.erfinv(self.percentile).expand_as(values)

    def apply(self, values, identity, multiplier, tries=1):
        """values [N, ...] in those samples in which a transform happens, its identity in the others. A transform that is
        tried twice happens at least once with the probability multiplier * p."""
        chance = multiplier * self.p
        if tries == 2:
            chance = 1 - (1 - chance).clamp(min=0).sqrt()
        happens = torch.rand([self.n], **self.options) < chance
        if self.percentile is not None:
            return values
        return torch.where(happens.reshape(-1, *[1] * (values.ndim - 1)), values, identity)

#----------------------------------------------------------------------------

@persistence.persistent_class
class AugmentPipe(torch.nn.Module):
    """Transforms every image with some probability by every augmentation that is on: the number by an augmentation's name,
    0 = off, times the buffer `p` is its probability. Differentiable any number of times in the images.

    Random numbers are drawn from torch's generator of the images' device, in the same order and number as in the public
    code, so equal seeds give equal augmentations. An image that nothing happens to stays the same to the last bit.
    """

    def __init__(self,
        xflip           = 0,            # Left-right flips.
        rotate90        = 0,            # Rotations by multiples of 90 degrees.
        xint            = 0,            # Translations by whole pixels, ...
        xint_max        = 0.125,        # ... by up to this fraction of the size.
        scale           = 0,            # Scaling.
        rotate          = 0,            # Rotation.
        aniso           = 0,            # Scaling of x by a factor and of y by its inverse.
        xfrac           = 0,            # Translation.
        scale_std       = 0.2,          # Standard deviation of log2 of the factor.
        rotate_max      = 1,            # Largest angle, in half turns.
        aniso_std       = 0.2,          # Standard deviation of log2 of the factor.
        xfrac_std       = 0.125,        # Standard deviation, as a fraction of the size.
        brightness      = 0,            # A number added to all channels.
        contrast        = 0,            # A factor of all channels.
        lumaflip        = 0,            # Negative lightness, same colours.
        hue             = 0,            # Rotation of colours around the grey axis. Not for grey images.
        saturation      = 0,            # A factor of the distance from the grey axis. Not for grey images.
        brightness_std  = 0.2,          # Standard deviation of the number.
        contrast_std    = 0.5,          # Standard deviation of log2 of the factor.
        hue_max         = 1,            # Largest angle, in half turns.
        saturation_std  = 1,            # Standard deviation of log2 of the factor.
        imgfilter       = 0,            # Factors of frequency bands, ...
        imgfilter_bands = [1,1,1,1],    # ... where these numbers multiply the probability of each, from low to high.
        imgfilter_std   = 1,            # Standard deviation of log2 of the factor.
        noise           = 0,            # Gaussian noise.
        cutout          = 0,            # A rectangle of zeros.
        noise_std       = 0.1,          # Scale of the half-normal distribution of the noise's standard deviation.
        cutout_size     = 0.5,          # Size of the rectangle, as a fraction of that of the image.
    ):
        super().__init__()
        self.xflip, self.rotate90, self.xint, self.xint_max = map(float, [xflip, rotate90, xint, xint_max])
        self.scale, self.rotate, self.aniso, self.xfrac = map(float, [scale, rotate, aniso, xfrac])
        self.scale_std, self.rotate_max = map(float, [scale_std, rotate_max])
        self.aniso_std, self.xfrac_std = map(float, [aniso_std, xfrac_std])
        self.brightness, self.contrast, self.lumaflip = map(float, [brightness, contrast, lumaflip])
        self.hue, self.saturation = map(float, [hue, saturation])
        self.brightness_std, self.contrast_std = map(float, [brightness_std, contrast_std])
        self.hue_max, self.saturation_std = map(float, [hue_max, saturation_std])
        self.imgfilter, self.imgfilter_bands, self.imgfilter_std = float(imgfilter), list(imgfilter_bands), float(imgfilter_std)
        self.noise, self.cutout, self.noise_std, self.cutout_size = map(float, [noise, cutout, noise_std, cutout_size])
        if len(self.imgfilter_bands) != 4:
            raise ValueError(f'imgfilter_bands holds 4 numbers, one for each band, not {len(self.imgfilter_bands)}.')

        self.register_buffer('p', torch.ones([]))
        self.register_buffer('Hz_geom', upfirdn2d.setup_filter(_sym6))
        self.register_buffer('Hz_fbank', torch.as_tensor(_filter_bank(), dtype=torch.float32))

    def forward(self, images, debug_percentile=None):
        """images: [N, C, H, W], meant to be in [-1, 1] -> the same shape and dtype; computed in float32 at least.

        debug_percentile: from 0 to 1, see _Draws. Raises ValueError for colours of images with neither 1 nor 3 channels.
        """
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        draws = _Draws(x, self.p, debug_percentile)
        x = self.transform(x, draws)
        x = self.recolor(x, draws)
        x = self.amplify(x, draws)
        x = self.add_noise(x, draws)
        x = self.cut_out(x, draws)
        return x.to(images.dtype)

    # Pixel blitting and general geometric transformations.

    def transform(self, x, draws):
        height, width = x.shape[2:]
        matrices = [] # From output to input pixels, (0, 0) at the center: inverses of the paper's, in their order.
        if self.xflip > 0:
            flip = draws.apply((draws.uniform() * 2).floor(), 0, self.xflip)
            matrices.append(_scaling(1 - 2 * flip, torch.ones_like(flip)))
        if self.rotate90 > 0:
            turns = draws.apply((draws.uniform() * 4).floor(), 0, self.rotate90)
            matrices.append(_rotation(turns * (np.pi / 2)))
        if self.xint > 0:
            x_offset, y_offset = draws.apply(draws.symmetric(2) * self.xint_max, 0, self.xint).unbind(dim=1)
            matrices.append(_translation(-(x_offset * width).round(), -(y_offset * height).round()))

        if self.scale > 0:
            factor = draws.apply((draws.normal() * self.scale_std).exp2(), 1, self.scale)
            matrices.append(_scaling(1 / factor, 1 / factor))
        if self.rotate > 0: # Before the anisotropic scaling.
            angle = draws.apply(draws.symmetric() * np.pi * self.rotate_max, 0, self.rotate, tries=2)
            matrices.append(_rotation(angle))
        if self.aniso > 0:
            factor = draws.apply((draws.normal() * self.aniso_std).exp2(), 1, self.aniso)
            matrices.append(_scaling(1 / factor, factor))
        if self.rotate > 0: # After it. With a percentile, the first rotation is all.
            angle = draws.apply(draws.symmetric() * np.pi * self.rotate_max, 0, self.rotate, tries=2)
            matrices.append(_rotation(angle if draws.percentile is None else torch.zeros_like(angle)))
        if self.xfrac > 0:
            x_offset, y_offset = draws.apply(draws.normal(2) * self.xfrac_std, 0, self.xfrac).unbind(dim=1)
            matrices.append(_translation(-x_offset * width, -y_offset * height))

        if not matrices:
            return x
        matrix = functools.reduce(torch.matmul, matrices)
        moved = (matrix != torch.eye(3, **draws.options)).flatten(1).any(dim=1)
        return _where(moved, warp, x, matrix, taps=self.Hz_geom.to(x.dtype))

    # Colour transformations.

    def recolor(self, x, draws):
        channels = x.shape[1]
        along, across, turn = [misc.constant(matrix, **draws.options) for matrix in [_along_grey, _across_grey, _turn_grey]]
        identity = torch.eye(4, **draws.options)
        matrices = []
        if self.brightness > 0:
            number = draws.apply(draws.normal() * self.brightness_std, 0, self.brightness)
            matrices.append(_translation(number, number, number))
        if self.contrast > 0:
            factor = draws.apply((draws.normal() * self.contrast_std).exp2(), 1, self.contrast)
            matrices.append(_scaling(factor, factor, factor))
        if self.lumaflip > 0: # Householder's reflection.
            flip = draws.apply((draws.uniform() * 2).floor(), 0, self.lumaflip)
            matrices.append(identity - 2 * flip.reshape(-1, 1, 1) * along)
        if self.hue > 0 and channels > 1: # Rodrigues' rotation.
            angle = draws.apply(draws.symmetric() * np.pi * self.hue_max, 0, self.hue).reshape(-1, 1, 1)
            matrices.append(identity + angle.sin() * turn - (1 - angle.cos()) * across)
        if self.saturation > 0 and channels > 1:
            factor = draws.apply((draws.normal() * self.saturation_std).exp2(), 1, self.saturation)
            matrices.append(identity + (factor - 1).reshape(-1, 1, 1) * across)

        if not matrices:
            return x
        if channels not in (1, 3):
            raise ValueError(f'Colour augmentations take images of 1 or 3 channels, not {channels}: leave out '
                             'brightness, contrast, lumaflip, hue and saturation.')
        matrix = functools.reduce(torch.matmul, reversed(matrices))
        factors, offsets = matrix[:, :3, :3], matrix[:, :3, 3:]
        if channels == 1: # What becomes of the grey axis, projected back onto it.
            factors, offsets = factors.sum(dim=[1, 2]).reshape(-1, 1, 1) / 3, offsets.mean(dim=1, keepdim=True)
        return torch.baddbmm(offsets, factors, x.flatten(2)).reshape(x.shape)

    # Image-space filtering.

    def amplify(self, x, draws):
        if self.imgfilter == 0:
            return x
        power = misc.constant(np.array([10, 1, 1, 1]) / 13, **draws.options) # Of the bands of an average image.
        gains = torch.ones([draws.n, 4], **draws.options)
        for band, strength in enumerate(self.imgfilter_bands):
            factor = draws.apply((draws.normal() * self.imgfilter_std).exp2(), 1, self.imgfilter * strength)
            factors = torch.ones_like(gains)
            factors[:, band] = factor if strength > 0 else 1
            norm = (power * factors.square()).sum(dim=1, keepdim=True).sqrt()
            gains = gains * torch.where(factors[:, band, None] != 1, factors / norm, 1)
        return _where((gains != 1).any(dim=1), filter_bands, x, gains, bank=self.Hz_fbank.to(x.dtype))

    # Image-space corruptions.

    def add_noise(self, x, draws):
        if self.noise == 0:
            return x
        std = draws.apply(draws.half_normal() * self.noise_std, 0, self.noise)
        return x + torch.randn(x.shape, **draws.options) * std.reshape(-1, 1, 1, 1)

    def cut_out(self, x, draws):
        if self.cutout == 0:
            return x
        height, width = x.shape[2:]
        size = draws.apply(torch.full([draws.n], self.cutout_size, **draws.options), 0, self.cutout)
        center = draws.uniform(2)
        columns, rows = [(torch.arange(length, **draws.options) + 0.5) / length for length in [width, height]]
        columns, rows = [(places - middle[:, None]).abs() < size[:, None] / 2
                         for places, middle in zip([columns, rows], center.unbind(dim=1))]
        return x.masked_fill((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0)

#----------------------------------------------------------------------------

def _where(changes, function, x, parameters, **constants):
    """x [N, ...], with function(x, parameters, **constants) in place of those samples that change."""
    index = changes.nonzero().squeeze(1)
    if len(index) == 0:
        return x
    if len(index) == len(x):
        return function(x, parameters, **constants)
    return x.index_copy(0, index, function(x[index], parameters[index], **constants))

def warp(x, matrix, taps):
    """Resample x: [N, C, H, W] by matrix: [N, 3, 3], which turns places of output pixels into places of input pixels,
    both relative to the center. `taps` is an orthogonal low-pass filter: bilinear sampling is done at twice the resolution."""
    n, c, h, w = x.shape
    reach = len(taps) // 4 # Of the filter, in pixels.

    # Pad by what the corners of the output reach beyond the input, and the filters once on either side of the sampling.
    # More than one reflection is too much: what lies still further out is zero.
    cx, cy = (w - 1) / 2, (h - 1) / 2
    corners = misc.constant([[-cx, cx, cx, -cx], [-cy, -cy, cy, cy], [1, 1, 1, 1]], dtype=x.dtype, device=x.device)
    far_x, far_y = (matrix @ corners)[:, :2].unbind(dim=1)
    beyond = torch.stack([-far_x.min() - cx, far_x.max() - cx, -far_y.min() - cy, far_y.max() - cy]) + 2 * reach
    beyond = [max(number, 0) for number in beyond.ceil().int().tolist()]
    left, right, top, bottom = [min(number, most) for number, most in zip(beyond, [w - 1, w - 1, h - 1, h - 1])]
    x = F.pad(x, [left, right, top, bottom], mode='reflect').flatten(0, 1).unsqueeze(0) # Many channels filter much faster,
    x = upfirdn2d.upsample2d(x, taps, up=2)                                             # so the batch becomes channels.

    # Pixel i becomes pixel 2 i: relative to the center, place u becomes 2 u - 1/2. Sampling counts in half sizes.
    in_h, in_w, out_h, out_w = *x.shape[2:], 2 * (h + 2 * reach), 2 * (w + 2 * reach)
    to_grid = [[4 / in_w, 0, (2 * (left - right) - 1) / in_w], [0, 4 / in_h, (2 * (top - bottom) - 1) / in_h], [0, 0, 1]]
    from_grid = [[out_w / 4, 0, 1 / 4], [0, out_h / 4, 1 / 4], [0, 0, 1]]
    matrix = matrix.new_tensor(to_grid) @ matrix @ matrix.new_tensor(from_grid)
    grid = F.affine_grid(matrix[:, :2], [n, c, out_h, out_w], align_corners=False)
    x = grid_sample_gradfix.grid_sample(x.reshape(n, c, in_h, in_w), grid).flatten(0, 1).unsqueeze(0)
    return upfirdn2d.downsample2d(x, taps, down=2, padding=-2 * reach, flip_filter=True).reshape(n, c, h, w)

def filter_bands(x, gains, bank):
    """Multiply frequency bands of x: [N, C, H, W], first in x, then in y, by gains: [N, bands]; bank: [bands, taps]."""
    n, c, h, w = x.shape
    taps = (gains @ bank).repeat_interleave(c, dim=0).unsqueeze(1) # [N * C, 1, taps]
    reach = bank.shape[1] // 2
    for axis, size in [(3, w), (2, h)]:
        x = x.index_select(axis, _reflected(size, reach, x.device))
    x = x.reshape(1, n * c, *x.shape[2:])
    x = conv2d_gradfix.conv2d(x, taps.unsqueeze(2), groups=n * c)
    x = conv2d_gradfix.conv2d(x, taps.unsqueeze(3), groups=n * c)
    return x.reshape(n, c, h, w)

def _reflected(size, reach, device):
    """Indices that reach beyond either side of an axis by reflection, several times if it is short."""
    period = max(2 * (size - 1), 1)
    index = torch.arange(-reach, size + reach, device=device).remainder(period)
    return index.minimum(period - index)

#----------------------------------------------------------------------------
