"""Images, grids and walks from a snapshot, read without executing what it carries: `spider generate`."""

from pathlib import Path

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from spider_plugin.errors import UserError
from spider_plugin.io.cache import atomic_file
from spider_plugin.io.rebuild import load_generator

#----------------------------------------------------------------------------

def generate(network, seeds, outdir, *, trunc=1.0, class_idx=None, grid=False, sources=False, walk=None, frames=24,
             noise_mode='const', device=None, trust=False):
    """Writes seed0000.png and so on to `outdir`; returns the paths of all files written.

    network:    host pickle; its G_ema is used.
    seeds:      integers; the latent of a seed is what the hosts' own scripts draw for it.
    trunc:      truncation psi of the mapping network.
    class_idx:  class of a conditional generator.
    grid:       also grid.png, all images in one.
    sources:    also seed0000-source.png, the source image of each output (Spider generators).
    walk:       file name of a gif that goes from seed to seed and back to the first: the w and the source images of two
                neighbours are blended, so that the source changes as gradually as the style.
    frames:     frames from one seed to the next.
    device:     default: cuda where there is one, else cpu.
    trust:      unpickle as hosts do, which runs code that the file carries.
    Raises UserError."""
    if not seeds:
        raise UserError('--seeds names no seed; give numbers and ranges such as 0-3,7.')
    if walk and len(seeds) < 2:
        raise UserError('--walk goes from seed to seed; give at least two --seeds.')
    if frames < 1:
        raise UserError('--frames must be at least 1.')
    device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    G = load_generator(network, trust=trust).to(device)
    if sources and getattr(G, 'source', None) is None:
        raise UserError(f'--sources: {network} is no Spider generator and has no source images; leave the option out.')
    z = torch.stack([_latent(seed, G.z_dim) for seed in seeds]).to(device)
    c = _labels(G, class_idx, network).expand(len(seeds), -1).to(device)
    options = dict(truncation_psi=trunc, noise_mode=noise_mode)

    names = [f'seed{seed:04d}' for seed in seeds]
    images = _render(G, z, c, options)
    files = {f'{name}.png': image for name, image in zip(names, images)}
    if sources:
        files |= {f'{name}-source.png': image for name, image in zip(names, _to_uint8(G.source.sample(z, c)))}
    if grid:
        files['grid.png'] = _tile(images)
    outdir = Path(outdir)
    written = [_save(outdir / name, image) for name, image in files.items()]
    if walk:
        written.append(_save_gif(outdir / walk, _walk(G, z, c, frames, options)))
    return written

def parse_seeds(text):
    """'0-3,7' -> [0, 1, 2, 3, 7]. Raises UserError."""
    seeds = []
    for part in text.split(','):
        first, dash, last = part.strip().partition('-')
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f'--seeds={text} is not a list of numbers and ranges such as 0-3,7.')
        seeds += range(int(first), int(last or first) + 1)
    return seeds

#----------------------------------------------------------------------------
# What the hosts' gen_images.py feeds a generator for a seed, so that pictures can be compared across tools.

def _latent(seed, z_dim):
    return torch.from_numpy(np.random.RandomState(seed).randn(z_dim))

def _labels(G, class_idx, network):
    if G.c_dim == 0:
        if class_idx is not None:
            raise UserError(f'--class={class_idx}: {network} is not conditional; leave the option out.')
        return torch.zeros([1, 0])
    if class_idx is None or not 0 <= class_idx < G.c_dim:
        raise UserError(f'{network} is conditional; give --class=0 to --class={G.c_dim - 1}.')
    return F.one_hot(torch.tensor([class_idx]), G.c_dim).to(torch.float32)

@torch.no_grad()
def _render(G, z, c, options, batch=16):
    return np.concatenate([_to_uint8(G(z_part, c_part, **options)) for z_part, c_part in zip(z.split(batch), c.split(batch))])

#----------------------------------------------------------------------------
# A walk through W. A key in blended ws names no image, so a residual generator's synthesis is given the blend of the two
# source images instead. Other generators have all of the source in w already.

@torch.no_grad()
def _walk(G, z, c, frames, options):
    """Yields uint8 [H, W, C], `frames` for each seed."""
    options = dict(options)
    ws = G.mapping(z, c, truncation_psi=options.pop('truncation_psi'))
    residual = getattr(G, 'source', None) is not None and hasattr(G.synthesis, 'source_image')
    images = G.source.sample(z, c) if residual else None
    for i in range(len(z)):
        j = (i + 1) % len(z)
        for t in np.linspace(0, 1, frames, endpoint=False):
            if residual:
                options['source_image'] = torch.lerp(images[i : i + 1], images[j : j + 1], float(t))
            yield _to_uint8(G.synthesis(torch.lerp(ws[i : i + 1], ws[j : j + 1], float(t)), **options))[0]

#----------------------------------------------------------------------------
# Pixels and files.

def _to_uint8(images):
    """[-1, 1] float [N, C, H, W] -> uint8 [N, H, W, C]."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

def _tile(images):
    """uint8 [N, H, W, C] -> one image of about as many rows as columns, the rest black."""
    n, height, width, channels = images.shape
    columns = int(np.ceil(n ** 0.5))
    rows = -(-n // columns)
    canvas = np.zeros([rows * columns, height, width, channels], np.uint8)
    canvas[:n] = images
    return canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2).reshape(rows * height, columns * width, channels)

def _picture(image):
    return PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)

def _save(path, image):
    with atomic_file(path) as temp:
        _picture(image).save(temp, format='png')
    return path

def _save_gif(path, images):
    first, *rest = [_picture(image) for image in images]
    with atomic_file(path) as temp:
        first.save(temp, format='gif', save_all=True, append_images=rest, duration=40, loop=0)
    return path

#----------------------------------------------------------------------------
