"""`spider import` of what it does not read: one sentence names what the file is, nothing runs, and nothing is written."""

import io
import os
import pickle
import struct
import sys
import types
import zipfile

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.checkpoints import read_checkpoint
from spider_plugin.snapshots.import_file import import_file
from spider_plugin.snapshots.records import generator_record
from tests.snapshots import sequential_stylegan2 as sequential

def refused(path, words, **options):
    """The sentence by which the import of a file ends; nothing is written."""
    out = path.with_name('out.pkl')
    with pytest.raises(SpiderError, match=words) as caught:
        import_file(path, out, **options)
    assert not out.exists() and caught.value.message.count('; ') == 1 and caught.value.message.isprintable(), caught.value.message
    return caught.value.message

def state(*names, shape=(2, 2)):
    return {name: torch.zeros(shape) for name in names}

KNOWN = {
    'lucidrains, stylegan2':    (dict(GAN=state('S.net.0.weight', 'G.initial_block', 'G.blocks.0.to_rgb.weight'), version='1'),
                                 'lucidrains/stylegan2-pytorch'),
    'lucidrains, lightweight':  (dict(GAN=state('G.initial_conv.0.weight', 'G.layers.0.0.1.weight', 'GE.layers.0.0.1.weight')),
                                 'lucidrains/lightweight-gan'),
    'BasicSR':                  (dict(params_ema=state('style_mlp.1.weight', 'style_convs.0.modulated_conv.weight')), 'BasicSR'),
    'FastGAN, of its authors':  (dict(g=state('module.init.init.0.weight_orig', 'module.feat_8.1.weight_orig')), 'a FastGAN of'),
    'FastGAN, Projected GAN':   (state('synthesis.init.init.0.weight_orig'), 'FastGAN of Projected GAN, whose .pkl is read'),
    'GenForce':                 (dict(generator=state('mapping.dense0.weight', 'synthesis.layer0.weight')), 'GenForce'),
    'StyleGAN of 2019':         (dict(generator=state('generator.progression.0.conv1.conv1.weight')), 'a StyleGAN of 2019'),
    'a diffusion model':        (dict(state_dict=state('model.diffusion_model.input_blocks.0.0.weight')), 'a diffusion model'),
    'of diffusers':             (state('down_blocks.0.resnets.0.conv1.weight'), 'a diffusion model'),
    'an autoencoder':           (dict(state_dict=state('encoder.conv_in.weight', 'quantize.embedding.weight')), 'an autoencoder'),
    'anything else':            (dict(model=state('layer1.0.conv1.weight')), 'tensors such as layer1.0.conv1.weight, of no'),
    'no names':                 ([torch.zeros(2, 2)], 'holds no tensors of a network'),
    'no tensors':               (dict(step=5, optimizer={}), 'holds no tensors of a network'),
    'a number':                 (5, 'holds no tensors of a network'),
}

@pytest.mark.parametrize('case', KNOWN)
def test_networks_that_are_known_are_named(case, tmp_path):
    contents, words = KNOWN[case]
    torch.save(contents, tmp_path / 'x.pt')
    refused(tmp_path / 'x.pt', words)

def changed(**tensors):
    return {name: tensor for name, tensor in (sequential.generator_state() | tensors).items() if tensor is not None}

BROKEN = {
    'a layer is missing':   ({'convs.1.conv.weight': None}, 'convs.1.conv.weight is missing'),
    'a layer too many':     ({'convs.9.conv.weight': torch.zeros(1, 2, 2, 3, 3)}, 'convs.9.conv.weight is of no layer'),
    'a part of a fork':     ({'to_rgbs.0.gate': torch.zeros(3)}, 'to_rgbs.0.gate is of no layer'),
    'another kernel':       ({'conv1.conv.weight': torch.zeros(16, 16, 3, 3)}, r'conv1.conv.weight has the shape'),
    'other widths':         ({'convs.1.conv.weight': torch.zeros(1, 20, 16, 3, 3)}, 'does not fit|follow no channel_base'),
    'a number is NaN':      ({'to_rgb1.bias': torch.full([1, 3, 1, 1], float('nan'))}, 'is of training that diverged'),
}

@pytest.mark.parametrize('case', BROKEN)
def test_changed_networks_are_refused(case, tmp_path):
    tensors, words = BROKEN[case]
    torch.save(changed(**tensors), tmp_path / 'x.pt')
    with pytest.raises(SpiderError, match=words):
        import_file(tmp_path / 'x.pt', tmp_path / 'out.pkl')
    assert not (tmp_path / 'out.pkl').exists()

@pytest.mark.parametrize('change', [
    lambda state: state | {'encoder.weight': torch.zeros(3)},
    lambda state: state | {'synthesis.b8.conv0.weight': torch.zeros(16, 16, 5, 5)},
    lambda state: {name: tensor.repeat(2, 1, 1, 1) if tensor.ndim == 4 else tensor for name, tensor in state.items()}])
def test_a_network_of_a_fork_gets_a_remedy_that_import_has(change, make_snapshot, tmp_path):
    torch.save(change(generator_record(make_snapshot()).state_dict()), tmp_path / 'x.pt')
    with pytest.raises(SpiderError, match='import a checkpoint of the stock network') as caught:
        import_file(tmp_path / 'x.pt', tmp_path / 'out.pkl')
    assert 'PYTHONPATH' not in caught.value.message and '--trust-pickle' not in caught.value.message

