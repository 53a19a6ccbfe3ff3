"""From the bytes of a picture file to pixels of 8 bits, grey or RGB, by one rule for each kind of picture. docs/pictures.md
has the table.

The content decides about the format, and the name about nothing. What is decoded is bounded before it is made: a header of a few
bytes may claim an image of any size. Pillow also opens formats that other programs decode (EPS starts Ghostscript), so that
only the FORMATS are opened.

This file is the same in the plugin, in files/pictures/, and in the reference host, in training/pictures/, which runs without the
plugin; a test compares the bytes."""

import collections
import contextlib
import functools
import importlib.util
import io
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageCms

try:
    import pyspng
except ImportError:     # Pillow reads everything, only slower
    pyspng = None

VERSION      = 1            # of the rules, for what is kept in caches
MOST_DECODED = 1 << 28      # bytes of an image, 89 megapixels in colour, of which decoders and copies make some six times as many
_RUNS, _SLOW = (1, 2), 8     # BMPs of run lengths may have an eighth: Pillow takes 8 s for 89 megapixels, from a file of 37 KB
FORMATS      = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'PPM', 'TGA', 'TIFF', 'JPEG2000')

# Notes about a picture of which a rule changes more than the encoding, in the order in which they are told.
TURNED, DEEP, ALPHA, PROFILE, SPACE, FRAMES, BAD_PROFILE = NOTES = (
    'turned upright by EXIF', 'of 16 bits (their high bytes)', 'with transparency (now white)',
    'of another colour profile (now sRGB)', 'in CMYK, YCbCr or LAB', 'with several frames (the first one)',
    'with a colour profile that cannot be used (left out)')

class Picture(NamedTuple):
    """A decoded picture: uint8 [H, W] or [H, W, 3], the name of its format, and those of NOTES that apply."""

    pixels: np.ndarray
    format: str
    notes:  tuple[str, ...] = ()

#----------------------------------------------------------------------------
# Formats, by the first bytes of a file.

HEIF_PACKAGE = 'install pillow-heif, for example by pip install "spider-plugin[heif]"'
_HEIF = {b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1', b'mif2'}      # brands
_AVIF = {b'avif', b'avis'}

def kind_of(head: bytes) -> str | None:
    """Return the format that a file of these first bytes (64 are enough) says it has, 'HEIF' and 'AVIF' among them, or None.

    TGA says nothing at its beginning."""
    if head[4:8] == b'ftyp':
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(int.from_bytes(head[:4], 'big'), len(head)), 4))}
        return 'AVIF' if brands & _AVIF else 'HEIF' if brands & _HEIF else None
    for format, beginnings in {
            'PNG': (b'\x89PNG\r\n\x1a\n',), 'JPEG': (b'\xff\xd8\xff',), 'GIF': (b'GIF87a', b'GIF89a'),
            'TIFF': (b'II*\0', b'MM\0*'), 'JPEG2000': (b'\0\0\0\x0cjP  \r\n\x87\n', b'\xff\x4f\xff\x51')}.items():
        if head.startswith(beginnings):
            return format
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return 'WEBP'
    if head[:1] == b'P' and head[1:2] in b'123456' and head[2:3].isspace():
        return 'PPM'
    return 'BMP' if head[:2] == b'BM' and head[6:10] == bytes(4) else None

@functools.cache
def lacks(kind: str | None) -> str | None:
    """Return what must be installed to read a format of kind_of(), or None where nothing is missing."""
    if kind == 'HEIF' and importlib.util.find_spec('pillow_heif') is None:
        return HEIF_PACKAGE
    if kind == 'AVIF' and not getattr(_plugin('PIL.AvifImagePlugin'), 'SUPPORTED', False):
        return 'install Pillow 11.3 or a newer one'
    return None

def _plugin(module: str) -> Any:
    return importlib.import_module(module) if importlib.util.find_spec(module) else None

