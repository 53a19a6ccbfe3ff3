"""What people give in place of a network pickle: every door says what the file is, and the remedy, in one sentence."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import sys
import tarfile
import types
import zipfile

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.recognise import Foreign, check_network_file, holds_network, recognise
from tests.snapshots.readers import READERS

def bytes_of(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()

def zip_of(**files):
    def write(buffer):
        with zipfile.ZipFile(buffer, 'w') as archive:
            for name, data in files.items():
                archive.writestr(name.replace('__', '.'), data)
    return bytes_of(write)

def tar_of(name, data):
    def write(buffer):
        with tarfile.open(fileobj=buffer, mode='w') as archive:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return bytes_of(write)

def safetensors(header=None):
    header = json.dumps(header or {'w': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}}).encode()
    return struct.pack('<Q', len(header)) + header + bytes(4)

def onnx(program):
    return b'\x08\x08\x12' + bytes([len(program)]) + program + b'\x1a\x052.1.0:' + bytes(60)

INNER  = pickle.dumps({'G_ema': None})
STATE  = {'g_ema': {'input.input': torch.zeros(1, 4, 4, 4)}, 'latent_avg': torch.zeros(4)}
TORCH  = bytes_of(lambda file: torch.save(STATE, file))
OLD    = bytes_of(lambda file: torch.save(STATE, file, _use_new_zipfile_serialization=False))
SCRIPT = zip_of(**{'net/data__pkl': b'x', 'net/constants__pkl': b'x', 'net/code/__torch__': b'x'})

# name: (bytes, kind, words that the sentence has to say)
FILES = {
    'empty':            (b'', 'empty', 'is empty'),
    'page':             (b'<!DOCTYPE html>\n<html><title>Sign in</title></html>\n', 'page', 'an HTML page'),
    'page, a comment':  (b'\n<!-- proxy -->\n<html lang="en"><body>Log in</body></html>', 'page', 'an HTML page'),
    'page, UTF-8 mark': (b'\xef\xbb\xbf<HTML><BODY>\xc3\xa9</BODY></HTML>', 'page', 'an HTML page'),
    'pointer of LFS':   (b'version https://git-lfs.github.com/spec/v1\noid sha256:' + b'0' * 64 + b'\nsize 381673535\n',
                         'pointer', 'git lfs pull'),
    'pointer of annex': (b'/annex/objects/SHA256E-s381673535--0000.pkl\n', 'pointer', 'git annex get'),
    'answer in XML':    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'xml', 'XML answer'),
    'answer in JSON':   (b'{"error": "Invalid username or password."}', 'json', '("Invalid username or password.")'),
    'JSON':             (b'{"G_kwargs": {"z_dim": 512}}', 'json', 'a JSON text'),
    'words':            (b'Entry not found', 'text', '("Entry not found")'),
    'address':          (b'https://example.org/network.pkl\n', 'text', 'example.org'),
    'escapes in words': (b'Not \xc2\xa0 found', 'text', 'found'),
    'gzip':             (gzip.compress(INNER), 'gzip', 'gzip -dc'),
    'bzip2':            (bz2.compress(INNER), 'archive', 'bzip2 -dc'),
    'xz':               (lzma.compress(INNER), 'archive', 'xz -dc'),
    'tar':              (tar_of('network.pkl', INNER), 'archive', 'tar xf'),
    'zip of a pickle':  (zip_of(network__pkl=INNER), 'zip', 'holds network.pkl'),
    'zip of two':       (zip_of(a__pkl=INNER, b__pkl=INNER), 'zip', 'holds a.pkl and 1 more'),
    'zip of pictures':  (zip_of(img__png=b'x'), 'zip', 'a zip of pictures'),
    'zip of words':     (zip_of(notes__txt=b'x'), 'zip', 'without a pickle'),
    'zip, cut off':     (TORCH[:-100], 'zip', 'cut off'),
    'torch':            (TORCH, 'torch', 'spider import'),
    'torch, old':       (OLD, 'torch', 'spider import'),
    'torch, a module':  (bytes_of(lambda file: torch.save(torch.nn.Linear(1, 1), file)), 'torch', 'spider import'),
    'TorchScript':      (SCRIPT, 'torchscript', 'TorchScript'),
    'safetensors':      (safetensors(), 'safetensors', 'spider import'),
    'safetensors, notes': (safetensors({'__metadata__': {'format': 'pt'}}), 'safetensors', 'spider import'),
    'numpy':            (bytes_of(lambda file: np.save(file, np.zeros(3))), 'numpy', 'arrays of numpy'),
    'numpy, several':   (bytes_of(lambda file: np.savez(file, a=np.zeros(3), b=np.zeros(2))), 'numpy', 'arrays of numpy'),
    'ONNX':             (onnx(b'pytorch'), 'onnx', 'ONNX'),
    'ONNX of TF':       (onnx(b'tf2onnx'), 'onnx', 'ONNX'),
    'HDF5':             (b'\x89HDF\r\n\x1a\n' + bytes(100), 'hdf5', 'HDF5'),
    'picture':          (b'\x89PNG\r\n\x1a\n' + bytes(100), 'picture', 'a picture'),
}

def sentence(function, path):
    with pytest.raises(SpiderError) as caught:
        function(str(path))
    said = caught.value.message
    assert said.isprintable() and said.count('; ') == 1 and said.endswith('.'), said
    return said

@pytest.mark.parametrize('case', FILES)
def test_a_file_is_recognised_by_its_bytes(case, tmp_path):
    data, name, words = FILES[case]
    path = tmp_path / 'network.pkl'
    path.write_bytes(data)
    assert recognise(path).name == name
    with pytest.raises(Foreign) as caught:
        check_network_file(path)
    assert words in caught.value.message and str(path) in caught.value.message and caught.value.kind.name == name

def test_the_state_beside_a_snapshot_is_named(tmp_path):
    path = tmp_path / 'training-state-000001.pt'
    path.write_bytes(TORCH)
    for door in DOORS:
        assert 'is the training state of a run' in sentence(DOORS[door], path) and recognise(path).name == 'state', door
    path.write_bytes(INNER)
    assert recognise(path) is None

@pytest.mark.parametrize('data', [
    INNER, pickle.dumps({'G_ema': None}, 0), pickle.dumps({'G_ema': None}, 1), pickle.dumps([{}], 1),
    pickle.dumps((torch.nn.Linear(1, 1),) * 3, 0), pickle.dumps((torch.nn.Linear(1, 1),) * 3, 1),
    pickle.dumps(torch.nn.Linear(1, 1), 0),
    pickle.dumps(3, 2), b'', bytes(1000), np.random.RandomState(0).bytes(1000)])
def test_pickles_and_unknown_bytes_pass(data, tmp_path):
    path = tmp_path / 'network.pkl'
    path.write_bytes(data)
    assert recognise(path) is None or not data
    check_network_file(tmp_path / 'missing.pkl')
    check_network_file('')

DOORS = {name: reader for name, reader in READERS.items() if name not in ('host', 'online')}
SAMPLE = ('page', 'pointer of LFS', 'gzip', 'zip of a pickle', 'torch', 'torch, old', 'safetensors', 'words')

@pytest.mark.parametrize('door', DOORS)
def test_every_door_says_it(door, tmp_path):
    for case in SAMPLE:
        path = tmp_path / 'network.pkl'
        path.write_bytes(FILES[case][0])
        assert FILES[case][2] in sentence(DOORS[door], path), case

@pytest.mark.parametrize('name', ['network.pt', 'network.pth', 'network.safetensors', 'network.ckpt', 'network.pkl.gz'])
def test_a_source_is_recognised_whatever_its_name(name, tmp_path):
    case = {'network.safetensors': 'safetensors', 'network.pkl.gz': 'gzip'}.get(name, 'torch')
    path = tmp_path / name
    path.write_bytes(FILES[case][0])
    for door in ('source', 'neighbors'):
        assert FILES[case][2] in sentence(READERS[door], path)

def test_a_snapshot_of_another_name_is_a_source(make_snapshot, tmp_path):
    path = tmp_path / 'network.pickle'
    path.write_bytes(open(make_snapshot(), 'rb').read())
    assert holds_network(path)
    prepared = READERS['source'](str(path))
    assert prepared.identity['latents'] == prepared.num_images == 8

def test_plain_resume_refuses_what_no_host_reads(tmp_path):
    path = tmp_path / 'network.pkl'
    for case, refused in (('page', True), ('pointer of LFS', True), ('gzip', True), ('torch', False), ('safetensors', False)):
        path.write_bytes(FILES[case][0])
        if refused:
            assert sentence(READERS['host'], path).startswith(f'--resume: {path} is ')
        else:
            assert READERS['host'](str(path)) is None       # the host may know how

#----------------------------------------------------------------------------
# Folders.

def test_folders(tmp_path):
    cases = {
        'hub':   (['config.json', 'model.safetensors'], 'a folder of a Hugging Face model'),
        'pipe':  (['model_index.json'], 'a folder of a Hugging Face model'),
        'tf':    (['saved_model.pb'], 'a folder of a TensorFlow model'),
        'run':   (['network-snapshot-000001.pkl', 'network-snapshot-000002.pkl'], 'holds network-snapshot-000002.pkl'),
        'empty': ([], 'a folder'),
    }
    for name, (files, words) in cases.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b'x')
        for door in ('load', 'trust', 'generate', 'export'):
            assert words in sentence(DOORS[door], tmp_path / name), (name, door)

#----------------------------------------------------------------------------
# A pickle of TensorFlow: classes that are not here.

def tensorflow_pickle(monkeypatch, module='dnnlib.tflib.network', protocol=3):
    network = type('Network', (), {'__module__': module})
    made = types.ModuleType(module)
    made.Network = network
    for part in (module, *(module.rsplit('.', count)[0] for count in range(1, module.count('.') + 1))):
        monkeypatch.setitem(sys.modules, part, made)
    def net(name):
        net = network()
        net.__dict__.update(version=5, name=name, static_kwargs={'resolution': 16}, variables=[('lod', np.float32(0))])
        return net
    return pickle.dumps((net('G'), net('D'), net('Gs')), protocol)

@pytest.mark.parametrize('module', ['dnnlib.tflib.network', 'tfutil', 'models.dnnlib.tflib.network'])
def test_tensorflow(module, tmp_path):
    path = tmp_path / 'tf.pkl'
    with pytest.MonkeyPatch.context() as patch:
        path.write_bytes(tensorflow_pickle(patch, module))
    trust = () if module.startswith('models') else ('trust',)     # Python's unpickler looks for that package
    for door in ('load', 'generate', 'export', 'source', 'neighbors', *trust):
        said = sentence(DOORS[door], path)
        assert 'a TensorFlow snapshot' in said and 'legacy.py' in said, door
