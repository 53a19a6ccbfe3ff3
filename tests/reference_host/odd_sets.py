"""Odd pictures and odd labels, as people have them. PICTURES is {name: (file name, function that returns the bytes)}, LABELS
{name: (names of pictures, labels in dataset.json, what each picture must get)}; None stands for a refusal by all readers."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms

SIDE = 16

def noise(seed=0, side=SIDE):
    """Smooth colours, of which encoders with losses keep the most."""
    coarse = np.random.RandomState(seed).randint(0, 256, [4, 4, 3]).astype(np.uint8)
    return PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)

def encoded(image, format='png', **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()

def deep(scale=1.0, dtype=np.uint16, white=65535):
    """A grey ramp in which no two pixels are equal."""
    return PIL.Image.fromarray((np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE) * white * scale).astype(dtype))

def turned(orientation, format='jpeg'):
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    return encoded(noise(), format, exif=exif)

def clear(mode, alpha=0):
    """Colours of which the left half is transparent."""
    image = noise().convert(mode)
    mask = np.full([SIDE, SIDE], 255, np.uint8)
    mask[:, : SIDE // 2] = alpha
    image.putalpha(PIL.Image.fromarray(mask))
    return image

def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

def png(bits, colour, rows, *chunks):
    """A PNG of raw rows, for kinds that Pillow does not write."""
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', SIDE, SIDE, bits, colour, 0, 0, 0))
    data = chunk(b'IDAT', zlib.compress(b''.join(b'\0' + bytes(row) for row in rows)))
    return b'\x89PNG\r\n\x1a\n' + header + b''.join(chunk(*item) for item in chunks) + data + chunk(b'IEND', b'')

def rows16(channels, scale=1.0):
    values = (np.random.RandomState(0).rand(SIDE, SIDE * channels) * 65535 * scale).astype('>u2')
    return [row.tobytes() for row in values]

def profile(name='sRGB'):
    """A colour profile: sRGB as it is, or with its red and blue exchanged, which moves every colour."""
    data = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()
    return data if name == 'sRGB' else data.replace(b'rXYZ', b'zXYZ').replace(b'bXYZ', b'rXYZ').replace(b'zXYZ', b'bXYZ')

def frames(format, **options):
    return encoded(noise(), format, save_all=True, append_images=[noise(1), noise(2)], **options)

def late_exif():
    """A PNG whose EXIF follows the pixels."""
    data, exif = encoded(noise()), PIL.Image.Exif()
    exif[0x112] = 6
    return data[:-12] + chunk(b'eXIf', exif.tobytes()[6:]) + data[-12:]

def damaged_exif():
    data = encoded(noise(), 'jpeg')
    return data[:2] + b'\xff\xe1' + struct.pack('>H', 40) + b'Exif\0\0' + b'\xff' * 32 + data[2:]

PICTURES = {
    'PNG':                      ('a.png', lambda: encoded(noise())),
    'grey PNG':                 ('a.png', lambda: encoded(noise().convert('L'))),
    'PNG of one bit':           ('a.png', lambda: encoded(noise().convert('1'))),
    'PNG of two bits':          ('a.png', lambda: png(2, 0, [bytes(range(4))] * SIDE)),
    'PNG with a palette':       ('a.png', lambda: encoded(noise().quantize(64))),
    'PNG with a grey palette':  ('a.png', lambda: encoded(noise().convert('L').convert('P'))),
    'interlaced PNG':           ('a.png', lambda: encoded(noise(), interlace=1)),
    'PNG with a comment':       ('a.png', lambda: png(8, 2, [range(48)] * SIDE, (b'tEXt', b'a\0b'), (b'gAMA', b'\0\0\xb1\x8f'))),
    'JPEG':                     ('a.jpg', lambda: encoded(noise(), 'jpeg', quality=90)),
    'progressive JPEG':         ('a.jpg', lambda: encoded(noise(), 'jpeg', progressive=True)),
    'grey JPEG':                ('a.jpg', lambda: encoded(noise().convert('L'), 'jpeg')),
    'WebP':                     ('a.webp', lambda: encoded(noise(), 'webp', lossless=True)),
    'BMP':                      ('a.bmp', lambda: encoded(noise(), 'bmp')),
    'GIF':                      ('a.gif', lambda: encoded(noise(), 'gif')),
    'PPM':                      ('a.ppm', lambda: encoded(noise(), 'ppm')),
    'TGA':                      ('a.tga', lambda: encoded(noise(), 'tga')),
    'TIFF':                     ('a.tif', lambda: encoded(noise(), 'tiff')),
    'TIFF with LZW':            ('a.tiff', lambda: encoded(noise(), 'tiff', compression='tiff_lzw')),
    'JPEG 2000':                ('a.jp2', lambda: encoded(noise(), 'jpeg2000')),
    'JPEG named .png':          ('a.png', lambda: encoded(noise(), 'jpeg')),
    'PNG named .jpg':           ('a.jpg', lambda: encoded(noise())),
    'WebP named .jpg':          ('a.jpg', lambda: encoded(noise(), 'webp')),
    'PNG named .heic':          ('a.heic', lambda: encoded(noise())),
    'PNG without an ending':    ('photo', lambda: encoded(noise())),
    'JPEG without an ending':   ('IMG_0001', lambda: encoded(noise(), 'jpeg')),
    'ending in capitals':       ('A.PNG', lambda: encoded(noise())),
    'name of other letters':    ('\u00e9 \u732b.png', lambda: encoded(noise())),
    '16 bits, grey':            ('a.png', lambda: encoded(deep())),
    '16 bits, grey and dark':   ('a.png', lambda: encoded(deep(250 / 65535))),
    '16 bits, grey TIFF':       ('a.tif', lambda: encoded(deep(), 'tiff')),
    '16 bits, grey PGM':        ('a.pgm', lambda: b'P5 16 16 65535\n' + np.asarray(deep()).astype('>u2').tobytes()),
    '16 bits, colour':          ('a.png', lambda: png(16, 2, rows16(3))),
    '16 bits, colour and dark': ('a.png', lambda: png(16, 2, rows16(3, 0.01))),
    '16 bits, grey and alpha':  ('a.png', lambda: png(16, 4, rows16(2))),
    '16 bits, colour and alpha': ('a.png', lambda: png(16, 6, rows16(4))),
    '16 bits, tRNS':            ('a.png', lambda: png(16, 0, [np.arange(SIDE, dtype='>u2').tobytes()] * SIDE,
                                                      (b'tRNS', b'\0\5'))),
    'floats':                   ('a.tif', lambda: encoded(deep(dtype=np.float32, white=1), 'tiff')),
    'integers of 32 bits':      ('a.tif', lambda: encoded(deep(dtype=np.int32, white=10 ** 6), 'tiff')),
    'alpha':                    ('a.png', lambda: encoded(clear('RGB'))),
    'alpha that is one':        ('a.png', lambda: encoded(noise().convert('RGBA'))),
    'alpha of a half':          ('a.png', lambda: encoded(clear('RGB', 100))),
    'grey and alpha':           ('a.png', lambda: encoded(clear('L'))),
    'WebP with alpha':          ('a.webp', lambda: encoded(clear('RGB'), 'webp', lossless=True)),
    'grey tRNS':                ('a.png', lambda: encoded(noise().convert('L').point(lambda x: x // 64 * 64), transparency=64)),
    'colour tRNS':              ('a.png', lambda: png(8, 2, [range(48)] * SIDE, (b'tRNS', b'\0\3\0\4\0\5'))),
    'palette tRNS':             ('a.png', lambda: encoded(noise().quantize(8), transparency=bytes([0, 255, 0, 100]))),
    'transparent GIF':          ('a.gif', lambda: encoded(noise().quantize(8), 'gif', transparency=0)),
    **{f'EXIF {i}':             ('a.jpg', lambda i=i: turned(i)) for i in range(1, 9)},
    'EXIF of a PNG':            ('a.png', lambda: turned(6, 'png')),
    'EXIF of a WebP':           ('a.webp', lambda: turned(8, 'webp')),
    'EXIF of a TIFF':           ('a.tif', lambda: turned(6, 'tiff')),
    'EXIF after the pixels':    ('a.png', late_exif),
    'damaged EXIF':             ('a.jpg', damaged_exif),
    'sRGB profile':             ('a.png', lambda: encoded(noise(), icc_profile=profile())),
    'other profile':            ('a.png', lambda: encoded(noise(), icc_profile=profile('other'))),
    'other profile of a JPEG':  ('a.jpg', lambda: encoded(noise(), 'jpeg', icc_profile=profile('other'))),
    'other profile and alpha':  ('a.png', lambda: encoded(clear('RGB'), icc_profile=profile('other'))),
    'profile of another space': ('a.png', lambda: encoded(noise().convert('L'), icc_profile=profile())),
    'damaged profile':          ('a.png', lambda: encoded(noise(), icc_profile=b'x' * 300)),
    'CMYK JPEG':                ('a.jpg', lambda: encoded(noise().convert('CMYK'), 'jpeg')),
    'CMYK TIFF':                ('a.tif', lambda: encoded(noise().convert('CMYK'), 'tiff')),
    'YCbCr TIFF':               ('a.tif', lambda: encoded(noise().convert('YCbCr'), 'tiff')),
    'moving GIF':               ('a.gif', lambda: frames('gif')),
    'moving PNG':               ('a.png', lambda: frames('png')),
    'moving WebP':              ('a.webp', lambda: frames('webp', lossless=True)),
    'TIFF of pages':            ('a.tif', lambda: frames('tiff')),
    'JPEG of a phone':          ('a.jpg', lambda: frames('mpo')),
    'cut PNG':                  ('a.png', lambda: encoded(PIL.Image.effect_noise((SIDE, SIDE), 90).convert('RGB'))[:300]),
    'cut JPEG':                 ('a.jpg', lambda: encoded(noise(), 'jpeg')[:-60]),
    'page of the web':          ('a.png', lambda: b'<html>404</html>'),
    'blank file':               ('a.png', lambda: b''),
    'HEIC that is none':        ('a.png', lambda: b'\0\0\0\x18ftypheic' + bytes(90)),
}

REFUSED = {'floats', 'integers of 32 bits', 'cut PNG', 'cut JPEG', 'page of the web', 'blank file', 'HEIC that is none'}

#----------------------------------------------------------------------------

FOUR = ['0.png', '1.png', '2.png', '3.png']
IN_FOLDERS = ['a/0.png', 'a/1.png', 'b/0.png', 'b/1.png']

def pairs(template, names=range(4), labels=(0, 1, 2, 1)):
    return [[template % name, label] for name, label in zip(names, labels)]

SAME = [0, 1, 2, 1]

LABELS = {
    'as they are':          (FOUR, pairs('%d.png'), SAME),
    'dots':                 (FOUR, pairs('./%d.png'), SAME),
    'a folder':             (FOUR, pairs('images/%d.png'), SAME),
    'two folders':          (FOUR, pairs('data/images/%d.png'), SAME),
    'a slash before':       (FOUR, pairs('/%d.png'), SAME),
    'an absolute path':     (FOUR, pairs('/home/me/set/%d.png'), SAME),
    'capitals':             (FOUR, pairs('%d.PNG'), SAME),
    'another ending':       (FOUR, pairs('%d.jpg'), SAME),
    'no ending':            (FOUR, pairs('%d'), SAME),
    'folder and ending':    (FOUR, pairs('images/%d.JPEG'), SAME),
    'backslashes':          (IN_FOLDERS, [[name.replace('/', '\\'), i] for i, name in enumerate(IN_FOLDERS)], [0, 1, 2, 3]),
    'backslashes and dots': (IN_FOLDERS, [['.\\' + name.replace('/', '\\'), i] for i, name in enumerate(IN_FOLDERS)],
                             [0, 1, 2, 3]),
    'a folder above':       ([f'set/{name}' for name in FOUR], pairs('%d.png'), SAME),
    'in folders':           (IN_FOLDERS, [[name, i] for i, name in enumerate(IN_FOLDERS)], [0, 1, 2, 3]),
    'in folders, capitals': (IN_FOLDERS, [[name.upper(), i] for i, name in enumerate(IN_FOLDERS)], [0, 1, 2, 3]),
    'more than pictures':   (FOUR, pairs('%d.png', range(9), range(9)), [0, 1, 2, 3]),
    'floats':               (FOUR, pairs('%d.png', labels=(0.0, 1.0, 2.0, 1.0)), SAME),
    'from one':             (FOUR, pairs('%d.png', labels=(1, 2, 3, 4)), [1, 2, 3, 4]),
    'dates':                (FOUR, pairs('%d.png', labels=(20230101, 20230102, 20230101, 20240101)), [0, 1, 0, 2]),
    'ids':                  (FOUR, pairs('%d.png', labels=(900, 17, 40, 17)), [2, 0, 1, 0]),
    'one id':               (FOUR, pairs('%d.png', labels=(70000,) * 4), [0, 0, 0, 0]),
    'vectors':              (FOUR, pairs('%d.png', labels=([0, 1], [1, 0], [1, 1], [0, 0])), [[0, 1], [1, 0], [1, 1], [0, 0]]),
    'vectors of floats':    (FOUR, pairs('%d.png', labels=([0.5], [1], [2], [3])), [[0.5], [1], [2], [3]]),
    'a table':              (FOUR, dict(pairs('%d.png')), SAME),
    'a table, other names': (FOUR, dict(pairs('images/%d.jpg')), SAME),
    'a table of ids':       (FOUR, dict(pairs('%d.png', labels=(900, 17, 40, 17))), [2, 0, 1, 0]),
    'no labels':            (FOUR, None, 'none'),
    'an empty table':       (FOUR, {}, 'none'),
    'blank list':           (FOUR, [], 'none'),
    'a part':               (FOUR, pairs('%d.png')[:3], None),
    'others':               (FOUR, pairs('cat%d.png'), None),
    'two that fit':         (['0.png', '0.jpg'], [['x/0', 1]], None),
    'objects':              (FOUR, [{'file': f'{i}.png', 'label': i} for i in range(4)], None),
    'triples':              (FOUR, [[f'{i}.png', i, 1] for i in range(4)], None),
    'turned round':         (FOUR, [[i, f'{i}.png'] for i in range(4)], None),
    'names alone':          (FOUR, [f'{i}.png' for i in range(4)], None),
    'a table of vectors and classes': (FOUR, {'0.png': [1], '1.png': 0, '2.png': 1, '3.png': 1}, None),
    'a text':               (FOUR, 'labels.csv', None),
    'a null':               (FOUR, pairs('%d.png', labels=(0, None, 1, 1)), None),
    'texts':                (FOUR, pairs('%d.png', labels=('cat', 'dog', 'cat', 'dog')), None),
    'negative':             (FOUR, pairs('%d.png', labels=(-1, 0, 1, 2)), None),
    'mixed':                (FOUR, pairs('%d.png', labels=(0, [1], 1, 1)), None),
    'halves':               (FOUR, pairs('%d.png', labels=(0.5, 1, 1, 1)), None),
    'NaN':                  (FOUR, pairs('%d.png', labels=([float('nan')], [1], [1], [1])), None),
    'lengths':              (FOUR, pairs('%d.png', labels=([1], [1, 2], [1], [1])), None),
    'twice':                (FOUR, [*pairs('%d.png'), ['0.png', 2]], None),
    'twice by a dot':       (FOUR, [*pairs('%d.png'), ['./0.png', 2]], None),
}
