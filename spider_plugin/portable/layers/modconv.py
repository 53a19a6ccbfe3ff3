"""Dense modulated convolution with demodulation in factorised form, as mixins over a host's layers.

The scale of output channel o, for the styles s of a sample, is 1 / |s W_o|. Hosts compute the product s W for every sample,
[N, O, I, kh, kw], to take its norm, even if they do not convolve with it. But
    |s W_o|^2 = sum_i s_i^2 E_oi,   E_oi = sum_k W_oik^2
is a product of small matrices. It is the same function, and training keeps far less memory for its backward pass.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import math

import torch

from spider_plugin.portable.layers.fast_conv import fast_conv, filter_taps
from spider_plugin.portable.layers.host_arguments import check_defaults
from torch_utils_ext.ops.epilogue import epilogue

#----------------------------------------------------------------------------

def demodulation(styles, energy, eps=1e-8):
    """Return 1 / |s W_o|, [N, O], from the styles s [N, I] and the energy E [O, I], the sum of W^2 over the kernel."""
    return (styles.square() @ energy.t() + eps).rsqrt()

def layer_noise(layer, x, noise_mode):
    """Return the noise that a layer of StyleGAN2 adds: a fresh draw [N, 1, R, R], the constant [1, 1, R, R], or None."""
    if noise_mode not in ('random', 'const', 'none'):
        raise ValueError(f"noise_mode is {noise_mode!r}; it must be 'random', 'const' or 'none'")
    if not layer.use_noise or noise_mode == 'none':
        return None
    if noise_mode == 'const':
        return layer.noise_const[None, None] * layer.noise_strength
    return torch.randn([x.shape[0], 1, layer.resolution, layer.resolution], device=x.device) * layer.noise_strength

def layer_epilogue(layer, x, demod, noise, gain):
    """Apply the scale, noise, bias, activation and clamp of a layer of StyleGAN2 to x [N, O, H, W]."""
    return epilogue(x, demod, noise, layer.bias, **epilogue_scalars(layer, gain))

def epilogue_scalars(layer, gain):
    """Return the activation, gain and clamp of a layer of StyleGAN2, as arguments of an epilogue."""
    clamp = layer.conv_clamp * gain if layer.conv_clamp is not None else None
    return dict(act=layer.activation, gain=layer.act_gain * gain, clamp=clamp)

def check_activation(layer):
    """Raise ValueError if `epilogue` does not support the activation of a layer."""
    if layer.activation not in ('linear', 'lrelu'):
        raise ValueError(f"a layer has the activation {layer.activation!r}; only 'lrelu' and 'linear' are known")

#----------------------------------------------------------------------------
# StyleGAN2. In evaluation, hosts may convolve with a kernel for each sample (fused_modconv); that path is not changed.

class FastLayer2Mixin:
    def attach_fast(self):
        check_activation(self)
        self.fast_taps = filter_taps(self.resample_filter)

    def forward(self, x, w, noise_mode='random', fused_modconv=True, gain=1, **others):
        """Return [N, O, R, R] from x [N, I, R / up, R / up] and w [N, w_dim]."""
        if fused_modconv and not self.training:
            return super().forward(x, w, noise_mode=noise_mode, fused_modconv=True, gain=gain, **others)
        check_defaults(super().forward, others)
        weight, styles = self.weight, self.affine(w)
        noise = layer_noise(self, x, noise_mode)
        if x.dtype == torch.float16:    # Demodulation removes any scale, so choose one that cannot overflow.
            peaks = weight.detach().abs().amax(dim=[1, 2, 3], keepdim=True)
            weight = weight / (peaks * math.sqrt(weight[0].numel()))
            styles = styles / styles.detach().abs().amax(dim=1, keepdim=True)
        scales = demodulation(styles, weight.square().sum(dim=[2, 3]))
        x = x * styles.to(x.dtype)[:, :, None, None]
        weight = weight.to(x.dtype)
        y = fast_conv(x, weight, self.fast_taps, up=self.up) if self.padding == weight.shape[2] // 2 else None
        if y is None:
            y = self.host.conv2d_resample.conv2d_resample(x, weight, f=self.resample_filter, up=self.up, padding=self.padding,
                                                          flip_weight=self.up == 1)
        return layer_epilogue(self, y, scales, noise, gain)

#----------------------------------------------------------------------------
# StyleGAN2's layer to colours, which has no demodulation. In training, hosts multiply the styles into the maps, which costs as
# much as the product behind it, for few channels. Here they go into a matrix for each sample.

class ToRGBMixin:
    def forward(self, x, w, fused_modconv=True, **others):
        """Return [N, C, R, R] from x [N, I, R, R] and w [N, w_dim]; in evaluation as the host's layer does."""
        if not self.training:
            return super().forward(x, w, fused_modconv=fused_modconv, **others)
        check_defaults(super().forward, others)
        matrix = self.weight.flatten(1) * (self.affine(w) * self.weight_gain)[:, None]      # [N, C, I]
        x = torch.bmm(matrix.to(x.dtype), x.flatten(2)).unflatten(2, x.shape[2:])
        return epilogue(x, bias=self.bias, clamp=self.conv_clamp)

