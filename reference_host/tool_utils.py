"""The common parts of the tools for trained networks: latents, pictures, files, progress."""

import contextlib
import os
import shutil
import time

import numpy as np
import PIL.Image
import torch

import dnnlib
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# From options to inputs of the network.

def class_label(G, class_idx, device):
    """Return the one-hot label [1, c_dim]. Raises SpiderError if --class does not fit the network."""
    label = torch.zeros([1, G.c_dim], device=device)
    if G.c_dim == 0:
        if class_idx is not None:
            print('--class is ignored, because the network has no labels')
    elif class_idx is None or not 0 <= class_idx < G.c_dim:
        raise SpiderError(f'--class: the network has labels; give one from 0 to {G.c_dim - 1}')
    else:
        label[0, class_idx] = 1
    return label

def seed_latents(seeds, z_dim, device):
    """Return the latents of seeds, float32 [len(seeds), z_dim], the same on every machine."""
    z = np.stack([np.random.RandomState(seed).randn(z_dim) for seed in seeds])
    return torch.from_numpy(z.astype(np.float32)).to(device)

#----------------------------------------------------------------------------
# Rows of ws after those of the layers are no styles: they say on what else an image depends. They can be kept or replaced as a
# whole, and not interpolated. What knows more about them, such as a plugin that reads the networks, puts functions here.

interpolable = None # (G, path of its pickle) -> G, whose whole ws can be interpolated.
rows_near    = None # (G, target [1, C, R, R], label, count) -> ws [<= count, num_ws, w_dim], nearest first; or None.

def num_styles(G):
    """Return the number of rows of ws that are styles; they come first."""
    return getattr(G.synthesis, 'num_ws', G.num_ws) - getattr(G.synthesis, 'class_rows', 0) # Rows of a class are no styles.

def to_interpolate(G, path):
    """Return G, whose ws can be interpolated. Raises SpiderError if its ws have rows that cannot."""
    if interpolable is not None:
        return interpolable(G, path)
    if G.num_ws > getattr(G.synthesis, 'num_ws', G.num_ws):
        raise SpiderError('--network: its images depend on more than styles, and what else cannot be interpolated without '
                          'spider-plugin; install it, or use gen_images.py')
    return G

#----------------------------------------------------------------------------
# Pictures.

def to_uint8(img):
    """Return images [N, C, H, W] in [-1, 1] as a uint8 array [N, H, W, C]."""
    return (img.permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().numpy()

def tile(images, columns):
    """Return an array [rows * columns, H, W, C] as one picture [rows * H, columns * W, C]."""
    n, height, width, channels = images.shape
    grid = images.reshape(n // columns, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(n // columns * height, columns * width, channels)

def to_image(pixels):
    """Return uint8 [H, W, C] as a PIL image, grey for one channel."""
    return PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)

def save_png(pixels, fname):
    """Write pixels uint8 [H, W, C] as a PNG."""
    with written_whole(fname) as temp:
        to_image(pixels).save(temp, format='PNG')

#----------------------------------------------------------------------------
# Files.

@contextlib.contextmanager
def written_whole(fname, option=''):
    """Yield the path of a file or folder to write, which is renamed to `fname` after the body, and removed if the body fails.

    option: begins the sentence. Raises SpiderError where the disk refuses."""
    temp = f'{fname.rstrip("/")}.{os.getpid()}.tmp'
    try:
        yield temp
        os.replace(temp, fname)
    except OSError as err:
        raise SpiderError(f'{option}{fname} cannot be written ({err.strerror or err}); free some space, or choose another name '
                          'or place') from err
    finally:
        if os.path.isdir(temp):
            shutil.rmtree(temp, ignore_errors=True)
        elif os.path.exists(temp):
            os.remove(temp)

def make_outdir(path, option='--outdir'):
    """Make a folder, and check that files can be written there. Raises SpiderError."""
    probe = os.path.join(path, f'.{os.getpid()}.tmp')
    try:
        os.makedirs(path, exist_ok=True)
        with open(probe, 'wb'):
            pass
        os.remove(probe)
    except OSError as err:
        raise SpiderError(f'{option}: {path} cannot be written ({err.strerror}); choose another folder') from err

#----------------------------------------------------------------------------

class Steps:
    """Prints the progress of a tool, its rate and the time left, every few seconds and at the end."""

    def __init__(self, tag, total, unit, seconds=5):
        self.tag = tag
        self.total = total
        self.unit = unit
        self.seconds = seconds
        self.done = 0
        self.start_time = self.print_time = time.time()

    def step(self, extra=''):
        """Count one more unit as done; `extra` ends the line."""
        self.done += 1
        now = time.time()
        if self.done < self.total and now - self.print_time < self.seconds:
            return
        self.print_time = now
        elapsed = max(now - self.start_time, 1e-6)
        eta = dnnlib.util.format_time(elapsed / self.done * (self.total - self.done))
        print(f'{self.tag:<12s} {self.done}/{self.total} {self.unit}   {self.done / elapsed:.1f} {self.unit}/s   ETA {eta}   '
              f'time {dnnlib.util.format_time(elapsed)}{extra and "   " + extra}', flush=True)

#----------------------------------------------------------------------------
