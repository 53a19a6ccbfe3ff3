"""Pictures from images: grids, labelled rows, and PNG, GIF and MP4 files."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file

MOVING  = ('.gif', '.mp4', '.png')
FPS     = 25
LONGEST = 200   # bytes of a name; a temporary file beside it has a longer one

def check_name(name):
    """Raise SpiderError if no walk can be written to a file of this name."""
    suffix = Path(name).suffix.lower()
    if '/' in name or '\\' in name or not name.isprintable() or len(name.encode()) > LONGEST:
        raise SpiderError(f'--walk-out={name} is not the name of a file in --outdir; give one such as walk.gif, without a folder '
                          f'and of at most {LONGEST} bytes.')
    if suffix not in MOVING:
        raise SpiderError(f'--walk-out={name} does not end in one of {", ".join(MOVING)}; give a name that does.')
    if suffix == '.mp4' and importlib.util.find_spec('imageio_ffmpeg') is None:
        raise SpiderError(f"--walk-out={name}: an .mp4 needs imageio-ffmpeg; run pip install 'spider-plugin[video]', or give a "
                          'name that ends in .gif.')

#----------------------------------------------------------------------------
# Pixels.

def to_uint8(images):
    """Return float images [N, C, H, W] in [-1, 1] as uint8 [N, H, W, C]."""
    return (images * 127.5 + 128).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()

def tile(images):
    """Tile images uint8 [N, H, W, C] into one image with about as many rows as columns; empty cells are black."""
    n, height, width, channels = images.shape
    columns = int(np.ceil(n ** 0.5))
    rows = -(-n // columns)
    canvas = np.zeros([rows * columns, height, width, channels], np.uint8)
    canvas[:n] = images
    return canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2).reshape(rows * height, columns * width, channels)

def labelled_rows(rows, smallest=64, largest=256):
    """Draw rows [(label, [uint8 [H, W, C]])] as one colour image.

    Pictures of all sizes become squares of one size; enlarged pictures keep sharp pixels."""
    side = min(max([smallest, *(image.shape[0] for _, images in rows for image in images)]), largest)
    margin = 8 + max(int(PIL.ImageDraw.Draw(PIL.Image.new('L', (1, 1))).textlength(label)) for label, _ in rows)
    canvas = PIL.Image.new('RGB', (margin + side * max(len(images) for _, images in rows), side * len(rows)), 'white')
    for y, (label, images) in enumerate(rows):
        PIL.ImageDraw.Draw(canvas).text((4, y * side + side // 2 - 6), label, fill='black')
        for x, image in enumerate(images):
            way = PIL.Image.Resampling.NEAREST if image.shape[0] <= side else PIL.Image.Resampling.BOX
            canvas.paste(_picture(image).convert('RGB').resize((side, side), way), (margin + x * side, y * side))
    return np.asarray(canvas)

#----------------------------------------------------------------------------
# Files.

def _picture(image):
    return PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)

def save_png(path, image):
    with atomic_file(path) as temp:
        _picture(image).save(temp, format='png')
    return path

def save_frames(path, images, columns):
    """Save images uint8 [H, W, C] as a gif or mp4, or as a png with `columns` images to a row. Return the path."""
    with atomic_file(path) as temp:
        _SAVE[path.suffix.lower()](temp, iter(images), columns)
    return path

def _save_gif(temp, images, _columns):
    first, *rest = [_picture(image) for image in images]
    first.save(temp, format='gif', save_all=True, append_images=rest, duration=1000 // FPS, loop=0)

def _save_mp4(temp, images, _columns):
    import imageio_ffmpeg
    first = next(images)
    height, width, channels = first.shape
    writer = imageio_ffmpeg.write_frames(str(temp), (width, height), pix_fmt_in='gray' if channels == 1 else 'rgb24', fps=FPS,
                                         quality=8, macro_block_size=2, ffmpeg_log_level='error')
    writer.send(None)
    try:
        for image in itertools.chain([first], images):
            writer.send(np.ascontiguousarray(image))
    finally:
        writer.close()

def _save_rows(temp, images, columns):
    images = np.stack(list(images))
    rows = images.reshape(-1, columns, *images.shape[1:])
    _picture(rows.swapaxes(1, 2).reshape(rows.shape[0] * rows.shape[2], -1, rows.shape[4])).save(temp, format='png')

_SAVE = {'.gif': _save_gif, '.mp4': _save_mp4, '.png': _save_rows}

#----------------------------------------------------------------------------
