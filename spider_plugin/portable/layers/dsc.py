"""Depthwise separable synthesis layers (DSC), as mixins over the layers of a host's StyleGAN2 and StyleGAN3-T.

A layer keeps the host's interface, affine, noise and bias. Its kernel W [O, I, 3, 3] is a sum of products of `rank` terms,
    depthwise first:  W_oik = sum_r P_roi D_rik,    h_ri = D_ri * x_i  at the layer's resolution,  y_o = sum_ri P_roi h_ri
    pointwise first:  W_oik = sum_r P_roi D_rok,    h_ro = sum_i P_roi x_i  at low resolution,     y_o = sum_r D_ro * h_ro
and the layer is the modulated convolution with W, including demodulation by |s W_o|^2 = sum_i s_i^2 E_oi, with E from P and the
Gram matrices of D. Pointwise first is for layers that upsample; zero insertion, FIR and D together are four 3x3 filters on the
small image. Styles are multiplied into the filter that sees the input and demodulation into the last one, because these tensors
have no pixels.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import functools
import math
import operator

import torch
import torch.nn.functional as F

from spider_plugin.portable.layers.host_arguments import check_defaults
from spider_plugin.portable.layers.modconv import (
    attach_to_rgb,
    check_activation,
    demodulation,
    epilogue_scalars,
    layer3_activation,
    layer3_input,
    layer_epilogue,
    layer_noise,
    unit_styles,
)
from torch_utils_ext.ops.depthwise import depthwise, depthwise_backward, depthwise_weight_grad
from torch_utils_ext.ops.depthwise_up2 import (
    depthwise_up2,
    depthwise_up2_backward,
    depthwise_up2_epilogue,
    depthwise_up2_transpose,
    depthwise_up2_weight_grad,
    phase_filters,
    up2_phases,
)
from torch_utils_ext.ops.exporting import exporting

#----------------------------------------------------------------------------
# A depthwise filter and a product over channels as one node of the graph. The filtered maps are not kept but computed again in
# the backward pass, because those of an up layer are four times as large as its input. The backward pass uses differentiable ops,
# so derivatives of every order exist.

class _Separable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k, w, kind):
        ctx.save_for_backward(x, k, w)
        ctx.kind = kind
        return mix(w, filtered(x, k, kind))

    @staticmethod
    def backward(ctx, g):
        x, k, w = ctx.saved_tensors
        gx = gk = gw = None
        if ctx.needs_input_grad[2]:
            gw = g.flatten(2) @ filtered(x, k, ctx.kind).flatten(2).mT      # [N, O, I]
            gw = gw if w.ndim == 3 else gw.sum(dim=0)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            g = mix(w.mT, g)
        if ctx.needs_input_grad[0] and ctx.needs_input_grad[1]:
            gx, gk = filtered_backward(x, k, g, ctx.kind)
        elif ctx.needs_input_grad[0]:
            gx = filtered_transpose(g, k, ctx.kind)
        elif ctx.needs_input_grad[1]:
            gk = filter_grad(x, g, ctx.kind)
        return gx, gk, gw, None

def separable(x, k, w, kind):
    """Return x [N, I, H, W] filtered by k [N, I, ...] of that kind, then mixed by w [O, I] or [N, O, I], [N, O, H', W'].

    x and w have one dtype, or get autocast's."""
    if exporting():
        return mix(w, filtered(x, k, kind))
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        x, w = (t.to(torch.get_autocast_dtype(device)) for t in (x, w))
    with torch.autocast(device, enabled=False):
        return _Separable.apply(x, k, w, kind)

def mix(w, x):
    """Return the product over channels of w [O, I] or [N, O, I] and x [N, I, H, W], [N, O, H, W]."""
    if w.ndim == 2:
        return F.conv2d(x, w[:, :, None, None])
    return (w @ x.flatten(2)).unflatten(2, x.shape[2:])

# Kinds of filters are 'same' and 'full' (StyleGAN3, one pixel more on each side) with k [N, C, 3, 3], and 'up' with
# k [N, C, 4, 3, 3].

def filtered(x, k, kind):
    if kind == 'up':
        return depthwise_up2(x, k)
    return depthwise(F.pad(x, [1, 1, 1, 1]) if kind == 'full' else x, k)

