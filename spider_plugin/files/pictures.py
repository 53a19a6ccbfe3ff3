"""Images of strangers: what is decoded is bounded before it is made. limits.py bounds what is read.

A header of a few bytes may claim an image of any size. Pillow also opens formats that other programs decode (EPS starts
Ghostscript), so that only the FORMATS are opened."""

import io
import os
from typing import Any

import PIL.Image

from spider_plugin.files.cache import atomic_file

MOST_DECODED = 1 << 28      # bytes of an image, 89 megapixels in colour, of which decoders and copies make some six times as many

FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'PPM', 'TGA', 'TIFF', 'JPEG2000')

def open_image(data: bytes) -> PIL.Image.Image:
    """Return the image in the bytes of a file, of which only the header is read yet.

    Raises ValueError for one of too many pixels, and what Pillow raises for bytes in none of the FORMATS."""
    image = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height * _pixel_bytes(image.mode) > MOST_DECODED:
        raise ValueError(f'{image.width} x {image.height} pixels are more than {MOST_DECODED / 1e6:.0f} MB')
    return image

def _pixel_bytes(mode: str) -> int:
    """Return the bytes of a pixel once it is expanded, palettes and grey to colour, 16 bits and more to float64."""
    return 8 if mode.startswith(('I', 'F')) else max(PIL.Image.getmodebands(mode), 3)

def save_grid(path: str | os.PathLike[str], images: Any, columns: int, rows: int) -> None:
    """Write images uint8 [columns * rows, C, H, W], C of 1 or 3, as one PNG, which is there whole or not at all."""
    _, channels, height, width = images.shape
    grid = images.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    grid = grid.reshape(rows * height, columns * width, channels)
    with atomic_file(path) as temp:
        PIL.Image.fromarray(grid[:, :, 0] if channels == 1 else grid).save(temp, format='png')
