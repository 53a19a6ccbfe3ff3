"""Layers whose weight is divided by its largest singular value (Miyato et al. 2018, "Spectral Normalization for Generative
Adversarial Networks", section 2.1 and Algorithm 1).

State-dict keys are those of torch.nn.utils.spectral_norm: `weight_orig`, `weight_u`, `weight_v`. torch's modules keep the last
normalised weight, a node of the graph, and so cannot be copied after a pass in training. The modules here compute it when it is
used, so that hosts can deep-copy them. u has the same start in every rank and every run, and moves by the rule in
portable/layers/norms.py.

This module is portable: it travels inside snapshots and imports only torch and its neighbours."""

import torch
import torch.nn.functional as F

from spider_plugin.portable.layers.norms import buffers_move

#----------------------------------------------------------------------------

def power_iteration(matrix, u, eps=1e-12):
    """Return (u [h], v [w]) after one step from u [h] towards the largest singular value of matrix [h, w]."""
    v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=eps)
    return F.normalize(torch.mv(matrix, v), dim=0, eps=eps), v

class SpectralNormMixin:
    """A mixin for a torch layer with a `weight`, which it replaces by weight_orig / sigma.

    sigma = u^T W v with W [outputs, other dimensions]. u and v are constants to autograd, so the gradient of sigma with respect
    to W is u v^T."""

    output_dim = 0  # dimension of the weight that holds the outputs

    def _normalize_spectrum(self):
        weight = self.weight
        del self.weight
        self.weight_orig = weight
        matrix = self._matrix().detach()
        u = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0))
        u, v = power_iteration(matrix, F.normalize(u.to(matrix), dim=0))
        self.register_buffer('weight_u', u)
        self.register_buffer('weight_v', v)

    def _matrix(self):
        return self.weight_orig.transpose(0, self.output_dim).flatten(1)

    def normalized_weight(self):
        """Return weight_orig / sigma, in the shape of weight_orig. In training mode u and v take a step first."""
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            matrix, u, v = self._matrix(), self.weight_u, self.weight_v
            if self.training and buffers_move(self.weight_orig):
                with torch.no_grad():
                    u, v = power_iteration(matrix, u)
                    self.weight_u.copy_(u)
                    self.weight_v.copy_(v)
            else:
                u, v = u.clone(), v.clone()     # a later pass may move the buffers before the backward pass of this one
            return self.weight_orig / torch.dot(u, torch.mv(matrix, v))

#----------------------------------------------------------------------------
# Arguments are those of the torch layers.

class SpectralConv2d(SpectralNormMixin, torch.nn.Conv2d):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._normalize_spectrum()

    def forward(self, x):
        return self._conv_forward(x, self.normalized_weight(), self.bias)

class SpectralConvTranspose2d(SpectralNormMixin, torch.nn.ConvTranspose2d):
    output_dim = 1

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._normalize_spectrum()

    def forward(self, x):
        return F.conv_transpose2d(x, self.normalized_weight(), self.bias, self.stride, self.padding, self.output_padding,
                                  self.groups, self.dilation)

class SpectralLinear(SpectralNormMixin, torch.nn.Linear):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._normalize_spectrum()

    def forward(self, x):
        return F.linear(x, self.normalized_weight(), self.bias)

class SeparableSpectralConv2d(torch.nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with spectral norm, as in Projected GAN's separable convolution."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.depthwise = SpectralConv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = SpectralConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))

    @property
    def dw_weight(self):
        return self.depthwise.weight_orig

    @property
    def pw_weight(self):
        return self.pointwise.weight_orig

#----------------------------------------------------------------------------
