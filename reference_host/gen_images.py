"""Generates images with a network pickle.

    python gen_images.py --network=network-snapshot-000100.pkl --seeds=0-3,7 --outdir=out
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

import os
import re

import click
import numpy as np
import PIL.Image
import torch

from training import runtime
from training.runtime import UserError
from training.snapshots import load_networks

#----------------------------------------------------------------------------
# Option types.

def parse_range(text):
    """'0,2,5-7' -> [0, 2, 5, 6, 7]."""
    if isinstance(text, list):
        return text
    numbers = []
    for part in text.split(','):
        match = re.fullmatch(r'\s*(\d+)(?:-(\d+))?\s*', part)
        if not match:
            raise click.BadParameter(f'{text!r} is not a list of numbers and ranges such as 0,2,5-7')
        first, last = int(match[1]), int(match[2] or match[1])
        numbers += range(first, last + 1)
    return numbers

def parse_vec2(text):
    """'0.3,1' -> (0.3, 1.0)."""
    if isinstance(text, tuple):
        return text
    try:
        x, y = map(float, text.split(','))
        return x, y
    except ValueError:
        raise click.BadParameter(f'{text!r} is not a pair of numbers such as 0.3,1') from None

#----------------------------------------------------------------------------
# Steps.

def class_label(G, class_idx, device):
    """One-hot label [1, c_dim]. Raises UserError where --class and the network do not fit."""
    label = torch.zeros([1, G.c_dim], device=device)
    if G.c_dim == 0:
        if class_idx is not None:
            print('--class is ignored: the network has no labels')
    elif class_idx is None or not 0 <= class_idx < G.c_dim:
        raise UserError(f'--class: the network has labels; give one from 0 to {G.c_dim - 1}')
    else:
        label[0, class_idx] = 1
    return label

def move_input(G, translate, rotate):
    """Moves and turns the input of a network that supports it (alias-free ones). Raises UserError otherwise."""
    if translate == (0, 0) and rotate == 0:
        return
    transform = getattr(getattr(G.synthesis, 'input', None), 'transform', None)
    if transform is None:
        raise UserError('--translate, --rotate: this network cannot move its images; leave these options out')
    sin, cos = np.sin(np.deg2rad(rotate)), np.cos(np.deg2rad(rotate))
    matrix = np.array([[cos, sin, translate[0]], [-sin, cos, translate[1]], [0, 0, 1]])
    transform.copy_(torch.from_numpy(np.linalg.inv(matrix))) # The network transforms coordinates, not pixels.

def to_image(img):
    """[C, H, W] in [-1, 1] to a PIL image."""
    pixels = (img.permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().numpy()
    return PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)

#----------------------------------------------------------------------------

@click.command(context_settings=dict(max_content_width=120))
@click.option('--network', 'network_pkl', help='Network pickle', metavar='[PATH|URL]', required=True)
@click.option('--seeds', help='Random seeds, such as 0,2,5-7', metavar='LIST', type=parse_range, required=True)
@click.option('--trunc', 'truncation_psi', help='Truncation psi', metavar='FLOAT',
              type=float, default=1, show_default=True)
@click.option('--class', 'class_idx', help='Class, for a network with labels', metavar='INT', type=int)
@click.option('--noise-mode', help='Noise inputs',
              type=click.Choice(['const', 'random', 'none']), default='const', show_default=True)
@click.option('--translate', help='Shift of the image, where the network supports it', metavar='X,Y',
              type=parse_vec2, default='0,0', show_default=True)
@click.option('--rotate', help='Rotation in degrees, where the network supports it', metavar='ANGLE',
              type=float, default=0, show_default=True)
@click.option('--outdir', help='Folder to put the images into', metavar='DIR', required=True)
@torch.no_grad()
def generate_images(network_pkl, seeds, truncation_psi, class_idx, noise_mode, translate, rotate, outdir):
    """Generate images with a network pickle: one PNG per seed, outdir/seed0000.png.

    \b
    python gen_images.py --network=network-snapshot-000100.pkl --seeds=0-3,7 --trunc=0.7 --outdir=out
    """
    device = runtime.pick_device()
    G = load_networks(network_pkl, option='--network')['G_ema'].eval().requires_grad_(False).to(device)
    label = class_label(G, class_idx, device)
    move_input(G, translate, rotate)
    try:
        os.makedirs(outdir, exist_ok=True)
    except OSError as err:
        raise UserError(f'--outdir: {outdir} cannot be written ({err.strerror}); choose another folder') from err
    for i, seed in enumerate(seeds):
        print(f'Generating image for seed {seed} ({i + 1}/{len(seeds)}) ...')
        z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim)).to(device, torch.float32)
        img = G(z, label, truncation_psi=truncation_psi, noise_mode=noise_mode)
        to_image(img[0]).save(os.path.join(outdir, f'seed{seed:04d}.png'))

#----------------------------------------------------------------------------

if __name__ == '__main__':
    generate_images()
