"""Convolution with up- or downsampling, whose factor becomes the stride of the convolution."""

import torch.nn.functional as F

from . import upfirdn2d
from .upfirdn2d import _get_filter_size, _parse_padding

#----------------------------------------------------------------------------

def conv2d_resample(x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False):
    """Upsample x by up with f, convolve with w, and downsample by down with f.

    x: [N, C, H, W]; w: [O, C // groups, kh, kw] of the same dtype; f: from upfirdn2d.setup_filter(), None for none.
    Returns [N, O, H', W'], where H' = H * up / down with padding (kh - 1) // 2 and odd kh.
    padding: of the upsampled image, without that for f, which is added. flip_weight: True correlates, False convolves.
    """
    fw, fh = _get_filter_size(f)
    x0, x1, y0, y1 = _parse_padding(padding)
    if up > 1: # f delays by half its length, the zeros by half a step.
        x0, x1 = x0 + (fw + up - 1) // 2, x1 + (fw - up) // 2
        y0, y1 = y0 + (fh + up - 1) // 2, y1 + (fh - up) // 2
    if down > 1:
        x0, x1 = x0 + (fw - down + 1) // 2, x1 + (fw - down) // 2
        y0, y1 = y0 + (fh - down + 1) // 2, y1 + (fh - down) // 2
    pad = [x0, x1, y0, y1]
    if not flip_weight and w.shape[2:] != (1, 1):
        w = w.flip([2, 3])

    if up == 1 and down == 1:
        even = x0 == x1 >= 0 and y0 == y1 >= 0 # Padding that a convolution can do.
        return F.conv2d(x if even else F.pad(x, pad), w, padding=(y0, x0) if even else 0, groups=groups)
    if up > 1 and down > 1:
        x = upfirdn2d.upfirdn2d(x, f, up=up, padding=pad, flip_filter=flip_filter, gain=up ** 2)
        return upfirdn2d.upfirdn2d(F.conv2d(x, w, groups=groups), f, down=down, flip_filter=flip_filter)

    # A pointwise convolution commutes with f, so it is applied where the image is small.
    if w.shape[2:] == (1, 1):
        x = F.conv2d(x, w, groups=groups) if up > 1 else x
        x = upfirdn2d.upfirdn2d(x, f, up=up, down=down, padding=pad, flip_filter=flip_filter, gain=up ** 2)
        return x if up > 1 else F.conv2d(x, w, groups=groups)

    # Others use a stride, transposed to avoid products with zeros, or plain to avoid pixels that are dropped.
    if up > 1:
        return _upsampling_conv2d(x, w, f, up, pad, groups, flip_filter)
    x = upfirdn2d.upfirdn2d(x, f, padding=pad, flip_filter=flip_filter)
    return F.conv2d(x, w, stride=down, groups=groups)

def _upsampling_conv2d(x, w, f, up, pad, groups, flip_filter):
    """Upsample by zeros, correlate with w as one transposed convolution, then filter with f.

    The transposed convolution is a full one, which starts kh - 1 pixels early and stops at the last pixel that is not zero.
    """
    out_channels, in_channels, kh, kw = w.shape
    w = w.reshape(groups, out_channels // groups, in_channels, kh, kw).transpose(1, 2).flip([3, 4])
    x = F.conv_transpose2d(x, w.reshape(groups * in_channels, out_channels // groups, kh, kw), stride=up, groups=groups)
    x0, x1, y0, y1 = pad
    pad = [x0 - (kw - 1), x1 - (kw - up), y0 - (kh - 1), y1 - (kh - up)]
    return upfirdn2d.upfirdn2d(x, f, padding=pad, flip_filter=flip_filter, gain=up ** 2)

#----------------------------------------------------------------------------
