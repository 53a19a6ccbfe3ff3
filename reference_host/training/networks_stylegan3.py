"""StyleGAN3 generators: -T, equivariant to translation, and -R, to rotation, too. Their discriminator is StyleGAN2's.

Karras et al., "Alias-Free Generative Adversarial Networks" (2021), here [SG3]. Feature maps are samples of continuous,
band-limited signals on a canvas that is wider than the image by a margin; every layer acts on the signal and leaves it
band-limited. Frequencies are in cycles per image, sampling rates in samples per image.

Everything runs in the dtype of the parameters; layers under use_fp16 run in half precision, on cuda only.
"""

import functools
import math

import numpy as np
import scipy.signal
import scipy.special
import torch

from torch_utils import misc, persistence
from torch_utils.ops import bias_act, filtered_lrelu

#----------------------------------------------------------------------------
# Functions.

def normalize_2nd_moment(x, dim=1, eps=1e-8):
    """Scale x to a mean square of one along dim."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()

def modulated_conv2d(
    x,                      # Input: [N, I, H, W].
    w,                      # Weights that all samples share: [O, I, k, k].
    s,                      # Scale of each input channel of each sample: [N, I].
    demodulate  = True,     # Scale each output channel to unit variance, given inputs of unit variance?
    padding     = 0,        # Padding on all sides.
    input_gain  = None,     # Scale of x, which does not count as a style: broadcasts to [N, I].
):
    """Convolution with weights of each sample's own: [N, O, H', W'] of x's dtype.

    Demodulation makes the scales of w and s irrelevant: both are normalized first, so that half precision can hold them.
    What a sample's weights differ in are scales of input and output channels, which activations get instead; the norm of
    w times s is that of s times the norms of w over its kernel.
    """
    if demodulate:
        w = w / w.square().mean(dim=[1, 2, 3], keepdim=True).sqrt()
        s = s / s.square().mean().sqrt()
        scales = (s.square() @ w.square().sum(dim=[2, 3]).t() + 1e-8).rsqrt()   # [N, O]
        size = math.sqrt(w[0].numel()) # What half precision sums up stays in its range.
        w, scales = w / size, scales * size
    if input_gain is not None:
        s = s * input_gain
    x = torch.nn.functional.conv2d(x * s[:, :, None, None].to(x.dtype), w.to(x.dtype), padding=padding)
    return x * scales[:, :, None, None].to(x.dtype) if demodulate else x

def _pair(size):
    """A number or [width, height] -> [width, height]."""
    return [size, size] if isinstance(size, int) else list(size)

def _dtype(layer, full_dtype, device, force_fp32):
    """What a layer of G runs in."""
    return torch.float16 if layer.use_fp16 and not force_fp32 and device.type == 'cuda' else full_dtype

def _repr(module, *names):
    return ', '.join(f'{name}={getattr(module, name)}' for name in names)

#----------------------------------------------------------------------------
# Mapping.

@persistence.persistent_class
class FullyConnectedLayer(torch.nn.Module):
    """[N, in_features] -> [N, out_features], with bias and activation."""

    def __init__(self,
        in_features,                # Features of the input.
        out_features,               # Features of the output.
        activation      = 'linear', # A key of bias_act.activation_funcs.
        bias            = True,     # Add a bias before the activation?
        lr_multiplier   = 1,        # Learn slower or faster than other layers.
        weight_init     = 1,        # Initial standard deviation of the weights.
        bias_init       = 0,        # Initial bias: a number, or one for each feature.
    ):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.activation = activation
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]).mul(weight_init / lr_multiplier))
        bias_init = torch.as_tensor(bias_init, dtype=torch.float32) / lr_multiplier
        self.bias = torch.nn.Parameter(bias_init.expand(out_features).clone()) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x):
        w = self.weight.to(x.dtype) * self.weight_gain
        b = self.bias.to(x.dtype) * self.bias_gain if self.bias is not None else None
        return bias_act.bias_act(x @ w.t(), b, act=self.activation)

    def extra_repr(self):
        return _repr(self, 'in_features', 'out_features', 'activation')

@persistence.persistent_class
class MappingNetwork(torch.nn.Module):
    """Latent z: [N, z_dim] and label c: [N, c_dim] -> w: [N, num_ws, w_dim]."""

    def __init__(self,
        z_dim,                      # Dimensions of z.
        c_dim,                      # Dimensions of c, 0 for none.
        w_dim,                      # Dimensions of w.
        num_ws,                     # Number of copies of w.
        num_layers      = 2,        # Number of layers.
        lr_multiplier   = 0.01,     # Learn slower than other networks.
        w_avg_beta      = 0.998,    # Decay of the moving average of w.
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta
        self.embed = FullyConnectedLayer(c_dim, w_dim) if c_dim > 0 else None
        features = [z_dim + (w_dim if c_dim > 0 else 0)] + [w_dim] * num_layers
        for idx in range(num_layers):
            setattr(self, f'fc{idx}', FullyConnectedLayer(features[idx], features[idx + 1], activation='lrelu',
                lr_multiplier=lr_multiplier))
        self.register_buffer('w_avg', torch.zeros([w_dim]))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False):
        """truncation_psi: pull w towards its average, 0 for the average, in the first truncation_cutoff copies (None: all)."""
        misc.assert_shape(z, [None, self.z_dim])
        dtype = self.w_avg.dtype
        x = normalize_2nd_moment(z.to(dtype))
        if self.embed is not None:
            misc.assert_shape(c, [None, self.c_dim])
            x = torch.cat([x, normalize_2nd_moment(self.embed(c.to(dtype)))], dim=1)
        for layer in (getattr(self, f'fc{idx}') for idx in range(self.num_layers)):
            x = layer(x)
        if update_emas:
            self.w_avg.lerp_(x.detach().mean(dim=0), 1 - self.w_avg_beta)
        x = x[:, None].repeat(1, self.num_ws, 1)
        if truncation_psi != 1:
            cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
            x = torch.cat([self.w_avg.lerp(x[:, :cutoff], truncation_psi), x[:, cutoff:]], dim=1)
        return x

    def extra_repr(self):
        return _repr(self, 'z_dim', 'c_dim', 'w_dim', 'num_ws')

#----------------------------------------------------------------------------
# Synthesis.

@persistence.persistent_class
class SynthesisInput(torch.nn.Module):
    """w: [N, w_dim] -> random sine waves, mixed: [N, channels, H, W]. Section 3.2 and appendix F of [SG3].

    The affine layer learns a rotation and a shift for each image; the buffer `transform`, a matrix that the user may
    set, takes coordinates of the output to those of that input. The unit of length is the image.
    """

    def __init__(self,
        w_dim,          # Dimensions of w.
        channels,       # Number of waves and of output channels.
        size,           # Samples of the canvas: a number or [width, height].
        sampling_rate,  # Samples per image.
        bandwidth,      # Highest frequency of the waves.
    ):
        super().__init__()
        self.w_dim = w_dim
        self.channels = channels
        self.size = _pair(size)
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth

        radius, angle = bandwidth * torch.rand([channels]).sqrt(), 2 * math.pi * torch.rand([channels]) # Uniform in a disc.
        self.weight = torch.nn.Parameter(torch.randn([channels, channels]))
        self.affine = FullyConnectedLayer(w_dim, 4, weight_init=0, bias_init=[1, 0, 0, 0])
        self.register_buffer('transform', torch.eye(3))
        self.register_buffer('freqs', torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        self.register_buffer('phases', torch.rand([channels]) - 0.5)

    def forward(self, w):
        # Output coordinates p -> R(A p + a - t), where A, a are the user's transform, and the affine layer gives
        # (cos, sin, t), all of it to be scaled such that R is a rotation.
        params = self.affine(w)
        params = params / params[:, :2].norm(dim=1, keepdim=True)
        cos, sin = params[:, :2].unbind(dim=1)
        rotation = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)    # [N, 2, 2]
        shift = self.transform[:2, 2] - params[:, 2:]                                                       # [N, 2]

        # Wave k is sin(2 pi (f_k . R(A p + a - t) + phase_k)): move its frequency and phase instead of p.
        freqs = self.freqs @ rotation                                                                       # [N, channels, 2]
        phases = self.phases + (freqs @ shift.unsqueeze(2)).squeeze(2)                                      # [N, channels]
        freqs = freqs @ self.transform[:2, :2]

        # What a transform pushes beyond the bandwidth fades out towards the Nyquist frequency.
        nyquist = self.sampling_rate / 2
        amplitudes = ((nyquist - freqs.norm(dim=2)) / (nyquist - self.bandwidth)).clamp(0, 1)               # [N, channels]

        # Waves at the centres of all samples.
        x, y = ((torch.arange(n, device=w.device, dtype=w.dtype) - (n - 1) / 2) / self.sampling_rate for n in self.size)
        angles = freqs[:, None, None, :, 0] * x[:, None] + freqs[:, None, None, :, 1] * y[:, None, None]    # [N, H, W, channels]
        waves = torch.sin((angles + phases[:, None, None, :]) * (2 * math.pi)) * amplitudes[:, None, None, :]
        x = waves @ (self.weight / math.sqrt(self.channels)).t()
        return x.permute(0, 3, 1, 2).contiguous()

    def extra_repr(self):
        return _repr(self, 'w_dim', 'channels', 'size', 'sampling_rate', 'bandwidth')

@persistence.persistent_class
class SynthesisLayer(torch.nn.Module):
    """Modulated convolution, bias, filtered leaky ReLU: [N, in_channels, H, W] -> [N, out_channels, H', W'].

    Figure 4b of [SG3]. The upsampling filter keeps the signal below in_cutoff, the downsampling filter what the
    nonlinearity makes of it below out_cutoff; both filters fall off over a band of twice the half width.
    """

    def __init__(self,
        w_dim,                          # Dimensions of w.
        is_torgb,                       # The last layer, which makes colours without a nonlinearity?
        is_critically_sampled,          # Band limit at the Nyquist frequency: never a radial filter?
        use_fp16,                       # Half precision on cuda?
        in_channels,                    # Channels of the input.
        out_channels,                   # Channels of the output.
        in_size,                        # Samples of the input: a number or [width, height].
        out_size,                       # Samples of the output: a number or [width, height].
        in_sampling_rate,               # Samples per image of the input.
        out_sampling_rate,              # Samples per image of the output.
        in_cutoff,                      # Band limit of the input.
        out_cutoff,                     # Band limit of the output.
        in_half_width,                  # Half the width of the transition band there.
        out_half_width,                 # Half the width of the transition band there.
        conv_kernel         = 3,        # Width and height of the kernel; 1 for colours.
        filter_size         = 6,        # Taps of a filter per factor it resamples by.
        lrelu_upsampling    = 2,        # Sampling rate of the nonlinearity, relative to the larger one of input and output.
        use_radial_filters  = False,    # Downsampling filters that look the same in all directions?
        conv_clamp          = 256,      # Clamp the output of the nonlinearity to +-conv_clamp; None for no clamp.
        magnitude_ema_beta  = 0.999,    # Decay of the moving average of input magnitudes.
    ):
        super().__init__()
        self.w_dim = w_dim
        self.is_torgb = is_torgb
        self.is_critically_sampled = is_critically_sampled
        self.use_fp16 = use_fp16
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.in_size = _pair(in_size)
        self.out_size = _pair(out_size)
        self.in_sampling_rate = in_sampling_rate
        self.out_sampling_rate = out_sampling_rate
        larger_rate = max(in_sampling_rate, out_sampling_rate)
        self.tmp_sampling_rate = larger_rate if is_torgb else larger_rate * lrelu_upsampling
        self.in_cutoff = in_cutoff
        self.out_cutoff = out_cutoff
        self.in_half_width = in_half_width
        self.out_half_width = out_half_width
        self.conv_kernel = 1 if is_torgb else conv_kernel
        self.conv_clamp = conv_clamp
        self.magnitude_ema_beta = magnitude_ema_beta

        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, self.conv_kernel, self.conv_kernel]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.register_buffer('magnitude_ema', torch.ones([]))

        # Filters: one tap is none.
        self.up_factor = round(self.tmp_sampling_rate / in_sampling_rate)
        self.up_taps = filter_size * self.up_factor if self.up_factor > 1 and not is_torgb else 1
        self.down_factor = round(self.tmp_sampling_rate / out_sampling_rate)
        self.down_taps = filter_size * self.down_factor if self.down_factor > 1 and not is_torgb else 1
        self.down_radial = use_radial_filters and not is_critically_sampled
        design = functools.partial(self.design_lowpass_filter, fs=self.tmp_sampling_rate)
        self.register_buffer('up_filter', design(self.up_taps, in_cutoff, 2 * in_half_width))
        self.register_buffer('down_filter', design(self.down_taps, out_cutoff, 2 * out_half_width, radial=self.down_radial))
        self.padding = [pad for i in [0, 1] for pad in self._margins(self.in_size[i], self.out_size[i])]

    def _margins(self, in_size, out_size):
        """Samples to add on either side of the upsampled image, such that input and output have the same centre."""
        convolved = in_size + self.conv_kernel - 1 # Fully padded.
        total = (out_size - 1) * self.down_factor + 1 + (self.up_taps - 1) + (self.down_taps - 1) - convolved * self.up_factor
        before = (total + self.up_factor) // 2 # All zeros of the upsampling are after their sample.
        return before, total - before

    def forward(self, x, w, noise_mode='random', force_fp32=False, update_emas=False):
        """noise_mode: for callers that name one, there is no noise. update_emas: let the magnitude follow this input."""
        assert noise_mode in ['random', 'const', 'none']
        misc.assert_shape(x, [w.shape[0], self.in_channels, self.in_size[1], self.in_size[0]])
        if update_emas:
            magnitude = x.detach().to(self.magnitude_ema.dtype).square().mean()
            self.magnitude_ema.lerp_(magnitude, 1 - self.magnitude_ema_beta)

        # Convolution of the input at unit magnitude. Styles alone set the magnitude of colours.
        styles = self.affine(w)
        if self.is_torgb:
            styles = styles / math.sqrt(self.in_channels * self.conv_kernel ** 2)
        x = x.to(_dtype(self, w.dtype, w.device, force_fp32))
        x = modulated_conv2d(x, self.weight, styles, demodulate=not self.is_torgb, padding=self.conv_kernel - 1,
            input_gain=self.magnitude_ema.rsqrt())

        gain, slope = (1, 1) if self.is_torgb else (math.sqrt(2), 0.2)
        x = filtered_lrelu.filtered_lrelu(x, fu=self.up_filter, fd=self.down_filter, b=self.bias.to(x.dtype), up=self.up_factor,
            down=self.down_factor, padding=self.padding, gain=gain, slope=slope, clamp=self.conv_clamp)
        misc.assert_shape(x, [w.shape[0], self.out_channels, self.out_size[1], self.out_size[0]])
        return x

    @staticmethod
    def design_lowpass_filter(numtaps, cutoff, width, fs, radial=False):
        """Kaiser-windowed low-pass filter for the sampling rate fs, with a transition band of `width` around cutoff.

        Float32 [numtaps], or [numtaps, numtaps] if radial, with unit sum; None for one tap. Appendix C of [SG3]. A radial
        filter samples the jinc function, the 2D Fourier transform of a disc, under a separable window.
        """
        if numtaps == 1:
            return None
        if not radial:
            return torch.as_tensor(scipy.signal.firwin(numtaps, cutoff, width=width, fs=fs), dtype=torch.float32)
        t = np.arange(numtaps) / fs
        t -= t.mean()
        r = np.maximum(np.hypot(t, t[:, None]), 1e-8 / fs) # The limit at zero is finite.
        jinc = scipy.special.j1(2 * np.pi * cutoff * r) / r
        window = np.kaiser(numtaps, scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(numtaps, 2 * width / fs)))
        f = jinc * np.outer(window, window)
        return torch.as_tensor(f / f.sum(), dtype=torch.float32)

    def extra_repr(self):
        return _repr(self, 'w_dim', 'is_torgb', 'is_critically_sampled', 'use_fp16', 'in_sampling_rate', 'out_sampling_rate',
            'in_cutoff', 'out_cutoff', 'in_half_width', 'out_half_width', 'in_size', 'out_size', 'in_channels', 'out_channels')

@persistence.persistent_class
class SynthesisNetwork(torch.nn.Module):
    """ws: [N, num_ws, w_dim] -> image [N, img_channels, img_resolution, img_resolution], about [-1, 1]."""

    def __init__(self,
        w_dim,                          # Dimensions of w.
        img_resolution,                 # Resolution of the image: a power of two from 4 on.
        img_channels,                   # Number of colour channels.
        channel_base        = 32768,    # Number of channels times resolution, which is twice the band limit.
        channel_max         = 512,      # Largest number of channels.
        num_layers          = 14,       # Number of layers between the input and the colours.
        num_critical        = 2,        # How many of them, the last ones, are critically sampled.
        first_cutoff        = 2,        # Band limit of the first layer.
        first_stopband      = 2 ** 2.1, # End of its transition band.
        last_stopband_rel   = 2 ** 0.3, # End of the last layers' transition band, relative to their band limit.
        margin_size         = 10,       # Samples that the canvas adds to each side of the image.
        output_scale        = 0.25,     # Scale of the image.
        num_fp16_res        = 4,        # How many of the highest sampling rates run in half precision.
        **layer_kwargs,                 # For SynthesisLayer.
    ):
        super().__init__()
        if img_resolution < 4 or img_resolution & (img_resolution - 1) != 0:
            raise ValueError(f'Images are {img_resolution} pixels wide; they must be a power of two, 4 or more.')
        if not 0 <= num_critical < num_layers:
            raise ValueError(f'num_critical is {num_critical}; it must be from 0 to {num_layers - 1}, less than num_layers.')
        self.w_dim = w_dim
        self.num_ws = num_layers + 2
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.num_layers = num_layers
        self.num_critical = num_critical
        self.margin_size = margin_size
        self.output_scale = output_scale
        self.num_fp16_res = num_fp16_res

        # Band limits and stopbands grow geometrically, the same in all critically sampled layers: section 3.2 of [SG3].
        progress = np.minimum(np.arange(num_layers + 1) / (num_layers - num_critical), 1)
        last_cutoff = img_resolution / 2
        cutoffs = first_cutoff * (last_cutoff / first_cutoff) ** progress
        stopbands = first_stopband * (last_cutoff * last_stopband_rel / first_stopband) ** progress
        rates = np.exp2(np.ceil(np.log2(np.minimum(2 * stopbands, img_resolution)))).astype(int)
        half_widths = np.maximum(stopbands, rates / 2) - cutoffs
        sizes = rates + 2 * margin_size
        sizes[-2:] = img_resolution # The last layers leave the margin.
        channels = np.rint(np.minimum(channel_base / (2 * cutoffs), channel_max)).astype(int)
        channels[-1] = img_channels

        columns = [column.tolist() for column in (rates, cutoffs, half_widths, sizes, channels)]
        names = ['sampling_rate', 'cutoff', 'half_width', 'size', 'channels']
        table = [dict(zip(names, row)) for row in zip(*columns)] # What each layer puts out.
        first = table[0]
        self.input = SynthesisInput(w_dim, first['channels'], first['size'], first['sampling_rate'], bandwidth=first['cutoff'])
        self.layer_names = []
        for idx, (before, after) in enumerate(zip([first, *table], table)):
            layer = SynthesisLayer(w_dim, is_torgb=(idx == num_layers), is_critically_sampled=(idx >= num_layers - num_critical),
                use_fp16=(after['sampling_rate'] * 2 ** num_fp16_res > img_resolution),
                **{f'in_{name}': value for name, value in before.items()},
                **{f'out_{name}': value for name, value in after.items()}, **layer_kwargs)
            self.layer_names.append(f'L{idx}_{after["size"]}_{after["channels"]}')
            setattr(self, self.layer_names[-1], layer)

    def forward(self, ws, **layer_kwargs):
        misc.assert_shape(ws, [None, self.num_ws, self.w_dim])
        dtype = self.input.weight.dtype
        first, *others = ws.to(dtype).unbind(dim=1)
        x = self.input(first)
        for name, w in zip(self.layer_names, others):
            x = getattr(self, name)(x, w, **layer_kwargs)
        return x.to(dtype) * self.output_scale

    def extra_repr(self):
        return _repr(self, 'w_dim', 'num_ws', 'img_resolution', 'img_channels', 'num_layers', 'num_critical', 'margin_size',
            'num_fp16_res')

@persistence.persistent_class
class Generator(torch.nn.Module):
    """Latent z: [N, z_dim] and label c: [N, c_dim] -> image [N, img_channels, img_resolution, img_resolution]."""

    def __init__(self,
        z_dim,                      # Dimensions of z.
        c_dim,                      # Dimensions of c, 0 for none.
        w_dim,                      # Dimensions of w.
        img_resolution,             # Resolution of the image: a power of two from 4 on.
        img_channels,               # Number of colour channels.
        mapping_kwargs      = {},   # For MappingNetwork.
        **synthesis_kwargs,         # For SynthesisNetwork.
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(w_dim=w_dim, img_resolution=img_resolution, img_channels=img_channels,
            **synthesis_kwargs)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, num_ws=self.num_ws, **mapping_kwargs)

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff, update_emas=update_emas)
        return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)

#----------------------------------------------------------------------------