def test_other_files_are_named(tmp_path):
    for data, words in ((b'', 'is empty'), (b'<html></html>', 'an HTML page'), (b'\x1f\x8b' + bytes(9), 'a gzip archive'),
                        (b'\x89PNG\r\n\x1a\n' + bytes(9), 'a picture')):
        (tmp_path / 'x.pt').write_bytes(data)
        refused(tmp_path / 'x.pt', words)
    refused(tmp_path / 'missing.pt', 'does not exist')
    refused(tmp_path, 'is a folder')

def test_safetensors_needs_its_package(tmp_path, monkeypatch):
    head = b'{}      '
    (tmp_path / 'x.safetensors').write_bytes(struct.pack('<Q', len(head)) + head)
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    refused(tmp_path / 'x.safetensors', r"pip install 'spider-plugin\[safetensors\]'")

#----------------------------------------------------------------------------
# Hostile checkpoints: the canary must not appear.

class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f'echo > {self.canary}',)

@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
def test_nothing_in_a_checkpoint_runs(new, tmp_path):
    evil = Evil(tmp_path / 'canary')
    for contents in (evil, dict(g_ema=evil), dict(g_ema=sequential.generator_state(), args=evil), [evil]):
        torch.save(contents, tmp_path / 'x.pt', _use_new_zipfile_serialization=new)
        refused(tmp_path / 'x.pt', f'names {os.system.__module__}.system, which no network needs')
    assert not (tmp_path / 'canary').exists()
    torch.load(tmp_path / 'x.pt', weights_only=False)
    assert (tmp_path / 'canary').exists()       # it would have sung

def repacked(path, change):
    """The same zip, with its members as `change` says: {name: bytes} -> None, in place."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, data)

LIES = {
    'a storage is missing':     lambda members: members.pop('x/data/0'),
    'a storage is short':       lambda members: members.update({'x/data/0': members['x/data/0'][:-4]}),
    'a storage is long':        lambda members: members.update({'x/data/0': members['x/data/0'] + bytes(4)}),
    'another byte order':       lambda members: members.update({'x/byteorder': b'big'}),
    'no pickle':                lambda members: members.update({'x/data.pkl': b'nothing'}),
    'a pickle without an end':  lambda members: members.update({'x/data.pkl': members['x/data.pkl'][:-1]}),
    'a key that is a path':     lambda members: members.update(
        {'x/data.pkl': members['x/data.pkl'].replace(b'X\x01\0\0\x000', b'X\x01\0\0\x00/')}),
}

@pytest.mark.parametrize('case', LIES)
def test_damaged_zips_are_refused(case, tmp_path):
    torch.save(sequential.generator_state(), tmp_path / 'x.pt')
    before = (tmp_path / 'x.pt').read_bytes()
    repacked(tmp_path / 'x.pt', LIES[case])
    assert (tmp_path / 'x.pt').read_bytes() != before
    refused(tmp_path / 'x.pt', 'is not a complete checkpoint')

def test_a_zip_that_unfolds_is_refused(tmp_path):
    torch.save(dict(a=torch.zeros(2, 2)), tmp_path / 'x.pt')
    with zipfile.ZipFile(tmp_path / 'x.pt') as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / 'x.pt', 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(name, bytes(200 << 20) if name.endswith('data/0') else data)
    refused(tmp_path / 'x.pt', 'times larger than the archive')

def old(contents):
    buffer = io.BytesIO()
    torch.save(contents, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()

@pytest.mark.parametrize('cut', [5, 30, 60, 200, 1000, -4, -1])
def test_damaged_old_files_are_refused(cut, tmp_path):
    data = old(sequential.generator_state())
    (tmp_path / 'x.pth').write_bytes(data[:cut])
    with pytest.raises(SpiderError):
        import_file(tmp_path / 'x.pth', tmp_path / 'out.pkl')
    assert not (tmp_path / 'out.pkl').exists()

def test_an_old_file_that_claims_more_than_it_has(tmp_path):
    data = old(dict(a=torch.zeros(3, 3)))
    (tmp_path / 'x.pth').write_bytes(data.replace(b'K\tN', b'J\xff\xff\xff\x7fN'))     # 2^31 - 1 numbers
    assert (tmp_path / 'x.pth').read_bytes() != data
    refused(tmp_path / 'x.pth', 'is not a complete checkpoint')

def test_views_of_one_storage_stay_views(tmp_path):
    base = torch.arange(24.)
    contents = dict(a=base.view(4, 6).t(), b=base[5:9], c=torch.zeros([0, 3]), d=torch.tensor(7),
                    e=torch.ones(2, dtype=torch.bfloat16))
    for new in (True, False):
        torch.save(contents, tmp_path / 'x.pt', _use_new_zipfile_serialization=new)
        read, notes = read_checkpoint(tmp_path / 'x.pt')
        assert notes == {} and read['a'].untyped_storage().data_ptr() == read['b'].untyped_storage().data_ptr()
        assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in contents.items())

def test_a_whole_module_of_a_strangers_class(tmp_path, monkeypatch):
    """Its tensors are read by their names, and its class stays a name."""
    madeup = types.ModuleType('madeup_model')
    madeup.Net = type('Net', (torch.nn.Module,), dict(__module__='madeup_model', __qualname__='Net'))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'madeup_model', madeup)
        net = madeup.Net()
        for name, tensor in sequential.generator_state().items():
            *path, last = name.split('.')
            module = net
            for part in path:
                if part not in module._modules:
                    module.add_module(part, torch.nn.Module())
                module = module._modules[part]
            module.register_buffer(last, tensor)
        torch.save(net, tmp_path / 'x.pt')
    assert 'generator: the whole file' in import_file(tmp_path / 'x.pt', tmp_path / 'out.pkl').lines
    pickle.loads((tmp_path / 'out.pkl').read_bytes())
