"""Projects an image into W, which finds the w of a network pickle whose image is closest to it.

    python projector.py --network=network-snapshot-000100.pkl --target=photo.png --outdir=out

The method is in appendix D of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), called [SG2] here.
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

import copy
import math
import os

import click
import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
import torch.nn.functional as F

import tool_utils
import video_utils
from metrics import detectors, metric_utils
from training import option_types, reading, runtime, trouble
from training.pictures import decode
from training.runtime import SpiderError
from training.snapshots import load_generator, trust_option

#----------------------------------------------------------------------------
# Constants of [SG2], appendix D; times are fractions of the number of steps.

W_SAMPLES       = 10000 # Latents from which the mean and the spread of w are estimated.
LEARNING_RATE   = 0.1   # Highest learning rate.
RAMP_UP         = 0.05  # Time in which it rises from zero.
RAMP_DOWN       = 0.25  # Time in which it falls to zero at the end.
W_NOISE         = 0.05  # Noise added to w at the start, in units of its spread.
W_NOISE_END     = 0.75  # Time at which that noise has fallen to zero.
NOISE_WEIGHT    = 1e5   # Weight of the regularisation of the noise inputs.
FEATURE_PIXELS  = 256   # Larger images are reduced to this before their features are compared.

VIDEO_FRAMES    = 200   # Most frames in the video of a projection.
VIDEO_FPS       = 20    # Its frames per second.

#----------------------------------------------------------------------------
# Distances. Each takes the target [1, C, H, W] in [-1, 1] and returns a function of an image of that kind.

def feature_distance(target, detector):
    """Return the squared distance of a network's features, which is LPIPS (Zhang et al. 2018) if the network has its features."""
    def features(img):
        img = img * 127.5 + 127.5
        if img.shape[2] > FEATURE_PIXELS:
            img = F.interpolate(img, size=[FEATURE_PIXELS] * 2, mode='area')
        return metric_utils.run_detector(detector, img, dict(resize_images=False, return_lpips=True, return_features=True))
    with torch.no_grad():
        wanted = features(target)
    return lambda img: (features(img) - wanted).square().sum()

def pixel_distance(target):
    """Return the sum of mean squared differences at full size, at half, at a quarter, ..., down to at least four pixels."""
    def distance(img):
        difference, total = img - target, 0
        while True:
            total = total + difference.square().mean()
            if min(difference.shape[2:]) < 8:
                return total
            difference = F.avg_pool2d(difference, 2)
    return distance

#----------------------------------------------------------------------------
# Parts of the method.