@functools.cache
def _prepare(kind: str | None) -> tuple[str, ...]:
    """Return the formats to try for a file of kind_of(), after a look for the package that reads it. Raises ValueError."""
    if kind not in ('HEIF', 'AVIF'):
        return FORMATS
    if needed := lacks(kind):
        raise ValueError(f'it is {"HEIC" if kind == "HEIF" else "AVIF"}, which cannot be read here: {needed}')
    if kind == 'HEIF':
        importlib.import_module('pillow_heif').register_heif_opener()
    return (kind,)

#----------------------------------------------------------------------------
# Headers.

def open_image(data: bytes, most: int | None = None) -> PIL.Image.Image:
    """Return the image in the bytes of a file, of which only the header is read yet.

    most:   most bytes that its pixels may take, grey and palettes expanded to colour; MOST_DECODED by default.
    Raises ValueError for one of more, for a format that needs a package which is not there, and for pixels whose scale is not
    known; for bytes in none of the FORMATS; and what Pillow raises for damaged ones."""
    if kind_of(data[:64]) == 'PNG':
        collections.deque(_chunks(data), maxlen=0)
    try:
        image = PIL.Image.open(io.BytesIO(data), formats=_prepare(kind_of(data[:64])))
    except PIL.UnidentifiedImageError:      # whose message has the address of an object
        raise ValueError('it is no picture of a format that is read here' if data else 'it is empty') from None
    most = (MOST_DECODED if most is None else most) // (_SLOW if image.info.get('compression') in _RUNS else 1)
    check_size(image.width, image.height, _pixel_bytes(image.mode), most)
    _check_depth(image)
    return image

def check_size(width: int, height: int, pixel_bytes: int = 3, most: int | None = None) -> None:
    """Raise ValueError where so many pixels take more than `most` bytes, MOST_DECODED by default."""
    most = MOST_DECODED if most is None else most
    if width * height * pixel_bytes > most:
        raise ValueError(f'{width} x {height} pixels are more than {most / 1e6:.0f} MB')

def read_shape(data: bytes, most: int | None = None) -> tuple[int, int, int]:
    """Return (width, height, channels) of the picture in the bytes of a file, by its header, as decode() would give it.

    Raises as open_image() does."""
    if (size := plain_png(data)) is not None:
        check_size(*size, most=most)
        return *size, 1 if data[25] == 0 else 3
    image = open_image(data, most)
    width, height = image.size
    if kind_of(data[:64]) != 'PNG' and _orientation(image) > 4:    # of a PNG it may follow the pixels
        width, height = height, width
    return width, height, 1 if is_grey(image) else 3

def is_moved(data: bytes) -> bool:
    """Return whether EXIF turns the picture in the bytes of a file, or a profile changes its colours. What cannot be read: False.
    Digests of sets hold it, because other readers leave such pixels as they are."""
    if plain_png(data) is not None:
        return False
    with contextlib.suppress(Exception):    # of any type, for damaged files
        image = open_image(data)
        profile = image.info.get('icc_profile')
        if _orientation(image) != 1:
            return True
        mode = 'RGB' if image.mode in ('P', 'RGB') else image.mode
        return bool(profile) and _to_srgb(profile, mode) is not None
    return False

def is_grey(image: PIL.Image.Image) -> bool:
    """Return whether an image is grey by its header. Palettes and grey with an alpha channel count as colour."""
    return image.mode in ('1', 'L', 'I', 'I;16', 'I;16B', 'I;16L', 'I;16N')