def filtered_transpose(g, k, kind):
    if kind == 'up':
        return depthwise_up2_transpose(g, k)
    g = depthwise(g, k.flip([2, 3]))
    return g[:, :, 1:-1, 1:-1] if kind == 'full' else g

def filter_grad(x, g, kind):
    if kind == 'up':
        return depthwise_up2_weight_grad(x, g)
    return depthwise_weight_grad(F.pad(x, [1, 1, 1, 1]) if kind == 'full' else x, g)

def filtered_backward(x, k, g, kind):
    """Return (filtered_transpose(g, k, kind), filter_grad(x, g, kind)); one kernel reads g once for both."""
    if kind == 'up':
        return depthwise_up2_backward(x, k, g)
    if kind == 'same':
        return depthwise_backward(x, k, g)
    gx, gk = depthwise_backward(F.pad(x, [1, 1, 1, 1]), k, g)
    return gx[:, :, 1:-1, 1:-1], gk

def terms_of(factor):
    """Return the terms of a factor [rank, ...]; that of rank one without an index, whose gradient would be a copy."""
    return [factor.squeeze(0)] if len(factor) == 1 else list(factor)

def total(terms):
    """Return the sum of the terms; Python's sum would add the first one to zero, which is a pass over all pixels."""
    return functools.reduce(operator.add, terms)

#----------------------------------------------------------------------------
# The kernel in two factors: dw [rank, I or O, 3, 3], pw [rank, O, I].

def effective_kernel(dw, pw, pointwise_first):
    """Return the dense kernel of the factors, [O, I, 3, 3]."""
    return torch.einsum('roi,rokl->oikl' if pointwise_first else 'roi,rikl->oikl', pw, dw)

def kernel_energy(dw, pw, pointwise_first):
    """Return the sum of the squares of the effective kernel over its taps, [O, I], without computing that kernel."""
    gram = torch.einsum('rckl,sckl->rsc', dw, dw).unsqueeze(3 if pointwise_first else 2)
    if len(pw) == 1:
        return pw.squeeze(0).square() * gram.squeeze(0).squeeze(0)
    pairs = [(r, s) for r in range(len(pw)) for s in range(r + 1)]
    return total((1 if r == s else 2) * pw[r] * pw[s] * gram[r, s] for r, s in pairs)

def filter_demodulation(k, pw, eps):
    """Return 1 / sqrt(E + eps), [N, O], with the energy E of each sample's kernel from its filters k [rank, N, I, 3, 3].

    The filters come first in the layer, before pw [rank, O, I]."""
    if len(pw) == 1 and not exporting():
        with torch.autocast(k.device.type, enabled=False):
            return _FilterDemodulation.apply(k.squeeze(0), pw.squeeze(0), eps)
    gram = torch.einsum('rnikl,snikl->rsni', k, k)
    pairs = [(r, s) for r in range(len(pw)) for s in range(r + 1)]
    return (total((1 if r == s else 2) * (gram[r, s] @ (pw[r] * pw[s]).t()) for r, s in pairs) + eps).rsqrt()

class _FilterDemodulation(torch.autograd.Function):
    """Of a single term, with the fewest operations: at low resolutions a GPU waits for launches."""

    @staticmethod
    def forward(ctx, k, pw, eps):
        squares, weights = k.square().sum(dim=[2, 3]), pw.square()     # [N, I], [O, I]
        scales = (squares @ weights.t() + eps).rsqrt()
        ctx.save_for_backward(k, pw, scales, squares, weights)
        return scales

    @staticmethod
    def backward(ctx, g):
        k, pw, scales, squares, weights = ctx.saved_tensors
        if torch.is_grad_enabled():     # the gradient will be differentiated
            squares, weights = k.square().sum(dim=[2, 3]), pw.square()
        slope = g * scales.pow(3)       # -2 times that of the energy
        gk = k * torch.addmm(squares, slope, weights, beta=0, alpha=-1)[:, :, None, None] if ctx.needs_input_grad[0] else None
        gpw = pw * torch.addmm(weights, slope.t(), squares, beta=0, alpha=-1) if ctx.needs_input_grad[1] else None
        return gk, gpw, None

# Scales that keep float16 in its range. Demodulation removes them, so they count as constants.

def size_of(t, dim, order=2):
    """Return the norm of t over the dimensions dim, which have length one in the result."""
    return torch.linalg.vector_norm(t.detach(), order, dim=dim, keepdim=True).clamp(min=1e-20)

