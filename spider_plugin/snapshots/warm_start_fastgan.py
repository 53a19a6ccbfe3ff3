"""Separable blocks of FastGAN that start from a dense snapshot, with --cfg=fastgan --resume=dense.pkl --dsc.

A dense block is  norm(W / |W| * x + strength noise),  with |W| the largest singular value. A separable block has
(P / |P|) (D / |D|) in place of W / |W|. The best D [I, 3, 3] and P [O, I] for W are found as in snapshots/warm_start.py, and
errors in row o are weighted by 1 / deviation of output o, by which the norm divides. The two spectral norms change the scale of
the product by a factor a, which the norm removes. So its running statistics become a mean and a^2 var, and the noise strength
becomes a strength."""

import torch

from spider_plugin.portable.layers.spectral_norm import power_iteration
from spider_plugin.snapshots.warm_start import fit_kernel

#----------------------------------------------------------------------------

def fit_blocks(state, network):
    """Return ({name: tensor} with factors in place of the dense kernels of separable blocks, {layer: relative error}).

    state:      state dict of a dense FastGAN generator of the plugin or of projected-gan.
    network:    the generator that will train."""
    state, errors, scales = dict(state), {}, {}
    for name, block in network.named_modules():
        for conv, noise, norm in getattr(block, 'stages', ()):
            layer, dense = f'{name}.{conv}', state.get(f'{name}.{conv}.weight_orig')
            factors = getattr(block._modules[conv], 'dw_weight', None), getattr(block._modules[conv], 'pw_weight', None)
            if factors[0] is None or dense is None or dense.shape != (*factors[1].shape[:2], 3, 3):
                continue
            moments = [key for key in _moments(f'{name}.{norm}') if key in state]
            if len(moments) == 2 and dense.isfinite().all():
                errors[layer], scale = _fit_layer(state, layer, moments)
                scales.setdefault(f'{name}.{noise}.weight', []).append(scale)
    for strength, found in scales.items():      # with classes, the two layers of a block share one
        if strength in state:
            state[strength] = state[strength] * (sum(found) / len(found))
    return state, errors

def _moments(norm):
    return [f'{norm}.{kind}_{what}' for kind in ('running', 'stored') for what in ('mean', 'var')]

def _fit_layer(state, layer, moments):
    """Replace the layer's tensors in state, in place, and return (the relative error of the product, a)."""
    mean, var = (state[key].double() for key in moments)
    weight, u, v = (state.pop(f'{layer}.weight_{what}').double() for what in ('orig', 'u', 'v'))
    rows = (var + 1e-5).rsqrt()
    dw, pw = (factor[0] for factor in fit_kernel(weight, 1, False, rows / rows.max() if rows.isfinite().all() else None))
    fitted = torch.einsum('oi,ikl->oikl', pw, dw)
    norm, dtype = 1.0, state[moments[0]].dtype
    for part, factor in (('depthwise', dw[:, None]), ('pointwise', pw[:, :, None, None])):
        matrix = factor.flatten(1)
        left = torch.ones(len(matrix), dtype=torch.float64)
        for _ in range(30):
            left, right = power_iteration(matrix, left)
        norm = norm * (left @ matrix @ right)
        size = (3 * matrix.shape[1]) ** -0.5 / factor.square().mean().sqrt()    # size of fresh weights, for Adam
        for what, tensor in (('orig', factor * size), ('u', left), ('v', right)):
            state[f'{layer}.{part}.weight_{what}'] = tensor.to(dtype).contiguous()
    scale = float(u @ weight.flatten(1) @ v / norm)
    state[moments[0]], state[moments[1]] = (t.to(dtype) for t in (mean * scale, var * scale ** 2))
    return float((fitted - weight).norm() / weight.norm()), scale

#----------------------------------------------------------------------------
