"""StyleGAN2 by the names of rosinality/stylegan2-pytorch, which many forks, encoders and restorers share, as those of NVlabs.

Both compute the same function of the same numbers: weights are scaled by their fan-in when they are used, upsampling is a
transposed convolution and a low-pass filter, and noise is added before the bias. Only names and some axes differ. There, layers
are listed one after the other (convs.0 and convs.1 are the two at 8x8); here, each resolution has a block."""

import re
from collections.abc import Mapping

import torch

from spider_plugin.snapshots.state_dicts import Unfit

MARK   = 'input.input'              # the constant input of its generator
_LIKED = ('style.', 'conv1.', 'to_rgb1.', 'convs.', 'to_rgbs.', 'noises.', 'input.', 'latent_avg')     # its generator's tensors

class _Names:
    """The tensors of a file that nobody has taken yet."""

    def __init__(self, tensors):
        self.left = dict(tensors)

    def take(self, name, ndim=None):
        if name not in self.left:
            raise Unfit(f'{name} is missing')
        tensor = self.left.pop(name)
        if ndim is not None and tensor.ndim != ndim:
            raise Unfit(f'{name} has the shape {list(tensor.shape)}')
        return tensor

    def drop(self, pattern):
        for name in [name for name in self.left if re.fullmatch(pattern, name)]:
            del self.left[name]

    def end(self):
        if self.left:
            raise Unfit(f'{next(iter(self.left))} is of no layer that is known')

def _count(tensors, pattern):
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)

def generator(state: Mapping[str, torch.Tensor], latent_avg: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return {name of NVlabs: tensor} of a generator; latent_avg [w_dim] is the average of w, which files hold beside it.

    Raises Unfit where a tensor is missing, or there is one that the network does not have."""
    names, made = _Names({name: tensor for name, tensor in state.items() if name.startswith(_LIKED)}), {}
    own = names.left.pop('latent_avg', None)
    average = own if latent_avg is None else latent_avg
    for i in range(_count(state, r'style\.\d+\.weight')):
        for part in ('weight', 'bias'):
            made[f'mapping.fc{i}.{part}'] = names.take(f'style.{i + 1}.{part}')
    if isinstance(average, torch.Tensor) and average.ndim in (1, 2):
        made['mapping.w_avg'] = average if average.ndim == 1 else average[0]        # some keep one for each layer
    made['synthesis.b4.const'] = names.take(MARK, 4)[0]
    blocks = _count(state, r'to_rgbs\.\d+\.bias')
    layers = [('conv1', 'b4.conv1')] + [(f'convs.{2 * i + j}', f'b{8 << i}.conv{j}') for i in range(blocks) for j in range(2)]
    taps = next((tensor for name, tensor in state.items() if name.endswith('.blur.kernel') and tensor.ndim == 2), None)
    for i, (there, here) in enumerate(layers):
        made |= _modulated(names, there, f'synthesis.{here}')
        made[f'synthesis.{here}.bias'] = names.take(f'{there}.activate.bias').reshape(-1)
        made[f'synthesis.{here}.noise_strength'] = names.take(f'{there}.noise.weight').reshape([])
        if f'noises.noise_{i}' in names.left:
            made[f'synthesis.{here}.noise_const'] = names.take(f'noises.noise_{i}', 4)[0, 0]
    for there, here in [('to_rgb1', 'b4.torgb')] + [(f'to_rgbs.{i}', f'b{8 << i}.torgb') for i in range(blocks)]:
        made |= _modulated(names, there, f'synthesis.{here}')
        made[f'synthesis.{here}.bias'] = names.take(f'{there}.bias').reshape(-1)
    if taps is not None:
        made['synthesis.b4.resample_filter'] = taps / taps.sum()
    names.drop(r'.*\.(blur|upsample)\.kernel')
    names.end()
    return made

def _modulated(names, there, here):
    """A modulated convolution: its kernel, and the layer that makes its styles of w."""
    return {
        f'{here}.weight':        names.take(f'{there}.conv.weight', 5)[0],
        f'{here}.affine.weight': names.take(f'{there}.conv.modulation.weight'),
        f'{here}.affine.bias':   names.take(f'{there}.conv.modulation.bias'),
    }

def discriminator(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return {name of NVlabs: tensor} of the discriminator beside it, without the filters, which do not differ. Raises Unfit."""
    names, blocks = _Names(state), _count(state, r'convs\.\d+\.skip\.1\.weight')
    side = 4 << blocks
    made = {f'b{side}.fromrgb.weight': names.take('convs.0.0.weight'),
            f'b{side}.fromrgb.bias':   names.take('convs.0.1.bias').reshape(-1)}
    for i in range(1, blocks + 1):
        for there, here in (('conv1.0.weight', 'conv0.weight'), ('conv1.1.bias', 'conv0.bias'), ('skip.1.weight', 'skip.weight'),
                            ('conv2.1.weight', 'conv1.weight'), ('conv2.2.bias', 'conv1.bias')):
            tensor = names.take(f'convs.{i}.{there}')
            made[f'b{side >> (i - 1)}.{here}'] = tensor.reshape(-1) if here.endswith('bias') else tensor
    for there, here in (('final_conv.0.weight', 'conv.weight'), ('final_conv.1.bias', 'conv.bias'),
                        ('final_linear.0.weight', 'fc.weight'), ('final_linear.0.bias', 'fc.bias'),
                        ('final_linear.1.weight', 'out.weight'), ('final_linear.1.bias', 'out.bias')):
        tensor = names.take(there)
        made[f'b4.{here}'] = tensor.reshape(-1) if here.endswith('bias') else tensor
    names.drop(r'.*\.kernel')
    names.end()
    return made