def unit_filters(dw, pw):
    """Return dw with unit norm per input channel, and pw with the norms that were removed."""
    norms = size_of(dw, [0, 2, 3])      # [1, I, 1, 1]
    return dw / norms, pw * norms.flatten()

def unit_styles_and_rows(styles, pw, rows=True):
    """Return the styles with a peak of 1 per sample, and pw with unit norm per output channel if rows is true."""
    return styles / size_of(styles, 1, math.inf), pw / size_of(pw, [0, 2]) if rows else pw

#----------------------------------------------------------------------------
# The part that layers of both families share.

class _DSCLayerMixin:
    def attach_dsc(self, order, rank):
        """Replace the dense weight by the two factors.

        order:  'depthwise' or 'pointwise', the factor that comes first in layers that upsample."""
        out_channels, in_channels = self.weight.shape[:2]
        del self.weight
        self.pointwise_first = order == 'pointwise' and getattr(self, 'up', 1) == 2
        self.dw_weight = torch.nn.Parameter(torch.randn([rank, out_channels if self.pointwise_first else in_channels, 3, 3]))
        self.pw_weight = torch.nn.Parameter(torch.randn([rank, out_channels, in_channels]))
        self.dw_gain, self.pw_gain = dsc_gains(rank, in_channels)

    def factors(self):
        return self.dw_weight * self.dw_gain, self.pw_weight * self.pw_gain

    def effective_weight(self):
        """Return the host's dense weight of an equal layer, [O, I, 3, 3]."""
        return effective_kernel(*self.factors(), self.pointwise_first)

def dsc_gains(rank, in_channels):
    """Return the gains of unit-variance dw and pw that keep the variance of activations.

    A filter sums over 9 pixels, and pw sums over rank * I channels."""
    return 1 / 3, 1 / math.sqrt(rank * in_channels)

#----------------------------------------------------------------------------
# StyleGAN2. Before a product over I channels of P pixels, the styles are multiplied into its matrix if that has fewer elements
# (N * O * I) than the maps, which saves a pass over pixels. The same holds for demodulation after the product.

class DSCLayer2Mixin(_DSCLayerMixin):
    orders = ('depthwise', 'pointwise')

    def attach_dsc(self, order, rank):
        check_activation(self)
        if self.up not in (1, 2):
            raise ValueError(f'a layer upsamples by {self.up}; only 1 and 2 are known')
        super().attach_dsc(order, rank)
        if self.up == 2:
            self.register_buffer('phases', up2_phases(self.resample_filter), persistent=False)

    def forward(self, x, w, noise_mode='random', fused_modconv=True, gain=1, **others):
        """Return [N, O, R, R] from x [N, I, R / up, R / up] and w [N, w_dim]; fused_modconv, for dense layers, is ignored."""
        check_defaults(super().forward, others)
        noise = layer_noise(self, x, noise_mode)
        product = self._pointwise_first if self.pointwise_first else self._depthwise_first
        return product(x, self.affine(w), noise, gain)

    def _factors_and_eps(self, half):
        """Return (dw, pw, what is added to the energy of their kernel).

        Demodulation removes any scale, so gains are left out in training, where launches count. In evaluation, snapshots of all
        versions give the same bits."""
        if not self.training:
            return *self.factors(), 1e-8
        return self.dw_weight, self.pw_weight, 1e-8 / (1 if half else self.dw_gain * self.pw_gain) ** 2

    def _depthwise_first(self, x, styles, noise, gain):
        half = x.dtype == torch.float16
        dw, pw, eps = self._factors_and_eps(half)
        folded = pw.shape[1] < x.shape[2] * x.shape[3] * self.up ** 2   # whether N * O * I is less than N * I * P
        if half:
            dw, pw = unit_filters(dw, pw)
            styles, pw = unit_styles_and_rows(styles, pw, rows=not folded)
        k = dw[:, None] * styles[None, :, :, None, None]                # [rank, N, I, 3, 3]
        scales = filter_demodulation(k, pw, eps) if self.training else demodulation(styles, kernel_energy(dw, pw, False))
        k = phase_filters(k, self.phases) if self.up == 2 else k
        pw = pw[:, None] * scales[None, :, :, None] if folded else pw
        terms = [separable(x, *term, 'up' if self.up == 2 else 'same') for term in zip(terms_of(k), terms_of(pw.to(x.dtype)))]
        return layer_epilogue(self, total(terms), None if folded else scales, noise, gain)

    def _pointwise_first(self, x, styles, noise, gain):
        half = x.dtype == torch.float16
        dw, pw, eps = self._factors_and_eps(half)
        if half:
            styles, pw = unit_styles_and_rows(styles, pw)
        scales = demodulation(styles, kernel_energy(dw, pw, True), eps)
        k = phase_filters(dw[:, None] * scales[None, :, :, None, None], self.phases)            # [rank, N, O, 4, 3, 3]
        if pw.shape[1] < x.shape[2] * x.shape[3]:
            pw = pw[:, None] * styles[None, :, None, :]
        else:
            x = x * styles.to(x.dtype)[:, :, None, None]
        terms = [(mix(w, x), filters) for w, filters in zip(terms_of(pw.to(x.dtype)), terms_of(k))]
        if len(terms) == 1:
            return depthwise_up2_epilogue(*terms[0], noise, self.bias, **epilogue_scalars(self, gain))
        return layer_epilogue(self, total(depthwise_up2(*term) for term in terms), None, noise, gain)

