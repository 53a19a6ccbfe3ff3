"""`spider generate`: images, grids, walks and stage pictures from a snapshot, without running code that it carries."""

import os
from pathlib import Path

import numpy as np
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.recognise import check_network_file
from spider_plugin.generate import pictures, walks
from spider_plugin.generate.cascade import Cascade
from spider_plugin.snapshots.drawing import classes_of, draw
from spider_plugin.snapshots.sizes import batch_for
from spider_plugin.sources.obtain import local_file
from spider_plugin.sources.parents import one_hot

#----------------------------------------------------------------------------

def generate(network, seeds, outdir, *, trunc=1.0, class_idx=None, grid=False, sources=False, walk=None, walk_out=None,
             frames=24, stage=None, stages=False, parents=(), noise_mode='const', device=None, trust=False):
    """Write seed0000.png and so on to `outdir`, and return the paths of all files written.

    network:    host pickle or its URL; its G_ema is used.
    seeds:      integers; the latent of a seed is the one that the hosts' scripts draw for it.
    trunc:      truncation psi of the mapping network.
    class_idx:  class of a conditional generator.
    grid:       also grid.png, all images in one.
    sources:    also seed0000-source.png, the source image of each output (Spider generators).
    walk:       also a walk from seed to seed and back to the first (generate/walks.py). 'source', 'latent' or 'w' moves that
                alone and keeps the rest at its value for the first seed; 'both' moves w and source together; a file name means
                'both' into that file.
    walk_out:   .gif, .mp4 or .png (a row of frames for each seed); default walk-KIND.gif. A name without a folder is in
                outdir.
    frames:     frames from one seed to the next.
    stage:      the stage of a cascade at which the walk moves, 1 being its first generator; default the last.
    stages:     also stages.png, with a row for the images of each stage and a row for each interpolation at each stage.
    parents:    snapshots of earlier stages that are neither in the cache's record nor beside `network`.
    device:     default cuda if there is one, else cpu.
    trust:      unpickle as hosts do, which runs code that the file carries.
    Raises SpiderError."""
    if not seeds:
        raise SpiderError('--seeds names no seed; give numbers and ranges such as 0-3,7.')
    if (walk is not None or stages) and len(seeds) < 2:
        raise SpiderError(f'--{"stages" if walk is None else "walk"} goes from seed to seed; give at least two --seeds.')
    if frames < 1:
        raise SpiderError('--frames must be at least 1.')
    lonely = '--walk-out' if walk_out is not None else '--stage' if stage is not None else None
    if walk is None and lonely:
        raise SpiderError(f'{lonely} has no effect without --walk; add --walk=w, for example.')
    kind, walk_out = (None, None) if walk is None else walks.parse_walk(walk, walk_out)
    network = local_file(network, '--network', 'pickle')
    check_network_file(network)
    if not os.path.isfile(network):
        raise SpiderError(f'--network={network} does not exist, or is no file; give the path of a snapshot (.pkl).')
    device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    cascade = Cascade(network, device, parents, trust=trust, psi=trunc, noise_mode=noise_mode)
    G = cascade.last
    if (walk is not None or stages) and not (hasattr(G, 'mapping') and hasattr(G, 'synthesis')):
        raise SpiderError(f'--{"stages" if walk is None else "walk"}: {network} holds a generator without a mapping and a '
                          'synthesis network; leave the option out.')
    if sources and getattr(G, 'source', None) is None:
        raise SpiderError(f'--sources: {network} is not a Spider generator and has no source images; leave the option out.')
    z = torch.stack([_latent(seed, G.z_dim) for seed in seeds]).to(device)
    c = _labels(G, class_idx, network).expand(len(seeds), -1).to(device)

    names = [f'seed{seed:04d}' for seed in seeds]
    images = _render(G, z, c, network, dict(truncation_psi=trunc, noise_mode=noise_mode))
    files = {f'{name}.png': image for name, image in zip(names, images)}
    if sources:
        files |= {f'{name}-source.png': image for name, image in zip(names, pictures.to_uint8(G.source.sample(z, c)))}
    if grid:
        files['grid.png'] = pictures.tile(images)
    if stages:
        files['stages.png'] = walks.stage_picture(cascade, cascade.trace(z, c), len(seeds))
    steps = walks.frames_of(cascade, cascade.trace(z, c, stage), kind, frames) if kind else None    # refuses before any file
    outdir = Path(outdir)
    written = [pictures.save_png(outdir / name, image) for name, image in files.items()]
    if kind:
        written.append(pictures.save_frames(outdir / walk_out, steps, frames))
    return written

#----------------------------------------------------------------------------
# The inputs that the hosts' gen_images.py draws for a seed, so that pictures can be compared across tools.

def _latent(seed, z_dim):
    return torch.from_numpy(np.random.RandomState(seed).randn(z_dim)).to(torch.float32)

def _labels(G, class_idx, network):
    c_dim = classes_of(G)
    if c_dim == 0:
        if class_idx is not None:
            raise SpiderError(f'--class={class_idx}: {network} is not conditional; leave the option out.')
        return torch.zeros([1, 0])
    if class_idx is None or not 0 <= class_idx < c_dim:
        raise SpiderError(f'{network} is conditional; give --class=0 to --class={c_dim - 1}.')
    return one_hot(torch.tensor([class_idx]), c_dim)

def _render(G, z, c, network, options, batch=16):
    batch = batch_for(G, batch)
    parts = zip(z.split(batch), c.split(batch))
    return np.concatenate([pictures.to_uint8(draw(G, z_part, c_part, network, **options)) for z_part, c_part in parts])

#----------------------------------------------------------------------------
