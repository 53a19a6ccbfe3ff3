"""The arguments of a generator from the shapes of its tensors: StyleGAN2 and StyleGAN3 by the names of NVlabs.

A state dict holds no arguments. Shapes give all of them that a tensor's shape depends on. The others are those of the published
configurations, and are in `Found.assumed`. The class of this machine is built by these arguments and must take every tensor."""

import dataclasses
import math
import re
from collections.abc import Iterable

import torch

FILTER = (1, 3, 3, 1)       # the low-pass filter of StyleGAN2, which some files leave out

class Unfit(ValueError):
    """Tensors that are not those of the family; the message says which."""

@dataclasses.dataclass(frozen=True)
class Found:
    """A generator in a file.

    family:     'stylegan2' or 'stylegan3'.
    kwargs:     arguments of its class, in the form of stylegan3's.
    tensors:    {name: tensor} by the names of NVlabs.
    assumed:    what the file does not say, in words.
    averaged:   whether the file holds the average of w, towards which truncation goes."""

    family:  str
    kwargs:  dict
    tensors: dict
    assumed: tuple = ()
    averaged: bool = True

#----------------------------------------------------------------------------
# Parts that both families have.

def _shape(tensors, name):
    if name not in tensors:
        raise Unfit(f'{name} is missing')
    return tuple(tensors[name].shape)

def _mapping(tensors):
    """z_dim, c_dim, w_dim and mapping_kwargs."""
    count = sum(re.fullmatch(r'mapping\.fc\d+\.weight', name) is not None for name in tensors)
    layers = [_matrix(tensors, f'mapping.fc{i}.weight') for i in range(count)]
    if not layers:
        raise Unfit('mapping.fc0.weight is missing')
    embedded, c_dim = _matrix(tensors, 'mapping.embed.weight') if 'mapping.embed.weight' in tensors else (0, 0)
    w_dim, options = layers[-1][0], dict(num_layers=count)
    if c_dim and embedded != w_dim:
        options['embed_features'] = embedded
    if count > 1 and layers[0][0] != w_dim:
        options['layer_features'] = layers[0][0]
    return dict(z_dim=layers[0][1] - embedded, c_dim=c_dim, w_dim=w_dim, mapping_kwargs=options)

def _averaged(found):
    if 'mapping.w_avg' in found.tensors:
        return found
    average = {'mapping.w_avg': torch.zeros([found.kwargs['w_dim']])}
    return dataclasses.replace(found, tensors=found.tensors | average, averaged=False)

def _matrix(tensors, name):
    shape = _shape(tensors, name)
    if len(shape) != 2:
        raise Unfit(f'{name} is no matrix')
    return shape

def channel_budget(widths: Iterable[tuple[int, float, float]]) -> tuple[int, int]:
    """Return (channel_base, channel_max) that give layers their widths.

    widths: (width, least, bound) of each layer: it has this width where least <= channel_base < bound; or, at the maximum, where
            channel_base is at least `least`.
    Raises Unfit where there is no such pair. Of several bases, the one with the most zeros at its end in binary is taken."""
    widths = list(widths)
    most = max(width for width, _, _ in widths)
    low = max(least for _, least, _ in widths)
    start = math.ceil(low)
    high = min((bound for width, _, bound in widths if width < most), default=2 * start)
    if start >= high:
        raise Unfit('the widths of its layers follow no channel_base and channel_max')
    rounded = (-(-start >> shift) << shift for shift in range(48))
    return max((base for base in rounded if base < high), default=start), most

#----------------------------------------------------------------------------
# StyleGAN2.

