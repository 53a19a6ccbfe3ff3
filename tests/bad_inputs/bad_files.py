"""Makes the files that the rows name: sets of images, labels, networks, arrays, presets, and things that are no files."""

import io
import json
import os
import pickle
import socket
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import PIL.Image

SIDE = 16

#----------------------------------------------------------------------------
# Images.

def encoded(size=(SIDE, SIDE), mode='RGB', seed=0, kind='png'):
    """Return the bytes of an image of noise."""
    rng, buffer = np.random.RandomState(seed), io.BytesIO()
    image = PIL.Image.fromarray(rng.randint(0, 256, [size[1], size[0], 3]).astype(np.uint8))
    image = PIL.Image.fromarray(rng.randint(0, 2**16, size[::-1]).astype(np.uint16)) if mode == 'I;16' else image.convert(mode)
    image.save(buffer, format=kind)
    return buffer.getvalue()

def huge_header(side):
    """Return a PNG of some bytes whose header says side x side pixels."""
    chunk = lambda tag, data: struct.pack('>I', len(data)) + tag + data + struct.pack('>I', zlib.crc32(tag + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)) + \
        chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b'')

def images(n=8, **kwargs):
    return {f'{i}.png': encoded(seed=i, **kwargs) for i in range(n)}

def first(data, n=8, name='0.png'):
    """Return images of which the first is `data`, under another name."""
    return {name: data} | {key: value for key, value in images(n).items() if key != '0.png'}

