"""Archives and images of strangers: what is unpacked and decoded is bounded before it is made.

A small archive may unpack to any size, and a header of a few bytes may claim an image of any size. Pillow also opens formats that
other programs decode (EPS starts Ghostscript), so that only the FORMATS are opened."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import PIL.Image

MAX_FILE  = 1 << 27     # most bytes of one image, as a file and decoded: 44 megapixels in colour
_UNPACKED = 1 << 27     # bytes that the members of any archive may unpack to,
_RATIO    = 100         # and how many more for each of its own bytes
_LABELS   = 1 << 20     # bytes of any dataset.json,
_LABEL    = 1 << 15     # and how many more for each image; a vector of a thousand numbers takes 20 000

FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'PPM', 'TGA', 'TIFF', 'JPEG2000')

def most_unpacked(path: Path) -> int:
    """Return how many bytes the archive at `path` may unpack to."""
    return _UNPACKED + _RATIO * path.stat().st_size

def check_members(path: Path, sizes: Iterable[int]) -> None:
    """Raise ValueError if members of these sizes are more than the archive at `path` may unpack to."""
    if sum(sizes) > most_unpacked(path):
        raise ValueError(f'its files are more than {_RATIO} times larger than the archive')

def most_labels(num_images: int) -> int:
    """Return how many bytes the dataset.json of so many images may have."""
    return _LABELS + _LABEL * num_images

def read_bounded(stream: BinaryIO, most: int = MAX_FILE) -> bytes:
    """Return the rest of a stream. Raises ValueError if it has more than `most` bytes."""
    data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f'it is larger than {most >> 20} MiB')
    return data

def open_image(data: bytes) -> PIL.Image.Image:
    """Return the image in the bytes of a file, of which only the header is read yet.

    Raises ValueError for one of more than MAX_FILE bytes, and what Pillow raises for bytes in none of the FORMATS."""
    image = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height * _pixel_bytes(image.mode) > MAX_FILE:
        raise ValueError(f'{image.width} x {image.height} pixels are more than {MAX_FILE >> 20} MiB')
    return image

def _pixel_bytes(mode: str) -> int:
    return 8 if mode.startswith(('I', 'F')) else PIL.Image.getmodebands(mode)
