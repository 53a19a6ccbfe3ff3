"""The encoder of source images: for residual generators, and for the mapping kind `encoder`.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import torch
import torch.nn.functional as F

from spider_plugin.portable.layers.equalized import EqualConv2d

#----------------------------------------------------------------------------
# Pixel-unshuffle, one 3 x 3 convolution, then strided 4 x 4 convolutions down to `out_resolution`.

class SourceEncoder(torch.nn.Module):
    """image float32 [N, C, R, R] -> features [N, out_channels, r, r]; R and r powers of two, R >= 2 r."""

    def __init__(self, resolution, channels, out_channels, out_resolution=4, base_channels=16):
        super().__init__()
        steps = (resolution // (2 * out_resolution)).bit_length() - 1
        if steps < 0 or resolution != 2 * out_resolution << steps:
            raise ValueError(f'source resolution {resolution} is no power-of-two multiple of {2 * out_resolution}')
        widths = [min(base_channels * 2 ** i, out_channels) for i in range(steps)] + [out_channels]
        layers = [EqualConv2d(4 * channels, widths[0])]
        layers += [EqualConv2d(a, b, kernel_size=4, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(F.pixel_unshuffle(images, 2))

#----------------------------------------------------------------------------
