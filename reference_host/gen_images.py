"""Generates images with a network pickle.

    python gen_images.py --network=network-snapshot-000100.pkl --seeds=0-3,7 --outdir=out
    python gen_images.py --network=network-snapshot-000100.pkl --projected-w=out/projected_w.npz --outdir=out
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

import os

import click
import numpy as np
import torch

import tool_utils
from training import option_types, reading, runtime, trouble
from training.runtime import SpiderError
from training.snapshots import load_generator, trust_option

#----------------------------------------------------------------------------
# Steps.

def move_input(G, translate, rotate):
    """Move and turn the input of a network that supports it, as alias-free ones do. Raises SpiderError otherwise."""
    if translate == (0, 0) and rotate == 0:
        return
    transform = getattr(getattr(G.synthesis, 'input', None), 'transform', None)
    if transform is None:
        raise SpiderError('--translate, --rotate: this network cannot move its images; leave these options out')
    sin, cos = np.sin(np.deg2rad(rotate)), np.cos(np.deg2rad(rotate))
    matrix = np.array([[cos, sin, translate[0]], [-sin, cos, translate[1]], [0, 0, 1]])
    transform.copy_(torch.from_numpy(np.linalg.inv(matrix))) # The network transforms coordinates, not pixels.

def load_ws(fname, G, device):
    """Return the array `w` of an .npz of projector.py, float32 [N, num_ws, w_dim]. Raises SpiderError if it does not fit G."""
    try:
        ws = torch.from_numpy(reading.read_array(fname, 'w').astype(np.float32, casting='same_kind')).to(device)
    except Exception as err: # Files of other kinds cause errors of many types.
        reason = (str(err).strip() or type(err).__name__).splitlines()[0].rstrip('.')
        raise SpiderError(f'--projected-w: {fname} cannot be read as an .npz with an array w ({reason}); give the '
                          'projected_w.npz of projector.py') from err
    if ws.ndim != 3 or ws.shape[1:] != (G.num_ws, G.w_dim):
        raise SpiderError(f'--projected-w: w has the shape {list(ws.shape)}, but the network takes [N, {G.num_ws}, {G.w_dim}]; '
                          'give the network it was projected with')
    if len(ws) == 0 or not ws.isfinite().all():
        raise SpiderError(f'--projected-w: {fname} holds no styles, or some that are NaN or infinite; make it again with '
                          'projector.py')
    return ws

#----------------------------------------------------------------------------

@click.command(context_settings=dict(max_content_width=120))
@click.option('--network', 'network_pkl', help='Network pickle', metavar='[PATH|URL]', type=option_types.file_type, required=True)
@click.option('--seeds', help='Random seeds, such as 0,2,5-7', metavar='LIST', type=option_types.parse_range)
@click.option('--projected-w', help='Styles of projector.py, in place of seeds', metavar='FILE.npz', type=option_types.path_type)
@click.option('--trunc', 'truncation_psi', help='Truncation psi', metavar='FLOAT',
              type=option_types.trunc_type, default=1, show_default=True)
@click.option('--class', 'class_idx', help='Class, for a network with labels', metavar='INT',
              type=option_types.class_type)
@click.option('--noise-mode', help='Noise inputs',
              type=click.Choice(['const', 'random', 'none']), default='const', show_default=True)
@click.option('--translate', help='Shift of the image, if the network supports it', metavar='X,Y',
              type=option_types.parse_vec2, default='0,0', show_default=True)
@click.option('--rotate', help='Rotation in degrees, if the network supports it', metavar='ANGLE',
              type=option_types.Real(-360, 360), default=0, show_default=True)
@click.option('--outdir', help='Folder to put the images into', metavar='DIR', type=option_types.path_type, required=True)
@click.option('--threads', help='CPU threads of torch  [default on a CPU: all, at most 8]', metavar='INT',
              type=option_types.threads_type)
@trust_option
@trouble.tool
@torch.no_grad()
def generate_images(network_pkl, seeds, projected_w, truncation_psi, class_idx, noise_mode, translate, rotate, outdir,
                    threads, trust):
    """Generate images with a network pickle, a PNG per seed, outdir/seed0000.png, or per projected w, outdir/proj00.png.

    \b
    python gen_images.py --network=network-snapshot-000100.pkl --seeds=0-3,7 --trunc=0.7 --outdir=out
    """
    if (seeds is None) == (projected_w is None):
        raise SpiderError('--seeds, --projected-w: give one of them to choose the images to generate')
    device = runtime.pick_device()
    G = load_generator(network_pkl, device, trust)
    move_input(G, translate, rotate)
    if projected_w is not None: # It is a result of the mapping network, so class and truncation do not apply.
        ws = load_ws(projected_w, G, device)
        tool_utils.make_outdir(outdir)
        for i, w in enumerate(ws):
            print(f'Generating image of projected w {i} ({i + 1}/{len(ws)}) ...')
            img = G.synthesis(w[None], noise_mode=noise_mode)
            tool_utils.save_png(tool_utils.to_uint8(img)[0], os.path.join(outdir, f'proj{i:02d}.png'))
        return

    label = tool_utils.class_label(G, class_idx, device)
    tool_utils.make_outdir(outdir)
    for i, seed in enumerate(seeds):
        print(f'Generating image for seed {seed} ({i + 1}/{len(seeds)}) ...')
        z = tool_utils.seed_latents([seed], G.z_dim, device)
        img = G(z, label, truncation_psi=truncation_psi, noise_mode=noise_mode)
        tool_utils.save_png(tool_utils.to_uint8(img)[0], os.path.join(outdir, f'seed{seed:04d}.png'))

#----------------------------------------------------------------------------

if __name__ == '__main__':
    generate_images()