def stylegan2(tensors: dict[str, torch.Tensor]) -> Found:
    """Return the StyleGAN2 generator with these tensors, by the names of NVlabs. Raises Unfit.

    Low-pass filters and noise images that are missing are added: the filter of every published configuration, and noise of seed
    0."""
    sides = sorted(int(match[1]) for name in tensors if (match := re.fullmatch(r'synthesis\.b(\d+)\.conv1\.weight', name)))
    if not sides or sides != [4 << i for i in range(len(sides))]:
        raise Unfit(f'synthesis.b{4 << len(sides)}.conv1.weight is missing')
    kernels = {side: _shape(tensors, f'synthesis.b{side}.conv1.weight') for side in sides}
    if any(len(shape) != 4 for shape in kernels.values()):
        raise Unfit('synthesis.b4.conv1.weight is no kernel')
    last = sides[-1]
    base, most = channel_budget((shape[0], shape[0] * side, (shape[0] + 1) * side) for side, shape in kernels.items())
    kwargs = _mapping(tensors) | dict(
        img_resolution=last, img_channels=_shape(tensors, f'synthesis.b{last}.torgb.weight')[0], channel_base=base,
        channel_max=most, num_fp16_res=0)
    if last > 4 and 'synthesis.b4.torgb.weight' not in tensors:
        kwargs['architecture'] = 'resnet' if f'synthesis.b{last}.skip.weight' in tensors else 'orig'
    if kernels[4][2] != 3:
        kwargs['kernel_size'] = kernels[4][2]
    if 'synthesis.b4.conv1.noise_strength' not in tensors:
        kwargs['use_noise'] = False
    tensors, added = _with_buffers(tensors, sides, kwargs)
    taps = tensors['synthesis.b4.resample_filter']
    if taps.shape != (4, 4):
        kwargs['resample_filter'] = _taps(taps)
    return _averaged(Found('stylegan2', kwargs, tensors, ('leaky ReLUs', *added)))

def _with_buffers(tensors, sides, kwargs):
    tensors, added = dict(tensors), []
    row = torch.tensor(FILTER, dtype=torch.float32)
    stock = row.outer(row) / row.sum() ** 2     # of conv1, which does not use it
    taps = tensors.get('synthesis.b4.resample_filter')
    if taps is None:
        taps = stock
        added.append(f'the low-pass filter {list(FILTER)}')
    rng, noisy = torch.Generator().manual_seed(0), False
    for side in sides:
        block = f'synthesis.b{side}.'
        layers = [layer for layer in ('conv0', 'conv1', 'skip') if f'{block}{layer}.weight' in tensors]
        for place in (block, *(f'{block}{layer}.' for layer in layers)):
            tensors.setdefault(f'{place}resample_filter', stock if 'conv1' in place else taps)
            if 'conv' in place and kwargs.get('use_noise', True):
                noisy |= f'{place}noise_const' not in tensors
                noise = torch.randn([side, side], generator=rng)
                tensors.setdefault(f'{place}noise_const', noise)
    return tensors, added + (['noise images of seed 0'] if noisy else [])

def _taps(taps):
    """A row of a separable filter as a list. Raises Unfit for another one."""
    if taps.ndim != 2 or taps.shape[0] != taps.shape[1] or not 1 <= len(taps) <= 64:
        raise Unfit('its low-pass filter is no square')
    row = taps.double().sum(1)
    row = row / row.abs().min().clamp_min(1e-9)
    return [round(value, 4) for value in row.tolist()]

#----------------------------------------------------------------------------
# StyleGAN3.

def stylegan3(tensors: dict[str, torch.Tensor]) -> Found:
    """Return the StyleGAN3 generator with these tensors, by the names of NVlabs, of configuration T or R. Raises Unfit."""
    layers = sorted((int(match[1]), int(match[2]), int(match[3]), name) for name in tensors
                    if (match := re.fullmatch(r'synthesis\.L(\d{1,3})_(\d{1,5})_(\d{1,5})\.weight', name)))
    if len(layers) < 4 or [layer[0] for layer in layers] != list(range(len(layers))):
        raise Unfit('its layers synthesis.L0_..., synthesis.L1_... are not complete')
    count, side, channels = len(layers) - 1, layers[-1][1], layers[-1][2]
    kernel = _shape(tensors, layers[0][3])
    if len(kernel) != 4 or side < 8:
        raise Unfit(f'{layers[0][3]} is no kernel')
    cutoffs = [2 * (side / 4) ** min(i / (count - 2), 1) for i in range(count)]
    base, most = channel_budget((layer[2], (layer[2] - 0.5) * 2 * cutoff, (layer[2] + 0.5) * 2 * cutoff)
                                for layer, cutoff in zip(layers, cutoffs))
    radial = any(name.endswith('.down_filter') and tensor.ndim == 2 for name, tensor in tensors.items())
    kwargs = _mapping(tensors) | dict(
        img_resolution=side, img_channels=channels, channel_base=base, channel_max=most, num_layers=count, num_fp16_res=0,
        conv_kernel=kernel[2], use_radial_filters=radial)
    return _averaged(Found('stylegan3', kwargs, tensors, ('band limits as published',)))
