"""Frozen feature networks of projected discriminators. They give four maps, at a quarter to a thirty-second of the image's side.

A network here is not a torch module and has neither parameters nor buffers, so that no host can unfreeze, optimise, average or
compare it; a deep copy is the same object. EfficientNet-Lite (Tan and Le 2019; the Lite variants have ReLU6 and no
squeeze-and-excitation) is defined below, with its batch norm folded into the convolutions. Other networks come from timm, which
is imported only if one of them is used.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import contextlib

import torch
import torch.nn.functional as F

#----------------------------------------------------------------------------
# EfficientNet-Lite. A stage is (kernel, stride, expansion, channels, blocks); width multiplies the channels and depth the blocks,
# except the blocks of the first and last stage. Features are taken after the stages TAPS.

STAGES = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1)]
TAPS   = [1, 2, 4, 6]
STEM   = 32
LITE   = {'tf_efficientnet_lite0': (1.0, 1.0), 'tf_efficientnet_lite1': (1.0, 1.1), 'tf_efficientnet_lite2': (1.1, 1.2),
          'tf_efficientnet_lite3': (1.2, 1.4), 'tf_efficientnet_lite4': (1.4, 1.8), 'random': (1.0, 1.0)}
EPS    = 1e-3   # of its batch norm

def round_channels(channels):
    """Return the nearest multiple of 8 that is not more than a tenth smaller."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded

