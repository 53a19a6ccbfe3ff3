"""StyleGAN2 generator and discriminator, with the options of StyleGAN2-ADA.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), here [SG2], and "Training Generative
Adversarial Networks with Limited Data" (2020), here [ADA]. Weights start as standard normal and are scaled at each
use, so that every layer learns at the same rate.

Everything runs in the dtype of the parameters; blocks under use_fp16 run in half precision, on cuda only.
"""

import math

import torch

from torch_utils import misc, persistence
from torch_utils.ops import bias_act, conv2d_resample, upfirdn2d

#----------------------------------------------------------------------------
# Functions.

def normalize_2nd_moment(x, dim=1, eps=1e-8):
    """Scale x to a mean square of one along dim."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()

def modulated_conv2d(
    x,                          # Input: [N, I, H, W].
    weight,                     # Weights that all samples share: [O, I, kh, kw].
    styles,                     # Scale of each input channel of each sample: [N, I].
    noise           = None,     # Added to the output: broadcasts to [N, O, H', W'].
    up              = 1,        # Integer upsampling factor.
    down            = 1,        # Integer downsampling factor.
    padding         = 0,        # Padding with respect to the upsampled image.
    resample_filter = None,     # Low-pass filter for resampling.
    demodulate      = True,     # Scale each output channel to unit variance, given inputs of unit variance?
    flip_weight     = True,     # True correlates, as torch does; False convolves.
    fused_modconv   = True,     # Scale weights, not activations: one convolution with a group per sample?
):
    """Convolution with weights of each sample's own: equations 1 to 3 of [SG2]. Returns [N, O, H', W'] of x's dtype."""
    num_samples, dtype = x.shape[0], x.dtype
    if dtype == torch.float16 and demodulate: # Demodulation takes any scale back out, so choose one that cannot overflow.
        weight = weight / weight.abs().amax(dim=[1, 2, 3], keepdim=True) / math.sqrt(weight[0].numel())
        styles = styles / styles.abs().amax(dim=1, keepdim=True)
    if demodulate: # Equation 3, summed over the kernel first: the weights of each sample need not exist for it.
        scales = (styles.square() @ weight.square().sum(dim=[2, 3]).t() + 1e-8).rsqrt()     # [N, O]
    resampling = dict(f=resample_filter, up=up, down=down, padding=padding, flip_weight=flip_weight)

    if fused_modconv:
        weights = weight[None] * styles[:, None, :, None, None]         # [N, O, I, kh, kw], equation 1
        weights = weights * scales[:, :, None, None, None] if demodulate else weights
        x = x.reshape(1, -1, *x.shape[2:])
        x = conv2d_resample.conv2d_resample(x, weights.flatten(0, 1).to(dtype), groups=num_samples, **resampling)
        x = x.reshape(num_samples, -1, *x.shape[2:])
    else:
        x = x * styles[:, :, None, None].to(dtype)
        x = conv2d_resample.conv2d_resample(x, weight.to(dtype), **resampling)
        x = x * scales[:, :, None, None].to(dtype) if demodulate else x
    return x if noise is None else x + noise.to(dtype)

def _channels(resolutions, channel_base, channel_max):
    """{resolution: number of channels}; halves with each doubling of the resolution, up to a limit."""
    return {res: min(channel_base // res, channel_max) for res in resolutions}

def _log2_resolution(resolution, minimum):
    if resolution < minimum or resolution & (resolution - 1) != 0:
        raise ValueError(f'Images are {resolution} pixels wide; they must be a power of two, {minimum} or more.')
    return resolution.bit_length() - 1

def _fp16_resolution(resolution_log2, num_fp16_res):
    """The lowest resolution in half precision: the highest num_fp16_res resolutions, of those from 8 on."""
    return max(2 ** (resolution_log2 + 1 - num_fp16_res), 8)

def _accept(maps, channels, resolution, dtype, memory_format=torch.contiguous_format):
    """Feature maps or images in the given format. Raises AssertionError unless they are [N, channels, resolution, resolution]."""
    misc.assert_shape(maps, [None, channels, resolution, resolution])
    return maps.to(dtype=dtype, memory_format=memory_format)

def _format(block, full_dtype, device, force_fp32):
    """(dtype, memory format) that a block of G or D runs in."""
    use_fp16 = block.use_fp16 and not force_fp32 and device.type == 'cuda'
    return (torch.float16 if use_fp16 else full_dtype), _memory_format(use_fp16 and block.channels_last)

def _memory_format(channels_last):
    return torch.channels_last if channels_last else torch.contiguous_format

def _repr(module, *names):
    return ', '.join(f'{name}={getattr(module, name)}' for name in names)

#----------------------------------------------------------------------------
# Layers.

@persistence.persistent_class
class FullyConnectedLayer(torch.nn.Module):
    """[N, in_features] -> [N, out_features], with bias and activation."""

    def __init__(self,
        in_features,                # Number of input features.
        out_features,               # Number of output features.
        bias            = True,     # Add a bias before the activation?
        activation      = 'linear', # A key of bias_act.activation_funcs.
        lr_multiplier   = 1,        # Learn slower or faster than other layers.
        bias_init       = 0,        # Initial bias.
    ):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.activation = activation
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = torch.nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x):
        w = self.weight.to(x.dtype) * self.weight_gain
        b = self.bias.to(x.dtype) * self.bias_gain if self.bias is not None else None
        return bias_act.bias_act(x @ w.t(), b, act=self.activation)

    def extra_repr(self):
        return _repr(self, 'in_features', 'out_features', 'activation')

@persistence.persistent_class
class Conv2dLayer(torch.nn.Module):
    """[N, in_channels, H, W] -> [N, out_channels, H * up / down, W * up / down], with bias and activation."""

    def __init__(self,
        in_channels,                    # Number of input channels.
        out_channels,                   # Number of output channels.
        kernel_size,                    # Width and height of the kernel.
        bias            = True,         # Add a bias before the activation?
        activation      = 'linear',     # A key of bias_act.activation_funcs.
        up              = 1,            # Integer upsampling factor.
        down            = 1,            # Integer downsampling factor.
        resample_filter = [1,3,3,1],    # Low-pass filter for resampling.
        conv_clamp      = None,         # Clamp the output to +-conv_clamp; None for no clamp.
        channels_last   = False,        # Weights in channels-last memory format?
        trainable       = True,         # False: weight and bias are buffers.
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size ** 2)
        self.act_gain = bias_act.activation_funcs[activation].def_gain
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(resample_filter))

        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        weight = weight.to(memory_format=_memory_format(channels_last))
        for name, tensor in [('weight', weight), ('bias', torch.zeros([out_channels]) if bias else None)]:
            if trainable:
                self.register_parameter(name, None if tensor is None else torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, x, gain=1):
        w = (self.weight * self.weight_gain).to(x.dtype)
        x = conv2d_resample.conv2d_resample(x, w, f=self.resample_filter, up=self.up, down=self.down,
            padding=self.padding, flip_weight=(self.up == 1))
        b = self.bias.to(x.dtype) if self.bias is not None else None
        clamp = self.conv_clamp * gain if self.conv_clamp is not None else None
        return bias_act.bias_act(x, b, act=self.activation, gain=self.act_gain * gain, clamp=clamp)

    def extra_repr(self):
        return _repr(self, 'in_channels', 'out_channels', 'activation', 'up', 'down')

#----------------------------------------------------------------------------
# Generator.

@persistence.persistent_class
class MappingNetwork(torch.nn.Module):
    """Latent z: [N, z_dim] and label c: [N, c_dim] -> w: [N, num_ws, w_dim], or [N, w_dim] with num_ws=None."""

    def __init__(self,
        z_dim,                      # Dimensions of z, 0 for none.
        c_dim,                      # Dimensions of c, 0 for none.
        w_dim,                      # Dimensions of w.
        num_ws,                     # Number of copies of w, None for no axis of copies.
        num_layers      = 8,        # Number of layers.
        embed_features  = None,     # Dimensions of the embedded label, None for w_dim.
        layer_features  = None,     # Dimensions between the layers, None for w_dim.
        activation      = 'lrelu',  # A key of bias_act.activation_funcs.
        lr_multiplier   = 0.01,     # Learn slower than other networks.
        w_avg_beta      = 0.998,    # Decay of the moving average of w, None for no average.
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta

        layer_features = w_dim if layer_features is None else layer_features
        embed_features = w_dim if embed_features is None else embed_features
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features)
        features = [z_dim + (embed_features if c_dim > 0 else 0)] + [layer_features] * (num_layers - 1) + [w_dim]
        for idx in range(num_layers):
            setattr(self, f'fc{idx}', FullyConnectedLayer(features[idx], features[idx + 1], activation=activation,
                lr_multiplier=lr_multiplier))
        track_w = num_ws is not None and w_avg_beta is not None
        self.register_buffer('w_avg', torch.zeros([w_dim]) if track_w else None)

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False):
        """truncation_psi: pull w towards its average, 0 for the average, in the first truncation_cutoff copies (None: all)."""
        dtype = self.fc0.weight.dtype
        inputs = []
        if self.z_dim > 0:
            misc.assert_shape(z, [None, self.z_dim])
            inputs.append(normalize_2nd_moment(z.to(dtype)))
        if self.c_dim > 0:
            misc.assert_shape(c, [None, self.c_dim])
            inputs.append(normalize_2nd_moment(self.embed(c.to(dtype))))
        x = torch.cat(inputs, dim=1)
        for idx in range(self.num_layers):
            x = getattr(self, f'fc{idx}')(x)

        if update_emas and self.w_avg is not None:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is not None:
            x = x.unsqueeze(1).repeat([1, self.num_ws, 1])
        if truncation_psi != 1:
            assert self.w_avg is not None, 'Truncation needs the average of w, which this network does not track.'
            cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
            x = torch.cat([self.w_avg.lerp(x[:, :cutoff], truncation_psi), x[:, cutoff:]], dim=1)
        return x

    def extra_repr(self):
        return _repr(self, 'z_dim', 'c_dim', 'w_dim', 'num_ws')

@persistence.persistent_class
class SynthesisLayer(torch.nn.Module):
    """Modulated convolution, noise, bias, activation: [N, in_channels, R / up, R / up] -> [N, out_channels, R, R]."""

    def __init__(self,
        in_channels,                    # Number of input channels.
        out_channels,                   # Number of output channels.
        w_dim,                          # Dimensions of w.
        resolution,                     # Resolution R of the output.
        kernel_size     = 3,            # Width and height of the kernel.
        up              = 1,            # Integer upsampling factor.
        use_noise       = True,         # Add noise?
        activation      = 'lrelu',      # A key of bias_act.activation_funcs.
        resample_filter = [1,3,3,1],    # Low-pass filter for resampling.
        conv_clamp      = None,         # Clamp the output to +-conv_clamp; None for no clamp.
        channels_last   = False,        # Weights in channels-last memory format?
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.act_gain = bias_act.activation_funcs[activation].def_gain
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(resample_filter))

        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        self.weight = torch.nn.Parameter(weight.to(memory_format=_memory_format(channels_last)))
        if use_noise:
            self.register_buffer('noise_const', torch.randn([resolution, resolution]))
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x, w, noise_mode='random', fused_modconv=True, gain=1):
        """noise_mode: 'random' draws noise, 'const' takes the same each time, 'none' takes none."""
        in_resolution = self.resolution // self.up
        misc.assert_shape(x, [w.shape[0], self.in_channels, in_resolution, in_resolution])
        x = modulated_conv2d(x, self.weight, self.affine(w), noise=self._noise(x, noise_mode), up=self.up,
            padding=self.padding, resample_filter=self.resample_filter, flip_weight=(self.up == 1),
            fused_modconv=fused_modconv)
        clamp = self.conv_clamp * gain if self.conv_clamp is not None else None
        return bias_act.bias_act(x, self.bias.to(x.dtype), act=self.activation, gain=self.act_gain * gain, clamp=clamp)

    def _noise(self, x, noise_mode):
        if noise_mode not in ('random', 'const', 'none'):
            raise ValueError(f"noise_mode is {noise_mode!r}; it must be 'random', 'const' or 'none'.")
        if not self.use_noise or noise_mode == 'none':
            return None
        if noise_mode == 'const':
            return self.noise_const * self.noise_strength
        return torch.randn([x.shape[0], 1, self.resolution, self.resolution], device=x.device) * self.noise_strength

    def extra_repr(self):
        return _repr(self, 'in_channels', 'out_channels', 'w_dim', 'resolution', 'up', 'activation')

@persistence.persistent_class
class ToRGBLayer(torch.nn.Module):
    """Modulated pointwise convolution to colours, without demodulation: [N, in_channels, R, R] -> [N, out_channels, R, R]."""

    def __init__(self, in_channels, out_channels, w_dim, kernel_size=1, conv_clamp=None, channels_last=False):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size ** 2)
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        self.weight = torch.nn.Parameter(weight.to(memory_format=_memory_format(channels_last)))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x, w, fused_modconv=True):
        x = modulated_conv2d(x, self.weight, self.affine(w) * self.weight_gain, padding=self.padding, demodulate=False,
            fused_modconv=fused_modconv)
        return bias_act.bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)

    def extra_repr(self):
        return _repr(self, 'in_channels', 'out_channels', 'w_dim')

@persistence.persistent_class
class SynthesisBlock(torch.nn.Module):
    """The layers of one resolution R: features x: [N, in_channels, R / 2, R / 2], image img at R / 2 -> both at R.

    The first block has neither and starts from a learned constant. `orig` makes an image in the last block only,
    `skip` adds one in every block, `resnet` adds the features around the block: figure 7 of [SG2].
    """

    def __init__(self,
        in_channels,                            # Number of input channels, 0 in the first block.
        out_channels,                           # Number of output channels.
        w_dim,                                  # Dimensions of w.
        resolution,                             # Resolution R of the block.
        img_channels,                           # Number of colour channels.
        is_last,                                # The last block?
        architecture            = 'skip',       # 'orig', 'skip' or 'resnet'.
        resample_filter         = [1,3,3,1],    # Low-pass filter for resampling.
        conv_clamp              = 256,          # Clamp the output of layers to +-conv_clamp; None for no clamp.
        use_fp16                = False,        # Half precision on cuda?
        fp16_channels_last      = False,        # Channels-last memory format in half precision?
        fused_modconv_default   = True,         # fused_modconv where forward() is given None; 'inference_only': in eval mode.
        **layer_kwargs,                         # For SynthesisLayer.
    ):
        assert architecture in ['orig', 'skip', 'resnet']
        super().__init__()
        self.in_channels = in_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.is_last = is_last
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.fused_modconv_default = fused_modconv_default
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = int(is_last or architecture == 'skip')
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(resample_filter))

        layer_kwargs.update(w_dim=w_dim, resolution=resolution, conv_clamp=conv_clamp, channels_last=self.channels_last)
        if in_channels == 0:
            self.const = torch.nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, up=2, resample_filter=resample_filter, **layer_kwargs)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layer_kwargs)
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim=w_dim, conv_clamp=conv_clamp,
                channels_last=self.channels_last)
        if in_channels != 0 and architecture == 'resnet':
            self.skip = Conv2dLayer(in_channels, out_channels, kernel_size=1, bias=False, up=2,
                resample_filter=resample_filter, channels_last=self.channels_last)

    def forward(self, x, img, ws, force_fp32=False, fused_modconv=None, update_emas=False, **layer_kwargs):
        """ws: [N, num_conv + num_torgb, w_dim], a row for each layer. Returns (x, img); img is None before its first layer."""
        misc.assert_shape(ws, [None, self.num_conv + self.num_torgb, self.w_dim])
        w_iter = iter(ws.unbind(dim=1))
        dtype, memory_format = _format(self, ws.dtype, ws.device, force_fp32)
        fused_modconv = self.fused_modconv_default if fused_modconv is None else fused_modconv
        layer_kwargs['fused_modconv'] = not self.training if fused_modconv == 'inference_only' else fused_modconv

        # Features.
        if self.in_channels == 0:
            x = self.const.unsqueeze(0).repeat([ws.shape[0], 1, 1, 1]).to(dtype=dtype, memory_format=memory_format)
            x = self.conv1(x, next(w_iter), **layer_kwargs)
        else:
            x = x.to(dtype=dtype, memory_format=memory_format)
            resnet = self.architecture == 'resnet'
            gain = math.sqrt(0.5) if resnet else 1
            shortcut = self.skip(x, gain=gain) if resnet else None
            x = self.conv0(x, next(w_iter), **layer_kwargs)
            x = self.conv1(x, next(w_iter), gain=gain, **layer_kwargs)
            x = x + shortcut if resnet else x

        # Image, in full precision.
        if img is not None:
            img = upfirdn2d.upsample2d(img, self.resample_filter)
        if self.num_torgb:
            y = self.torgb(x, next(w_iter), fused_modconv=layer_kwargs['fused_modconv'])
            y = y.to(dtype=ws.dtype, memory_format=torch.contiguous_format)
            img = y if img is None else img + y
        return x, img

    def extra_repr(self):
        return _repr(self, 'resolution', 'architecture')

@persistence.persistent_class
class SynthesisNetwork(torch.nn.Module):
    """ws: [N, num_ws, w_dim] -> image [N, img_channels, img_resolution, img_resolution], about [-1, 1]."""

    def __init__(self,
        w_dim,                      # Dimensions of w.
        img_resolution,             # Resolution of the image: a power of two from 4 on.
        img_channels,               # Number of colour channels.
        channel_base    = 32768,    # Number of channels times resolution.
        channel_max     = 512,      # Largest number of channels.
        num_fp16_res    = 4,        # How many of the highest resolutions run in half precision.
        **block_kwargs,             # For SynthesisBlock.
    ):
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = _log2_resolution(img_resolution, minimum=4)
        self.img_channels = img_channels
        self.num_fp16_res = num_fp16_res
        self.block_resolutions = [2 ** i for i in range(2, self.img_resolution_log2 + 1)]
        channels = _channels(self.block_resolutions, channel_base, channel_max)
        fp16_resolution = _fp16_resolution(self.img_resolution_log2, num_fp16_res)
        for res in self.block_resolutions:
            setattr(self, f'b{res}', SynthesisBlock(channels.get(res // 2, 0), channels[res], w_dim=w_dim, resolution=res,
                img_channels=img_channels, is_last=(res == img_resolution), use_fp16=(res >= fp16_resolution), **block_kwargs))
        blocks = [getattr(self, f'b{res}') for res in self.block_resolutions]
        self.num_ws = sum(block.num_conv for block in blocks) + blocks[-1].num_torgb

    def forward(self, ws, **block_kwargs):
        misc.assert_shape(ws, [None, self.num_ws, self.w_dim])
        ws = ws.to(self.b4.conv1.bias.dtype)
        x = img = None
        first = 0
        for res in self.block_resolutions:
            block = getattr(self, f'b{res}')
            x, img = block(x, img, ws[:, first : first + block.num_conv + block.num_torgb], **block_kwargs)
            first += block.num_conv # The colour layer shares its w with the next block's first layer.
        return img

    def extra_repr(self):
        return _repr(self, 'w_dim', 'num_ws', 'img_resolution', 'img_channels', 'num_fp16_res')

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
# Discriminator.

@persistence.persistent_class
class DiscriminatorBlock(torch.nn.Module):
    """The layers of one resolution R: features x: [N, tmp_channels, R, R], image img at R -> both at R / 2.

    The first block has no features. `orig` and `resnet` see the image in the first block only, `skip` sees it in every
    block, `resnet` adds the features around the block: figure 7 of [SG2].
    """

    def __init__(self,
        in_channels,                        # Number of input channels: tmp_channels, or 0 in the first block.
        tmp_channels,                       # Number of channels between the layers.
        out_channels,                       # Number of output channels.
        resolution,                         # Resolution R of the block.
        img_channels,                       # Number of colour channels.
        first_layer_idx,                    # Number of layers in the blocks before.
        architecture        = 'resnet',     # 'orig', 'skip' or 'resnet'.
        activation          = 'lrelu',      # A key of bias_act.activation_funcs.
        resample_filter     = [1,3,3,1],    # Low-pass filter for resampling.
        conv_clamp          = None,         # Clamp the output of layers to +-conv_clamp; None for no clamp.
        use_fp16            = False,        # Half precision on cuda?
        fp16_channels_last  = False,        # Channels-last memory format in half precision?
        freeze_layers       = 0,            # How many of the network's first layers are never trained: Freeze-D.
    ):
        assert in_channels in [0, tmp_channels]
        assert architecture in ['orig', 'skip', 'resnet']
        super().__init__()
        self.in_channels = in_channels
        self.resolution = resolution
        self.img_channels = img_channels
        self.first_layer_idx = first_layer_idx
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.num_layers = 0
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(resample_filter))

        def layer(*args, **kwargs):
            self.num_layers += 1
            trainable = first_layer_idx + self.num_layers > freeze_layers
            return Conv2dLayer(*args, trainable=trainable, channels_last=self.channels_last, **kwargs)

        act_kwargs = dict(activation=activation, conv_clamp=conv_clamp)
        down_kwargs = dict(down=2, resample_filter=resample_filter)
        if in_channels == 0 or architecture == 'skip':
            self.fromrgb = layer(img_channels, tmp_channels, kernel_size=1, **act_kwargs)
        self.conv0 = layer(tmp_channels, tmp_channels, kernel_size=3, **act_kwargs)
        self.conv1 = layer(tmp_channels, out_channels, kernel_size=3, **act_kwargs, **down_kwargs)
        if architecture == 'resnet':
            self.skip = layer(tmp_channels, out_channels, kernel_size=1, bias=False, **down_kwargs)

    def forward(self, x, img, force_fp32=False):
        """Returns (x, img); img is None after its last use."""
        dtype, memory_format = _format(self, self.conv0.weight.dtype, self.conv0.weight.device, force_fp32)
        accept = lambda maps, channels: _accept(maps, channels, self.resolution, dtype, memory_format)
        skips = self.architecture == 'skip'
        parts = [] if x is None else [accept(x, self.in_channels)]

        # Image.
        if skips or not parts:
            img = accept(img, self.img_channels)
            parts.append(self.fromrgb(img))
            img = upfirdn2d.downsample2d(img, self.resample_filter) if skips else None
        x = sum(parts[1:], parts[0])

        # Features.
        if self.architecture == 'resnet':
            shortcut = self.skip(x, gain=math.sqrt(0.5))
            return shortcut + self.conv1(self.conv0(x), gain=math.sqrt(0.5)), img
        return self.conv1(self.conv0(x)), img

    def extra_repr(self):
        return _repr(self, 'resolution', 'architecture')

@persistence.persistent_class
class MinibatchStdLayer(torch.nn.Module):
    """Append num_channels channels: the standard deviation of features over a group of samples, averaged over all else.

    x: [N, C, H, W] -> [N, C + num_channels, H, W]. Groups hold group_size samples (None: all), or the next smaller number
    that divides N; sample i is in the same group as sample i + N / group size.
    """

    def __init__(self, group_size, num_channels=1):
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x):
        n, c, h, w = x.shape
        group_size = n if self.group_size is None else min(self.group_size, n)
        while n % group_size != 0:
            group_size -= 1
        y = x.reshape(group_size, -1, self.num_channels, c // self.num_channels, h, w)          # [g, N / g, F, C / F, H, W]
        variance = (y - y.mean(dim=0)).square().mean(dim=0) # torch.var's second derivative loses digits in float32.
        y = (variance + 1e-8).sqrt().mean(dim=[2, 3, 4])                                        # [N / g, F]
        y = y.repeat(group_size, 1)[:, :, None, None].expand(-1, -1, h, w)                      # [N, F, H, W]
        return torch.cat([x, y], dim=1)

    def extra_repr(self):
        return _repr(self, 'group_size', 'num_channels')

@persistence.persistent_class
class DiscriminatorEpilogue(torch.nn.Module):
    """Features x: [N, in_channels, R, R], image img at R -> score [N, 1]: the projection on cmap, if there is a label."""

    def __init__(self,
        in_channels,                    # Number of input channels.
        cmap_dim,                       # Dimensions of the mapped label, 0 for none.
        resolution,                     # Resolution R of the block.
        img_channels,                   # Number of colour channels.
        architecture        = 'resnet', # 'orig', 'skip' or 'resnet'.
        mbstd_group_size    = 4,        # Samples in a group of the minibatch standard deviation, None for all.
        mbstd_num_channels  = 1,        # Channels of the minibatch standard deviation, 0 for none.
        activation          = 'lrelu',  # A key of bias_act.activation_funcs.
        conv_clamp          = None,     # Clamp the output of the convolution to +-conv_clamp; None for no clamp.
    ):
        assert architecture in ['orig', 'skip', 'resnet']
        super().__init__()
        self.in_channels = in_channels
        self.cmap_dim = cmap_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.architecture = architecture

        if architecture == 'skip':
            self.fromrgb = Conv2dLayer(img_channels, in_channels, kernel_size=1, activation=activation)
        self.mbstd = MinibatchStdLayer(mbstd_group_size, mbstd_num_channels) if mbstd_num_channels > 0 else None
        self.conv = Conv2dLayer(in_channels + mbstd_num_channels, in_channels, kernel_size=3, activation=activation,
            conv_clamp=conv_clamp)
        self.fc = FullyConnectedLayer(in_channels * resolution ** 2, in_channels, activation=activation)
        self.out = FullyConnectedLayer(in_channels, cmap_dim if cmap_dim > 0 else 1)

    def forward(self, x, img, cmap, force_fp32=False):
        accept = lambda maps, channels: _accept(maps, channels, self.resolution, self.fc.weight.dtype)
        x = accept(x, self.in_channels)
        if self.architecture == 'skip':
            x = x + self.fromrgb(accept(img, self.img_channels))
        if self.mbstd is not None:
            x = self.mbstd(x)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if self.cmap_dim > 0:
            misc.assert_shape(cmap, [None, self.cmap_dim])
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x

    def extra_repr(self):
        return _repr(self, 'resolution', 'architecture')

@persistence.persistent_class
class Discriminator(torch.nn.Module):
    """Image [N, img_channels, img_resolution, img_resolution] and label c: [N, c_dim] -> score [N, 1]."""

    def __init__(self,
        c_dim,                          # Dimensions of c, 0 for none.
        img_resolution,                 # Resolution of the image: a power of two from 8 on.
        img_channels,                   # Number of colour channels.
        architecture        = 'resnet', # 'orig', 'skip' or 'resnet'.
        channel_base        = 32768,    # Number of channels times resolution.
        channel_max         = 512,      # Largest number of channels.
        num_fp16_res        = 4,        # How many of the highest resolutions run in half precision.
        conv_clamp          = 256,      # Clamp the output of layers to +-conv_clamp; None for no clamp.
        cmap_dim            = None,     # Dimensions of the mapped label, None for the number of channels at 4 pixels.
        block_kwargs        = {},       # For DiscriminatorBlock.
        mapping_kwargs      = {},       # For MappingNetwork.
        epilogue_kwargs     = {},       # For DiscriminatorEpilogue.
    ):
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = _log2_resolution(img_resolution, minimum=8)
        self.img_channels = img_channels
        self.block_resolutions = [2 ** i for i in range(self.img_resolution_log2, 2, -1)]
        channels = _channels([*self.block_resolutions, 4], channel_base, channel_max)
        fp16_resolution = _fp16_resolution(self.img_resolution_log2, num_fp16_res)
        common_kwargs = dict(img_channels=img_channels, architecture=architecture, conv_clamp=conv_clamp)

        num_layers = 0
        for res in self.block_resolutions:
            block = DiscriminatorBlock(channels[res] if res < img_resolution else 0, channels[res], channels[res // 2],
                resolution=res, first_layer_idx=num_layers, use_fp16=(res >= fp16_resolution), **block_kwargs, **common_kwargs)
            setattr(self, f'b{res}', block)
            num_layers += block.num_layers
        cmap_dim = 0 if c_dim == 0 else channels[4] if cmap_dim is None else cmap_dim
        if c_dim > 0:
            self.mapping = MappingNetwork(z_dim=0, c_dim=c_dim, w_dim=cmap_dim, num_ws=None, w_avg_beta=None, **mapping_kwargs)
        self.b4 = DiscriminatorEpilogue(channels[4], cmap_dim=cmap_dim, resolution=4, **epilogue_kwargs, **common_kwargs)

    def forward(self, img, c, update_emas=False, **block_kwargs):
        x = None
        for res in self.block_resolutions:
            x, img = getattr(self, f'b{res}')(x, img, **block_kwargs)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return self.b4(x, img, cmap)

    def extra_repr(self):
        return _repr(self, 'c_dim', 'img_resolution', 'img_channels')

#----------------------------------------------------------------------------
