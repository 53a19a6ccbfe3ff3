"""Makes a video that walks through the images of a network pickle, and ends where it began.

    python gen_video.py --network=network-snapshot-000100.pkl --seeds=0-7 --grid=2x1 --output=walk.mp4
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

import os

import click
import numpy as np
import scipy.interpolate
import torch

import tool_utils
import video_utils
from training import option_types, runtime, trouble
from training.runtime import SpiderError
from training.snapshots import load_generator, trust_option

#----------------------------------------------------------------------------

BATCH = 8 # Images of a grid that are rendered at once.

def arrange_seeds(seeds, grid, num_keyframes, shuffle_seed):
    """Return the seeds [cells, keyframes] through which each cell of the grid walks.

    Cells get different seeds, in order; if there are too few, seeds are used again. Raises SpiderError."""
    cells = grid[0] * grid[1]
    if num_keyframes is None:
        if len(seeds) % cells != 0:
            raise SpiderError(f'--seeds: {len(seeds)} seeds do not fill {cells} cells of the grid evenly; give a multiple '
                              'of that, or --num-keyframes')
        num_keyframes = len(seeds) // cells
    if num_keyframes < 2:
        raise SpiderError('--num-keyframes: a walk needs at least two keyframes; give it, or more --seeds for each cell of '
                          'the grid')
    order = np.resize(seeds, cells * num_keyframes)
    if shuffle_seed is not None:
        np.random.RandomState(shuffle_seed).shuffle(order)
    return order.reshape(cells, num_keyframes)

def closed_curve(points):
    """Return the periodic cubic spline through points [K, ...] at times 0 to K - 1, which is back at the first at time K.

    It is a function of time with continuous second derivative."""
    closed = np.concatenate([points, points[:1]])
    return scipy.interpolate.CubicSpline(np.arange(len(closed)), closed, bc_type='periodic')

class Walk:
    """Frames of a closed walk through W. A frame is a grid of images, and each cell follows a separate curve."""

    def __init__(self, G, seeds, columns, frames_per_key, label, truncation_psi, device):
        z = tool_utils.seed_latents(seeds.flatten(), G.z_dim, device)
        ws = G.mapping(z, label.expand(len(z), -1), truncation_psi=truncation_psi)
        ws = ws.reshape(*seeds.shape, *ws.shape[1:])
        self.G = G
        self.curve = closed_curve(ws.transpose(0, 1).cpu().numpy().astype(np.float64))
        self.columns = columns
        self.frames_per_key = frames_per_key
        self.num_frames = seeds.shape[1] * frames_per_key
        self.device = device

    @torch.no_grad()
    def render(self, frame):
        """Return the frame, uint8 [H, W, C]."""
        ws = torch.from_numpy(self.curve(frame / self.frames_per_key).astype(np.float32)).to(self.device)
        images = [tool_utils.to_uint8(self.G.synthesis(part, noise_mode='const')) for part in ws.split(BATCH)]
        return tool_utils.tile(np.concatenate(images), self.columns)

def parse_grid(text):
    """Return columns and rows, such as (4, 2) for '4x2'."""
    return option_types.parse_size(text, 100, 'a number of columns and rows such as 4x2')

#----------------------------------------------------------------------------

@click.command(context_settings=dict(max_content_width=120))
@click.option('--network', 'network_pkl', help='Network pickle', metavar='[PATH|URL]', type=option_types.file_type, required=True)
@click.option('--output', help='Video to write', metavar='FILE.[mp4|gif]', type=option_types.path_type, required=True)
@click.option('--seeds', help='Random seeds to walk through, such as 0,2,5-7', metavar='LIST',
              type=option_types.parse_range, required=True)
@click.option('--shuffle-seed', help='Shuffle the seeds by this random seed', metavar='INT',
              type=option_types.seed_type)
@click.option('--grid', help='Columns and rows of images', metavar='WxH',
              type=parse_grid, default='1x1', show_default=True)
@click.option('--num-keyframes', help='Seeds for each cell of the grid  [default: all, divided among the cells]', metavar='INT',
              type=option_types.Whole(1, option_types.MOST_SEEDS))
@click.option('--w-frames', help='Frames from one seed to the next', metavar='INT',
              type=option_types.Whole(1, 100_000), default=120, show_default=True)
@click.option('--fps', help='Frames per second; at most 50 in a gif', metavar='INT',
              type=option_types.Whole(1, 1000), default=60, show_default=True)
@click.option('--trunc', 'truncation_psi', help='Truncation psi', metavar='FLOAT',
              type=option_types.trunc_type, default=1, show_default=True)
@click.option('--class', 'class_idx', help='Class, for a network with labels', metavar='INT',
              type=option_types.class_type)
@click.option('--threads', help='CPU threads of torch  [default on a CPU: all, at most 8]', metavar='INT',
              type=option_types.threads_type)
@trust_option
@trouble.tool
@torch.no_grad()
def generate_video(network_pkl, output, seeds, shuffle_seed, grid, num_keyframes, w_frames, fps, truncation_psi, class_idx,
                   threads, trust):
    """Make a video that walks through the images of seeds, and ends where it began.

    The path between seeds is a cubic spline in W; the noise inputs stay the same. With a source of images, each source image
    turns into that of the next seed. With --grid, each cell takes its share of the seeds. An .mp4 needs the package
    imageio-ffmpeg, a .gif needs no package.

    \b
    python gen_video.py --network=network-snapshot-000100.pkl --seeds=0-7 --trunc=0.7 --output=walk.mp4
    python gen_video.py --network=network-snapshot-000100.pkl --seeds=0-31 --grid=4x2 --w-frames=30 --output=walk.gif
    """
    video_utils.check_video_name(output, option='--output')
    seeds = arrange_seeds(seeds, grid, num_keyframes, shuffle_seed)
    device = runtime.pick_device()
    G = tool_utils.to_interpolate(load_generator(network_pkl, device, trust), network_pkl)
    label = tool_utils.class_label(G, class_idx, device)
    tool_utils.make_outdir(os.path.dirname(os.path.abspath(output)), option='--output')
    runtime.pin_threads(threads)
    walk = Walk(G, seeds, grid[0], w_frames, label, truncation_psi, device)
    video_utils.save_video(output, walk.render, walk.num_frames, fps, tool_utils.Steps('video', walk.num_frames, 'frames'))

#----------------------------------------------------------------------------

if __name__ == '__main__':
    generate_video()