def lite_blocks(name):
    """Return the blocks of each stage, each a list of (convolution, norm, shape of the weight, stride, groups, whether ReLU6
    follows). Names are timm's."""
    width, depth = LITE[name]
    channels, stages = STEM, []
    for i, (kernel, stride, expansion, out, blocks) in enumerate(STAGES):
        out = round_channels(out * width)
        blocks = blocks if i in (0, len(STAGES) - 1) else -int(-blocks * depth // 1)
        stage = []
        for j in range(blocks):
            prefix, step, wide = f'blocks.{i}.{j}.', stride if j == 0 else 1, channels * expansion
            depthwise = [wide, 1, kernel, kernel]
            if expansion == 1:
                stage.append([(f'{prefix}conv_dw', f'{prefix}bn1', depthwise, step, wide, True),
                              (f'{prefix}conv_pw', f'{prefix}bn2', [out, wide, 1, 1], 1, 1, False)])
            else:
                stage.append([(f'{prefix}conv_pw',  f'{prefix}bn1', [wide, channels, 1, 1], 1, 1, True),
                              (f'{prefix}conv_dw',  f'{prefix}bn2', depthwise, step, wide, True),
                              (f'{prefix}conv_pwl', f'{prefix}bn3', [out, wide, 1, 1], 1, 1, False)])
            channels = out
        stages.append(stage)
    return stages

_STEM = ('conv_stem', 'bn1', [STEM, 3, 3, 3], 2, 1, True)

def lite_layers(name):
    """Return the convolutions of all blocks, in order."""
    return [_STEM, *(layer for stage in lite_blocks(name) for block in stage for layer in block)]

def lite_channels(name):
    """Return the channels of the four maps."""
    return [stage[-1][-1][2][0] for i, stage in enumerate(lite_blocks(name)) if i in TAPS]

def fold_lite(name, state, dtype=torch.float32):
    """Return {name.weight, name.bias of each convolution} for timm's state dict, with batch norm folded in by
    w = gamma / sqrt(var + eps) W,  b = beta - gamma mean / sqrt(var + eps).

    Raises KeyError or ValueError if `state` is of another network."""
    folded = {}
    for conv, norm, shape, *_ in lite_layers(name):
        weight, gamma, beta, mean, var = (state[key].double() for key in (
            f'{conv}.weight', f'{norm}.weight', f'{norm}.bias', f'{norm}.running_mean', f'{norm}.running_var'))
        if list(weight.shape) != shape:
            raise ValueError(f'{conv}.weight is {list(weight.shape)} and not {shape}')
        scale = gamma / (var + EPS).sqrt()
        folded[f'{conv}.weight'] = (weight * scale.reshape(-1, 1, 1, 1)).to(dtype)
        folded[f'{conv}.bias'] = (beta - mean * scale).to(dtype)
    return folded

def conv_same(x, weight, bias, stride, groups):
    """Convolve x with the padding of TensorFlow. The output has ceil(side / stride) pixels on a side; if the padding is odd,
    right and bottom get the larger half."""
    size = weight.shape[-1]
    if stride == 1:
        return F.conv2d(x, weight, bias, padding=size // 2, groups=groups)
    pads = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in x.shape[2:]]
    if pads[0] == pads[1] and pads[0] % 2 == 0:
        return F.conv2d(x, weight, bias, stride=stride, padding=pads[0] // 2, groups=groups)
    x = F.pad(x, [pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2])
    return F.conv2d(x, weight, bias, stride=stride, groups=groups)

def lite_features(name, x, conv):
    """Return the four maps of x [N, 3, H, W] in [-1, 1].

    conv:   function (x, name of the convolution, stride, groups) that convolves."""
    def run(x, layer):
        label, _, _, stride, groups, activate = layer
        x = conv(x, label, stride, groups)
        return F.hardtanh(x, 0.0, 6.0, inplace=True) if activate else x
    x, maps = run(x, _STEM), []
    for i, stage in enumerate(lite_blocks(name)):
        for j, block in enumerate(stage):
            skip = x
            for layer in block:
                x = run(x, layer)
            if j > 0:   # same shape
                x = x + skip
        if i in TAPS:
            maps.append(x)
    return maps

def folded_conv(weights):
    """Return the `conv` of lite_features() for the weights of fold_lite()."""
    return lambda x, label, stride, groups: conv_same(x, weights[f'{label}.weight'], weights[f'{label}.bias'], stride, groups)

def random_lite(name='random', seed=0):
    """Return the folded weights of a random EfficientNet-Lite, which are the same on every machine.

    They are Gaussian, scaled so that each channel of each layer has mean 0 and variance 1 over a fixed batch of smooth random
    images."""
    rng = torch.Generator().manual_seed(seed)
    shapes = {conv: shape for conv, _, shape, *_ in lite_layers(name)}
    folded = {}
    def normalized(x, label, stride, groups):
        weight = torch.randn(shapes[label], generator=rng, dtype=torch.float64)
        y = conv_same(x, weight, None, stride, groups)
        var, mean = torch.var_mean(y, dim=[0, 2, 3])
        scale = (var + 1e-8).rsqrt()
        folded[f'{label}.weight'] = (weight * scale.reshape(-1, 1, 1, 1)).float()
        folded[f'{label}.bias'] = (-mean * scale).float()
        return (y - mean.reshape(-1, 1, 1)) * scale.reshape(-1, 1, 1)
    images = sum(F.interpolate(torch.randn([8, 3, r, r], generator=rng, dtype=torch.float64), size=[96, 96], mode='bilinear')
                 for r in (2, 4, 8, 16, 32, 96))
    with torch.autocast('cpu', enabled=False):
        lite_features(name, (images / 3).clamp(-1, 1), normalized)
    return folded

#----------------------------------------------------------------------------

class FrozenFeatures:
    """A feature network with its weights, which are constant.

    name:       a name of LITE, or of a network of timm.
    path:       file of its weights as weights.py prepares it, {name, tensors, mean, std, sha256}, where tensors are the folded
                weights, or timm's state dict. None for `random`, whose weights are made here.
    embed:      whether a pickle carries the weights; otherwise it carries the path of the file and its sha256.

    features(x [N, 3, H, W] in [-1, 1], dtype) returns four maps in that dtype."""

    def __init__(self, name, path=None, embed=True):
        data = dict(tensors=random_lite(), mean=(0.5,) * 3, std=(0.5,) * 3, sha256='') if path is None and name == 'random' \
            else torch.load(path, map_location='cpu', weights_only=True)
        self.name, self.path, self.embed = name, path, embed and path is not None
        self.tensors, self.sha256 = data['tensors'], data['sha256']
        self.mean, self.std = tuple(data['mean']), tuple(data['std'])   # of images in [0, 1] in its training
        self._ready = {}

    def __deepcopy__(self, memo):
        return self

    def __getstate__(self):
        return dict(vars(self), tensors=self.tensors if self.embed else None, _ready={})

    def __setstate__(self, state):
        vars(self).update(state)

    def _loaded(self):
        if self.tensors is None and self.path is None:
            self.tensors = random_lite(self.name)
        if self.tensors is None:
            try:
                self.tensors = torch.load(self.path, map_location='cpu', weights_only=True)['tensors']
            except (OSError, KeyError, RuntimeError, TypeError) as error:
                raise RuntimeError(f'this discriminator was stored without its feature network {self.name} (sha256 '
                                   f'{self.sha256}), which is not at {self.path} either') from error
        return self.tensors

    def _on(self, device, dtype):
        """Return the weights, or a module of timm, on a device in a dtype and in channels-last order. They are kept there."""
        key = str(device), dtype
        if key not in self._ready:
            if self.name in LITE:
                self._ready[key] = {name: _last(tensor.to(device, dtype)) for name, tensor in self._loaded().items()}
            else:
                module = timm_network(self.name)
                module.load_state_dict(self._loaded())
                self._ready[key] = module.eval().requires_grad_(False).to(device, dtype, memory_format=torch.channels_last)
        return self._ready[key]

    @property
    def channels(self):
        return lite_channels(self.name) if self.name in LITE else timm_network(self.name).feature_info.channels()

    def features(self, x, dtype=torch.float32):
        x = self._normalized(x).to(dtype, memory_format=torch.channels_last)
        weights = self._on(x.device, dtype)
        with torch.autocast(x.device.type, enabled=False):
            return lite_features(self.name, x, folded_conv(weights)) if self.name in LITE else list(weights(x))

    def _normalized(self, x):
        """Return (x mapped from [-1, 1] to [0, 1] - mean) / std, which is x itself if both are 1/2."""
        if self.mean == self.std == (0.5,) * 3:
            return x
        mean, std = (torch.tensor(numbers, device=x.device, dtype=x.dtype).reshape(1, 3, 1, 1) for numbers in
                     (self.mean, self.std))
        return (x * 0.5 + (0.5 - mean)) / std

def _last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

#----------------------------------------------------------------------------
# timm's networks.

def timm_network(name, pretrained=False, weights=None):
    """Return the network of timm that gives the four maps. Raises ImportError, or ValueError if it does not have these maps."""
    import timm
    with _stock_errors(name):
        scales = timm.create_model(name, features_only=True).feature_info.reduction()
    if not {4, 8, 16, 32} <= set(scales):
        raise ValueError(f'its maps are reduced by {", ".join(map(str, scales))}, but 4, 8, 16 and 32 are needed')
    wanted = [len(scales) - 1 - scales[::-1].index(scale) for scale in (4, 8, 16, 32)]
    overlay = {} if weights is None else dict(pretrained_cfg_overlay=dict(file=str(weights)))
    return timm.create_model(name, features_only=True, out_indices=wanted, pretrained=pretrained, **overlay)

@contextlib.contextmanager
def _stock_errors(name):
    try:
        yield
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f'timm cannot make it a network of feature maps ({error})') from error

#----------------------------------------------------------------------------
