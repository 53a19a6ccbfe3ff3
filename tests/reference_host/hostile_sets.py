"""Hostile and broken datasets: `CASES` is {name: function that returns the bytes of a zip}. fuzz/dataset_reader.py found some."""

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import PIL.Image

NAME   = 'a.png'
ESCAPE = '\x1b]0;owned\x07\nTick 1 ok\u202e.png'

def image(format='png', side=8, mode='RGB'):
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.zeros([side, side, 3], dtype=np.uint8)).convert(mode).save(buffer, format=format)
    return buffer.getvalue()

def zipped(**members):
    return of({f'{name}.png': content for name, content in members.items()})

def of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()

def labelled(text):
    return of({NAME: image(), 'dataset.json': text})

def label(value):
    return labelled(json.dumps(dict(labels=[[NAME, value]])))

def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

def png(*sizes):
    """A PNG with a header for each size, and no pixels."""
    headers = [chunk(b'IHDR', struct.pack('>IIBBBBB', *size, 8, 2, 0, 0, 0)) for size in sizes]
    return b'\x89PNG\r\n\x1a\n' + b''.join(headers) + chunk(b'IDAT', zlib.compress(bytes(100))) + chunk(b'IEND', b'')

def run_lengths(side):
    """A BMP of run lengths in which each row ends after one pixel; Pillow fills the others one by one."""
    body = b'\1\1\0\0' * side
    header = struct.pack('<IIiHHIIiiII', 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b'BM' + struct.pack('<IHHI', 1078 + len(body), 0, 0, 1078) + header + bytes(1024) + body

def claims(size):
    """A zip whose directory says that its member has this size."""
    data = bytearray(zipped(a=image()))
    struct.pack_into('<I', data, data.index(b'PK\x01\x02') + 24, size)
    return bytes(data)

def wrong_checksum(name):
    data = bytearray(of({NAME: image(), 'dataset.json': b'{"labels": null}'}))
    place = data.rindex(name.encode(), 0, data.index(b'PK\x01\x02')) + len(name)
    data[place + 4] ^= 255
    return bytes(data)

CASES = {
    'BMP of run lengths, slow to decode':       lambda: zipped(a=run_lengths(4096)),
    'dataset.json with a wrong checksum':       lambda: wrong_checksum('dataset.json'),
    'image with a wrong checksum':              lambda: wrong_checksum(NAME),
    'dataset.json nested without end':          lambda: labelled('[' * 100_000),
    'labels nested without end':                lambda: labelled('{"labels": ' + '[' * 100_000 + ']' * 100_000 + '}'),
    'dataset.json larger than labels need':     lambda: labelled(' ' * (2 << 20) + '{}'),
    'class beyond any exact number':            lambda: label(1 << 53),
    'vector of too many numbers':               lambda: label([0] * ((1 << 16) + 1)),
    'two labels for one image':                 lambda: labelled(json.dumps(dict(labels=[[NAME, 0], [NAME, 1]]))),
    'class beyond any integer':                 lambda: label(10 ** 30),
    'class that is NaN':                        lambda: label(float('nan')),
    'vector with NaN':                          lambda: label([1.0, float('nan')]),
    'vector with infinity':                     lambda: label([1.0, float('inf')]),
    'vector beyond float32':                    lambda: label([1e300]),
    'empty vector':                             lambda: label([]),
    'matrix':                                   lambda: label([[1]]),
    'text':                                     lambda: label('x'),
    'labels of two lengths':                    lambda: of({'a.png': image(), 'b.png': image(), 'dataset.json': json.dumps(
                                                    dict(labels=[['a.png', [1]], ['b.png', [1, 2]]]))}),
    'image beyond memory':                      lambda: zipped(a=png((8192, 8192))),
    'image of two sizes':                       lambda: zipped(a=png((8, 8), (1 << 20, 1 << 20))),
    'image of two sizes, the large one first':  lambda: zipped(a=png((1 << 14, 1 << 14), (8, 8))),
    'PostScript':                               lambda: zipped(a=image('eps')),
    'PDF':                                      lambda: zipped(a=image('pdf')),
    'a directory that claims too much':         lambda: claims(1 << 31),
    'no zip':                                   lambda: b'PK\x05\x06' + bytes(18) + b'x' * 100,
    'half a zip':                               lambda: zipped(a=image())[: -30],
    'a name of no letters':                     lambda: of({'': image()}),
    'a name that steers a terminal':            lambda: of({ESCAPE: b'no image'}),
}
