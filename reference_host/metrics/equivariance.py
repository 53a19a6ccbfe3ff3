"""Equivariance of generators to translation and rotation, the PSNR in dB between moving the output and moving the input
(Karras et al. 2021, "Alias-Free Generative Adversarial Networks", section 3 and Appendix E)."""

import numpy as np
import torch

from metrics import metric_utils
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Kernels. Lengths are in pixels.

def sinc(x):
    return torch.special.sinc(x)

def window(x, a=3):
    """Return the Lanczos window, which is zero beyond a."""
    return torch.where(x.abs() < a, torch.special.sinc(x / a), 0)

def rotation(angle, device=None):
    """Return the matrix [3, 3] by which G.synthesis.input.transform turns its input by an angle."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]], device=device)

def product_of_grids(kernel, matrix, taps):
    """Return the convolution of k and k o M at the points taps x taps, where k(x, y) = kernel(x) kernel(y).

    It passes the frequencies that both the pixel grid and the grid turned by M can represent."""
    points = torch.stack(torch.meshgrid(taps, taps, indexing='xy'), dim=-1)
    size = 2 * len(taps) - 1
    spectra = [torch.fft.rfft2(kernel(p).prod(dim=-1), s=[size, size]) for p in (points, points @ matrix[:2, :2].T)]
    middle = slice(len(taps) // 2, len(taps) // 2 + len(taps))
    return torch.fft.irfft2(spectra[0] * spectra[1], s=[size, size])[middle, middle]

def rotation_filter(matrix, up, reach=6, extent=64):
    """Return the low-pass filter of a rotation, sampled up times per pixel, [2 * reach * up - 1] squared (Appendix E.3).

    Each of its up x up phases sums to 1."""
    taps = torch.arange(1 - extent * up, extent * up, device=matrix.device) / up
    f = product_of_grids(sinc, matrix, taps) * product_of_grids(window, matrix, taps)
    inner = slice((extent - reach) * up, (extent + reach) * up - 1)
    phases = torch.nn.functional.pad(f[inner, inner], [0, 1, 0, 1]).reshape(2 * reach, up, 2 * reach, up)
    return (phases / phases.sum(dim=[0, 2], keepdim=True)).reshape(2 * reach * up, 2 * reach * up)[:-1, :-1]

#----------------------------------------------------------------------------
# Functions that move images [N, C, H, W]. Each returns the images and the mask [H, W] of pixels that are known.

def translate_int(x, tx, ty):
    """Move images by whole numbers of pixels, T_x of Appendix E.1."""
    moved, known = torch.zeros_like(x), torch.zeros(x.shape[2:], device=x.device)
    (y0, y1), (x0, x1) = [((max(-t, 0), n - max(t, 0)), (max(t, 0), n - max(-t, 0)))
                          for t, n in ((ty, x.shape[2]), (tx, x.shape[3]))]
    moved[:, :, slice(*y1), slice(*x1)] = x[:, :, slice(*y0), slice(*x0)]
    known[slice(*y1), slice(*x1)] = 1
    return moved, known

def translate_frac(x, tx, ty, a=3):
    """Move images by any numbers of pixels, T_x of Appendix E.2, interpolated by a sinc in a Lanczos window."""
    def interpolation(t, n): # [n, n], weights of the old pixels in each new one; [n], whether all of them are in the image.
        old, new = torch.arange(n, device=x.device), torch.arange(n, device=x.device) - t
        weights = sinc(new[:, None] - old) * window(new[:, None] - old, a)
        inside = (new.floor() - a + 1 >= 0) & (new.floor() + a <= n - 1)
        return weights / torch.where(inside[:, None], weights.sum(dim=1, keepdim=True), 1), inside.float()
    (rows, known_rows), (columns, known_columns) = interpolation(ty, x.shape[2]), interpolation(tx, x.shape[3])
    return rows @ x @ columns.T, torch.outer(known_rows, known_columns)

def depthwise(x, f, conv, **kwargs):
    """Apply one filter to every channel."""
    return conv(x.flatten(0, 1)[:, None], f[None, None], **kwargs).unflatten(0, x.shape[:2])[:, :, 0]

def rotate(x, angle, up=4, reach=6):
    """Turn square images by an angle, R_alpha of Appendix E.3, band-limited for the old and the new pixel grid.

    They are sampled bilinearly from a version with `up` times as many pixels along each axis."""
    matrix, size = rotation(angle, x.device), x.shape[-1]
    fine = depthwise(x, rotation_filter(matrix, up, reach), torch.nn.functional.conv_transpose2d, stride=up)
    axis = torch.arange(size, device=x.device) - (size - 1) / 2
    new = torch.stack(torch.meshgrid(axis, axis, indexing='xy'), dim=-1)
    old = new @ matrix[:2, :2] + (size - 1) / 2 # Each new pixel in the old grid, by the transpose of the rotation.
    grid = (old * up + reach * up - 1) / (fine.shape[-1] - 1) * 2 - 1
    turned = torch.nn.functional.grid_sample(fine, grid.expand(len(x), -1, -1, -1), align_corners=True)
    known = ((old >= reach - 0.5) & (old <= size - reach - 0.5)).all(dim=-1).float()
    return turned, known

def pseudo_rotate(x, angle, reach=6):
    """Change the spectrum of already turned images as a rotation does, R*_alpha of Appendix E.3, without turning them.

    As for the published scores, the filter is convolved on the pixel grid. There it raises frequencies near the edge of the
    spectrum, by up to 1.85 at 45 degrees, so that even perfect generators of sharp images reach only about 40 to 50 dB."""
    f = rotation_filter(rotation(-angle, x.device), up=1, reach=reach)
    known = torch.zeros(x.shape[2:], device=x.device)
    known[reach - 1 : 1 - reach, reach - 1 : 1 - reach] = 1
    return depthwise(x, f, torch.nn.functional.conv2d, padding=reach - 1), known

#----------------------------------------------------------------------------
# Scores.

def input_transform(G):
    """Return the matrix that moves the input of a generator, or None if it has none."""
    transform = getattr(getattr(getattr(G, 'synthesis', None), 'input', None), 'transform', None)
    return transform if isinstance(transform, torch.Tensor) and tuple(transform.shape) == (3, 3) else None

def check_generator(G):
    """Raise SpiderError if the input of a generator cannot be moved."""
    if input_transform(G) is None:
        raise SpiderError('--metrics: equivariance needs a generator whose input can be moved, such as StyleGAN3; leave '
                          'the eqt and eqr metrics out')

def shift_int(synthesize, img, rng, max_shift=1/8):
    """Return the errors, and where they are known, for a random translation by whole pixels (eq. 3)."""
    size = img.shape[-1]
    tx, ty = (int(t) for t in np.rint(rng.uniform(-max_shift, max_shift, 2) * size))
    ref, known = translate_int(img, tx, ty)
    return synthesize(shift=(tx / size, ty / size)) - ref, known

def shift_frac(synthesize, img, rng, max_shift=1/8):
    """Return the errors, and where they are known, for a random translation."""
    tx, ty = rng.uniform(-max_shift, max_shift, 2)
    ref, known = translate_frac(img, tx * img.shape[-1], ty * img.shape[-1])
    return synthesize(shift=(tx, ty)) - ref, known

def turn(synthesize, img, rng):
    """Return the errors, and where they are known, for a random rotation (Appendix E.3)."""
    angle = rng.uniform(-np.pi, np.pi)
    ref, ref_known = rotate(img, angle)
    turned, turned_known = pseudo_rotate(synthesize(angle=angle), angle)
    return turned - ref, ref_known * turned_known

def compute_equivariance(opts, movement, num_samples, batch_size=4):
    """Return the PSNR of one of the movements above over num_samples images, which the ranks share.

    Each batch has one movement."""
    check_generator(opts.G)
    G = metric_utils.prepare_generator(opts)
    labels = metric_utils.iterate_random_labels(opts, batch_size)
    progress = opts.progress.sub(tag='equivariance', num_items=num_samples)
    sums = torch.zeros([2], dtype=torch.float64) # Sum and number of squared errors.
    with torch.no_grad():
        for batch in metric_utils.seeded_batches(opts, num_samples, batch_size):
            metric_utils.renew_noise(G)
            ws = G.mapping(z=torch.randn([batch_size, G.z_dim], device=opts.device), c=next(labels))

            def synthesize(shift=(0, 0), angle=0, ws=ws): # The transform is the inverse of the movement.
                transform = rotation(-angle, opts.device)
                transform[:2, 2] = -torch.tensor(shift)
                input_transform(G).copy_(transform)
                return G.synthesis(ws=ws, noise_mode='const', force_fp32=True, **opts.G_kwargs)

            error, known = movement(synthesize, synthesize(), rng=np.random)
            if batch * batch_size < num_samples: # Later batches only give all ranks the same number of passes.
                sums += torch.stack([(error.square() * known).sum(), known.sum() * error.shape[:2].numel()]).cpu()
            progress.update(min((batch + opts.num_gpus) * batch_size, num_samples))
    if opts.num_gpus > 1:
        torch.distributed.all_reduce(sums)
    return float(10 * torch.log10(4 * sums[1] / sums[0])) # The range of images is 2, from -1 to 1.

#----------------------------------------------------------------------------
