"""The resampling of all networks, which upsamples by zeros, pads, filters and downsamples.

Factors are an int or [x, y]; paddings an int, [x, y] or [x0, x1, y0, y1], negative to crop. Filters come from setup_filter():
[K] is separable, [Kh, Kw] is not, None is the identity.
"""

import torch
import torch.nn.functional as F

#----------------------------------------------------------------------------

def setup_filter(f, device=torch.device('cpu'), normalize=True, flip_filter=False, gain=1, separable=None):
    """Return a float32 filter tensor [K] or [Kh, Kw] from a number, list or tensor; None gives [[1]].

    normalize: divide by the sum. gain: gain of the resampled signal. separable: keep a 1D filter 1D; the default is to do so
    from 8 taps on, where two passes are cheaper than one.
    """
    f = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    if f.ndim > 2 or f.numel() == 0:
        raise ValueError(f'setup_filter: a filter has 0 to 2 dimensions and at least one tap, not shape {list(f.shape)}.')
    f = f.reshape(1) if f.ndim == 0 else f
    separable = (f.ndim == 1 and f.numel() >= 8) if separable is None else separable
    if f.ndim == 1 and not separable:
        f = torch.outer(f, f)
    if separable and f.ndim == 2:
        raise ValueError('setup_filter: separable=True needs a 1D filter.')
    if normalize:
        f = f / f.sum()
    if flip_filter:
        f = f.flip(list(range(f.ndim)))
    return (f * gain ** (f.ndim / 2)).to(device)

#----------------------------------------------------------------------------

def upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1, impl='ref'):
    """Put up - 1 zeros after every pixel, pad, convolve with f, and keep every down-th pixel.

    x: [N, C, H, W], any floating dtype. f: [K], [Kh, Kw] or None. Returns [N, C, H', W'] of x's dtype, where
    W' = ceil((W * up + x0 + x1 - Kw + 1) / down). flip_filter: correlate with f instead. gain: factor of the result.
    impl: ignored; other hosts have several implementations. It is differentiable any number of times in x.
    """
    (up_x, up_y), (down_x, down_y) = _parse_scaling(up), _parse_scaling(down)
    x0, x1, y0, y1 = _parse_padding(padding)
    n, c, h, w = x.shape
    if f is not None:
        f = (f.to(torch.promote_types(f.dtype, x.dtype)) * gain ** (f.ndim / 2)).to(x.dtype)
        f = f if flip_filter else f.flip(list(range(f.ndim)))

    # Products with a matrix for rows and one for columns avoid an image with zeros and products with them.
    if f is not None and f.ndim == 1 and (up_x, up_y) != (1, 1):
        return _matrix(f, h, up_y, down_y, y0, y1) @ (x @ _matrix(f, w, up_x, down_x, x0, x1).t())

    if (up_x, up_y) != (1, 1):
        x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, up_x - 1, 0, 0, 0, up_y - 1]).reshape(n, c, h * up_y, w * up_x)
    x = F.pad(x, [x0, x1, y0, y1]) if any([x0, x1, y0, y1]) else x # Padding copies.
    if f is None:
        return x[:, :, ::down_y, ::down_x] * gain
    if f.ndim == 2:
        return _depthwise(x, f, stride=(down_y, down_x))
    x = _depthwise(x, f[None, :], stride=(1, down_x))
    return _depthwise(x, f[:, None], stride=(down_y, 1))

def filter2d(x, f, padding=0, flip_filter=False, gain=1, impl='ref'):
    """Filter x; padding 0 keeps its size, more adds to it. See upfirdn2d()."""
    fw, fh = _get_filter_size(f)
    pad = _add_padding(padding, fw // 2, (fw - 1) // 2, fh // 2, (fh - 1) // 2)
    return upfirdn2d(x, f, padding=pad, flip_filter=flip_filter, gain=gain, impl=impl)

def upsample2d(x, f, up=2, padding=0, flip_filter=False, gain=1, impl='ref'):
    """Upsample x: [N, C, H, W] -> [N, C, H * up, W * up] with padding 0. See upfirdn2d()."""
    (up_x, up_y), (fw, fh) = _parse_scaling(up), _get_filter_size(f)
    pad = _add_padding(padding, (fw + up_x - 1) // 2, (fw - up_x) // 2, (fh + up_y - 1) // 2, (fh - up_y) // 2)
    return upfirdn2d(x, f, up=up, padding=pad, flip_filter=flip_filter, gain=gain * up_x * up_y, impl=impl)

def downsample2d(x, f, down=2, padding=0, flip_filter=False, gain=1, impl='ref'):
    """Downsample x: [N, C, H, W] -> [N, C, H // down, W // down] with padding 0. See upfirdn2d()."""
    (down_x, down_y), (fw, fh) = _parse_scaling(down), _get_filter_size(f)
    pad = _add_padding(padding, (fw - down_x + 1) // 2, (fw - down_x) // 2, (fh - down_y + 1) // 2, (fh - down_y) // 2)
    return upfirdn2d(x, f, down=down, padding=pad, flip_filter=flip_filter, gain=gain, impl=impl)

#----------------------------------------------------------------------------

def _matrix(f, size, up, down, before, after):
    """Return the matrix [size', size] that upsamples `size` pixels by zeros, pads, correlates with f [K], and downsamples."""
    num_out = (size * up + before + after - len(f)) // down + 1
    tap = torch.arange(size, device=f.device) * up + before - torch.arange(num_out, device=f.device)[:, None] * down
    return torch.where((tap >= 0) & (tap < len(f)), f[tap.clamp(0, len(f) - 1)], 0)

def _depthwise(x, f, stride):
    """Correlate every channel of x with the same f [Kh, Kw]."""
    channels = x.shape[1]
    return F.conv2d(x, f.expand(channels, 1, *f.shape), stride=stride, groups=channels)

def _parse_scaling(scaling):
    """Return (x, y) for an int or [x, y]."""
    x, y = (scaling, scaling) if isinstance(scaling, int) else scaling
    if x < 1 or y < 1:
        raise ValueError(f'upfirdn2d: up and down must be at least 1, not {scaling}.')
    return x, y

def _parse_padding(padding):
    """Return (x0, x1, y0, y1) for an int, [x, y] or [x0, x1, y0, y1]."""
    if isinstance(padding, int):
        return (padding,) * 4
    return tuple(padding) if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])

def _add_padding(padding, *more):
    return [a + b for a, b in zip(_parse_padding(padding), more)]

def _get_filter_size(f):
    """Return (width, height) of a filter."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])

#----------------------------------------------------------------------------
