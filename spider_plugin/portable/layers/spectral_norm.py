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
from torch_utils_ext.ops.conv4x4 import conv4x4_down2
from torch_utils_ext.ops.exporting import exporting

#----------------------------------------------------------------------------

def power_iteration(matrix, u, eps=1e-12):
    """Return (u [h], v [w]) after one step from u [h] towards the largest singular value of matrix [h, w]."""
    u, v, _ = _power_step(matrix, u, eps)
    return u, v

def _power_step(matrix, u, eps=1e-12):
    """Return the same, and matrix v [h] before it is normalised to u."""
    v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=eps)
    product = torch.mv(matrix, v)
    return F.normalize(product, dim=0, eps=eps), v, product

class _Normalize(torch.autograd.Function):
    """weight / sigma for given sigma = u^T W v, the gradient of which is u v^T, with constant u and v.

    As one node, its gradient reads and writes the weight in four operations; torch's for the composition takes three times
    as many. The backward pass uses differentiable operations, so derivatives of every order exist."""

    @staticmethod
    def forward(ctx, weight, u, v, sigma, output_dim):
        normalized = weight / sigma
        ctx.save_for_backward(weight, normalized, u, v, sigma)
        ctx.output_dim = output_dim
        return normalized

    @staticmethod
    def backward(ctx, g):
        weight, normalized, u, v, sigma = ctx.saved_tensors
        if torch.is_grad_enabled():     # sigma as a function of the weight, for a second derivative
            sigma = torch.dot(u, torch.mv(weight_matrix(weight, ctx.output_dim), v))
            normalized = weight / sigma
        share = torch.dot(g.flatten(), normalized.flatten())
        shape = weight.transpose(0, ctx.output_dim).shape
        g = torch.addr(weight_matrix(g, ctx.output_dim), u * share, v, alpha=-1) / sigma
        return g.reshape(shape).transpose(0, ctx.output_dim), None, None, None, None