@torch.no_grad()
def w_statistics(G, label, random, batch=100):
    """Return the mean of w [1, 1, w_dim] and its spread, the root of the mean squared distance from the mean."""
    ws = []
    for _ in range(W_SAMPLES // batch):
        z = torch.from_numpy(random.randn(batch, G.z_dim).astype(np.float32)).to(label.device)
        ws.append(G.mapping(z, label.expand(batch, -1))[:, :1].float())
    ws = torch.cat(ws)
    mean = ws.mean(dim=0, keepdim=True)
    return mean, float((ws - mean).square().sum(dim=2).mean().sqrt())

def learning_rate(t):
    """Return the learning rate at time t in [0, 1), with a linear ramp up and a cosine ramp down."""
    up = min(t / RAMP_UP, 1)
    down = 0.5 - 0.5 * math.cos(math.pi * min((1 - t) / RAMP_DOWN, 1))
    return LEARNING_RATE * up * down

def w_noise_scale(t):
    """Return the standard deviation of the noise on w at time t, in units of the spread of w."""
    return W_NOISE * max(1 - t / W_NOISE_END, 0) ** 2

def noise_regularisation(maps):
    """Return the sum of the squared correlations of noise maps [H, W] with themselves, shifted by one pixel along each axis, at
    every size down to eight pixels; 0 for no maps.

    Without this term, the noise maps would reproduce the target."""
    total = 0
    for noise in maps:
        while True:
            total = total + sum((noise * noise.roll(1, dims=axis)).mean().square() for axis in (0, 1))
            if noise.shape[0] <= 8:
                break
            noise = F.avg_pool2d(noise[None, None], 2)[0, 0] * 2 # Twice the mean of four pixels keeps unit variance.
    return total

@torch.no_grad()
def normalise(maps):
    """Normalise noise maps to zero mean and unit variance, in place."""
    for noise in maps:
        noise.sub_(noise.mean())
        noise.mul_(noise.square().mean().rsqrt())

#----------------------------------------------------------------------------

def project(G, distance, label, num_steps, seed):
    """Return the path of w from its mean to the projection, float32 [num_steps + 1, w_dim], on the CPU.

    G:          generator; noise inputs, which StyleGAN3 does not have, are also optimised, on a copy.
    distance:   function of an image [1, C, H, W] that returns a scalar.
    label:      one-hot label [1, c_dim].
    seed:       seed of all random numbers, which are drawn on the CPU; on a CPU a projection repeats to the last bit."""
    random = np.random.RandomState(seed)
    w_mean, w_spread = w_statistics(G, label, random)
    def randn(shape):
        return torch.from_numpy(random.randn(*shape).astype(np.float32)).to(label.device)

    G = copy.deepcopy(G)
    maps = [buffer for name, buffer in G.synthesis.named_buffers() if name.rpartition('.')[2] == 'noise_const']
    for noise in maps:
        noise.copy_(randn(noise.shape))
        noise.requires_grad_(True)
    w = w_mean.clone().requires_grad_(True)
    opt = torch.optim.Adam([w, *maps], betas=(0.9, 0.999))
    progress = tool_utils.Steps('projection', num_steps, 'steps')
    path = [w_mean.flatten().cpu()]
    for step in range(num_steps):
        t = step / num_steps
        opt.param_groups[0]['lr'] = learning_rate(t)
        ws = (w + randn(w.shape) * (w_spread * w_noise_scale(t))).expand(-1, G.num_ws, -1)
        dist = distance(G.synthesis(ws, noise_mode='const'))
        loss = dist + noise_regularisation(maps) * NOISE_WEIGHT
        opt.zero_grad()
        loss.backward()
        opt.step()
        normalise(maps)
        path.append(w.detach().flatten().cpu())
        progress.step(f'distance {dist.item():.4g}')
    return torch.stack(path)

#----------------------------------------------------------------------------
# From options to the arguments of project().

def load_target(fname, G, device):
    """Return an image file as [1, C, R, R] in [-1, 1], cropped to its middle square. Raises SpiderError."""
    try:
        image, notes = decode.to_plain(decode.open_image(reading.read_file(fname, reading.MOST_IMAGE)))
        image = image.convert('L' if G.img_channels == 1 else 'RGB')
    except Exception as err: # Damaged files and files of other kinds cause errors of many types.
        reason = 'no such file' if isinstance(err, FileNotFoundError) else reading.reason_of(err)
        raise SpiderError(f'--target: {fname} cannot be read as an image ({reason}); give a PNG or a JPEG') from err
    if notes:
        print(f'Target {", ".join(notes)}')
    size, side = image.size, min(image.size)
    image = PIL.ImageOps.fit(image, [G.img_resolution] * 2, PIL.Image.Resampling.LANCZOS)
    if size != image.size:
        cropped = f' cropped to the {side}x{side} in its middle and' if size[0] != size[1] else ''
        print(f'Target of {size[0]}x{size[1]}:{cropped} resized to {G.img_resolution}x{G.img_resolution}')
    pixels = np.array(image).reshape(1, G.img_resolution, G.img_resolution, G.img_channels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device, torch.float32) / 127.5 - 1

def pick_distance(loss, detector, target):
    """Return the distance that the options choose. Raises SpiderError."""
    if loss == 'pixel':
        if detector is not None:
            raise SpiderError('--detector has no effect on --loss=pixel; leave one of them out')
        return pixel_distance(target)
    try:
        detectors.say_that_it_is_code(detector or 'vgg16')
        return feature_distance(target, metric_utils.get_feature_detector(detector or 'vgg16', device=target.device))
    except SpiderError as err:
        reason = err.message.split('; give', 1)[0]
        raise SpiderError(f'{reason}; give another --detector=FILE.pt, or --loss=pixel, which needs none') from err

def check_gradients(G, distance, device):
    """Raise SpiderError if w cannot be optimised."""
    w = torch.zeros([1, G.num_ws, G.w_dim], device=device, requires_grad=True)
    img = G.synthesis(w, noise_mode='const')
    if not img.requires_grad:
        raise SpiderError('--network: its images do not depend on w, so there is nothing to project; give another network')
    if not distance(img).requires_grad:
        raise SpiderError('--detector: its features have no gradient; give another network, or --loss=pixel')

def save_path_video(outdir, G, path, target):
    """Write a video of the target beside the images of the path, proj.mp4, or proj.gif if an .mp4 cannot be written."""
    fname = os.path.join(outdir, 'proj.mp4' if video_utils.has_mp4() else 'proj.gif')
    path = path[np.linspace(0, len(path) - 1, min(len(path), VIDEO_FRAMES)).round().astype(int)] # First to last.
    def render(frame):
        return np.concatenate([tool_utils.to_uint8(target)[0], image_of(G, path[frame], target.device)], axis=1)
    video_utils.save_video(fname, render, len(path), VIDEO_FPS, tool_utils.Steps('video', len(path), 'frames'))

@torch.no_grad()
def image_of(G, w, device):
    """Return the image of w, uint8 [H, W, C], with the noise inputs that G has."""
    return tool_utils.to_uint8(G.synthesis(w.to(device).expand(1, G.num_ws, -1), noise_mode='const'))[0]

#----------------------------------------------------------------------------

@click.command(context_settings=dict(max_content_width=120))
@click.option('--network', 'network_pkl', help='Network pickle', metavar='[PATH|URL]', type=option_types.file_type, required=True)
@click.option('--target', 'target_fname', help='Image to project', metavar='FILE', type=option_types.path_type, required=True)
@click.option('--num-steps', help='Optimisation steps', metavar='INT',
              type=option_types.Whole(1, 1_000_000), default=1000, show_default=True)
@click.option('--loss', help='Distance to minimise', type=click.Choice(['features', 'pixel']), default='features',
              show_default=True)
@click.option('--detector', help='Feature network; a TorchScript file is code that will run  [default: the VGG16 of LPIPS]',
              metavar='[FILE.pt|URL]', type=option_types.file_type)
@click.option('--class', 'class_idx', help='Class, for a network with labels', metavar='INT',
              type=option_types.class_type)
@click.option('--seed', help='Random seed', metavar='INT', type=option_types.seed_type, default=303,
              show_default=True)
@click.option('--save-video', help='Video of the steps', metavar='BOOL', type=bool, default=True, show_default=True)
@click.option('--outdir', help='Folder to put the results into', metavar='DIR', type=option_types.path_type, required=True)
@click.option('--threads', help='CPU threads of torch  [default on a CPU: all, at most 8]', metavar='INT',
              type=option_types.threads_type)
@trust_option
@trouble.tool
def run_projection(network_pkl, target_fname, num_steps, loss, detector, class_idx, seed, save_video, outdir, threads, trust):
    """Project an image into W.

    Writes to outdir: target.png, proj.png, projected_w.npz (for gen_images.py --projected-w), and proj.mp4, or proj.gif if
    imageio-ffmpeg is not installed.

    \b
    python projector.py --network=network-snapshot-000100.pkl --target=photo.png --outdir=out
    python projector.py --network=network-snapshot-000100.pkl --target=photo.png --loss=pixel --outdir=out
    """
    device = runtime.pick_device()
    G = load_generator(network_pkl, device, trust)
    label = tool_utils.class_label(G, class_idx, device)
    target = load_target(target_fname, G, device)
    distance = pick_distance(loss, detector, target)
    check_gradients(G, distance, device)
    tool_utils.make_outdir(outdir)
    runtime.pin_threads(threads)

    path = project(G, distance, label, num_steps, seed)
    tool_utils.save_png(tool_utils.to_uint8(target)[0], os.path.join(outdir, 'target.png'))
    tool_utils.save_png(image_of(G, path[-1], device), os.path.join(outdir, 'proj.png'))
    with tool_utils.written_whole(os.path.join(outdir, 'projected_w.npz')) as temp, open(temp, 'wb') as file:
        np.savez(file, w=path[-1].expand(1, G.num_ws, -1).numpy())
    if save_video:
        save_path_video(outdir, G, path, target)

#----------------------------------------------------------------------------

if __name__ == '__main__':
    run_projection()