class NoToRGB(torch.nn.Module):
    """A class of which no layer is, for hosts without such a layer."""

def to_rgb_layer(host):
    """Return the layer to colours of a host's module if it is StyleGAN2's, else NoToRGB."""
    return getattr(host, 'ToRGBLayer', NoToRGB)

def attach_to_rgb(synthesis, to_rgb):
    """Make layers to colours those of the class to_rgb, which is over the host's class."""
    for layer in synthesis.modules():
        if isinstance(layer, to_rgb_layer(to_rgb.host)) and layer.weight.shape[2:] == (1, 1):
            layer.__class__ = to_rgb

#----------------------------------------------------------------------------
# StyleGAN3. Hosts give each sample a separate kernel, as a group of one convolution; here the activations are scaled instead.

class FastLayer3Mixin:
    def attach_fast(self):
        pass

    def forward(self, x, w, noise_mode='random', force_fp32=False, update_emas=False, **others):
        """Return [N, O, H', W'] from x [N, I, H, W] and w [N, w_dim]; there is no noise in any mode."""
        if self.is_torgb:
            return super().forward(x, w, noise_mode=noise_mode, force_fp32=force_fp32, update_emas=update_emas, **others)
        check_defaults(super().forward, others)
        x, input_gain = layer3_input(self, x, w, force_fp32, update_emas)
        styles, weight = unit_styles(self.affine(w)), self.weight
        weight = weight * weight.square().mean(dim=[1, 2, 3], keepdim=True).rsqrt()
        size = math.sqrt(weight[0].numel())     # keeps sums in the range of half precision
        scales = demodulation(styles, weight.square().sum(dim=[2, 3])) * (input_gain * size)
        x = x * styles.to(x.dtype)[:, :, None, None]
        x = torch.nn.functional.conv2d(x, (weight / size).to(x.dtype), padding=self.conv_kernel - 1)
        return layer3_activation(self, x * scales.to(x.dtype)[:, :, None, None])

def layer3_input(layer, x, w, force_fp32, update_emas):
    """Return (x in the dtype that a layer of StyleGAN3 computes in, the scale of its input to unit magnitude)."""
    if update_emas:
        magnitude = x.detach().to(layer.magnitude_ema.dtype).square().mean()
        layer.magnitude_ema.copy_(magnitude.lerp(layer.magnitude_ema, layer.magnitude_ema_beta))
    half = layer.use_fp16 and not force_fp32 and x.device.type == 'cuda'
    return x.to(torch.float16 if half else w.dtype), layer.magnitude_ema.rsqrt()

def unit_styles(styles):
    return styles * styles.square().mean().rsqrt()

def layer3_activation(layer, x):
    """Apply the bias and filtered leaky ReLU of a layer of StyleGAN3 other than ToRGB to [N, O, H, W]; [N, O, H', W']."""
    return layer.host.filtered_lrelu.filtered_lrelu(
        x, fu=layer.up_filter, fd=layer.down_filter, b=layer.bias.to(x.dtype), up=layer.up_factor, down=layer.down_factor,
        padding=layer.padding, gain=math.sqrt(2), slope=0.2, clamp=layer.conv_clamp)

#----------------------------------------------------------------------------

def fast_layer_mixin(host):
    """Return the mixin for the SynthesisLayer of a host's module, chosen by the functions that the module uses."""
    return FastLayer3Mixin if hasattr(host, 'filtered_lrelu') else FastLayer2Mixin

class FastGeneratorMixin:
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for layer in self.synthesis.modules():
            if isinstance(layer, self.fast_layer.host.SynthesisLayer):
                layer.__class__ = self.fast_layer
                layer.attach_fast()
        attach_to_rgb(self.synthesis, self.fast_to_rgb)

#----------------------------------------------------------------------------
