"""Archives of the members that a byte string lists. Checksums are made to fit, so that changed bytes get past them.

A byte string lists members as NAME, a zero byte, the content, and SEPARATOR between members."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import PIL.Image

SEPARATOR = b'\n--next--\n'
PNG       = b'\x89PNG\r\n\x1a\n'

def joined(members):
    """Return the byte string that lists {name: content}."""
    return SEPARATOR.join(name.encode() + b'\0' + content for name, content in members.items())

def split(data):
    """Return [(name, content)] of the members that a byte string lists, at most 64."""
    parts = [part.partition(b'\0') for part in data.split(SEPARATOR)[:64]]
    return [(name.decode('utf-8', 'replace').replace('\0', ''), _with_checksums(content)) for name, _, content in parts]

def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name[:200]), content)
    return buffer.getvalue()

def tarred(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, content in members:
            info = tarfile.TarInfo(name[:200])
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()

def gzipped(content):
    return gzip.compress(content, 1)

def _with_checksums(content):
    """Return a PNG with the right checksum in each chunk; other contents unchanged."""
    if not content.startswith(PNG):
        return content
    chunks, position = [PNG], len(PNG)
    while len(content) >= position + 12:
        length = min(struct.unpack_from('>I', content, position)[0], len(content) - position - 12)
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        chunks += [struct.pack('>I', length), kind, data, struct.pack('>I', zlib.crc32(kind + data))]
        position += 12 + length
    return b''.join(chunks)

def image(side=8, mode='RGB', format='png', **options):
    """Return an encoded image."""
    shape = [side, side, 3] if mode == 'RGB' else [side, side]
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)).save(buffer, format=format, **options)
    return buffer.getvalue()

# Each format that Pillow writes here, as a seed.
FORMATS = ('png', 'jpeg', 'bmp', 'gif', 'ppm', 'tga', 'tiff', 'webp', 'ico', 'pcx', 'sgi', 'dds', 'im', 'icns', 'jpeg2000')

def images():
    """Return {name: encoded image} of all formats."""
    found = {}
    for name in FORMATS:
        try:
            found[f'{name}.{dict(jpeg="jpg", jpeg2000="jp2").get(name, name)}'] = image(32 if name in ('ico', 'icns') else 8,
                                                                                         format=name)
        except (OSError, KeyError, ValueError):     # this Pillow was built without it
            continue
    return found
