"""Mixes the styles of images: each row gives an image, each column some of its layers.

    python style_mixing.py --network=network-snapshot-000100.pkl --rows=0-3 --cols=10-14 --styles=0-3 --outdir=out
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

import os

import click
import numpy as np
import torch

import tool_utils
from training import option_types, runtime, trouble
from training.runtime import SpiderError
from training.snapshots import load_generator, trust_option

#----------------------------------------------------------------------------

COARSE_STYLES = 7 # Number of styles that are mixed without --styles, or all of a smaller network.

def pick_styles(styles, num_ws):
    """Return the rows of ws to take from the columns. Raises SpiderError if the network does not have them."""
    if num_ws < 2:
        raise SpiderError('--network: it has one style for all layers, so there is nothing to mix; gen_video.py walks through '
                          'its images')
    if styles is None:
        return list(range(min(COARSE_STYLES, num_ws)))
    if max(styles) >= num_ws:
        raise SpiderError(f'--styles: {max(styles)} is out of range; the network has the styles 0 to {num_ws - 1}')
    return styles

def mix(ws_row, ws_col, styles):
    """Return the ws [num_ws, w_dim] of the row's image, with `styles` from the column's image."""
    ws = ws_row.clone()
    ws[styles] = ws_col[styles]
    return ws

#----------------------------------------------------------------------------

@click.command(context_settings=dict(max_content_width=120))
@click.option('--network', 'network_pkl', help='Network pickle', metavar='[PATH|URL]', type=option_types.file_type, required=True)
@click.option('--rows', 'row_seeds', help='Random seeds of the rows', metavar='LIST',
              type=option_types.parse_range, required=True)
@click.option('--cols', 'col_seeds', help='Random seeds of the columns', metavar='LIST',
              type=option_types.parse_range, required=True)
@click.option('--styles', help='Layers whose styles come from the columns  [default: 0-6, or all of a smaller network]',
              metavar='LIST', type=option_types.parse_range)
@click.option('--trunc', 'truncation_psi', help='Truncation psi', metavar='FLOAT',
              type=option_types.trunc_type, default=1, show_default=True)
@click.option('--class', 'class_idx', help='Class, for a network with labels', metavar='INT',
              type=option_types.class_type)
@click.option('--noise-mode', help='Noise inputs',
              type=click.Choice(['const', 'random', 'none']), default='const', show_default=True)
@click.option('--outdir', help='Folder to put the images into', metavar='DIR', type=option_types.path_type, required=True)
@click.option('--threads', help='CPU threads of torch  [default on a CPU: all, at most 8]', metavar='INT',
              type=option_types.threads_type)
@trust_option
@trouble.tool
@torch.no_grad()
def mix_styles(network_pkl, row_seeds, col_seeds, styles, truncation_psi, class_idx, noise_mode, outdir, threads, trust):
    """Mix the styles of images. With a source of images, the source image is that of the row.

    Writes outdir/ROW-COL.png for every pair of seeds and SEED-SEED.png for every seed alone.

    outdir/grid.png holds all of them, with the images that are mixed in the first column and the first row.

    \b
    python style_mixing.py --network=network-snapshot-000100.pkl --rows=0-3 --cols=10-14 --styles=0-3 --outdir=out
    """
    device = runtime.pick_device()
    G = load_generator(network_pkl, device, trust)
    styles = pick_styles(styles, tool_utils.num_styles(G))
    label = tool_utils.class_label(G, class_idx, device)
    tool_utils.make_outdir(outdir)
    runtime.pin_threads(threads)

    seeds = list(dict.fromkeys(row_seeds + col_seeds))
    z = tool_utils.seed_latents(seeds, G.z_dim, device)
    ws = dict(zip(seeds, G.mapping(z, label.expand(len(seeds), -1), truncation_psi=truncation_psi), strict=True))
    mixed = {(seed, seed): ws[seed] for seed in seeds}
    mixed.update({(row, col): mix(ws[row], ws[col], styles) for row in row_seeds for col in col_seeds})

    progress = tool_utils.Steps('images', len(mixed), 'images')
    images = {}
    for (row, col), w in mixed.items():
        images[row, col] = tool_utils.to_uint8(G.synthesis(w[None], noise_mode=noise_mode))[0]
        tool_utils.save_png(images[row, col], os.path.join(outdir, f'{row}-{col}.png'))
        progress.step()

    corner = np.zeros_like(next(iter(images.values())))
    table = [[corner] + [images[col, col] for col in col_seeds]]
    table += [[images[row, row]] + [images[row, col] for col in col_seeds] for row in row_seeds]
    tool_utils.save_png(tool_utils.tile(np.concatenate(table), columns=len(table[0])), os.path.join(outdir, 'grid.png'))

#----------------------------------------------------------------------------

if __name__ == '__main__':
    mix_styles()
