"""What a run leaves behind: image grids and network pickles."""

import copy
import itertools
import os
import pickle
import sys

import click
import numpy as np
import PIL.Image
import torch

import dnnlib
import legacy
from torch_utils import misc
from training import files
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Image grids.

GRID_PIXELS = (1024, 512)   # Aim for grids of this width and height,
GRID_MIN = (4, 4)           # with at least and
GRID_MAX = (16, 8)          # at most this many images per row and column.

def setup_snapshot_image_grid(training_set, random_seed=0):
    """Picks training images for a grid: ((columns, rows), images uint8 [n, C, H, W], labels float32 [n, c_dim]).

    With class labels every row shows one class."""
    columns, rows = [int(np.clip(pixels // training_set.resolution, low, high))
                     for pixels, low, high in zip(GRID_PIXELS, GRID_MIN, GRID_MAX, strict=True)]
    order = np.random.RandomState(random_seed).permutation(len(training_set))
    if training_set.has_labels and training_set.has_onehot_labels:
        picked = pick_by_class(training_set, order, columns, rows)
    else:
        picked = [order[i % len(order)] for i in range(columns * rows)]
    images, labels = zip(*[training_set[idx] for idx in picked], strict=True)
    return (columns, rows), np.stack(images), np.stack(labels)

def pick_by_class(training_set, order, columns, rows):
    """Indices for a grid whose rows walk through the classes again and again; a small class repeats its images."""
    members = {}
    for idx in order:
        members.setdefault(int(training_set.get_label(idx).argmax()), []).append(idx)
    queues = [itertools.cycle(members[label]) for label in sorted(members)]
    return [next(queues[row % len(queues)]) for row in range(rows) for _column in range(columns)]

def save_image_grid(img, fname, drange, grid_size):
    """Saves images [columns * rows, C, H, W] of the value range `drange` as one PNG."""
    low, high = drange
    columns, rows = grid_size
    img = np.asarray(img, dtype=np.float32)
    img = np.rint((img - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    _n, channels, height, width = img.shape
    img = img.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    img = img.reshape(rows * height, columns * width, channels)
    picture = PIL.Image.fromarray(img[:, :, 0] if channels == 1 else img)
    files.write_whole(fname, lambda f: picture.save(f, format='PNG'))

class SampleGrid:
    """Fixed latents and labels, rendered again and again as the generator learns."""

    def __init__(self, grid_size, labels, z_dim, batch, device, random_seed=0):
        generator = torch.Generator().manual_seed(random_seed)
        z = torch.randn([len(labels), z_dim], generator=generator)
        self.grid_size = grid_size
        self.z = z.to(device).split(batch)
        self.c = torch.from_numpy(labels).to(device).split(batch)

    @torch.no_grad()
    def save(self, G, fname):
        images = [G(z=z, c=c, noise_mode='const').float().cpu() for z, c in zip(self.z, self.c, strict=True)]
        save_image_grid(torch.cat(images).numpy(), fname, drange=[-1, 1], grid_size=self.grid_size)

#----------------------------------------------------------------------------
# Network pickles.

def digits(snapshot):
    """'.../network-snapshot-000010.pkl' -> '000010'."""
    return os.path.basename(snapshot)[len('network-snapshot-') : -len('.pkl')]

def snapshot_data(training_set_kwargs, **networks):
    """The contents of a network pickle: CPU copies of the networks for inference, and the options of the dataset."""
    data = {name: module if module is None else copy.deepcopy(module).eval().requires_grad_(False).cpu()
            for name, module in networks.items()}
    return dict(data, training_set_kwargs=dict(training_set_kwargs))

# Unpickling runs the code that a file carries. A reader that runs nothing may be put here: an object with the functions
# read_networks(path), read_training_set(path) and load_generator(path), as load_networks() and so on below return them.

reader = None

trust_option = click.option('--trust-pickle', 'trust', is_flag=True,
                            help='Unpickle the network, which runs code that the file carries')

def read(url, option, function, stock, trust=False):
    """The result of the reader's function for a path or URL; stock(contents of the pickle) without a reader and with `trust`.

    Raises SpiderError, which names the option it came from."""
    shown = dnnlib.util.without_login(url)
    try:
        path = dnnlib.util.open_url(url, return_filename=True)
        if not os.path.isfile(path): # A pipe would be waited for.
            raise SpiderError(f'{path} does not exist, or is no file; give a network-snapshot-*.pkl or its URL')
        if reader is not None and not trust:
            return getattr(reader, function)(path)
        if not trust:
            print(f'{option}: {shown} is unpickled, which runs code that it carries', file=sys.stderr)
        files.check_checksum(path)
        with open(path, 'rb') as f:
            return stock(legacy.load_network_pkl(f))
    except Exception as err: # A foreign file can fail anywhere while it is unpickled.
        if hasattr(err, 'message'):
            raise SpiderError(f'{option}: {err.message}') from err
        reason = ascii((str(err).replace(url, shown).strip() or type(err).__name__).splitlines()[0].rstrip('.'))[1:-1][:160]
        raise SpiderError(f'{option}: {shown} cannot be read as a network pickle ({reason}); give a network-snapshot-*.pkl '
                          'or its URL') from err

def load_networks(url, option):
    """The networks of a network pickle at a path or URL, to copy tensors from: 'G', 'D', 'G_ema', 'augment_pipe' (or None),
    and perhaps 'told'."""
    return read(url, option, 'read_networks', lambda data: data)

def load_training_set(url, trust=False):
    """The options of the dataset that the networks of a pickle were trained on, or None."""
    return read(url, '--network', 'read_training_set', lambda data: data['training_set_kwargs'], trust)

def load_generator(network_pkl, device, trust=False):
    """G_ema of a network pickle, for inference on the device. Raises SpiderError that names --network."""
    G = read(network_pkl, '--network', 'load_generator', lambda data: data['G_ema'], trust).eval().requires_grad_(False)
    if (name := misc.not_finite(G)) is not None:
        raise SpiderError(f'--network: {name} of {network_pkl} is not finite, as training diverged; take an earlier snapshot')
    G = G.to(device)
    if device.type != 'cuda': # Networks of some hosts would take half precision everywhere.
        for module in G.modules():
            if hasattr(module, 'use_fp16'):
                module.use_fp16 = False
    return G

def save_pickle(data, fname):
    """Writes a pickle that is there whole or not at all, with a checksum."""
    def write(f):
        checked = files.Checked(f)
        pickle.dump(data, checked)
        checked.finish()
    files.write_whole(fname, write)

#----------------------------------------------------------------------------
