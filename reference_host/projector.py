"""Projects an image into W, which finds the w of a network pickle whose image is closest to it, and with a source of images, the
source image.

    python projector.py --network=network-snapshot-000100.pkl --target=photo.png --outdir=out

projection.py has the method.
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

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
from projection import Projection
from training import option_types, reading, runtime, trouble
from training.pictures import decode
from training.runtime import SpiderError
from training.snapshots import load_generator, trust_option

#----------------------------------------------------------------------------

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
# From options to a projection.

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

def check_gradients(G, distance, target):
    """Raise SpiderError if a distance has no gradient, as optimising w needs it."""
    img = target.clone().requires_grad_(True)
    if not distance(img).requires_grad:
        raise SpiderError('--detector: its features have no gradient; give another network, or --loss=pixel')

def save_path_video(outdir, projection, rows, path):
    """Write a video of the target beside the images of the path, proj.mp4, or proj.gif if an .mp4 cannot be written."""
    fname = os.path.join(outdir, 'proj.mp4' if video_utils.has_mp4() else 'proj.gif')
    path = path[np.linspace(0, len(path) - 1, min(len(path), VIDEO_FRAMES)).round().astype(int)] # First to last.
    target = tool_utils.to_uint8(projection.target)[0]
    def render(frame):
        return np.concatenate([target, image_of(projection, path[frame], rows)], axis=1)
    video_utils.save_video(fname, render, len(path), VIDEO_FPS, tool_utils.Steps('video', len(path), 'frames'))

@torch.no_grad()
def image_of(projection, w, rows):
    """Return the image of w [w_dim], uint8 [H, W, C], with the noise inputs that G has."""
    return tool_utils.to_uint8(projection.image(w.to(projection.label.device)[None, None], rows))[0]

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
    """Project an image into W. With a source of images, the source image is looked for as well.

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
    check_gradients(G, distance, target)
    tool_utils.make_outdir(outdir)
    runtime.pin_threads(threads)

    projection = Projection(G, distance, target, label, seed)
    rows = projection.best_rows(num_steps)
    path = projection.run(rows, num_steps)
    first, last = (projection.how_far(w, rows) for w in (path[0], path[-1]))
    print(f'Distance {first:.4g} at the mean of w, {last:.4g} at the end')
    tool_utils.save_png(tool_utils.to_uint8(target)[0], os.path.join(outdir, 'target.png'))
    tool_utils.save_png(image_of(projection, path[-1], rows), os.path.join(outdir, 'proj.png'))
    with tool_utils.written_whole(os.path.join(outdir, 'projected_w.npz')) as temp, open(temp, 'wb') as file:
        np.savez(file, w=rows.under(path[-1].to(device)[None, None]).cpu().numpy())
    if save_video:
        save_path_video(outdir, projection, rows, path)

#----------------------------------------------------------------------------

if __name__ == '__main__':
    run_projection()
