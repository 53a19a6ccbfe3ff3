"""Images of strangers: what is decoded is bounded before it is made. limits.py bounds what is read.

A header of a few bytes may claim an image of any size. Pillow also opens formats that other programs decode (EPS starts
Ghostscript), so that only the FORMATS are opened."""

import io

import PIL.Image

_DECODED = 81_000_000   # bytes of an image, 27 megapixels in colour, of which decoders and copies make some six times as many

FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'PPM', 'TGA', 'TIFF', 'JPEG2000')

def open_image(data: bytes) -> PIL.Image.Image:
    """Return the image in the bytes of a file, of which only the header is read yet.

    Raises ValueError for one of too many pixels, and what Pillow raises for bytes in none of the FORMATS."""
    image = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height * _pixel_bytes(image.mode) > _DECODED:
        raise ValueError(f'{image.width} x {image.height} pixels are more than {_DECODED / 1e6:.0f} MB')
    return image

def _pixel_bytes(mode: str) -> int:
    """Return the bytes of a pixel once it is expanded, palettes and grey to colour, 16 bits and more to float64."""
    return 8 if mode.startswith(('I', 'F')) else max(PIL.Image.getmodebands(mode), 3)