class _NormalizedProduct(torch.autograd.Function):
    """x [N, I] times the transposed weight [O, I], over sigma.

    For few samples a product costs as much as a pass over the weight. So sigma divides the result, and both parts of the weight's
    gradient, g^T x / sigma - (sum g y) / sigma u v^T, are one product. The second derivative is that of the composition."""

    @staticmethod
    def forward(ctx, x, weight, u, v, sigma):
        y = torch.mm(x, weight.t()) / sigma
        ctx.save_for_backward(x, weight, u, v, sigma, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, weight, u, v, sigma, y = ctx.saved_tensors
        if torch.is_grad_enabled():     # for a second derivative
            normalized = lambda x, w: torch.mm(x, w.t()) / torch.dot(u, torch.mv(w, v))
            return *_composed_gradients(normalized, x, weight, g), None, None, None
        g = g / sigma
        gx = torch.mm(g, weight) if ctx.needs_input_grad[0] else None
        left = torch.cat([g, u.unsqueeze(0) * -torch.dot(g.flatten(), y.flatten())])
        return gx, torch.mm(left.t(), torch.cat([x, v.unsqueeze(0)])), None, None, None

class _NormalizedTransposedProduct(torch.autograd.Function):
    """x [N, I] times the weight [I, O, K], over sigma: [N, O, K]; v [I K]. Otherwise the same."""

    @staticmethod
    def forward(ctx, x, weight, u, v, sigma):
        y = torch.mm(x, weight.flatten(1)).div_(sigma).unflatten(1, weight.shape[1:])
        ctx.save_for_backward(x, weight, u, v, sigma, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, weight, u, v, sigma, y = ctx.saved_tensors
        u, v = u.unsqueeze(1), v.reshape(len(weight), 1, -1)
        if torch.is_grad_enabled():     # for a second derivative
            normalized = lambda x, w: torch.mm(x, w.flatten(1)).unflatten(1, w.shape[1:]) / (w * u * v).sum()
            return *_composed_gradients(normalized, x, weight, g), None, None, None
        g = g / sigma
        gx = torch.mm(g.flatten(1), weight.flatten(1).t()) if ctx.needs_input_grad[0] else None
        gweight = torch.mm(x.t(), g.flatten(1)).reshape(weight.shape)
        return gx, gweight.addcmul_(u * -torch.dot(g.flatten(), y.flatten()), v), None, None, None

def _composed_gradients(function, x, weight, g):
    """Return the gradients of function(x, weight) for both as functions of x, weight and g."""
    with torch.enable_grad():
        x, weight = (t if t.requires_grad else t.detach().requires_grad_() for t in (x, weight))
        return torch.autograd.grad(function(x, weight), [x, weight], g, create_graph=True)

def weight_matrix(weight, output_dim):
    """Return a weight as [outputs, other dimensions]; output_dim is the dimension that holds the outputs."""
    return weight.transpose(0, output_dim).flatten(1)

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
        return weight_matrix(self.weight_orig, self.output_dim)

    def normalized_weight(self):
        """Return weight_orig / sigma, in the shape of weight_orig. In training mode u and v take a step first."""
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            u, v, sigma = self._spectrum()
            if exporting():     # TorchScript has no functions of autograd
                return self.weight_orig / sigma
            return _Normalize.apply(self.weight_orig, u, v, sigma, self.output_dim)

    @torch.no_grad()
    def _spectrum(self):
        """Return (u, v, sigma), after a step in training mode."""
        matrix, u = self._matrix(), self.weight_u
        if self.training and buffers_move(self.weight_orig):
            u, v, product = _power_step(matrix, u)
            torch._foreach_copy_([self.weight_u, self.weight_v], [u, v])
        else:
            # A later pass may move the buffers before the backward pass of this one.
            u, v = u.clone(), self.weight_v.clone()
            product = torch.mv(matrix, v)
        return u, v, torch.dot(u, product)

    def _normalizes_products(self, x, **arguments):
        """Return whether x are few samples on a CPU, and the arguments of this layer, one place for its kernel, a product's."""
        return self._by_products(x) and len(x) <= 64 and self.bias is None and self._has(**arguments)

    def _has(self, **arguments):
        wanted = dict(arguments, groups=1, dilation=(1, 1))
        return all(getattr(self, key) == value for key, value in wanted.items())

    def _by_products(self, x):
        """Return whether the layer computes by products of matrices what torch does by convolutions. That is for training on
        CPUs; in evaluation snapshots of all versions give the same bits."""
        return (self.training and x.is_cpu and x.dtype == self.weight_orig.dtype and not torch.is_autocast_enabled('cpu')
                and not exporting())

#----------------------------------------------------------------------------
# Arguments are those of the torch layers.

class SpectralConv2d(SpectralNormMixin, torch.nn.Conv2d):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._normalize_spectrum()

    def forward(self, x):
        if x.shape[2:] == self.weight_orig.shape[2:] and self._normalizes_products(x, padding=(0, 0)):
            return _NormalizedProduct.apply(x.flatten(1), self.weight_orig.flatten(1), *self._spectrum())[:, :, None, None]
        weight = self.normalized_weight()
        if 9 * len(weight) < weight.shape[1] and self._has(kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)) and \
                self._by_products(x):
            return conv3x3_of_few(x, weight, self.bias)
        if min(weight.shape[:2]) >= 32 and self._has(kernel_size=(4, 4), stride=(2, 2), padding=(1, 1)) and self._by_products(x) \
                and x.shape[2] % 2 == x.shape[3] % 2 == 0:
            return with_bias(conv4x4_down2(x, weight), self.bias)
        return self._conv_forward(x, weight, self.bias)

def conv3x3_of_few(x, weight, bias=None):
    """Convolve x [N, I, H, W] with weight [O, I, 3, 3], zero padding 1, for O much smaller than I: an image for each output and
    tap, then their shifted sum."""
    matrix = weight.flip([2, 3]).permute(0, 2, 3, 1).reshape(1, -1, weight.shape[1])
    images = torch.bmm(matrix.expand(len(x), -1, -1), x.flatten(2))
    return with_bias(F.fold(images, x.shape[2:], 3, padding=1), bias)

def with_bias(y, bias):
    return y if bias is None else y + bias[:, None, None]

class SpectralConvTranspose2d(SpectralNormMixin, torch.nn.ConvTranspose2d):
    output_dim = 1

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._normalize_spectrum()

    def forward(self, x):
        if x.shape[2:] == (1, 1) and self._normalizes_products(x, padding=(0, 0), output_padding=(0, 0)):
            y = _NormalizedTransposedProduct.apply(x.flatten(1), self.weight_orig.flatten(2), *self._spectrum())
            return y.unflatten(2, self.weight_orig.shape[2:])
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
