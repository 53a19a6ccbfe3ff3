"""Separable layers that start from a pretrained dense kernel, with --resume=dense.pkl --dsc.

Each channel with separate filters (an input channel if the depthwise filter comes first, an output channel if it comes last) has
a matrix W [other channels, 9 taps], and its first singular vectors give the best sum of `rank` products. Errors in a row are
weighted by their effect in the layer, which is the demodulation of output o if the depthwise filter comes first, and the style of
input i otherwise, both at the average w. Demodulation removes a common scale, so both factors get unit size."""

import torch

#----------------------------------------------------------------------------

def fit_kernel(weight, rank, pointwise_first, rows=None):
    """Return (dw [rank, C, 3, 3], pw [rank, O, I]) whose sum of products is nearest to weight [O, I, 3, 3].

    rows:   weights of the errors by output channel [O], or by input channel [I] if pointwise_first."""
    slices = weight.flatten(2) if pointwise_first else weight.flatten(2).transpose(0, 1)    # [C, others, 9]
    weighted = slices if rows is None else slices * rows[:, None]
    _, vectors = torch.linalg.eigh(weighted.mT @ weighted)                                  # [C, 9, 9], ascending
    taps = vectors[:, :, -rank:].flip(2)                                                    # [C, 9, rank]
    products = slices @ taps                                                                # [C, others, rank]
    pw = products.permute(2, 0, 1) if pointwise_first else products.permute(2, 1, 0)
    return taps.permute(2, 0, 1).unflatten(2, [3, 3]).contiguous(), pw.contiguous()

def row_weights(state, name, layer):
    """Return the weights of fit_kernel's rows at the average w of a dense snapshot, or None if that average cannot be used.

    Some hosts pass uninitialised latents for a summary before training, so the average may be NaN or huge after few steps."""
    average, affine = state.get('mapping.w_avg'), f'{name}.affine'
    if average is None or f'{affine}.weight' not in state:
        return None
    styles = (state[f'{affine}.weight'].double() @ average.double()) * layer.affine.weight_gain + state[f'{affine}.bias'].double()
    energy = state[f'{name}.weight'].double().square().sum(dim=[2, 3])
    rows = styles.abs() if layer.pointwise_first else (energy @ styles.square() + 1e-8).rsqrt()
    return rows / rows.max() if rows.isfinite().all() and 1e-6 < rows.max() < 1e6 else None

def fit_layers(state, network, weighted=True):
    """Return ({name: tensor} with factors in place of the dense kernels of separable layers, {layer: relative error}).

    state:      state dict of a dense generator.
    network:    the generator that will train."""
    state, errors = dict(state), {}
    for name, layer in network.named_modules():
        dense = state.get(f'{name}.weight')
        if not hasattr(layer, 'dw_weight') or dense is None or dense.shape != (*layer.pw_weight.shape[1:], 3, 3) \
                or not dense.isfinite().all():
            continue
        weight, rows = dense.double(), row_weights(state, name, layer) if weighted else None
        dw, pw = fit_kernel(weight, len(layer.pw_weight), layer.pointwise_first, rows)
        fitted = torch.einsum('roi,rokl->oikl' if layer.pointwise_first else 'roi,rikl->oikl', pw, dw)
        errors[name] = float((fitted - weight).norm() / weight.norm())
        del state[f'{name}.weight']
        state[f'{name}.dw_weight'] = (dw / layer.dw_gain).to(dense.dtype)
        state[f'{name}.pw_weight'] = (pw / pw.square().mean().sqrt()).to(dense.dtype)
    return state, errors

#----------------------------------------------------------------------------
