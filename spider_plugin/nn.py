"""Layers for networks of the user's, over the ops of torch_utils_ext."""

import math

import torch

from spider_plugin.errors import SpiderError
from spider_plugin.portable.layers.dsc import separable
from torch_utils_ext.ops.epilogue import epilogue

ACTIVATIONS = ('linear', 'lrelu')

class SeparableConv2d(torch.nn.Module):
    """A depthwise separable 3x3 convolution with stride 1 and zero padding 1 (Chollet 2017), its bias and its activation.

        y = gain * act(pointwise(depthwise(x)) + bias)

    It equals torch.nn.Conv2d(in, in, 3, padding=1, groups=in, bias=False), torch.nn.Conv2d(in, out, 1) and the activation, in
    turn, with a ninth of the weights of a dense layer plus the filters, and starts from weights drawn as those two draw them.
    The filtered maps are made again in the backward pass, not kept. Kernels serve it where torch_utils_ext has them
    (docs/ops.md); it can be differentiated twice.

    in_channels, out_channels: of its input and output.
    bias:       whether there is one.
    activation: 'linear' or 'lrelu'.
    alpha:      slope of 'lrelu' below zero.
    gain:       positive factor of the result.

    dw_weight:  parameter [in, 1, 3, 3];  pw_weight: [out, in, 1, 1];  bias: [out] or None. They are float32, float64 for a
                layer after .double().

    forward(x [N, in, H, W]) -> [N, out, H, W] in x's dtype, or in that of autocast; float32, float16, bfloat16, or float64 with
    parameters of float64. Sums over channels are those of torch.nn.functional.conv2d in that dtype.
    Raises SpiderError for an unknown activation, and for x with other channels."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True, activation: str = 'linear', alpha: float = 0.2,
                 gain: float = 1.0) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise SpiderError(f'activation={activation!r} is unknown; use {" or ".join(map(repr, ACTIVATIONS))}.')
        if gain <= 0:
            raise SpiderError(f'gain={gain} is not positive; scale the weights instead.')
        self.in_channels, self.out_channels = in_channels, out_channels
        self.activation, self.alpha, self.gain = activation, alpha, gain
        self.dw_weight = torch.nn.Parameter(torch.empty([in_channels, 1, 3, 3]))
        self.pw_weight = torch.nn.Parameter(torch.empty([out_channels, in_channels, 1, 1]))
        self.bias = torch.nn.Parameter(torch.empty([out_channels])) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, uniformly within 1 / sqrt(number of inputs of a sum), as torch draws convolutions."""
        torch.nn.init.uniform_(self.dw_weight, -1 / 3, 1 / 3)
        bound = 1 / math.sqrt(self.in_channels)
        for parameter in (self.pw_weight, self.bias):
            if parameter is not None:
                torch.nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise SpiderError(f'SeparableConv2d takes images [N, {self.in_channels}, H, W], not {list(x.shape)}.')
        device = x.device.type
        if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            filters = self.dw_weight.transpose(0, 1).expand(len(x), -1, -1, -1)
            y = separable(x, filters, self.pw_weight.flatten(1).to(x.dtype), 'same')
            out: torch.Tensor = epilogue(y, bias=self.bias, act=self.activation, alpha=self.alpha, gain=self.gain)
        return out

    def extra_repr(self) -> str:
        return (f'{self.in_channels}, {self.out_channels}, bias={self.bias is not None}, activation={self.activation!r}, '
                f'alpha={self.alpha}, gain={self.gain}')