def cut(n=8):
    return {name: data[: len(data) // 2] if name in ('3.png', '5.png') else data for name, data in images(n).items()}

IMAGE_SETS = {      # name: files
    'no_images':    {'notes.txt': b'x', 'dataset.json': b'{}'},
    'zip_in_zip':   {'images.zip': b'PK\x05\x06' + bytes(18)},
    'zip_as_png':   first(b'PK\x05\x06' + bytes(18)),
    'blank_png':    first(b''),
    'words_png':    first(b'not an image'),
    'html_png':     first(b'<html><body>404</body></html>'),
    'magic_png':    first(b'\x89PNG\r\n\x1a\n'),
    'cut_png':      cut(),
    'bomb_png':     first(huge_header(100_000)),
    'large_png':    first(huge_header(16_384)),
    'zero_png':     first(huge_header(0)),
    'wide':         first(encoded((32, 16))),
    'other_size':   images() | {'9.png': encoded((32, 32))},
    'other_mode':   images() | {'9.png': encoded(mode='L')},
    'floats':       first(encoded(mode='F', kind='tiff'), name='0.tif'),
    'wide_integers': first(encoded(mode='I', kind='tiff'), name='0.tif'),
}
ONLY_STRICT = {     # sets that dataset_tool.py makes usable ones of
    'sixteen_bits': first(encoded(mode='I;16')),    # grey beside colour
}
ONLY_SOURCE = {     # sets that can be trained on
    'one_image':    images(1),
    'equal_images': {f'{i}.png': encoded() for i in range(8)},
}

LABELS = {          # name: content of dataset.json beside the images 0.png and 1.png
    'no_json':          b'labels',
    'blank_json':       b'',
    'binary_json':      b'\xff\xfe\x00labels',
    'deep_json':        b'[' * 200_000,
    'deep_labels':      b'{"labels": ' + b'[' * 100_000 + b']' * 100_000 + b'}',
    'list_json':        [],
    'number_json':      5,
    'labels_number':    {'labels': 5},
    'labels_text':      {'labels': 'abc'},
    'labels_triples':   {'labels': [['0.png', 0, 1], ['1.png', 0, 1]]},
    'labels_single':    {'labels': [['0.png'], ['1.png']]},
    'name_number':      {'labels': [[0, 0], [1, 0]]},
    'name_null':        {'labels': [[None, 0], ['1.png', 0]]},
    'missing':          {'labels': [['0.png', 0]]},
    'twice':            {'labels': [['0.png', 0], ['1.png', 1], ['0.png', 1]]},
    'twice_dot':        {'labels': [['0.png', 0], ['1.png', 0], ['./1.png', 1]]},
    'names_of_others':  {'labels': [['x.png', 0], ['y.png', 1]]},
    'twice_slash':      {'labels': [['a\\0.png', 0], ['a/0.png', 1], ['0.png', 0], ['1.png', 0]]},
    'class_huge':       {'labels': [['0.png', 10**30], ['1.png', 0]]},
    'class_endless':    b'{"labels": [["0.png", 1' + b'0' * 400 + b'], ["1.png", 0]]}',
    'class_negative':   {'labels': [['0.png', -1], ['1.png', 0]]},
    'class_half':       {'labels': [['0.png', 0.5], ['1.png', 0]]},
    'class_nan':        {'labels': [['0.png', float('nan')], ['1.png', 0]]},
    'class_text':       {'labels': [['0.png', 'cat'], ['1.png', 'dog']]},
    'class_bool':       {'labels': [['0.png', True], ['1.png', False]]},
    'class_null':       {'labels': [['0.png', None], ['1.png', 0]]},
    'class_mixed':      {'labels': [['0.png', 0], ['1.png', [0, 1]]]},
    'vector_nan':       {'labels': [['0.png', [float('nan'), 0]], ['1.png', [0, 1]]]},
    'vector_inf':       b'{"labels": [["0.png", [1e400, 0]], ["1.png", [0, 1]]]}',
    'vector_large':     {'labels': [['0.png', [1e39, 0]], ['1.png', [0, 1]]]},
    'vector_lengths':   {'labels': [['0.png', [1, 0, 0]], ['1.png', [0, 1]]]},
    'vector_empty':     {'labels': [['0.png', []], ['1.png', []]]},
    'vector_text':      {'labels': [['0.png', ['a', 'b']], ['1.png', ['c', 'd']]]},
    'vector_nested':    {'labels': [['0.png', [[1]]], ['1.png', [[0]]]]},
    'label_dict':       {'labels': [['0.png', {}], ['1.png', {}]]},
}

def labelled(content):
    return images(2) | {'dataset.json': content if isinstance(content, bytes) else json.dumps(content).encode()}

def write_zip(path, files):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)

def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return str(path)

def claim(path, files, name, size):
    """Write a zip whose directory says that the file `name` unfolds to `size` bytes."""
    data = Path(write_zip(path, files)).read_bytes()
    place = data.rindex(name.encode()) - 46
    assert data[place : place + 4] == b'PK\x01\x02'
    path.write_bytes(data[: place + 24] + struct.pack('<I', size) + data[place + 28 :])
    return str(path)

def unfolding(path, files, name, size):
    """Write a zip in which the file `name` does unfold to `size` zero bytes."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, data in files.items():
            if key != name:
                archive.writestr(key, data)
        with archive.open(name, 'w') as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
    return str(path)

def image_sets(folder):
    found = {name: write_zip(folder / f'{name}.zip', files) for name, files in (IMAGE_SETS | ONLY_STRICT | ONLY_SOURCE).items()}
    found |= {name: write_zip(folder / f'{name}.zip', labelled(content)) for name, content in LABELS.items()}
    found['cut_zip'] = str(folder / 'cut_zip.zip')
    Path(found['cut_zip']).write_bytes(Path(write_zip(folder / 'whole.zip', images())).read_bytes()[:-200])
    found['claims_png'] = claim(folder / 'claims_png.zip', images(), '0.png', 2**32 - 2)
    found['claims_json'] = claim(folder / 'claims_json.zip', labelled({}), 'dataset.json', 2**32 - 2)
    found['unfolds_png'] = unfolding(folder / 'unfolds_png.zip', images(), '0.png', 300 << 20)
    found['unfolds_json'] = unfolding(folder / 'unfolds_json.zip', labelled({}), 'dataset.json', 150 << 20)
    for name, file in (('sparse_json', 'dataset.json'), ('sparse_png', '0.png')):
        found[name] = write_folder(folder / name, images(2))
        with open(folder / name / file, 'wb') as stream:
            stream.truncate(1 << 40)
    return found

#----------------------------------------------------------------------------
# Things in a folder that are no files.

def no_files(folder):
    found = {name: str(folder / name) for name in ('empty_folder', 'only_strange', 'fifo', 'socket', 'loop_zip', 'hole_zip')}
    for name in ('empty_folder', 'only_strange'):
        os.mkdir(found[name])
    strange(folder / 'only_strange')
    os.mkfifo(found['fifo'])
    before = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder)        # the path of a socket has a hundred letters at most
        server.bind('socket')
    os.chdir(before)
    os.symlink('loop_zip', found['loop_zip'])
    os.symlink('nowhere', found['hole_zip'])
    for kind in ('pkl', 'npz', 'pt', 'json', 'png'):
        os.mkfifo(folder / f'fifo.{kind}')
        os.mkdir(folder / f'folder.{kind}')
        (folder / f'empty.{kind}').write_bytes(b'')
        (folder / f'text.{kind}').write_bytes(b'hello\n' * 20)
        found |= {f'{name}_{kind}': str(folder / f'{name}.{kind}') for name in ('fifo', 'folder', 'empty', 'text')}
    return found

def strange(folder):
    """Put into a folder what is named like an image or like labels, and is no file."""
    os.mkdir(folder / 'folder.png')
    os.mkfifo(folder / 'fifo.png')
    os.mkfifo(folder / 'dataset.json')
    os.symlink('loop.png', folder / 'loop.png')
    os.symlink('nowhere.png', folder / 'hole.png')
    os.symlink('.', folder / 'self')
    os.symlink('/dev/zero', folder / 'zero.png')

#----------------------------------------------------------------------------
# Arrays and presets.

def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)

def claiming_npz(path, name, shape):
    """Write an .npz whose array says that it has a shape, of which nothing follows."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, dict(descr='<f4', fortran_order=False, shape=shape))
    return write_zip(path, {f'{name}.npy': header.getvalue() + bytes(100)})

def arrays(folder):
    features = np.random.RandomState(0).randn(60, 8).astype(np.float32)
    found = {}
    for name in ('features', 'w'):
        found |= {
            f'{name}_claims':   claiming_npz(folder / f'{name}_claims.npz', name, (2**40, 512)),
            f'{name}_overflow': claiming_npz(folder / f'{name}_overflow.npz', name, (2**62, 2**62)),
            f'{name}_other':    npz(folder / f'{name}_other.npz', other=features),
            f'{name}_object':   npz(folder / f'{name}_object.npz', **{name: np.array([{}], dtype=object)}),
            f'{name}_words':    npz(folder / f'{name}_words.npz', **{name: np.array(['a', 'b'])}),
            f'{name}_flat':     npz(folder / f'{name}_flat.npz', **{name: features[0]}),
            f'{name}_none':     npz(folder / f'{name}_none.npz', **{name: features[:0]}),
            f'{name}_complex':  npz(folder / f'{name}_complex.npz', **{name: features.astype(np.complex64)}),
            f'{name}_unfolds':  unfolding(folder / f'{name}_unfolds.npz', {}, f'{name}.npy', 20 << 20),
        }
    found['features_nan'] = npz(folder / 'features_nan.npz', features=features * np.nan)
    found['features_whole'] = npz(folder / 'features_whole.npz', features=features.astype(np.int64))
    found['features_equal'] = npz(folder / 'features_equal.npz', features=features * 0)
    found['features_few'] = npz(folder / 'features_few.npz', features=features[:3])
    found['w_nan'] = npz(folder / 'w_nan.npz', w=np.full([1, 6, 16], np.nan, np.float32))
    return found

PRESETS = {         # name: content
    'deep':         b'[' * 200_000,
    'list':         [],
    'no_options':   {'title': 'x'},
    'options_list': {'options': []},
    'no_value':     {'options': {'gamma': 5}},
    'gamma_nan':    {'options': {'gamma': {'value': float('nan')}}},
    'gamma_text':   {'options': {'gamma': {'value': 'much'}}},
    'gamma_list':   {'options': {'gamma': {'value': [1]}}},
    'gamma_dict':   {'options': {'gamma': {'value': {}}}},
    'batch_half':   {'options': {'batch': {'value': 2.5}}},
    'batch_true':   {'options': {'batch': {'value': True}}},
    'cmax_large':   {'options': {'cmax': {'value': 99999999}}},
    'seed_large':   {'options': {'seed': {'value': 2**32}}},
    'metrics_list': {'options': {'metrics': {'value': [1, {}]}}},
    'cfg_list':     {'options': {'cfg': {'value': ['stylegan2']}}},
    'cfg_number':   {'options': {'cfg': {'value': 2}}},
    'dsc_number':   {'options': {'dsc': {'value': 'perhaps'}}},
    'desc_escape':  {'options': {'desc': {'value': '../../evil'}}},
    'bank_half':    {'options': {'spider-bank': {'value': 10.5}}},
    'classes_list': {'options': {'spider-classes': {'value': [[0, 1]]}}},
    'blur_list':    {'options': {'disc-blur': {'value': [2]}}},
    'title_list':   {'title': 5, 'options': {'gamma': {'value': 'x'}}},
}

PRESET = {key: {'value': value} for key, value in dict(cfg='stylegan2', batch=4, gamma=1).items()}

def presets(folder):
    found = {}
    for name, content in PRESETS.items():
        path = folder / f'preset_{name}.json'
        if isinstance(content, dict) and isinstance(content.get('options'), dict) and name != 'no_value':
            content = content | {'options': PRESET | content['options']}
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        found[f'preset_{name}'] = str(path)
    return found

#----------------------------------------------------------------------------

def networks(folder, net):
    data = Path(net).read_bytes()
    contents = {
        'net_cut': data[: len(data) // 2], 'net_zeros': bytes(1000), 'net_zip': b'PK\x05\x06' + bytes(18), 'net_png': encoded(),
        'net_number': pickle.dumps(5), 'net_empty_dict': pickle.dumps({}),
        'net_nones': pickle.dumps(dict(G=None, D=None, G_ema=None)),
        'net_words': pickle.dumps(dict(G_ema='G')), 'net_list': pickle.dumps([1]), 'net_call': b"cos\nsystem\n(S'true'\ntR."}
    for name, content in contents.items():
        (folder / f'{name}.pkl').write_bytes(content)
    return {name: str(folder / f'{name}.pkl') for name in contents}

def make(folder, make_zip, make_snapshot):
    """Return {name: path}; functions: fixtures of tests/conftest.py."""
    folder, net = Path(folder), make_snapshot()
    (folder / 'image.png').write_bytes(encoded())
    (folder / 'full').mkdir()
    (folder / 'full' / 'a.txt').write_text('a')
    return dict(data=make_zip(folder / 'data.zip', n=16), source=make_zip(folder / 'source.zip', n=64, res=32, seed=1),
                target=make_zip(folder / 'target.zip', n=64, res=32), net=net, classes_net=make_snapshot(c_dim=2),
                image=str(folder / 'image.png'), file=str(folder / 'image.png'), full=str(folder / 'full'),
                **image_sets(folder), **no_files(folder), **arrays(folder), **presets(folder), **networks(folder, net))