def plain_png(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a PNG of 8 bits, grey or RGB, which no rule changes, and None for all other files."""
    if kind_of(data[:64]) != 'PNG' or data[8:16] != b'\0\0\0\x0dIHDR' or data[24:25] != b'\x08' or \
            len(data) < 33 or data[25] not in (0, 2):
        return None
    if any(kind in (b'tRNS', b'iCCP', b'eXIf', b'acTL', b'iTXt') for kind in _chunks(data)):
        return None
    return struct.unpack_from('>II', data, 16)

def _chunks(data: bytes) -> Iterator[bytes]:
    """Yield the kinds of the chunks of a PNG. Raises ValueError for a second header, since readers differ about which counts."""
    place, headers = 8, 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, place)
        headers += kind == b'IHDR'
        if headers > 1:
            raise ValueError('it has two headers')
        yield kind
        place += length + 12

def _pixel_bytes(mode: str) -> int:
    """Return the bytes of a pixel once it is expanded, palettes and grey to colour, 16 bits and more to float64."""
    return 8 if mode.startswith(('I', 'F')) else max(PIL.Image.getmodebands(mode), 3)

def _check_depth(image: PIL.Image.Image) -> None:
    """Raise ValueError for pixels of which nobody can say which number is white."""
    bits = getattr(image, 'tag_v2', {}).get(258, (16,)) if image.format == 'TIFF' else (16,)    # BitsPerSample
    if image.mode == 'F':
        reason = 'its pixels are floating-point numbers'
    elif image.mode == 'I' and image.format not in ('PNG', 'PPM'):
        reason = 'its pixels are integers of 32 bits or with a sign'
    elif image.mode.startswith('I;16') and tuple(bits) != (16,):
        reason = f'its pixels have {bits[0]} bits'
    else:
        return
    raise ValueError(f'{reason}, whose white is not known; convert it to 8 or 16 bits')

#----------------------------------------------------------------------------
# Pixels.

def decode(data: bytes, most: int | None = None) -> Picture:
    """Return the picture in the bytes of a file by the rules of docs/pictures.md.

    most:   as for open_image().
    Raises ValueError as open_image() does, and errors of any type for damaged files."""
    size = plain_png(data)
    if size is not None and pyspng is not None:
        check_size(*size, most=most)
        pixels = pyspng.load(data)
        return Picture(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels, 'PNG')
    image, notes = to_plain(open_image(data, most))
    return Picture(np.asarray(image), image.format or '', notes)

def to_plain(image: PIL.Image.Image) -> tuple[PIL.Image.Image, tuple[str, ...]]:
    """Return what open_image() returned as an image of mode L or RGB, upright, in sRGB, without transparency; and its NOTES.

    Its `info` holds at most the profile of an image that is sRGB already."""
    notes, grey, format = set(), is_grey(image), image.format
    if getattr(image, 'is_animated', False):
        notes.add(FRAMES)
    if image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV'):
        notes.add(SPACE)
    image.load()
    orientation, profile = _orientation(image), image.info.get('icc_profile')
    if image.mode.startswith('I'):
        notes.add(DEEP)
        image = _high_bytes(image, notes)
    elif image.mode != 'LAB' and set('aA') & set(image.getbands()) or 'transparency' in image.info:
        image = (image.convert('LA') if image.mode == 'La' else image).convert('RGBA')
        if np.asarray(image)[:, :, 3].min() < 255:
            notes.add(ALPHA)
    elif image.mode not in ('L', 'RGB', 'CMYK', 'LAB'):
        image = image.convert('L' if grey else 'RGB')
    if orientation != 1:
        notes.add(TURNED)
        image = image.transpose(_UPRIGHT[orientation])
    mode = image.mode
    image = _in_srgb(image, profile, notes)
    if image.mode == 'RGBA':
        image = PIL.Image.alpha_composite(PIL.Image.new('RGBA', image.size, 'white'), image)
    if image.mode not in ('L', 'RGB'):
        image = image.convert('RGB')
    if grey and image.mode == 'RGB':
        image = image.getchannel(1)
    image.format = format
    image.info = {'icc_profile': profile} if profile and mode in ('L', 'RGB') and not notes & {PROFILE, BAD_PROFILE} else {}
    return image, tuple(note for note in NOTES if note in notes)

def _high_bytes(image: PIL.Image.Image, notes: set[str]) -> PIL.Image.Image:
    """Return 16 bits as 8, as Pillow does for colour; the value that is transparent becomes white."""
    values = np.asarray(image)
    pixels = (values >> 8).astype(np.uint8)
    clear = image.info.get('transparency')
    if isinstance(clear, int) and (values == clear).any():
        notes.add(ALPHA)
        pixels[values == clear] = 255
    return PIL.Image.fromarray(pixels)

_METHOD  = PIL.Image.Transpose
_UPRIGHT = {2: _METHOD.FLIP_LEFT_RIGHT, 3: _METHOD.ROTATE_180, 4: _METHOD.FLIP_TOP_BOTTOM, 5: _METHOD.TRANSPOSE,
            6: _METHOD.ROTATE_270, 7: _METHOD.TRANSVERSE, 8: _METHOD.ROTATE_90}

def _orientation(image: PIL.Image.Image) -> int:
    """Return the orientation of EXIF, 1 (upright) to 8; 1 too for EXIF that cannot be read."""
    with contextlib.suppress(Exception):    # of any type, on what other programs write there
        found = image.getexif().get(0x0112, 1)
        return found if found in _UPRIGHT else 1
    return 1

#----------------------------------------------------------------------------
# Colour profiles.

_SAME        = 2          # levels of 255 by which sRGB may be off before a profile counts as another one
_LARGEST     = 4 << 20    # bytes of a profile that is looked at
_BLACK_POINT: Any = 0x2000  # cmsFLAGS_BLACKPOINTCOMPENSATION of Little CMS, for which older Pillows have no name
_SPACES      = {'L': 'GRAY', 'RGB': 'RGB', 'RGBA': 'RGB', 'CMYK': 'CMYK', 'LAB': 'Lab'}

def _in_srgb(image: PIL.Image.Image, profile: bytes | None, notes: set[str]) -> PIL.Image.Image:
    if image.mode == 'LAB' or profile:
        try:
            transform = _to_srgb(profile if image.mode != 'LAB' else None, image.mode)
        except (PIL.ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):    # ImportError: Pillow without Little CMS
            if image.mode == 'LAB':
                raise
            notes.add(BAD_PROFILE)
            return image
        if transform is not None:
            if image.mode != 'LAB':
                notes.add(PROFILE)
            return transform.apply(image)
    return image

@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes | None, mode: str) -> Any:
    """Return the transform from a profile to sRGB for images of a mode; None where it would move no colour by more than _SAME
    levels, because pixels of sRGB stay as they are. None as the profile stands for that of LAB.

    Raises PyCMSError or ValueError for a profile that cannot be used, or of another colour space."""
    if profile is not None and len(profile) > _LARGEST:
        raise ValueError(f'a profile of {len(profile)} bytes')
    cms = PIL.ImageCms
    given = cms.createProfile('LAB') if profile is None else cms.ImageCmsProfile(io.BytesIO(profile))
    source = given if isinstance(given, cms.ImageCmsProfile) else cms.ImageCmsProfile(given)
    if source.profile.xcolor_space.strip() != _SPACES[mode]:
        raise ValueError(f'a profile of {source.profile.xcolor_space}')
    transform = cms.buildTransform(source, cms.createProfile('sRGB'), mode, 'RGBA' if mode == 'RGBA' else 'RGB',
                                   renderingIntent=cms.Intent.RELATIVE_COLORIMETRIC, flags=_BLACK_POINT)
    if mode in ('CMYK', 'LAB'):
        return transform
    levels = np.array([*range(0, 255, 15), 255], np.uint8)
    colours = np.stack([levels] * 3, axis=-1) if mode == 'L' else np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    colours = colours.reshape(1, -1, 3)
    probe = PIL.Image.fromarray(colours).convert(mode)
    moved = np.asarray(transform.apply(probe).convert('RGB')).astype(int)
    return transform if np.abs(moved - colours).max() > _SAME else None

#----------------------------------------------------------------------------

def tell_notes(notes: collections.Counter[str], where: object) -> str | None:
    """Return a line that counts pictures by their NOTES, None for no notes."""
    said = [f'{notes[note]} {note}' for note in NOTES if notes[note]]
    return f'Pictures in {where} that were changed: {", ".join(said)}' if said else None

def look_at(head: bytes) -> tuple[str | None, str | None]:
    """Return (format that the first bytes of a file say it has or None, what must be installed to read it or None)."""
    kind = kind_of(head)
    return kind, lacks(kind)
