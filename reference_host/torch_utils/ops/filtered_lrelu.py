"""The nonlinearity of StyleGAN3, a leaky ReLU at a higher sampling rate, so that frequencies it adds beyond the band are removed.

Karras et al., "Alias-Free Generative Adversarial Networks" (2021), section 3.1 and figure 4b.
"""

import math

from . import bias_act, upfirdn2d

#----------------------------------------------------------------------------

def filtered_lrelu(
    x,                          # [N, C, H, W], any floating dtype.
    fu          = None,         # Filter of the upsampling: [K], [Kh, Kw], or None for the identity.
    fd          = None,         # Filter of the downsampling, likewise.
    b           = None,         # Bias [C] of x's dtype, None for none.
    up          = 1,            # Integer upsampling factor.
    down        = 1,            # Integer downsampling factor.
    padding     = 0,            # Of the upsampled image: int, [x, y] or [x0, x1, y0, y1]; negative to crop.
    gain        = math.sqrt(2), # Factor on the output of the leaky ReLU, positive.
    slope       = 0.2,          # Slope of the leaky ReLU below zero.
    clamp       = None,         # Clamp its output, gain included, to +-clamp; None for no clamp.
    flip_filter = False,        # False convolves with the filters, True correlates.
    impl        = 'ref',        # Ignored; other hosts have several implementations.
):
    """Add b, upsample with fu, apply a leaky ReLU and clamp, and downsample with fd; returns [N, C, H', W'] of x's dtype.

    W' = ceil((W * up + x0 + x1 - (Ku - 1) - (Kd - 1)) / down), where Ku and Kd are the widths of the filters.
    It is differentiable any number of times in x and b. Raises ValueError for a wrong b, up or down.
    """
    x = bias_act.bias_act(x, b)
    x = upfirdn2d.upfirdn2d(x, fu, up=up, padding=padding, flip_filter=flip_filter, gain=up ** 2) # To offset the zeros.
    x = bias_act.bias_act(x, act='lrelu', alpha=slope, gain=1, clamp=None if clamp is None else clamp / gain)
    return upfirdn2d.upfirdn2d(x, fd, down=down, flip_filter=flip_filter) * gain # Applied where samples are fewest.

#----------------------------------------------------------------------------
