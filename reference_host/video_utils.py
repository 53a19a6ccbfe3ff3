"""Videos of rendered frames, as .mp4 if imageio-ffmpeg is installed, or as .gif."""

import importlib.util
import os

import numpy as np
import PIL.Image

from tool_utils import to_image, written_whole
from training.runtime import SpiderError

#----------------------------------------------------------------------------

MP4_PACKAGE     = 'imageio_ffmpeg'
GIF_MIN_SECONDS = 0.02  # Viewers show shorter frames for much longer.
PALETTE_FRAMES  = 16    # Number of frames from which the palette of a gif is made.
PALETTE_PIXELS  = 2**15 # Number of their pixels that are used.

def has_mp4():
    return importlib.util.find_spec(MP4_PACKAGE) is not None

def check_video_name(fname, option):
    """Raise SpiderError if no video of this name can be written."""
    suffix = os.path.splitext(fname)[1].lower()
    if suffix not in ('.mp4', '.gif'):
        raise SpiderError(f'{option}: {fname} is neither an .mp4 nor a .gif; give a name with one of these endings')
    if os.path.isdir(fname):
        raise SpiderError(f'{option}: {fname} is a folder; give the name of a file')
    if suffix == '.mp4' and not has_mp4():
        raise SpiderError(f'{option}: an .mp4 needs imageio-ffmpeg (pip install "spider-plugin[video]", or pip install '
                          'imageio-ffmpeg); install it, or give a name that ends in .gif')

def save_video(fname, render, num_frames, fps, progress):
    """Write frames 0 to num_frames - 1 as a video, which appears complete or not at all.

    fname:      file name; its ending, .mp4 or .gif, is the format. A gif loops.
    render:     function of a frame's number that returns uint8 [H, W, C], C = 1 or 3. It may be called twice for a frame.
    fps:        frames per second; a gif is limited to 50 and rounds a frame's duration to hundredths of a second.
    progress:   tool_utils.Steps, told about each frame."""
    save = save_mp4 if fname.lower().endswith('.mp4') else save_gif
    def frames():
        for i in range(num_frames):
            yield render(i)
            progress.step()
    with written_whole(fname) as temp:
        save(temp, frames(), fps, sample=lambda: [render(i) for i in range(0, num_frames, -(-num_frames // PALETTE_FRAMES))])

#----------------------------------------------------------------------------

def save_mp4(fname, frames, fps, sample):
    """Write H.264 of good quality, in the colour format that every player supports."""
    import imageio_ffmpeg  # It is optional.
    writer = None
    try:
        for pixels in frames:
            if writer is None:
                height, width, channels = pixels.shape
                writer = imageio_ffmpeg.write_frames(
                    fname, (width, height), pix_fmt_in=('gray' if channels == 1 else 'rgb24'), fps=fps, codec='libx264',
                    quality=7, macro_block_size=2, ffmpeg_log_level='error', output_params=['-f', 'mp4'])
                writer.send(None)
            writer.send(np.ascontiguousarray(pixels))
    finally:
        if writer is not None:
            writer.close()

def save_gif(fname, frames, fps, sample):
    """Write a gif with error diffusion and one palette for all frames, so that colours do not flicker."""
    palette = common_palette(sample())
    pictures = (picture if palette is None else picture.quantize(palette=palette, dither=PIL.Image.Dither.FLOYDSTEINBERG)
                for picture in map(to_image, frames))
    duration = max(round(100 / fps), round(100 * GIF_MIN_SECONDS)) * 10 # In milliseconds.
    next(pictures).save(fname, format='GIF', save_all=True, append_images=pictures, duration=duration, loop=0)

def common_palette(samples):
    """Return a picture with the 256 colours that fit the frames [H, W, C] best; None for grey frames, which need none."""
    if samples[0].shape[2] == 1:
        return None
    pixels = np.concatenate([frame.reshape(-1, 3) for frame in samples])
    pixels = pixels[::-(-len(pixels) // PALETTE_PIXELS)]
    return PIL.Image.fromarray(pixels[None]).quantize(256, method=PIL.Image.Quantize.MEDIANCUT, kmeans=1)

#----------------------------------------------------------------------------