# StyleGAN3-T, depthwise first. Weights and styles are normalised as in the host's layers, for every dtype of x.

class DSCLayer3Mixin(_DSCLayerMixin):
    orders = ('depthwise',)     # it upsamples by filters, not by a convolution

    def forward(self, x, w, noise_mode='random', force_fp32=False, update_emas=False, **others):
        """Return [N, O, H', W'] from x [N, I, H, W] and w [N, w_dim]; there is no noise in any mode."""
        check_defaults(super().forward, others)
        x, input_gain = layer3_input(self, x, w, force_fp32, update_emas)
        styles, (dw, pw) = unit_styles(self.affine(w)), self.factors()
        energy = kernel_energy(dw, pw, False)
        size = (energy.mean(dim=1, keepdim=True) / 9).rsqrt()           # [O, 1]: the effective kernel has unit mean square
        scales = demodulation(styles, energy * size.square()) * size.t() * input_gain
        if x.dtype == torch.float16:
            peaks = styles.detach().abs().amax(dim=1, keepdim=True).clamp(min=1e-20)
            styles, scales, (dw, pw) = styles / peaks, scales * peaks, unit_filters(dw, pw)
        k = dw[:, None] * styles[None, :, :, None, None]
        weights = (pw[:, None] * scales[None, :, :, None]).to(x.dtype)
        return layer3_activation(self, total(separable(x, *term, 'full') for term in zip(terms_of(k), terms_of(weights))))

#----------------------------------------------------------------------------

def dsc_layer_mixin(host):
    """Return the mixin for the SynthesisLayer of a host's module, chosen by the functions that the module uses."""
    return DSCLayer3Mixin if hasattr(host, 'filtered_lrelu') else DSCLayer2Mixin

def layer_resolution(layer):
    return layer.resolution if hasattr(layer, 'resolution') else layer.out_sampling_rate

def dsc_layers(synthesis, layer_class, window):
    """Return {name: layer} of the host's layers with a 3x3 kernel whose resolution is in window (lowest, highest)."""
    return {name: layer for name, layer in synthesis.named_modules() if isinstance(layer, layer_class)
            and layer.weight.shape[2] == 3 and window[0] <= layer_resolution(layer) <= window[1]}

# `dsc` is JSON: {"order": 'depthwise' or 'pointwise', "rank": number of terms, "res": [lowest, highest]}.

class DSCGeneratorMixin:
    def __init__(self, *args, dsc, **kwargs):
        super().__init__(*args, **kwargs)
        layers = dsc_layers(self.synthesis, self.dsc_layer.host.SynthesisLayer, dsc['res'])
        if not layers:
            raise ValueError(f'no layer with a 3x3 kernel at resolutions from {dsc["res"][0]} to {dsc["res"][1]}')
        if not 1 <= dsc['rank'] <= 9:
            raise ValueError(f'rank is {dsc["rank"]}; it must be from 1 to 9')
        for layer in layers.values():
            layer.__class__ = self.dsc_layer
            layer.attach_dsc(dsc['order'], dsc['rank'])
        attach_to_rgb(self.synthesis, self.dsc_to_rgb)

#----------------------------------------------------------------------------
