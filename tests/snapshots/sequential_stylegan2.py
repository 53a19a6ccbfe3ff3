"""A StyleGAN2 written for tests, whose tensors have the names and axes of rosinality/stylegan2-pytorch: a list of layers.

It shares no code with the hosts: convolutions of one image at a time, filters as depthwise convolutions. Its generator and
discriminator are compared with what `spider import` makes of their state dicts."""

import math

import torch
import torch.nn.functional as F

WIDTHS = {4: 16, 8: 16, 16: 16, 32: 8}
TAPS   = torch.tensor([1., 3., 3., 1.])

def kernel(gain=1.0):
    return TAPS.outer(TAPS) / TAPS.sum() ** 2 * gain

def filtered(x, taps, before, after):
    x = F.pad(x, [before, after, before, after])
    return F.conv2d(x, taps.flip(0, 1).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])

def lrelu(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)

#----------------------------------------------------------------------------
# State dicts.

def generator_state(side=32, w_dim=12, layers=3, kernels=True, noises=True, seed=0):
    """The state dict of a generator with random numbers."""
    rng = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(shape, generator=rng)
    state = {}
    for i in range(1, layers + 1):
        state |= {f'style.{i}.weight': rand(w_dim, w_dim) * 100, f'style.{i}.bias': rand(w_dim)}
    state['input.input'] = rand(1, WIDTHS[4], 4, 4)
    def modulated(name, inner, outer, size):
        state.update({f'{name}.conv.weight': rand(1, outer, inner, size, size),
                      f'{name}.conv.modulation.weight': rand(inner, w_dim), f'{name}.conv.modulation.bias': rand(inner) + 1})
    def styled(name, inner, outer, up):
        modulated(name, inner, outer, 3)
        state.update({f'{name}.noise.weight': rand(1), f'{name}.activate.bias': rand(outer)})
        if up and kernels:
            state[f'{name}.conv.blur.kernel'] = kernel(4)
    def colours(name, inner):
        modulated(name, inner, 3, 1)
        state[f'{name}.bias'] = rand(1, 3, 1, 1)
        if name != 'to_rgb1' and kernels:
            state[f'{name}.upsample.kernel'] = kernel(4)
    styled('conv1', WIDTHS[4], WIDTHS[4], False)
    colours('to_rgb1', WIDTHS[4])
    for i in range(int(math.log2(side)) - 2):
        res = 8 << i
        styled(f'convs.{2 * i}', WIDTHS[res // 2], WIDTHS[res], True)
        styled(f'convs.{2 * i + 1}', WIDTHS[res], WIDTHS[res], False)
        colours(f'to_rgbs.{i}', WIDTHS[res])
    for i in range(2 * int(math.log2(side)) - 3):
        if noises:
            state[f'noises.noise_{i}'] = rand(1, 1, *[4 << ((i + 1) // 2)] * 2)
    return state

def discriminator_state(side=32, seed=1):
    rng = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(shape, generator=rng)
    state = {'convs.0.0.weight': rand(WIDTHS[side], 3, 1, 1), 'convs.0.1.bias': rand(WIDTHS[side])}
    for i in range(1, int(math.log2(side)) - 1):
        inner, outer = WIDTHS[side >> (i - 1)], WIDTHS[side >> i]
        state |= {f'convs.{i}.conv1.0.weight': rand(inner, inner, 3, 3), f'convs.{i}.conv1.1.bias': rand(inner),
                  f'convs.{i}.conv2.0.kernel': kernel(), f'convs.{i}.conv2.1.weight': rand(outer, inner, 3, 3),
                  f'convs.{i}.conv2.2.bias': rand(outer), f'convs.{i}.skip.0.kernel': kernel(),
                  f'convs.{i}.skip.1.weight': rand(outer, inner, 1, 1)}
    last = WIDTHS[4]
    return state | {'final_conv.0.weight': rand(last, last + 1, 3, 3), 'final_conv.1.bias': rand(last),
                    'final_linear.0.weight': rand(last, last * 16), 'final_linear.0.bias': rand(last),
                    'final_linear.1.weight': rand(1, last), 'final_linear.1.bias': rand(1)}

#----------------------------------------------------------------------------
# Their functions.

def mapping(state, z):
    """w [N, w_dim]."""
    x, i = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt(), 1
    while f'style.{i}.weight' in state:
        weight = state[f'style.{i}.weight']
        x = lrelu(F.linear(x, weight * (0.01 / math.sqrt(weight.shape[1])), state[f'style.{i}.bias'] * 0.01))
        i += 1
    return x

def convolved(state, name, x, w, demodulate=True, up=False):
    """One image at a time: x [1, I, H, W], w [w_dim]."""
    weight, modulation = state[f'{name}.conv.weight'][0], state[f'{name}.conv.modulation.weight']
    style = modulation @ w / math.sqrt(len(w)) + state[f'{name}.conv.modulation.bias']
    weight = weight / math.sqrt(weight[0].numel()) * style[None, :, None, None]
    if demodulate:
        weight = weight * (weight.square().sum([1, 2, 3], keepdim=True) + 1e-8).rsqrt()
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[2] // 2)
    return filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), kernel(4), 1, 1)

def generate(state, w):
    """Images [1, 3, R, R] of w [w_dim], with the noise images of the state."""
    def styled(name, x, index, up=False):
        x = convolved(state, name, x, w, up=up)
        x = x + state[f'noises.noise_{index}'] * state[f'{name}.noise.weight']
        return lrelu(x + state[f'{name}.activate.bias'][None, :, None, None])
    x = styled('conv1', state['input.input'], 0)
    image, i = convolved(state, 'to_rgb1', x, w, demodulate=False) + state['to_rgb1.bias'], 0
    while f'to_rgbs.{i}.bias' in state:
        x = styled(f'convs.{2 * i + 1}', styled(f'convs.{2 * i}', x, 2 * i + 1, up=True), 2 * i + 2)
        larger = torch.zeros([1, 3, 2 * image.shape[2], 2 * image.shape[3]])
        larger[:, :, ::2, ::2] = image
        image = filtered(larger, kernel(4), 2, 1) + convolved(state, f'to_rgbs.{i}', x, w, demodulate=False) + \
            state[f'to_rgbs.{i}.bias']
        i += 1
    return image

def discriminate(state, images):
    """Logits [N, 1]."""
    def conv(x, name, down=False, bias=None, size=3):
        weight = state[name] / math.sqrt(state[name][0].numel())
        if down:
            pad = size + 1
            x = filtered(x, kernel(), (pad + 1) // 2, pad // 2)
        x = F.conv2d(x, weight, stride=2 if down else 1, padding=0 if down else size // 2)
        return x if bias is None else lrelu(x + state[bias][None, :, None, None])
    x, i = conv(images, 'convs.0.0.weight', bias='convs.0.1.bias', size=1), 1
    while f'convs.{i}.skip.1.weight' in state:
        y = conv(x, f'convs.{i}.conv1.0.weight', bias=f'convs.{i}.conv1.1.bias')
        y = conv(y, f'convs.{i}.conv2.1.weight', down=True, bias=f'convs.{i}.conv2.2.bias')
        x = (y + conv(x, f'convs.{i}.skip.1.weight', down=True, size=1)) / math.sqrt(2)
        i += 1
    groups = x.reshape(min(len(x), 4), -1, 1, *x.shape[1:])
    spread = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean([2, 3, 4], keepdim=True).squeeze(2)
    x = torch.cat([x, spread.repeat(len(groups), 1, *x.shape[2:])], 1)
    x = conv(x, 'final_conv.0.weight', bias='final_conv.1.bias').flatten(1)
    x = lrelu(F.linear(x, state['final_linear.0.weight'] / math.sqrt(x.shape[1]), state['final_linear.0.bias']))
    return F.linear(x, state['final_linear.1.weight'] / math.sqrt(x.shape[1]), state['final_linear.1.bias'])
