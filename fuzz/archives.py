"""Fuzzes the converters of archives: python fuzz/archives.py [CORPUS] [-max_total_time=1800]   (needs `pip install atheris`)

The first byte says which reader of spider_plugin/sources/convert.py gets the rest, and how it is packed. The zip that comes of it
must be a dataset that can be read. SVHN is left out: scipy's reader of Matlab files crashes on changed ones, so that the digest
of its file is checked before."""

import struct

import atheris
from harness import FOLDER, fuzz

with atheris.instrument_imports(include=['spider_plugin.sources', 'zipfile', 'tarfile', 'gzip', 'PIL']):
    import PIL.Image

    from spider_plugin.files.pictures import decode
    from spider_plugin.sources import convert
    from spider_plugin.sources.dataset import ImageDataset
    PIL.Image.init()    # imports a module for each format
import numpy as np
from members import SEPARATOR, gzipped, image, images, joined, split, tarred, zipped

from spider_plugin.errors import SpiderError

decode.MOST_DECODED = 81_000_000      # more takes more memory than a target may

IMAGES  = dict(pattern=r'(^|/)(?P<label>\w*)/?[^/]*\.\w+$')
RECORDS = dict(pattern=r'\.bin$', side=4, label_bytes=2)
MADE    = FOLDER / 'made' / 'made.zip'

plain = lambda data: [data]
CASES = {   # first byte: (reader, its options, channels, rest -> files that it reads)
    b'z': ('images',  IMAGES,  3, plain),
    b'Z': ('images',  IMAGES,  3, lambda data: [zipped(split(data))]),
    b'T': ('images',  IMAGES,  1, lambda data: [tarred(split(data))]),
    b'G': ('images',  IMAGES,  3, lambda data: [gzipped(tarred(split(data)))]),
    b'r': ('records', RECORDS, 3, lambda data: [zipped(split(data))]),
    b'i': ('idx',     {},      1, lambda data: [gzipped(part) for part in (data.split(SEPARATOR) + [b''])[:2]]),
    b'I': ('idx',     {},      1, lambda data: (data.split(SEPARATOR) + [b''])[:2]),
}

#----------------------------------------------------------------------------

def read(data):
    reader, options, channels, files_of = CASES.get(data[:1], CASES[b'z'])
    paths = {}
    for name, content in zip(['first', 'second'], files_of(data[1:])):
        paths[name] = FOLDER / name
        paths[name].write_bytes(content)
    samples = convert.read(reader, paths, options, channels=channels, what='--spider-source=x')
    convert.write_zip(samples, MADE, info=dict(licence='x'), progress=Silent(), what='--spider-source=x')
    ImageDataset(MADE).image(0)

class Silent:
    def update(self, done):
        pass

def seeds():
    pixels = np.arange(60, dtype=np.uint8)
    yield b'Z' + joined(images())
    for name, content in images().items():
        yield b'Z' + joined({f'a/{name}': content, f'b/{name}': content})
    for kind in (b'T', b'G'):
        yield kind + joined({'x/1.png': image(), 'y/1.jpg': image(format='jpeg'), 'y/.hidden.png': b'x'})
    yield b'z' + zipped({'x/1.png': image()}.items())
    yield b'z' + tarred({'x/1.png': image()}.items())
    yield b'z' + gzipped(tarred({'x/1.png': image()}.items()))
    yield b'r' + joined({'a.bin': bytes(range(100)), 'b.bin': bytes(50)})
    digits = struct.pack('>4I', 0x803, 3, 4, 5) + pixels.tobytes(), struct.pack('>2I', 0x801, 3) + b'\0\1\2'
    yield b'i' + SEPARATOR.join(digits)
    yield b'I' + SEPARATOR.join(map(gzipped, digits))

if __name__ == '__main__':
    fuzz(read, lambda: list(seeds()), SpiderError, 'archives.dict')
